"""A preset is loaded whole and unaltered, or refused by file and reason."""

import json
import os
import shutil
import time

import h5py
import keras
import numpy as np
import pytest

import zoo
from zoo import _registry, _saving

CONFIG = {
    "image_shape": [4, 4, 1],
    "latent": 2,
    "hidden": [3],
    "likelihood": "gaussian",
}
BIAS = "encoder/layers/dense/vars/1"


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


def sign(folder):
    """Make the manifest fit the files, as one who means harm would."""
    names = json.loads((folder / "config.json").read_text())["files"]
    edit(folder, files=_saving.manifest(folder, names))


def weights(change):
    """Return a change of the weights file, signed."""

    def apply(folder):
        with h5py.File(folder / "model.weights.h5", "r+") as file:
            change(file)
        sign(folder)

    return apply


def replace(data, path=BIAS, **options):
    def change(file):
        del file[path]
        file.create_dataset(path, data=data, **options)

    return weights(change)


def link(target):
    def change(file):
        del file[BIAS]
        file[BIAS] = target

    return weights(change)


def flip(signed, at=-9):
    def apply(folder):
        path = folder / "model.weights.h5"
        data = bytearray(path.read_bytes())
        data[at] ^= 64
        path.write_bytes(data)
        if signed:
            sign(folder)

    return apply


def truncate(signed):
    def apply(folder):
        path = folder / "model.weights.h5"
        path.write_bytes(path.read_bytes()[:-40])
        if signed:
            sign(folder)

    return apply


def swap_for(make, name="model.weights.h5"):
    """Return a change that puts what `make` makes in place of a file."""

    def apply(folder):
        (folder / name).rename(folder.parent / "elsewhere")
        make(folder / name, folder.parent / "elsewhere")

    return apply


def entry(**entries):
    return lambda folder: edit(folder, **entries)


def files(**entries):
    def apply(folder):
        listed = json.loads((folder / "config.json").read_text())["files"]
        named = {name.replace("__", "../"): value for name, value in entries.items()}
        edit(folder, files=listed | named)

    return apply


def text(change):
    """Return a change of the text of config.json."""

    def apply(folder):
        path = folder / "config.json"
        path.write_bytes(change(path.read_bytes()))

    return apply


def wide(*hidden):
    """Return a change to a much larger model, its parameters truly counted."""

    def apply(folder):
        large, _ = _saving.outline(zoo.VAE, CONFIG | {"hidden": hidden})
        edit(folder, config={"hidden": hidden}, parameters=large.count_params())

    return apply


def lone(folder):
    """List no file, so that the weights there are nobody's."""
    edit(folder, files={})


