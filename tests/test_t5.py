"""T5: the cache, beams and ends of a model from text to text, and what it learns."""

import gzip
import itertools
import json
import warnings

import commands
import keras
import numpy as np
import pytest
import sentences
from keras import ops

import zoo
from zoo.tools._measures import measure
from zoo.trainers.data import DataError, open_for
from zoo.trainers.pictures import PICTURES
from zoo.trainers.texts import read_pairs
from zoo.transformers._keras_hub import keras_hub

pytestmark = pytest.mark.maths

SIZES = {"vocabulary": "abc", "window": 6, "width": 16, "depth": 2, "heads": 2}


def build(scale=0.5, **changes):
    """A model of large random weights, so that symbols depend on others."""
    model, random = zoo.T5(**{**SIZES, **changes}), np.random.default_rng(1)
    values = [scale * random.normal(size=w.shape) for w in model.get_weights()]
    model.set_weights(values)
    return model


def value(tensor):
    return ops.convert_to_numpy(tensor)


def logits(model, source, target):
    found = model.call(*map(ops.convert_to_tensor, (source, target)))
    return value(found)


def test_its_logits_are_those_of_keras_hub():
    model = build()
    source, target = (
        model.rows(["abc", "b"], "score"),
        model.rows(["ca", "cab"], "score"),
    )
    hub = keras_hub().models.T5Seq2SeqLM(backbone=model.backbone)
    before = np.concatenate([np.full((2, 1), 4), np.maximum(target[:, :-1], 0)], axis=1)
    theirs = hub(
        {
            "encoder_token_ids": np.maximum(source, 0),
            "encoder_padding_mask": (source >= 0).astype("int32"),
            "decoder_token_ids": before.astype("int32"),
            "decoder_padding_mask": np.ones_like(before, "int32"),
        }
    )
    ours = logits(model, source, target)
    np.testing.assert_allclose(ours, value(theirs)[..., :4], atol=1e-4)


@pytest.mark.parametrize("pieces", [[1] * 6, [6], [2, 3, 1]])
def test_the_cache_changes_nothing(pieces):
    model = build()
    source = model.rows(["abc", "b"], "score")
    target = np.array([[0, 1, 2, 2, 1, 0], [2, 2, 0, 1, 1, 3]], "int32")
    expected = logits(model, source, target)
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    state, found = model.begin(ops.convert_to_tensor(source)), []
    before = np.concatenate([np.full((2, 1), 4), target[:, :-1]], axis=1)
    for part in np.split(before.astype("int32"), np.cumsum(pieces)[:-1], axis=1):
        new, state = model.read(ops.convert_to_tensor(part), state)
        found.append(value(new))
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected, atol=1e-4)


def test_what_stands_after_the_end_of_a_source_is_not_seen():
    model = build()
    target = model.rows(["ca"], "score")
    short = model.rows(["ab"], "score")[:, :3]
    full = model.rows(["ab"], "score")
    expected = logits(model, short, target)
    np.testing.assert_allclose(logits(model, full, target), expected, atol=1e-5)
    other = model.rows(["ac"], "score")
    assert np.abs(logits(model, other, target) - expected).max() > 0.1


def test_smoothing_spreads_a_share_over_all_symbols():
    plain, smooth = build(dropout=0.0), build(dropout=0.0, smoothing=0.1)
    source, target = plain.rows(["abc"], "score"), plain.rows(["ca"], "score")
    tensors = [ops.convert_to_tensor(array) for array in (source, target)]
    x = logits(plain, source, target)[0, :3]
    x = x - np.log(np.exp(x).sum(-1, keepdims=True))
    each = x[np.arange(3), target[0, :3]]
    loss = float(value(plain.objective(*tensors)))
    np.testing.assert_allclose(loss, -each.mean(), rtol=1e-4)
    np.testing.assert_allclose(plain.score("abc", "ca"), [each.mean()], rtol=1e-4)
    expected = -(0.9 * each + 0.1 * x.mean(-1)).mean()
    np.testing.assert_allclose(
        float(value(smooth.objective(*tensors))), expected, rtol=1e-4
    )


