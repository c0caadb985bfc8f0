"""Documents that share windows of training, and conversations."""

import json
import subprocess
import sys

import commands
import keras
import numpy as np
import pytest
from keras import ops

import zoo
from zoo._documents import as_text, packed, turns_of
from zoo.tools import _code
from zoo.trainers import documents
from zoo.trainers.data import DataError, open_for

pytestmark = pytest.mark.maths


def test_no_document_is_cut_that_fits_and_none_is_lost():
    random = np.random.default_rng(0)
    lengths = [*random.integers(1, 13, 60), 40]
    ends = np.cumsum(lengths)
    whole = [np.arange(e - n, e) for e, n in zip(ends, lengths)]
    rows = packed(whole, 12)
    parts = []
    for row in rows:
        text = " ".join(map(str, row)).split("-1")
        parts += [tuple(map(int, part.split())) for part in text if part.strip()]
    cut = [tuple(whole[-1][i : i + 12]) for i in range(0, 40, 12)]
    assert sorted(parts) == sorted([*map(tuple, whole[:-1]), *cut])
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


def test_a_whole_package_of_the_library_is_in_one_split():
    splits = {s: documents.read_library(s) for s in ("train", "validation", "test")}
    packages = {
        split: {name.split("/")[0].removesuffix(".py") for name, _ in found}
        for split, found in splits.items()
    }
    assert len(packages["train"]) > 5 * len(packages["test"])
    assert packages["test"]
    assert packages["validation"]
    assert not packages["train"] & packages["test"]
    assert not packages["train"] & packages["validation"]
    assert {"asyncio", "argparse"} <= set.union(*packages.values())
    assert not {"test", "site-packages", "encodings"} & set.union(*packages.values())


def test_files_of_a_folder_are_documents(tmp_path):
    model = build()
    for split, texts in (("train", ["abc", "ca\n", ""]), ("test", ["bb"])):
        (tmp_path / split).mkdir()
        for i, text in enumerate(texts):
            (tmp_path / split / f"{i}.txt").write_text(text)
    data = open_for(model, tmp_path, "train", length=8)
    assert data.texts == ["abc", "ca\n"]
    assert data[:].tolist() == [[0, 1, 2, -1, 2, 0, 4, -1]]
    assert open_for(model, tmp_path, "test").texts == ["bb"]
    (tmp_path / "test" / "x.txt").write_text("axa")
    with pytest.raises(DataError, match="'x', not in the vocabulary"):
        open_for(model, tmp_path, "test")
    (tmp_path / "test" / "x.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match="Text is UTF-8"):
        open_for(model, tmp_path, "test")
    with pytest.raises(DataError, match="There are no documents at"):
        open_for(model, tmp_path / "nowhere", "test")


def test_conversations_are_read_from_both_kinds_of_files(tmp_path):
    model = build("chats")
    rows = [{"messages": [{"role": "user", "content": "a b"}]}, ["a", "b", "c"]]
    lines = "\n".join(map(json.dumps, rows))
    (tmp_path / "test.jsonl").write_text(lines)
    assert open_for(model, tmp_path, "test").texts == ["a b\n", "a\nb\nc\n"]
    assert open_for(model, tmp_path / "test.jsonl", "train").texts[1] == "a\nb\nc\n"
    (tmp_path / "test.jsonl").write_text(lines + '\n{"messages": "a"')
    with pytest.raises(DataError, match="line 3 of .* is not"):
        open_for(model, tmp_path, "test")
    pytest.importorskip("yaml", reason="needs pyyaml, in [data]")
    corpus = "conversations:\n- - a\n  - b\n  - [c]\n- - 'c\n\n    a'\n  - b\n- - a\n"
    (tmp_path / "abc.yml").write_text(corpus)
    found = [open_for(model, tmp_path / "abc.yml", "train").texts]
    assert found == [["a\nb\n", "c a\nb\n"]]
    (tmp_path / "abc.yml").write_text("conversations: 3")
    with pytest.raises(DataError, match="no list of `conversations:`"):
        open_for(model, tmp_path / "abc.yml", "train")


def test_what_yaml_takes_for_no_text_is_one(tmp_path):
    pytest.importorskip("yaml", reason="needs pyyaml, in [data]")
    (tmp_path / "x.yml").write_text("conversations:\n- - Is it?\n  - Yes\n  - 1969\n")
    found = documents.read_chats(str(tmp_path / "x.yml"), "train")
    assert found == ["Is it?\nYes\n1969\n"]


def test_the_corpus_of_chatterbot_says_where_to_put_it(monkeypatch):
    monkeypatch.delenv("ZOO_MANUAL_DIR", raising=False)
    with pytest.raises(DataError, match="Put its English .yml files into a folder"):
        open_for(build("chats"), "chatterbot", "train")


MODULE = '''
def plus(a, b):
    """Add."""
    return a + b

class A:
    def half(
        self, x
    ):
        """Halve

        it."""
        return x / 2

    def untold(self):
        return 3

def empty():
    """Do nothing."""
'''


def test_functions_are_cut_behind_their_docstrings():
    plus, half = _code.functions([MODULE, "def broken("])
    assert plus == 'def plus(a, b):\n    """Add."""'
    assert half.startswith("def half(\n    self, x\n):\n")
    assert half.endswith('it."""')


def test_a_body_ends_where_the_next_thing_begins():
    assert _code.body("\n    a\n\n    b\nclass C:\n    x\n") == "\n    a\n\n    b\n"
    assert _code.body("    a\n    b = (cut") == "    a\n"
    assert _code.parses("def f():\n" + _code.body("    return 3\nx"))
    assert not _code.parses("def f():\n" + _code.body("    return (3\nx"))
    assert not _code.parses("\0")


class Known:
    """Documents, and a model that knows them all but for one bit a byte."""

    texts = [MODULE * 3, "x = 3\n" * 50]

    def score(self, texts, per):
        assert per == "byte"
        return np.full(len(texts), -1.0)

    def generate(self, num, prompt, seed, length, temperature):
        return [p + ("\n    x\nnext" if "Add" in p else "\n  )\nx") for p in prompt]

    def chat(self, turn, seed):
        return "x = 3" if turn == "x = 3" else "odd"


def test_what_is_measured_of_documents():
    found = _code.compression(Known(), Known(), Known)
    assert found["bits a byte"] == pytest.approx(1)
    gzip, xz, after = list(found.values())[1:]
    assert 0 < after < min(gzip, xz) < 8
    assert _code.parsed(Known(), Known()) == {"functions that parse": 0.5}
    assert _code.recited(Known(), Known(), Known) == {"answers by heart": 0.5}


def test_one_talks_a_line_a_turn(tmp_path):
    model = build("chats")
    model.save_preset(tmp_path / "mine")
    build("texts").save_preset(tmp_path / "texts")
    call = [sys.executable, "-m", "zoo.tools.main", "chat"]
    how = {"cwd": tmp_path, "capture_output": True, "text": True}
    done = subprocess.run([*call, "mine", "--seed=3"], input="ab\nc\n\nb", **how)
    first = model.chat("ab", seed=4, temperature=0.7)
    then = model.chat(["ab", first or "…", "c"], seed=6, temperature=0.7)
    assert done.stdout.splitlines() == [first, then], done.stderr
    done = commands.zoo("chat", "texts", cwd=tmp_path)
    assert "GPT has no verb 'chat'; it has generate" in done.stderr