ENTRY = {"bytes": 1, "sha256": 64 * "0"}
HOSTILE = {
    "wrong checksum": (
        lambda f: edit(
            f,
            files={
                "model.weights.h5": {
                    "bytes": (f / "model.weights.h5").stat().st_size,
                    "sha256": 64 * "0",
                }
            },
        ),
        "model.weights.h5 is not the file that config.json lists: its sha256 differs",
    ),
    "flipped": (flip(False), "its sha256 differs"),
    "flipped superblock, signed": (flip(True, 3), "model.weights.h5 does not fit"),
    "truncated": (truncate(False), "bytes; config.json lists"),
    "truncated, signed": (truncate(True), "model.weights.h5 does not fit"),
    "no h5 at all, signed": (
        lambda f: ((f / "model.weights.h5").write_bytes(bytes(9000)), sign(f)),
        "model.weights.h5 does not fit",
    ),
    "NaN": (replace(np.full(3, np.nan, "f4")), f"/{BIAS} holds NaN or infinity"),
    "infinity": (replace(np.full(3, np.inf, "f2")), f"/{BIAS} holds NaN or infinity"),
    "missing": (weights(lambda h: h.pop(BIAS)), f"it lacks the weights /{BIAS}"),
    "extra": (
        weights(lambda h: h.create_dataset("encoder/spy", data=np.zeros(3, "f4"))),
        "it holds '/encoder/spy', which the model has not",
    ),
    "group for an array": (
        weights(lambda h: (h.pop(BIAS), h.create_group(BIAS))),
        f"it holds '/{BIAS}', which the model has not",
    ),
    "shape": (replace(np.zeros(4, "f4")), "has the shape (4,); the model needs (3,)"),
    "int": (replace(np.zeros(3, "i4")), "is int32, not float16 or float32"),
    "double": (replace(np.zeros(3)), "is float64, not float16 or float32"),
    "object": (replace(["a", "b", "c"]), "is object, not float16 or float32"),
    "compressed": (
        replace(np.zeros(3, "f4"), compression="gzip"),
        "is not one plain block of numbers",
    ),
    "never written": (
        weights(lambda h: (h.pop(BIAS), h.create_dataset(BIAS, (3,), "f4"))),
        "is not one plain block of numbers",
    ),
    "kept in another file": (
        replace(None, shape=(3,), dtype="f4", external=[("/etc/passwd", 0, 12)]),
        "is not one plain block of numbers",
    ),
    "soft link": (link(h5py.SoftLink("/log_scale")), f"'/{BIAS}' is a link"),
    "external link": (
        link(h5py.ExternalLink("/etc/passwd", "/")),
        f"'/{BIAS}' is a link",
    ),
    "group in itself": (
        weights(lambda h: h["encoder"].__setitem__("layers/dense/self", h["encoder"])),
        "it holds '/encoder/layers/dense/self', which the model has not",
    ),
    "symlinked weights": (
        swap_for(lambda path, there: path.symlink_to(there)),
        "model.weights.h5 is a link; a preset has regular files only",
    ),
    "symlinked config": (
        swap_for(lambda path, there: path.symlink_to(there), "config.json"),
        "config.json is a link",
    ),
    "folder for weights": (
        swap_for(lambda path, there: path.mkdir()),
        "model.weights.h5 is a folder, pipe or device",
    ),
    "pipe for weights": (
        swap_for(lambda path, there: os.mkfifo(path)),
        "model.weights.h5 is a folder, pipe or device",
    ),
    "pipe for config": (
        swap_for(lambda path, there: os.mkfifo(path), "config.json"),
        "config.json is a folder, pipe or device",
    ),
    "weights gone": (
        swap_for(lambda path, there: None),
        "model.weights.h5 is missing or out of reach: No such file",
    ),
    "weights unlisted": (lone, "config.json does not list model.weights.h5"),
    "../x": (files(__x=ENTRY), "lists a file '../x'. A file of a preset lies in its"),
    "capitals": (
        files(**{"Model.weights.h5": ENTRY}),
        "lists two files that differ in capitals only",
    ),
    "file without dict": (files(x=3), "needs for x its size in bytes and its sha256"),
    "size of text": (files(x=ENTRY | {"bytes": "1"}), "needs for x its size in bytes"),
    "sha of number": (files(x=ENTRY | {"sha256": 1}), "needs for x its size in bytes"),
    "class of Keras": (
        entry(model="keras.Model"),
        "asks for a model 'keras.Model'; the zoo has Autoencoder, VAE",
    ),
    "module": (entry(model="os"), "asks for a model 'os'"),
    "look-alike class": (entry(model="VΑE"), "asks for a model 'VΑE'"),
    "other class": (entry(model="Autoencoder"), "gives Autoencoder an argument"),
    "unknown kwarg": (
        entry(config={"latnet": 2}),
        "gives VAE an argument 'latnet'. Did you mean 'latent'? It takes image_shape,",
    ),
    "self as kwarg": (entry(config={"self": 2}), "gives VAE an argument 'self'"),
    "text for a number": (
        entry(config={"latent": "two"}),
        "config.json does not build a VAE",
    ),
    "dict for a list": (
        entry(config={"image_shape": {"a": 1}}),
        "config.json does not build a VAE",
    ),
    "null for a list": (
        entry(config={"hidden": None}),
        "config.json does not build a VAE",
    ),
    "huge number": (
        entry(config={"latent": 10**4000}),
        "is no number of 64 bits",
    ),
    "huge width": (
        entry(config={"latent": 2**62}),
        "build",
    ),
    "10^12 parameters": (
        entry(config={"hidden": [10**6, 10**6]}),
        " parameters, but lists 141.",
    ),
    "10^12 parameters, listed": (
        wide(10**6, 10**6),
        "parameters; 10,000,000,000 are allowed",
    ),
    "10^8 parameters, listed": (
        wide(10**7),
        "model.weights.h5 has",
    ),
    "newer schema": (
        entry(schema=2),
        "has schema 2; this zoo reads 1. A newer zoo may",
    ),
    "schema of text": (entry(schema="1"), "needs an entry 'schema' that is a int"),
    "true for a number": (entry(parameters=True), "needs an entry 'parameters'"),
    "recipe of text": (entry(recipe="mine"), "needs an entry 'recipe' that is a dict"),
    "files of a list": (entry(files=[]), "needs an entry 'files' that is a dict"),
    "a list": (text(lambda t: b"[]"), "is a JSON list, not an object"),
    "twice": (
        text(lambda t: t.replace(b'"model"', b'"schema": 1, "model"')),
        "the entry 'schema' stands twice",
    ),
    "NaN in JSON": (
        text(lambda t: t.replace(b'"beta": 1.0', b'"beta": NaN')),
        "'NaN' is no number of 64 bits",
    ),
    "infinity in JSON": (
        text(lambda t: t.replace(b'"beta": 1.0', b'"beta": 1e999')),
        "'1e999' is no number of 64 bits",
    ),
    "65 deep": (
        text(lambda t: t.replace(b'"Tiny."', 64 * b"[" + 64 * b"]")),
        "it is deeper than 64 levels",
    ),
    "100,000 deep": (
        text(lambda t: t.replace(b'"Tiny."', 10**5 * b"[" + 10**5 * b"]")),
        "config.json is not the JSON of a preset",
    ),
    "no text": (text(lambda t: b"\xff\xfe" + t), "is not the JSON of a preset"),
    "cut short": (text(lambda t: t[:-9]), "config.json is not the JSON of a preset"),
    "too large": (
        text(lambda t: t + 10**6 * b" "),
        "bytes; 1,000,000 are allowed",
    ),
    "no config": (
        lambda f: (f / "config.json").unlink(),
        "is no preset: it has no config.json",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refused(preset, name):
    change, reason = HOSTILE[name]
    change(preset)
    with pytest.raises(zoo.PresetError) as refusal:
        zoo.load(preset)
    assert reason in str(refusal.value)
    assert str(preset) in str(refusal.value)
    assert len(str(refusal.value)) < 1500


def test_a_refused_outline_never_takes_memory(preset):
    """Keras gives values to all variables made in a scope when a later one ends."""
    edit(preset, config={"hidden": [10**6, 10**6]})
    with pytest.raises(zoo.PresetError, match="but lists 141"):
        zoo.load(preset)
    with keras.StatelessScope():
        pass
    assert vae().generate(1).shape == (1, 4, 4, 1)


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


@pytest.mark.parametrize("place", ["weights", "card", "fsync", "json", "NaN", "dtype"])
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
