"""BERT: pieces, what is hidden and found, what it writes, and folders of keras-hub."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from test_transformers import shaken

import zoo
from zoo._word_pieces import WordPieces
from zoo.tools._masked import by_neighbours, masked
from zoo.trainers.pictures import PICTURES
from zoo.trainers.texts import Windows
from zoo.transformers._keras_hub import keras_hub

pytestmark = pytest.mark.maths

PIECES = """[PAD]
[UNK]
[CLS]
[SEP]
[MASK]
the
cat
##s
ca
##t
##nap
,
a
b
c
中
!""".replace("\n\n", "\n")


def bert(**changes):
    how = {"pieces": PIECES, "window": 14, "width": 16, "depth": 2, "heads": 2}
    return shaken(zoo.BERT(**{**how, **changes}), 0.3)


def test_word_pieces_are_those_of_keras_hub():
    ours = WordPieces(PIECES)
    hub = keras_hub()
    theirs = hub.models.BertTokenizer(PIECES.split("\n"), lowercase=True)
    for text in (
        "The cats, the CATNAP!",
        "cát a\tb  c dog",
        "a中b !a, the the\u200b",
        "catnaps cat's",
    ):
        np.testing.assert_array_equal(ours.encode(text), np.array(theirs(text)), text)
    assert ours.decode(ours.encode("The cats, the catnap!")) == "the cats, the catnap!"
    assert ours.encode("a [MASK] b").tolist() == [12, 4, 13]
    for wrong in ("a\nb", PIECES + "\na", PIECES + "\n\nz", None):
        with pytest.raises(ValueError, match="pieces is a text of at most"):
            WordPieces(wrong)


def test_what_is_hidden_is_found_by_both_sides():
    model = bert()
    ((first, *_), second) = model.fill("a [MASK] b, [MASK]", top=3)
    assert len(second) == 3
    assert not first[0].startswith("[")
    row = model.rows("a [MASK] b, [MASK]", "fill")
    inputs = {
        "token_ids": row,
        "segment_ids": 0 * row,
        "padding_mask": (row != 0).astype("int32"),
    }
    hidden = model.backbone(inputs)["sequence_output"]
    logits = ops.convert_to_numpy(model.head(hidden, np.array([[2, 5]])))[0]
    odds = np.exp(logits[:, 5:]) / np.exp(logits[:, 5:]).sum(axis=1, keepdims=True)
    assert first[1] == pytest.approx(odds[0].max(), abs=1e-5)
    assert second[0][1] == pytest.approx(odds[1].max(), abs=1e-5)
    for text in ("b [MASK] b, c", "a [MASK] b, a"):
        assert dict(model.fill(text, 12)[0]) != dict(model.fill("a [MASK] b, c", 12)[0])


def test_a_text_is_scored_piece_by_piece():
    model, text = bert(), "a the cat"
    expected = []
    for hidden, piece in (
        ("[MASK] the cat", "a"),
        ("a [MASK] cat", "the"),
        ("a the [MASK]", "cat"),
    ):
        row = model.rows(hidden, "score")
        place = int(np.flatnonzero(row[0] == 4)[0])
        logits = model._run("_logits", row)[0, place].astype("float64")
        logits -= np.log(np.exp(logits).sum())
        expected.append(logits[model.numbers(piece)[0]])
    assert model.score(text)[0] == pytest.approx(np.mean(expected), abs=1e-5)
    alone, padded = model.embed("a the cat"), model.embed(["a the cat", "a b c a b c"])
    np.testing.assert_allclose(alone[0], padded[0], atol=1e-5)
    assert alone.shape == (1, 16)
    read, maps = model.attention("a the cat")
    assert read == ["[CLS]", "a", "the", "cat", "[SEP]"]
    np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=1e-5)


def test_it_finds_what_was_hidden():
    """The middle of three is the first if that is a, and else the last."""
    random = np.random.default_rng(0)
    windows = random.integers(12, 15, (512, 3))
    windows[:, 1] = np.where(windows[:, 0] == 12, 12, windows[:, 2])
    keras.utils.set_random_seed(0)
    model = zoo.BERT(PIECES, width=32, depth=1, heads=2, dropout=0.0, hide=0.34)
    model.compile(keras.optimizers.Adam(0.003))
    model.fit(windows, epochs=50, batch_size=64, verbose=0)
    for text, answer in (("a [MASK] c", "a"), ("b [MASK] c", "c"), ("c [MASK] b", "b")):
        (name, share), *_ = model.fill(text)[0]
        assert name == answer
        assert share > 0.6


def test_it_writes_and_mends():
    model = bert()
    how = {"seed": 0, "length": 6, "prompt": "the [MASK] b"}
    texts = model.generate(3, **how)
    assert all(text.startswith("the") and " b" in text for text in texts)
    assert texts == model.generate(3, **how)
    one_step = model.generate(3, steps=1, **how)
    assert texts != one_step
    greedy = model.generate(2, length=4, temperature=0, steps=1)
    assert greedy[0] == greedy[1]
    odds = model._run("_fill", model.rows(" ".join(["[MASK]"] * 4), "fill"))[0, 1:5]
    assert greedy[0] == model.text(odds.argmax(axis=1))


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda m: m.fill("a b"), r"fill takes a text with \[MASK\]"),
        (lambda m: m.fill("[MASK] " * 13), "texts of 1 to 12 pieces"),
        (lambda m: m.fill("[MASK]", top=0), "top is from 1 to 17"),
        (lambda m: m.embed(""), "1 character or more"),
        (lambda m: m.embed(" "), "1 to 12 pieces"),
        (lambda m: m.generate(1, length=13), "together at most 12 pieces"),
        (lambda m: m.generate(1, length=0), "whole numbers of 1 or more"),
        (lambda m: m.generate(1, steps=0), "whole numbers of 1 or more"),
        (lambda m: m.generate(1, temperature=-1), "temperature is 0 or more"),
        (lambda m: bert(hide=0.0), "hide in"),
        (lambda m: bert(window=2), "a window of 3 or more"),
    ],
)
def test_wrong_wishes_of_bert_are_refused(ask, text):
    with pytest.raises(ValueError, match=text):
        ask(bert())


def test_a_bert_of_keras_hub_is_a_preset(tmp_path):
    hub = keras_hub()
    backbone = hub.models.BertBackbone(
        **{"vocabulary_size": 17, "num_layers": 2, "num_heads": 2, "hidden_dim": 8},
        **{"intermediate_dim": 24, "max_sequence_length": 12},
    )
    tokenizer = hub.models.BertTokenizer(PIECES.split("\n"), lowercase=True)
    backbone.save_to_preset(tmp_path)
    tokenizer.save_to_preset(tmp_path)
    model = zoo.load(tmp_path)
    assert type(model) is zoo.BERT
    assert model.config["lower"]
    row = model.rows("the cats, a b", "embed")
    inputs = {
        "token_ids": row,
        "segment_ids": 0 * row,
        "padding_mask": (row != 0).astype("int32"),
    }
    expected = ops.convert_to_numpy(backbone(inputs)["sequence_output"])[0, 1:7].mean(0)
    np.testing.assert_allclose(model.embed("the cats, a b")[0], expected, atol=1e-5)


def test_what_is_hidden_is_recovered_from_what_is_shown_alone():
    model = bert()
    symbols = np.random.default_rng(0).integers(5, 17, (70, 12))
    hidden = np.random.default_rng(1).random(symbols.shape) < 0.3
    found = model.recover(symbols, hidden)
    np.testing.assert_array_equal(found[~hidden], symbols[~hidden])
    np.testing.assert_array_equal(
        model.recover(np.where(hidden, 5, symbols), hidden), found
    )
    text = model.text(np.where(hidden, 4, symbols)[0])
    (best, _), *_ = model.fill(text)[0]
    assert best == model.text(found[0, hidden[0]][:1])


def test_neighbours_say_what_a_chain_of_pairs_can():
    """Against the sum over all ways to go on, of a chain that was drawn."""
    random = np.random.default_rng(0)
    chain, text = random.dirichlet(np.full(4, 0.3), 4), [0]
    for _ in range(20_000):
        text.append(random.choice(4, p=chain[text[-1]]))
    odds = np.bincount(text) / len(text)
    rows = np.array([[a, 0, b] for a, b in itertools.product(range(4), repeat=2)])
    hidden = np.zeros(rows.shape, bool)
    hidden[:, 1] = True
    found = by_neighbours(rows, hidden, np.array(text), odds)
    expected = [(chain[a] * chain[:, b]).argmax() for a, _, b in rows]
    assert (found == expected).mean() > 0.9  # Two may be nearly alike.
    hidden[:, 2] = True
    found = by_neighbours(rows, hidden, np.array(text), odds).reshape(-1, 2)
    np.testing.assert_array_equal(found[:, 0], [chain[a].argmax() for a, _, _ in rows])
    assert (found[:, 1] == odds.argmax()).all()


def test_hidden_ones_are_counted():
    class Knowing:
        symbols = 17

        def recover(self, symbols, hidden):
            assert (hidden.sum(axis=1) == 2).all()  # 15 % of 12
            right = np.arange(len(symbols)) % 4 > 0
            return np.where(hidden & ~right[:, None], 0, symbols)

    text = np.r_[np.full(900, 7), np.random.default_rng(0).integers(5, 17, 311)]
    data = Windows(text, 12)
    found = masked(Knowing(), data, lambda: data)
    assert found["masked accuracy"] == pytest.approx(0.75)
    few, more = (found[f"masked accuracy of {n}gram"] for n in ("uni", "bi"))
    assert 0.7 < few <= more < 1


def test_what_it_fills_in_is_shown(tmp_path):
    model = bert(window=30)
    text = "the cats, a b c a b\nthe b catnap! a b c a\ntoo short\n"
    data = Windows(model.numbers(text), 12, text=text)
    PICTURES["samples.txt"](model, tmp_path / "samples.txt", None, data)
    written = (tmp_path / "samples.txt").read_text().split("\n")
    assert written[0].count("[MASK]") == 1
    assert written[1].startswith("-> ")
    was = written[2].strip(" ()")
    assert written[0].replace("[MASK]", was) in text
