"""LoRA: what learns, what is kept, and that it comes back and goes on."""

import json

import keras
import numpy as np
import pytest

import zoo

pytestmark = pytest.mark.maths

GPT = {"vocabulary": "abc", "window": 12, "width": 8, "depth": 2, "heads": 2}
WINDOWS = (np.arange(64)[:, None] + np.arange(12)) % 3


@pytest.fixture
def base(tmp_path):
    """A preset, and a model of it that is adapted and has learned."""
    keras.utils.set_random_seed(0)
    zoo.GPT(**GPT).save_preset(tmp_path / "base")
    model = zoo.load(tmp_path / "base")
    model.adapt("query_dense|value_dense", rank=2)
    model.compile(keras.optimizers.Adam(0.1))
    model.fit(WINDOWS, epochs=12, verbose=0)
    return tmp_path / "base", model


def test_only_the_small_matrices_learn(base):
    folder, model = base
    plain = zoo.load(folder)
    assert len(model.adapter["paths"]) == 4
    names = [v.name for v in model.trainable_variables]
    assert sorted(names) == ["lora_kernel_a"] * 4 + ["lora_kernel_b"] * 4
    assert plain.score("abcabcabc") < model.score("abcabcabc") - 0.02
    own = [w for w in model.weights if "lora" not in w.name]
    for first, second in zip(own, plain.weights, strict=True):
        np.testing.assert_array_equal(np.array(first), np.array(second))


def test_an_adapter_comes_back_and_goes_on_learning(base, tmp_path):
    """Loaded into it, weights would make both matrices zero, which never learn."""
    folder, model = base
    model.save_adapter(tmp_path / "small")
    again = zoo.load(folder, adapter=tmp_path / "small")
    text = "abcabcabacb"
    assert again.score(text) == pytest.approx(model.score(text), abs=1e-6)
    assert again.generate(2, seed=0) == model.generate(2, seed=0)
    before = [np.array(v) for v in again.trainable_variables]
    assert all(np.abs(value).max() > 1e-3 for value in before)
    again.compile(keras.optimizers.Adam(0.1))
    again.fit(WINDOWS, epochs=1, verbose=0)
    for first, second in zip(before, again.trainable_variables, strict=True):
        assert np.abs(first - np.array(second)).max() > 1e-3
    size = sum(f.stat().st_size for f in (tmp_path / "small").iterdir())
    assert size < (folder / "model.weights.h5").stat().st_size


def test_merged_it_is_a_plain_model(base, tmp_path):
    folder, model = base
    with pytest.raises(ValueError, match=r"merge\(\) gives one to save"):
        model.save_preset(tmp_path / "mine")
    plain = model.merge()
    assert not getattr(plain, "adapter", None)
    plain.save_preset(tmp_path / "mine")
    again = zoo.load(tmp_path / "mine")
    assert again.score("abcab") == pytest.approx(model.score("abcab"), abs=1e-5)
    assert all(v.trainable for v in plain.weights if "seed" not in v.name)


@pytest.mark.parametrize("network", ["dense", "convolutional"])
def test_layers_of_any_model_can_be_adapted(tmp_path, network):
    keras.utils.set_random_seed(0)
    fresh = zoo.VAE(image_shape=(8, 8, 1), latent=3, hidden=(16,), network=network)
    fresh.save_preset(tmp_path / "a")
    model, images = zoo.load(tmp_path / "a"), np.zeros((32, 8, 8, 1), "float32")
    model.adapt(".", rank=1)
    model.compile(keras.optimizers.Adam(0.05))
    model.fit(images, epochs=3, verbose=0)
    model.save_adapter(tmp_path / "b")
    again = zoo.load(tmp_path / "a", adapter=tmp_path / "b")
    np.testing.assert_allclose(again.generate(2, 0), model.generate(2, 0), atol=1e-6)
    merged = model.merge().generate(2, 0)
    np.testing.assert_allclose(merged, model.generate(2, 0), atol=1e-5)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"paths": "nothing"}, "or convolution has a path that 'nothing' matches; the"),
        ({"paths": "dense", "rank": 0}, "a rank of 1 or more"),
        ({"paths": "dense", "alpha": -1}, "an alpha above 0"),
    ],
)
def test_wrong_wishes_are_refused(how, text):
    with pytest.raises(ValueError, match=text):
        zoo.GPT(**GPT).adapt(**how)


def test_twice_or_without_a_base_is_refused(base, tmp_path):
    with pytest.raises(ValueError, match="adapted already"):
        base[1].adapt("query")
    fresh = zoo.GPT(**GPT)
    with pytest.raises(ValueError, match="for a model that adapt"):
        fresh.merge()
    fresh.adapt("query")
    with pytest.raises(ValueError, match="belongs to the weights of a preset"):
        fresh.save_adapter(tmp_path / "x")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"base_sha256": "0" * 64}, "of other weights than these"),
        ({"weights_sha256": "0" * 64}, "is not the file that"),
        ({"paths": ["elsewhere"]}, "layers that the model has not"),
        ({"rank": 3}, "has the shape"),
        ({"rank": "2"}, "a rank of 1 or more"),
        ({"schema": 2}, "schema 2; this zoo reads 1"),
        (None, "does not fit"),
    ],
)
def test_a_damaged_adapter_is_refused(base, tmp_path, change, text):
    folder, model = base
    model.save_adapter(tmp_path / "small")
    path = tmp_path / "small" / "adapter.json"
    found = json.loads(path.read_text())
    path.write_text("[" if change is None else json.dumps({**found, **change}))
    with pytest.raises(ValueError, match=text):
        zoo.load(folder, adapter=tmp_path / "small")


@pytest.fixture
def small(tmp_path):
    """A preset that is an adapter to vae-mnist, and the model it was made from."""
    model = zoo.load("vae-mnist")
    model.adapt("decoder", rank=2)
    for variable in model.trainable_variables:
        variable.assign(np.random.default_rng(0).normal(0, 0.05, variable.shape))
    model.save_preset(tmp_path / "small", dtype="float16", summary="Changed.")
    return tmp_path / "small", model


def test_an_adapted_preset_is_saved_as_what_it_changes(small, tmp_path):
    folder, model = small
    size = sum(f.stat().st_size for f in folder.iterdir())
    assert size < 40_000
    assert "MB of adapter to vae-mnist" in (folder / "README.md").read_text("utf-8")
    again = zoo.load(folder)
    assert again.count_params() == again.card["parameters"]
    assert (again.card["base"], again.card["summary"]) == ("vae-mnist", "Changed.")
    found = again.generate(3, seed=0)
    np.testing.assert_allclose(found, model.generate(3, seed=0), atol=2e-3)
    assert np.abs(found - zoo.load("vae-mnist").generate(3, seed=0)).max() > 0.05
    again.save_preset(tmp_path / "plain")  # It is a plain model by now.
    np.testing.assert_array_equal(
        zoo.load(tmp_path / "plain").generate(3, seed=0), found
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"base": "hf://someone/else"}, "a base that comes with the zoo, not 'hf://"),
        ({"base": None}, "'base' that is a str"),
        ({"base": "vae-small"}, "no trained weights"),
        ({"base": "iwae-mnist"}, "is of other weights than these"),
        ({"config": {"samples": 7, "hidden": [2]}}, "lists"),
        ({"files": {}}, "no trained weights"),
    ],
)
def test_an_adapter_to_something_else_is_refused(small, change, text):
    path = small[0] / "config.json"
    card = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**card, **change}), "utf-8")
    with pytest.raises(zoo.PresetError, match=text):
        zoo.load(small[0])