def test_beams_find_the_likeliest_of_all_that_end():
    model = build(scale=0.4, vocabulary="ab", window=4)
    targets = [
        "".join(letters)
        for length in (1, 2, 3)
        for letters in itertools.product("ab", repeat=length)
    ]
    source = model.rows(["ab"], "score")
    rows = np.concatenate([model.rows(targets, "score"), [[2, -1, -1, -1]]])
    scores = model._run(
        "_likelihood", np.repeat(source, len(rows), axis=0), rows.astype("int32")
    )
    best = [*targets, ""][int(np.argmax(scores))]
    assert model.translate("ab", num_beams=100) == best


def test_the_greedy_way_takes_the_likeliest_symbol_each_time():
    model = build()
    for text in ("abc", "b", "ca"):
        source, written = model.rows([text], "score"), []
        while len(written) < 6 and model.end not in written:
            target = np.full((1, 6), 0, "int32")
            target[0, : len(written)] = written
            written.append(int(logits(model, source, target)[0, len(written)].argmax()))
        expected = model.text(written)
        assert model.translate(text) == expected
        assert model.translate(text, num_beams=1) == expected
    texts = ["abc", "b", "ca"] * 30
    assert model.translate(texts) == [*map(model.translate, texts[:3])] * 30
    drawn = [model.translate("abc", seed=s, temperature=1) for s in range(8)]
    assert len(set(drawn)) > 1
    assert drawn[3] == model.translate("abc", seed=3, temperature=1)


def test_it_learns_to_sort():
    keras.utils.set_random_seed(0)
    sizes = {"vocabulary": "abcdef", "width": 32, "depth": 1, "dropout": 0.0}
    model, random = zoo.T5(**{**SIZES, **sizes}), np.random.default_rng(0)
    counts = random.integers(1, 5, 1000)
    texts = ["".join(random.permutation([*"abcdef"])[:n]) for n in counts]
    model.fit(texts, [*map(in_order, texts)], batch_size=32, epochs=15, verbose=0)
    assert type(model.optimizer) is keras.optimizers.Lamb
    fresh = ["bac", "fc", "edb", "b", "fcba"]
    assert model.translate(fresh) == [*map(in_order, fresh)]
    assert model.translate(fresh, num_beams=4) == [*map(in_order, fresh)]
    assert model.score("fcb", "bcf") > model.score("fcb", "fcb") + 1


def in_order(text):
    return "".join(sorted(text))


def test_pairs_come_from_a_file(tmp_path):
    model, file = build(), tmp_path / "train.tsv"
    file.write_text("ab\tba\nabcabc\tc\n\nc\tcc\n", "utf-8")
    for address in (file, tmp_path):
        data = open_for(model, str(address), "train")
        source, target = data[np.arange(2)]
        assert len(data) == 2  # One is longer than the window.
        np.testing.assert_array_equal(source, model.rows(["ab", "c"], "fit"))
        np.testing.assert_array_equal(target, model.rows(["ba", "cc"], "fit"))
    short = open_for(model, str(file), "train", length=3)[np.arange(2)][0]
    np.testing.assert_array_equal(short, source[:, :3])
    with pytest.raises(DataError, match="within 2 symbols"):
        open_for(model, str(file), "train", length=2)
    PICTURES["samples.txt"](model, tmp_path / "samples.txt", data)
    written = (tmp_path / "samples.txt").read_text("utf-8")
    assert written.startswith(f"ab\n-> {model.translate('ab')}\n   (ba)")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ab\n", "a line 1"),
        ("a\tb\nb\n", "a line 2"),
        ("abcabc\tc\n", "is within 6 symbols"),
    ],
)
def test_what_is_not_in_pairs_is_refused(tmp_path, text, reason):
    (tmp_path / "train.tsv").write_text(text, "utf-8")
    with pytest.raises(DataError, match=reason):
        open_for(build(), str(tmp_path), "train")


