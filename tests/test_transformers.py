"""GPT: cache, window, symbols, beams, and folders of keras-hub."""

import importlib.util
import json
import os
import struct
import subprocess
import sys

import commands
import keras
import numpy as np
import pytest
from keras import ops

import zoo
from zoo._byte_pairs import BytePairs, letters, words
from zoo.transformers._keras_hub import keras_hub

pytestmark = pytest.mark.maths

MERGES = "t h\nĠ th\nĠth e\nĠ a"


def build(scale=0.5, **changes):
    how = {"vocabulary": "abc", "window": 16, "width": 16, "depth": 2, "heads": 2}
    return shaken(zoo.GPT(**{**how, **changes}), scale)


def shaken(model, scale):
    """Give it large random weights, so that symbols depend on others."""
    random = np.random.default_rng(1)
    model.set_weights(
        [
            np.round(w.mean()) + scale * random.normal(size=w.shape)  # 1 for a scale.
            for w in model.get_weights()
        ]
    )
    return model


def stepped(model, symbols):
    """The logits of symbols, (n, steps), read one after another."""
    state, last, found = model.start(len(symbols)), model.symbols, []
    last = np.full(len(symbols), last, "int32")
    for symbol in symbols.T:
        logits, state = model.step(ops.convert_to_tensor(last), state)
        found.append(ops.convert_to_numpy(logits))
        last = symbol
    return np.stack(found, axis=1)


def test_the_cache_gives_what_keras_hub_does_without():
    model, random = build(), np.random.default_rng(0)
    symbols = random.integers(0, 3, (3, 16)).astype("int32")
    read = np.concatenate([np.full((3, 1), 3), symbols[:, :-1]], axis=1)
    hidden = model.backbone({"token_ids": read, "padding_mask": np.ones_like(read)})
    expected = model.backbone.token_embedding(hidden, reverse=True)
    expected = ops.convert_to_numpy(expected)[..., :3]
    np.testing.assert_allclose(model._run("call", symbols), expected, atol=1e-4)
    np.testing.assert_allclose(stepped(model, symbols), expected, atol=1e-4)


def test_a_symbol_depends_on_those_before_it_alone():
    model, symbols = build(), np.arange(12)[None].astype("int32") % 3
    logits = model._run("call", symbols)
    for place in range(11):
        turned = symbols.copy()
        turned[0, place] = (turned[0, place] + 1) % 3
        moved = np.abs(model._run("call", turned) - logits).max(axis=(0, 2))
        assert (moved[: place + 1] < 1e-6).all()
        assert (moved[place + 1 :] > 1e-6).all()


def by_hand(model, text):
    """Score a text symbol by symbol, each by the window it should be seen in."""
    numbers, start = model.numbers(text), 0
    total, half = 0.0, model.window // 2
    for i, number in enumerate(numbers):
        if i - start == model.window:
            start = i - half
        row = np.zeros((1, model.window), "int32")
        row[0, : i - start + 1] = numbers[start : i + 1]
        logits = model._run("call", row)[0, i - start].astype("float64")
        total += logits[number] - np.log(np.exp(logits).sum())
    return total / len(numbers)


@pytest.mark.parametrize("window", [16, 9])
def test_a_full_window_goes_on_from_its_last_half(window):
    model = build(window=window)
    text = model.generate(1, seed=0, length=57)[0]
    assert model.score(text)[0] == pytest.approx(by_hand(model, text), abs=1e-5)
    # A prompt of any length is seen as it would be had the model written it.
    for cut in (5, window, window + 3, 2 * window + 1, 50):
        noise = np.ones((1, 57), "float32")
        noise[:, cut:] = model.noise(1, seed=0, length=57)[:, cut:]
        given = np.full((1, 57), -1, "int32")
        given[0, :cut] = model.numbers(text[:cut])
        assert model.text(model._write(noise, given, {})[0]) == text


@pytest.mark.parametrize("given", [3, 150, 220])
def test_room_that_grows_changes_nothing(given):
    """At 150 there is little room for what follows, at 220 from the start all."""
    model = build(scale=0.2, window=300)
    whole = model._run("sample", model.noise(1, seed=3, length=290))
    start = model.text(whole[0, :given])
    found = model.generate(1, prompt=start, length=290 - given, seed=0)[0]
    again = np.full((1, 290), -1, "int32")
    again[:, :given] = whole[:1, :given]
    noise = np.zeros((1, 290), "float32")
    noise[:, given:] = model.noise(1, seed=0, length=290 - given)
    assert found == model.text(model._run("sample", noise, again)[0])
    assert len(set(found[given:])) == 3


