"""A preset is found by name or folder, and what is loaded is what was saved."""

import json
import os
import shutil
import time

import h5py
import keras
import numpy as np
import pytest

import zoo
from zoo import _hdf5, _registry, _saving

CONFIG = {
    "image_shape": [4, 4, 1],
    "latent": 2,
    "hidden": [3],
    "likelihood": "gaussian",
}


def vae(seed=0, **config):
    keras.utils.set_random_seed(seed)
    return zoo.VAE(**(CONFIG | config))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "vae"
    vae().save_preset(folder, summary="Tiny.")
    return folder


@pytest.fixture
def preset(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "vae")


def edit(folder, **entries):
    """Set entries of config.json; "config" is merged."""
    path = folder / "config.json"
    card = json.loads(path.read_text())
    entries["config"] = card["config"] | entries.get("config", {})
    path.write_text(json.dumps(card | entries))


def test_misspelt_name(monkeypatch):
    monkeypatch.setattr(_registry, "presets", lambda: ["vae-mnist"])
    with pytest.raises(zoo.PresetError, match="'vae-minst'. Did you mean 'vae-mnist'"):
        zoo.load("vae-minst")


@pytest.mark.parametrize("name", ["", "a\0b", 10_000 * "x", None])
def test_no_name_at_all(name):
    with pytest.raises(zoo.PresetError, match="No preset is called"):
        zoo.load(name)


def test_a_size_to_train(preset):
    (preset / "model.weights.h5").unlink()
    edit(preset, files={})
    with pytest.raises(zoo.PresetError, match="has no trained weights.*weights=False"):
        zoo.load(preset)
    assert zoo.load(preset, weights=False).count_params() == 141


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_round_trip(tmp_path, dtype):
    model = vae(likelihood="bernoulli")
    model.compile("adam")
    images = np.random.default_rng(0).random((8, 4, 4, 1), "float32")
    model.fit(images, verbose=0)
    _saving.save_preset(model, tmp_path / "mine", dtype=dtype)
    again = zoo.load(tmp_path / "mine")
    stored = [w.astype(dtype).astype("float32") for w in model.get_weights()]
    for old, new in zip(stored, again.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    model.set_weights(stored)
    np.testing.assert_array_equal(model.generate(4, seed=1), again.generate(4, seed=1))
    assert again.config == json.loads(json.dumps(model.config))


def test_loaded_as_if_constructed(saved):
    """The loader gives variables their values late; nothing else may differ."""
    made, loaded = vae(), zoo.load(saved)
    assert [(v.shape, v.dtype, v.trainable) for v in made.variables] == [
        (v.shape, v.dtype, v.trainable) for v in loaded.variables
    ]
    for old, new in zip(made.weights, loaded.weights):
        np.testing.assert_array_equal(old.numpy(), new.numpy())
    if keras.backend.backend() == "torch":
        assert len(made.state_dict()) == len(loaded.state_dict())
        assert len([*made.parameters()]) == len([*loaded.parameters()])
    before = loaded.get_weights()
    loaded.compile("sgd")
    loaded.fit(np.full((4, 4, 4, 1), 0.5, "float32"), verbose=0)
    assert any((a != b).any() for a, b in zip(before, loaded.get_weights()))


def test_keras_reads_the_weights(saved):
    model = vae(seed=1)
    model.load_weights(saved / "model.weights.h5")
    for old, new in zip(vae().get_weights(), model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_our_reader_of_hdf5_agrees_with_theirs(tmp_path):
    """On trees of several levels, long names, notes, scalars and both floats."""
    random = np.random.default_rng(0)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for n in range(1000):
            group = "/".join(map(str, random.integers(0, 3, n % 7)))
            value = random.random(random.integers(1, 4, n % 4)).astype(
                f"f{2 + n % 2 * 2}"
            )
            file[f"{group}/v{n}{n % 200 * 'x'}"] = value
        file["0"].attrs["note"] = "x"
        file["0/1"].attrs["more"] = np.zeros(99)
        expected = {}
        file.visititems(lambda name, item: expected.update({f"/{name}": item}))
        expected = {
            k: v[()] if hasattr(v, "shape") else None for k, v in expected.items()
        }
    with open(tmp_path / "x.h5", "rb") as opened:
        reader, seen = _hdf5.Reader(opened), set()
        for name, header in reader.items():
            seen.add(name)
            value = expected[name]
            assert (value is None) == (_hdf5.GROUP in header)
            if value is not None:
                array = reader.array(name, header, value.shape)
                assert array.dtype == value.dtype
                np.testing.assert_array_equal(array, value)
    assert seen == set(expected)


def test_equal_weights_are_equal_files(saved, tmp_path):
    zoo.load(saved).save_preset(tmp_path / "again")
    again = tmp_path / "again" / "model.weights.h5"
    assert again.read_bytes() == (saved / "model.weights.h5").read_bytes()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_under_another_precision(saved, tmp_path, policy):
    old = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = zoo.load(saved)
        variable = model.encoder.weights[0].dtype
        assert variable == ("bfloat16" if policy == "bfloat16" else "float32")
        model.save_preset(tmp_path / "again")
        zoo.load(tmp_path / "again")
    finally:
        keras.config.set_dtype_policy(old)
    error = 2**-8 if policy == "bfloat16" else 0
    again = zoo.load(tmp_path / "again").get_weights()
    for first, second in zip(zoo.load(saved).get_weights(), again):
        np.testing.assert_allclose(first, second, rtol=error)


def test_saved_over_an_older_preset(preset):
    other = vae(seed=1, latent=3)
    other.save_preset(preset)
    again = zoo.load(preset)
    for old, new in zip(other.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


class Full(Exception):
    """The disk is full."""


@pytest.mark.parametrize(
    "place", ["weights", "card", "fsync", "json", "control", "NaN", "dtype"]
)
def test_a_failed_save_leaves_the_old_preset(preset, monkeypatch, place):
    def fail(*args, **kwargs):
        raise Full

    card, other, error = {}, vae(seed=1), Full
    if place == "weights":
        monkeypatch.setattr(h5py.Group, "__setitem__", fail)
    elif place == "card":
        monkeypatch.setattr(_saving, "card_text", fail)
    elif place == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    elif place == "json":
        card, error = {"summary": float("nan")}, ValueError
    elif place == "control":
        card, error = {"summary": "one\rtwo"}, zoo.PresetError
    elif place == "NaN":
        error = ValueError
        other.log_scale.assign(float("nan"))
    else:
        card, error = {"dtype": "int8"}, ValueError
    with pytest.raises(error):
        other.save_preset(preset, **card)
    monkeypatch.undo()
    again = zoo.load(preset)
    for old, new in zip(vae().get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert sorted(f.name for f in preset.iterdir()) == [
        "README.md",
        "config.json",
        "model.weights.h5",
    ]


def test_too_large_for_float16(tmp_path):
    model = vae()
    model.log_scale.assign(1e6)
    with pytest.raises(ValueError, match="holds NaN or infinity as float16; not saved"):
        model.save_preset(tmp_path / "new", dtype="float16")
    assert not list((tmp_path / "new").iterdir())


def test_loading_is_fast(tmp_path):
    """Of 1.4 million parameters: the same model is checked, built and filled."""
    zoo.VAE().save_preset(tmp_path)
    seconds = []
    for _ in range(4):  # The least, as the machine may be busy.
        start = time.perf_counter()
        zoo.load(tmp_path)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3