def test_multi30k_says_where_its_files_go(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_MANUAL_DIR", str(tmp_path))
    with pytest.raises(DataError, match="train.de.gz is not on this machine"):
        open_for(build(), "multi30k:de-en", "train")
    with pytest.raises(DataError, match="de-en or en-de"):
        open_for(build(), "multi30k:de-fr", "train")
    (tmp_path / "multi30k").mkdir()
    for side, text in (("de", "ab\nc\n"), ("en", "b\ncc\n")):
        with gzip.open(tmp_path / "multi30k" / f"val.{side}.gz", "wt") as file:
            file.write(text)
    assert read_pairs("multi30k:en-de", "validation") == [("b", "ab"), ("cc", "c")]


def test_bleu_is_that_of_sacrebleu(tmp_path):
    sacrebleu = pytest.importorskip("sacrebleu", reason="needs sacrebleu, in [data]")
    model, texts = build(vocabulary="abc ", window=8), ["a b c a", "b b", "c a"]
    made = model.translate(texts, num_beams=2)
    lines = [f"{a}\t{b or 'a'}" for a, b in zip(texts, ["a b", "c", made[2]])]
    (tmp_path / "test.tsv").write_text("\n".join(lines), "utf-8")
    data = open_for(model, str(tmp_path), "test")
    wanted = {"BLEU": {"num_beams": 2}, "BLEU greedy": {}}
    found = measure(model, data, wanted)
    references = [[line.split("\t")[1] for line in lines]]
    for name, beams in (("BLEU", 2), ("BLEU greedy", None)):
        made = model.translate(texts, num_beams=beams)
        expected = sacrebleu.corpus_bleu(made, references).score
        assert found[name] == pytest.approx(expected)


def test_attention_is_that_of_each_symbol_to_its_source(tmp_path):
    model = build()
    read, source, maps = model.attention("abc", "ba")
    assert (read, source) == (["", "b", "a"], ["a", "b", "c", ""])
    assert maps.shape == (2, 2, 3, 4)
    np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=1e-5)
    again = model.attention("abc", "bc")[2]
    np.testing.assert_allclose(maps[:, :, :2], again[:, :, :2], atol=1e-5)
    assert np.abs(maps[:, :, 2] - again[:, :, 2]).max() > 1e-3
    # Of keys all alike, none is looked at more.
    for layer in model.backbone.decoder_transformer_layers:
        kernel = layer.cross_attention.key_projector.kernel
        kernel.assign(np.zeros(kernel.shape))
    model._functions.clear()
    np.testing.assert_allclose(model.attention("abc", "ba")[2], 0.25, atol=1e-6)
    assert model.attention("ab")[0][1:] == [*model.translate("ab")][:5]
    model.save_preset(tmp_path / "t5", summary="Tiny.")
    said = commands.zoo("info", "t5", "--attention", "ab", cwd=tmp_path).stdout
    assert "looks at each of 'a', 'b', an end, from the left" in said


def test_a_text_is_translated_on_the_command_line(tmp_path):
    model = build()
    model.save_preset(tmp_path / "t5", summary="Tiny.")
    call = ["translate", tmp_path / "t5", "abc", "b", "--num_beams=2"]
    done = commands.zoo(*call)
    assert done.stdout.splitlines() == model.translate(["abc", "b"], num_beams=2)


def test_pairs_of_bytes_write_what_letters_can_not():
    model = build(vocabulary=None, merges="t h\nÃ ¼", window=12)
    row = model.rows("thür", "score")[0]
    assert (row >= 0).sum() == 4 + 1 - 1  # th, ü, r and the end.
    assert row[3] == model.end == 258
    assert isinstance(model.translate("thür"), str)


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda m: m.translate(""), "1 character or more"),
        (lambda m: m.translate([]), "1 character or more"),
        (lambda m: m.translate("abcabc"), "at most 5 symbols"),
        (lambda m: m.translate("x"), "not in the vocabulary"),
        (lambda m: m.translate("a", num_beams=0), "num_beams is a whole number"),
        (lambda m: m.translate("a", num_beams=2, temperature=1), "draws nothing"),
        (lambda m: m.translate("a", temperature=-1), "temperature is 0 or more"),
        (lambda m: m.score(["a", "b"], "c"), "as many targets as texts"),
        (lambda m: m.fit(["a", "b"], ["c"]), "as many targets as sources"),
        (lambda m: build(smoothing=1.0), "smoothing in"),
        (lambda m: build(window=1), "a window of 2 or more"),
        (lambda m: build(window=10_000), "a window of at most 4,096"),
    ],
)
def test_wrong_wishes_are_refused(ask, text):
    with pytest.raises(ValueError, match=text):
        ask(build())


def test_it_makes_nothing_of_nothing():
    with pytest.raises(AttributeError, match="no verb 'generate'"):
        build().generate(1)