def test_prompts_of_any_length_go_on_together():
    model = build()
    prompts = ["a", "abcab" * 9, "", "bca" * 6]
    together = model.generate(4, seed=3, length=30, prompt=prompts)
    assert [text[: len(p)] for text, p in zip(together, prompts)] == prompts
    assert together[0] == model.generate(1, seed=3, length=30, prompt="a")[0]
    pieces = model.stream(seed=3, length=30, prompt="a", every=7)
    assert "a" + "".join(pieces) == together[0]


def test_attention_is_that_of_each_head_to_what_is_before():
    model = build()
    read, maps = model.attention("abcabcab")
    assert read == ["", *"abcabca"]
    assert maps.shape == (2, 2, 8, 8)
    np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=1e-5)
    assert np.triu(maps, 1).max() == 0
    layer = model.backbone.transformer_layers[0]
    before = np.array([[3, 0, 1, 2, 0, 1, 2, 0]])
    x = layer._self_attention_layer_norm(model._embedded(before, 0))
    attend = layer._self_attention_layer
    _, expected = attend(
        x, x, attention_mask=np.tri(8)[None] > 0, return_attention_scores=True
    )
    np.testing.assert_allclose(maps[0], ops.convert_to_numpy(expected)[0], atol=1e-5)
    with pytest.raises(ValueError, match="a text of 1 to 16 symbols"):
        model.attention("a" * 17)


@pytest.mark.once
def test_info_draws_what_heads_look_at(tmp_path):
    build().save_preset(tmp_path / "mine")
    said = commands.zoo("info", "mine", "--attention", "abca", cwd=tmp_path).stdout
    assert "2 layers from the top, 2 heads each" in said
    assert "from the top the start, 'a', 'b', 'c', and says" in said
    picture = (tmp_path / "mine-attention.png").read_bytes()
    assert struct.unpack(">II", picture[16:24]) == (396, 396)


def test_it_learns_what_is_far_back():
    """The last letter is the first, eight letters back."""
    letters_ = np.random.default_rng(0).integers(0, 3, (768, 8))
    windows = np.concatenate([letters_, letters_[:, :1]], axis=1)
    keras.utils.set_random_seed(0)
    model = zoo.GPT("abc", window=9, width=16, depth=1, heads=2)
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(windows, epochs=30, batch_size=64, verbose=0)
    nats = -9 * model.score([model.text(row) for row in windows]).mean()
    assert nats == pytest.approx(8 * np.log(3), abs=0.2)


def test_words_are_cut_as_in_gpt2():
    text = "It's  the cat's 2nd\n\tvisit, isn't it?!  Ünïcode² …  "
    assert [*words(text)] == [
        *("It", "'s", " ", " the", " cat", "'s", " 2", "nd", "\n", "\t", "visit", ","),
        *(" isn", "'t", " it", "?!", " ", " Ünïcode", "²", " …", "  "),
    ]


def test_any_text_comes_back_and_merges_go_in_order():
    pairs = BytePairs(MERGES)
    for text in ("", "the theth a á 🙂", "\x00\n\r ", "then and that"):
        assert pairs.decode(pairs.encode(text)) == text
    names = [*pairs.number]
    assert [names[i] for i in pairs.encode("the the at")] == [
        *("th", "e", "Ġthe", "Ġa", "t")
    ]
    assert len(pairs) == 260


@pytest.mark.parametrize(
    "merges", ["", "t  h", "t h\nt h", "th e", "a b c", "\u4e2d a", 3]
)
def test_merges_that_are_none_are_refused(merges):
    with pytest.raises(ValueError, match="merges"):
        zoo.GPT(merges=merges)


def test_a_model_of_bytes_streams_whole_characters():
    model = build(merges=MERGES)
    whole = model.generate(1, seed=1, length=60, prompt="the é")[0]
    assert whole.startswith("the é")
    pieces = [*model.stream(seed=1, length=60, prompt="the é", every=1)]
    assert "the é" + "".join(pieces) == whole
    text = "the thé"
    nats = model.score(text)[0] * len(model.numbers(text))
    bits = model.score(text, per="byte")[0] * len(text.encode())
    assert bits == pytest.approx(nats / np.log(2))
    with pytest.raises(ValueError, match="per is 'symbol' or 'byte'"):
        model.score(text, per="word")


