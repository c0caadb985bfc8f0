"""Documents that share windows of training, and conversations."""

import keras
import numpy as np
import pytest
from keras import ops

import zoo
from zoo._documents import as_text, packed, turns_of

pytestmark = pytest.mark.maths


def test_no_document_is_cut_that_fits_and_none_is_lost():
    random = np.random.default_rng(0)
    lengths = [*random.integers(1, 13, 60), 40]
    ends = np.cumsum(lengths)
    documents = [np.arange(e - n, e) for e, n in zip(ends, lengths)]
    rows = packed(documents, 12)
    parts = []
    for row in rows:
        text = " ".join(map(str, row)).split("-1")
        parts += [tuple(map(int, part.split())) for part in text if part.strip()]
    cut = [tuple(documents[-1][i : i + 12]) for i in range(0, 40, 12)]
    assert sorted(parts) == sorted([*map(tuple, documents[:-1]), *cut])
    # Of all rows, at most one is more than half empty: two such would be one.
    assert ((rows >= 0).sum(axis=1) < 6).sum() <= 1
    assert len(rows) < 1.2 * (sum(lengths) + len(parts)) / 12


def test_nothing_makes_no_row():
    assert packed([], 5).shape == (0, 5)
    assert packed([np.array([], "int32")], 5).shape == (0, 5)


def build(documents="texts", seed=0):
    keras.utils.set_random_seed(seed)
    model = zoo.GPT(
        vocabulary="abc \n", window=16, width=16, depth=2, heads=2, documents=documents
    )
    random = np.random.default_rng(1)  # So large that each symbol tells on the others.
    model.set_weights(
        [np.round(w.mean()) + random.normal(size=w.shape) for w in model.get_weights()]
    )
    return model


def test_documents_of_a_window_do_not_see_each_other():
    model = build()
    texts = ["abcab", "ca", "bbcacb"]
    [row] = packed([model.numbers(text) for text in texts], 16)
    logits = model._run("call", row[None])[0]
    start = 0
    for text in sorted(texts, key=len, reverse=True):
        alone = model._run("call", model.numbers(text)[None])[0]
        found = logits[start : start + len(text)]
        np.testing.assert_allclose(found, alone, atol=1e-4)
        start += len(text) + 1


def test_the_loss_of_a_window_is_that_of_its_documents():
    model = build()
    texts = ["abcab", "ca", "bbcacb"]
    rows = packed([model.numbers(text) for text in texts], 16)
    loss = model.objective(ops.convert_to_tensor(rows))
    loss = float(ops.convert_to_numpy(loss))
    lengths = np.array([*map(len, texts)])
    expected = -(model.score(texts) * lengths).sum() / lengths.sum()
    assert loss == pytest.approx(expected, rel=1e-4)
    plain = build(None)
    plain.compile()
    with pytest.raises(ValueError, match="whole numbers below 5"):
        plain.fit(rows, verbose=0)


CHATS = [["a", "b", "b b", "c"], ["c", "a"], ["b", "c", "a", "b"]]


def test_it_learns_to_answer():
    keras.utils.set_random_seed(0)
    model = zoo.GPT(
        vocabulary="abc \n", window=24, width=32, depth=2, heads=2, documents="chats"
    )
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(CHATS * 8, epochs=40, batch_size=4, length=24, verbose=0)
    for said, answer in [
        ("a", "b"),
        (["c"], "a"),
        (["a", "b", "b  b\n"], "c"),
        ([{"role": "user", "content": "b"}], "c"),
    ]:
        assert model.chat(said, temperature=0) == answer
    # A conversation that is too long begins later, at a turn of the user.
    long = ["b", "c"] * 30 + ["a"]
    assert model.chat(long, temperature=0) == model.chat(long[-7:], temperature=0)
    drawn = model.chat("a", seed=3, length=5, temperature=2.0)
    assert drawn == model.chat("a", seed=3, length=5, temperature=2.0)
    assert "\n" not in drawn
    assert len(model.chat("a", seed=3, length=1, temperature=9.0)) <= 1


def test_wrong_conversations_are_refused():
    model, rule = build("chats"), "A conversation is a text, or a list of texts or of"
    for turns, told in [
        ([], rule),
        (3, rule),
        ("", "turn 1 is ''"),
        (["a", " ", "b"], "turn 2 is ' '"),
        (["a", None, "b"], "turn 2 is None"),
        ([{"role": "system", "content": "a"}], "turn 1 has the role 'system'"),
        ([{"role": "user"}], "turn 1 is None"),
        (["a", "b"], "odd number of them; these are 2"),
        ("x", "not in the vocabulary"),
    ]:
        with pytest.raises(ValueError, match=told):
            model.chat(turns)
    with pytest.raises(ValueError, match="length is a whole number"):
        model.chat("a", length=0)
    with pytest.raises(ValueError, match="documents is None, 'texts' or 'chats'"):
        build("mails")
    assert as_text(turns_of(("a\nb", {"role": "assistant", "content": "c"}))) == (
        "a b\nc\n"
    )


def test_only_a_model_of_conversations_chats(tmp_path):
    model = build("texts")
    assert "chat" not in model.verbs()
    with pytest.raises(ValueError, match="here documents is 'texts'"):
        model.chat("a")
    assert "chat" in build("chats").verbs()
    build("chats").save_preset(tmp_path / "mine")
    again = zoo.load(tmp_path / "mine")
    assert again.documents == "chats"
    assert again.chat("a", seed=1) == build("chats").chat("a", seed=1)