@pytest.fixture(params=["1.0", "1.1"])
def published(request, tmp_path):
    """A folder as keras-hub writes it, of either T5, and its model."""
    newer = {"use_gated_activation": True, "tie_embedding_weights": False}
    older = {"use_gated_activation": False, "tie_embedding_weights": True}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not support masking", UserWarning)
        backbone = keras_hub().models.T5Backbone(
            **{"vocabulary_size": 64, "num_layers": 2, "num_heads": 3, "hidden_dim": 8},
            **{"intermediate_dim": 24, "key_value_dim": 5, "dropout": 0.0},
            **(newer if request.param == "1.1" else older),
            activation="gelu" if request.param == "1.1" else "relu",
        )
    random = np.random.default_rng(1)
    values = [random.normal(0, 0.5, w.shape) for w in backbone.get_weights()]
    backbone.set_weights(values)
    backbone.save_to_preset(tmp_path / "t5")
    assets = tmp_path / "t5" / "assets" / "tokenizer"
    assets.mkdir(parents=True, exist_ok=True)
    (assets / "vocabulary.spm").write_bytes(sentences.trained())
    return tmp_path / "t5", backbone


@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_a_folder_of_keras_hub_is_a_preset(published, tmp_path):
    folder, backbone = published
    model = zoo.load(folder)
    assert type(model) is zoo.T5
    assert (model.first, model.end, model.symbols) == (0, 1, 64)
    for text in sentences.SAID:
        numbers = model.numbers(text)
        assert 1 < len(numbers) < len(text)
        assert model.text([*numbers, model.end, 5]) == text
    assert model.text(model.numbers("the § cat")) == "the  ⁇  cat"
    source, target = (
        model.rows(sentences.SAID[0], "score"),
        model.rows(sentences.SAID[1], "score"),
    )
    hub = keras_hub().models.T5Seq2SeqLM(backbone=backbone)
    before = np.concatenate([[[0]], np.maximum(target[:, :-1], 0)], axis=1)
    theirs = hub(
        {
            "encoder_token_ids": np.maximum(source, 0),
            "encoder_padding_mask": (source >= 0).astype("int32"),
            "decoder_token_ids": before.astype("int32"),
            "decoder_padding_mask": np.ones_like(before, "int32"),
        }
    )
    theirs = value(theirs)
    np.testing.assert_allclose(logits(model, source, target), theirs, atol=1e-4)
    state = model.begin(ops.convert_to_tensor(source))
    start = np.concatenate([[[model.symbols]], target[:, :5]], axis=1).astype("int32")
    cached, _ = model.read(ops.convert_to_tensor(start), state)
    np.testing.assert_allclose(value(cached), theirs[:, :6], atol=1e-4)
    small = zoo.T5(**{**model.get_config(), "window": 24})
    small.set_weights(model.get_weights())
    small.compile("adam")
    small.fit(sentences.SAID[:1], sentences.SAID[1:2], epochs=1, verbose=0)
    small.save_preset(tmp_path / "mine")
    again = zoo.load(tmp_path / "mine")
    found = small.translate(sentences.SAID)
    assert again.translate(sentences.SAID) == found
    assert len(set(found)) > 1


@pytest.mark.parametrize("published", ["1.1"], indirect=True)
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"vocabulary_size": 9}, "table has 2[0-9] to 1,000,000 rows, not 9"),
        ({"activation": {"class_name": "Lambda"}}, "activation is one of relu"),
        ({"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon of 1e-6 alone"),
        ({"num_heads": 0}, "of 1 or more, not"),
        ({"key_value_dim": -5}, "T5 takes a window"),
        (b"", "is the file of a SentencePiece model"),
        (b"pieces", "is the file of a SentencePiece model"),
        (None, "save the whole task"),
    ],
)
def test_a_damaged_folder_of_keras_hub_is_refused(published, change, text):
    tokens = published[0] / "assets" / "tokenizer" / "vocabulary.spm"
    if change is None:
        tokens.unlink()
    elif isinstance(change, bytes):
        tokens.write_bytes(change)
    else:
        path = published[0] / "config.json"
        found = json.loads(path.read_text("utf-8"))
        found["config"] |= change
        path.write_text(json.dumps(found), "utf-8")
    with pytest.raises(zoo.PresetError, match=text):
        zoo.load(published[0])