@pytest.mark.parametrize(
    "wrong",
    [
        *({"window": 1}, {"heads": 3}, {"depth": 0}, {"dropout": 1.0}, {"width": 1.5}),
        *({"depth": 10**9}, {"hidden": 0}),
    ],
)
def test_sizes_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="GPT takes a window of 2 or more"):
        build(**wrong)


def test_windows_too_long_to_be_seen_are_refused():
    with pytest.raises(ValueError, match="sees 16 symbols at once; these windows"):
        build().fit(np.zeros((4, 17), "int32"))


@pytest.fixture
def published(tmp_path):
    """A folder that keras-hub wrote, and its model."""
    hub = keras_hub()
    names = [*BytePairs(MERGES).number, "<|endoftext|>"]
    backbone = hub.models.GPT2Backbone(
        **{"vocabulary_size": 261, "num_layers": 2, "num_heads": 2, "hidden_dim": 8},
        **{"intermediate_dim": 24, "max_sequence_length": 12},
    )
    tokenizer = hub.models.GPT2Tokenizer(
        vocabulary={name: i for i, name in enumerate(names)},
        merges=MERGES.split("\n"),
    )
    backbone.save_to_preset(tmp_path / "gpt")
    tokenizer.save_to_preset(tmp_path / "gpt")
    return tmp_path / "gpt", backbone, tokenizer


def test_a_folder_of_keras_hub_is_a_preset(published, tmp_path):
    folder, backbone, tokenizer = published
    model = zoo.load(folder)
    assert type(model) is zoo.GPT
    text = "the théme a  that"
    numbers = model.numbers(text)
    np.testing.assert_array_equal(numbers, np.array(tokenizer(text)))
    read = np.concatenate([[260], numbers[:11]])[None]
    hidden = backbone({"token_ids": read, "padding_mask": np.ones_like(read)})
    logits = backbone.token_embedding(hidden, reverse=True)
    logits = ops.convert_to_numpy(logits)[..., :260]
    found = model._run("call", numbers[None, :12])
    np.testing.assert_allclose(found, logits, atol=1e-5)
    model.fit(text * 20, epochs=1, verbose=0)
    model.save_preset(tmp_path / "mine")
    again = zoo.load(tmp_path / "mine")
    assert again.generate(1, seed=0, length=9) == model.generate(1, seed=0, length=9)


@pytest.mark.parametrize(
    ("file", "change", "text"),
    [
        ("config.json", lambda t: t.replace("GPT2B", "MysteryB"), "reads GPT2Backbone"),
        ("config.json", lambda t: t.replace("24", "-24"), "of 1 or more, not"),
        ("config.json", lambda t: t.replace("261", "262"), "in the order of GPT-2"),
        ("assets/tokenizer/merges.txt", lambda t: t[4:], "no new pair"),
        (
            "assets/tokenizer/vocabulary.json",
            lambda t: json.dumps({**json.loads(t), "a": 3}),
            "in the order of GPT-2",
        ),
        ("assets/tokenizer/vocabulary.json", lambda t: t[:-1], "not the JSON"),
        ("model.weights.h5", None, "no trained weights"),
        ("assets/tokenizer/merges.txt", None, "save the whole task"),
    ],
)
def test_a_damaged_folder_of_keras_hub_is_refused(published, file, change, text):
    path = published[0] / file
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text("utf-8")), "utf-8")
    with pytest.raises(zoo.PresetError, match=text):
        zoo.load(published[0])


@pytest.mark.once
@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="torch is missing")
def test_without_tensorflow_it_stays_away():
    code = (
        "import sys, zoo; model = zoo.GPT('abc', depth=1); model.generate(1, seed=0); "
        "import keras; print(keras.backend.backend(), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["torch", "False"]


def test_letters_stand_for_all_bytes():
    table = letters()
    assert sorted(table) == [*range(256)]
    assert len(set(table.values())) == 256
    assert table[ord(" ")] == "Ġ"
    assert table[ord("A")] == "A"


def test_beams_go_on_when_the_window_is_full():
    model = build(window=9)
    (greedy,) = model.generate(1, length=40, prompt="ab", temperature=0)
    assert model.generate(1, length=40, prompt="ab", num_beams=1) == [greedy]
    (found,) = model.generate(1, length=40, prompt="ab", num_beams=4)
    assert len(found) == 42
    assert model.score(found) > model.score(greedy) - 0.05
