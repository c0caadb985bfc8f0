"""A preset that is damaged or means harm is refused, by file and reason.

What memory a refusal takes, and whether any bytes at all bring the process down, is
measured in child processes: this file, run as a program.
"""

import gc
import inspect
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras.src.backend.common import global_state

import zoo
from zoo import _registry, _saving
from zoo.transformers._keras_hub import keras_hub

pytestmark = pytest.mark.once

CONFIG = {
    "image_shape": [4, 4, 1],
    "latent": 2,
    "hidden": [3],
    "likelihood": "gaussian",
}
BIAS = "encoder/layers/dense/vars/1"
MB = 2**20


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "vae"
    zoo.VAE(**CONFIG).save_preset(folder, summary="Tiny.")
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


def typed(kind):
    """Return a change of one array to a type of HDF5's own."""

    def change(file):
        del file[BIAS]
        h5py.h5d.create(file.id, BIAS.encode(), kind, h5py.h5s.create_simple((3,)))

    return weights(change)


def bfloat16():
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_precision(16)
    kind.set_size(2)
    return kind


def virtual(folder):
    """Make one array a view of another file, which HDF5 asks for its shape."""
    endless = h5py.h5s.UNLIMITED
    space = h5py.h5s.create_simple((3,), (endless,))
    space.select_hyperslab((0,), (endless,), stride=(1,), block=(1,))
    other = folder.parent / "other.h5"
    with h5py.File(other, "w") as file:
        file.create_dataset("x", data=np.zeros(4, "f4"), maxshape=(None,))
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_virtual(space, bytes(other), b"x", space)
    with h5py.File(folder / "model.weights.h5", "r+") as file:
        del file[BIAS]
        kind = h5py.h5t.IEEE_F32LE
        h5py.h5d.create(file.id, BIAS.encode(), kind, space, plan)
    sign(folder)


def newer(folder):
    path = folder / "model.weights.h5"
    with h5py.File(path) as old, h5py.File(f"{path}.new", "w", libver="latest") as new:
        for name in old:
            old.copy(name, new)
    os.replace(f"{path}.new", path)
    sign(folder)


def link(target):
    def change(file):
        del file[BIAS]
        file[BIAS] = target

    return weights(change)


def words(*changes):
    """Return a change of 8-byte numbers: (mark, bytes after it, number), signed.

    A number that is a mark stands for where that is.
    """

    def apply(folder):
        path = folder / "model.weights.h5"
        data = bytearray(path.read_bytes())
        for mark, offset, number in changes:
            at = data.index(mark) + offset
            if isinstance(number, bytes):
                number = data.index(number)
            data[at : at + 8] = number.to_bytes(8, "little")
        path.write_bytes(data)
        sign(folder)

    return apply


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


def files(entries):
    def apply(folder):
        listed = json.loads((folder / "config.json").read_text())["files"]
        edit(folder, files=listed | entries)

    return apply


def listed(name):
    return files({name: ENTRY})


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
HDF = b"\x89HDF\r\n\x1a\n"
TREE_TO_TREE = (b"TREE", 32, b"TREE")
TWICE = (b"TREE", 48, b"SNOD"), (b"TREE", 32, b"SNOD")
PLAIN = "lies in its folder; its name is of letters a to z"
LAMBDA = {
    "module": "keras.layers",
    "class_name": "Lambda",
    "config": {"function": {"class_name": "__lambda__", "config": {"code": "4wEA"}}},
}
SYSTEM = {"module": "os", "class_name": "system", "config": "touch hostile"}
NO_OBJECT = "or a list of at most 100; never an object"
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
    "int": (replace(np.zeros(3, "i4")), "is of whole numbers, not float16 or float32"),
    "double": (replace(np.zeros(3)), "other floating-point numbers, not float16"),
    "objects": (replace(["a", "b", "c"]), "is of lists, not float16 or float32"),
    "text": (replace(np.full(3, b"abc")), "is of text, not float16 or float32"),
    "records": (replace(np.zeros(3, [("a", "f4")])), "is of records, not float16"),
    "true and false": (replace(np.zeros(3, "?")), "is of choices, not float16"),
    "void": (replace(np.zeros(3, "V4")), "is of opaque bytes, not float16 or float32"),
    "big-endian": (replace(np.zeros(3, ">f4")), "is of other floating-point numbers"),
    "references": (
        replace(None, shape=(3,), dtype=h5py.ref_dtype),
        "is of references, not float16 or float32",
    ),
    "arrays of one": (
        typed(h5py.h5t.array_create(h5py.h5t.IEEE_F32LE, (1,))),
        "is of arrays, not float16 or float32",
    ),
    "bfloat16": (typed(bfloat16()), "is of other floating-point numbers, not"),
    "bits": (typed(h5py.h5t.STD_B32LE), "is of bits, not float16 or float32"),
    "compressed": (
        replace(np.zeros(3, "f4"), compression="gzip"),
        "is not one block of numbers, as they are or deflated",
    ),
    "never written": (
        weights(lambda h: (h.pop(BIAS), h.create_dataset(BIAS, (3,), "f4"))),
        "is not one block of numbers",
    ),
    "seen in another file": (virtual, "is not one block of numbers"),
    "kept in another file": (
        replace(None, shape=(3,), dtype="f4", external=[("/etc/passwd", 0, 12)]),
        "is not one plain block of numbers in the file but in another",
    ),
    "soft link": (link(h5py.SoftLink("/log_scale")), f"'/{BIAS}' is a link"),
    "external link": (
        link(h5py.ExternalLink("/etc/passwd", "/")),
        "'/encoder/layers/dense/vars' has links of a newer kind",
    ),
    "group in itself": (
        weights(lambda h: h["encoder"].__setitem__("layers/dense/self", h["encoder"])),
        "it holds '/encoder/layers/dense/self', which the model has not",
    ),
    "tree within itself": (
        words((b"TREE", 0, int.from_bytes(b"TREE\0\1\1\0", "little")), TREE_TO_TREE),
        "it has a group without a tree of names",
    ),
    "tree that is no tree": (
        words((b"TREE", 32, b"HEAP")),
        "it has a group without a table of names",
    ),
    "same names twice": (
        words((b"TREE", 0, int.from_bytes(b"TREE\0\0\2\0", "little")), *TWICE),
        "it holds '/decoder', which the model has not",
    ),
    "out of the file": (words((b"TREE", 32, 2**64 - 8)), "it points out of itself"),
    "header without end": (
        # Of the root: its first message says that it goes on where it stands.
        words((HDF, 112, 0x10 | 16 << 16), (HDF, 120, 112), (HDF, 128, 24)),
        "it has a group or array without its message 17",
    ),
    "user block": (
        lambda f: (
            (f / "model.weights.h5").write_bytes(
                bytes(512) + (f / "model.weights.h5").read_bytes()
            ),
            sign(f),
        ),
        "it is no HDF5 file of the plain kind",
    ),
    "newer format": (newer, "it is no HDF5 file of the plain kind"),
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
    "folder for config": (
        swap_for(lambda path, there: path.mkdir(), "config.json"),
        "config.json is a folder, pipe or device",
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
    "../x": (listed("../x"), "lists a file '../x'. A file of a preset lies in its"),
    "absolute": (listed("/etc/passwd"), PLAIN),
    "folder of Windows": (listed("..\\x"), PLAIN),
    "drive": (listed("C:x"), PLAIN),
    "stream": (listed("model.weights.h5::$DATA"), PLAIN),
    "dot at the end": (listed("model.weights.h5."), PLAIN),
    "hidden": (listed(".x"), PLAIN),
    "nameless": (listed(""), PLAIN),
    "long name": (listed(101 * "x"), PLAIN),
    "look-alike file": (listed("mоdel.weights.h5"), r"a file 'm\u043edel.weights.h5'"),
    "composed": (listed("\xe9.png"), PLAIN),
    "decomposed": (listed("e\u0301.png"), PLAIN),
    "capitals": (
        listed("Model.weights.h5"),
        "lists two files that differ in capitals only",
    ),
    "file without dict": (files({"x": 3}), "needs for x its size in bytes and its"),
    "size of text": (
        files({"x": ENTRY | {"bytes": "1"}}),
        "needs for x its size in bytes",
    ),
    "sha of number": (
        files({"x": ENTRY | {"sha256": 1}}),
        "needs for x its size in bytes",
    ),
    "file that is not there": (listed("x"), "x is missing or out of reach: No such"),
    "class of Keras": (
        entry(model="keras.Model"),
        "asks for a model 'keras.Model'; the zoo has Autoencoder, VAE",
    ),
    "module": (entry(model="os"), "asks for a model 'os'"),
    "Lambda": (entry(model="Lambda"), "asks for a model 'Lambda'"),
    "own base class": (entry(model="Model"), "asks for a model 'Model'"),
    "own function": (entry(model="load"), "asks for a model 'load'"),
    "look-alike class": (entry(model="VΑE"), "asks for a model 'VΑE'"),
    "other class": (entry(model="Autoencoder"), "gives Autoencoder an argument"),
    "unknown kwarg": (
        entry(config={"latnet": 2}),
        "gives VAE an argument 'latnet'. Did you mean 'latent'? It takes image_shape,",
    ),
    "self as kwarg": (entry(config={"self": 2}), "gives VAE an argument 'self'"),
    "text for a number": (
        entry(config={"latent": "two"}),
        "gives VAE latent='two'. Like its default, 32, it is a number, a text, or",
    ),
    "fraction for a number": (entry(config={"latent": 2.0}), "gives VAE latent=2.0"),
    "true for an argument": (entry(config={"latent": True}), "VAE latent=True. Like"),
    "list for a number": (entry(config={"latent": [2]}), "gives VAE latent=[2]. Like"),
    "dict for a list": (entry(config={"image_shape": {"a": 1}}), NO_OBJECT),
    "Lambda in an argument": (entry(config={"activation": LAMBDA}), NO_OBJECT),
    "Lambda for null": (entry(config={"classes": LAMBDA}), NO_OBJECT),
    "Lambda in a list": (entry(config={"hidden": [LAMBDA]}), NO_OBJECT),
    "Lambda in a list for null": (entry(config={"classes": [LAMBDA]}), NO_OBJECT),
    "texts in a list for null": (entry(config={"classes": ["a"]}), NO_OBJECT),
    "os.system in an argument": (entry(config={"activation": SYSTEM}), NO_OBJECT),
    "Lambda by name": (
        entry(config={"activation": "keras.layers.Lambda"}),
        "config.json does not build a VAE: Could not interpret activation",
    ),
    "text times 10^9": (entry(config={"image_shape": ["a", 10**9, 1]}), NO_OBJECT),
    "list times 10^9": (
        entry(config={"image_shape": [[0, 0], 10**9, 1]}),
        NO_OBJECT,
    ),
    "101 layers": (entry(config={"hidden": 101 * [1]}), NO_OBJECT),
    "no such likelihood": (
        entry(config={"likelihood": "cauchy"}),
        "config.json does not build a VAE: likelihood is 'bernoulli' or 'gaussian'",
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
        " parameters, but lists 141.",
    ),
    "too wide a number": (
        entry(config={"latent": 2**63}),
        "'9223372036854775808' is no number of 64 bits",
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
    "twice, deeper": (
        text(lambda t: t.replace(b'"latent"', b'"latent": 1, "latent"')),
        "the entry 'latent' stands twice",
    ),
    "byte order mark": (
        text(lambda t: b"\xef\xbb\xbf" + t),
        "config.json is not the JSON of a preset: Unexpected UTF-8 BOM",
    ),
    "half a character": (
        text(lambda t: t.replace(b"Tiny.", rb"\ud800")),
        r"a text in it has the control character '\ud800'",
    ),
    "command to a terminal": (
        text(lambda t: t.replace(b"Tiny.", rb"\u001b[2J")),
        r"a text in it has the control character '\x1b'",
    ),
    "NUL in a key": (
        text(lambda t: t.replace(b"summary", rb"\u0000")),
        r"a text in it has the control character '\x00'",
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
    "300,000 lists": (
        text(lambda t: t.replace(b'"Tiny."', b"[" + 299_999 * b"[]," + b"[]]")),
        "more than 100,000 values",
    ),
    "400,000 numbers": (
        text(lambda t: t.replace(b'"Tiny."', b"[" + 399_999 * b"0," + b"0]")),
        "more than 100,000 values",
    ),
    "90,000 numbers": (
        text(lambda t: t.replace(b'"Tiny."', b"[" + 89_999 * b"0.125e-9," + b"0]")),
        "needs an entry 'summary' that is a str",
    ),
    "100,000 deep": (
        text(lambda t: t.replace(b'"Tiny."', 10**5 * b"[" + 10**5 * b"]")),
        "config.json is not the JSON of a preset",
    ),
    "empty": (text(lambda t: b""), "config.json is not the JSON of a preset"),
    "comment": (text(lambda t: t + b"// x"), "is not the JSON of a preset: Extra data"),
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


# What an argument that wants one number, or a list, is asked to hold instead.
GREEDY = {int: [10**9, 2**63 - 1], tuple: [3 * [10**9], 3 * [2**31], 100 * [1]]}


def state(folder):
    """Return all that a folder holds and when it was written."""
    return {
        (path, s.st_mode, s.st_size, s.st_mtime_ns, s.st_ino)
        for path in [folder, *folder.rglob("*")]
        for s in [path.lstat()]
    }


@pytest.mark.parametrize("name", HOSTILE)
def test_refused(preset, name, monkeypatch):
    monkeypatch.chdir(preset.parent)
    change, reason = HOSTILE[name]
    change(preset)
    before = state(preset.parent)
    with pytest.raises(zoo.PresetError) as refusal:
        zoo.load(preset)
    assert reason in str(refusal.value)
    assert str(preset) in str(refusal.value)
    assert len(str(refusal.value)) < 1500
    assert state(preset.parent) == before
    assert not global_state.get_global_attribute("uninitialized_variables")


NAMES = {
    "../x": "'../x'. `zoo list` shows all",
    "../presets/vae-mnist": "'../presets/vae-mnist'. Did you mean",
    "vae-mnist/": "'vae-mnist/'. Did you mean",
    "vae-mnist ": "'vae-mnist '. Did you mean",
    "VAE-MNIST": "'VAE-MNIST'. Did you mean",
    "vae\u2011mnist": r"'vae\u2011mnist'. Did you mean",
    "vаe-mnist": r"'v\u0430e-mnist'. Did you mean",
    "ｖａｅ-mnist": r"'\uff56\uff41\uff45-mnist'. Did you mean",
    "vae-mnist\u200b": r"'vae-mnist\u200b'. Did you mean",
    "größe": "'größe'. `zoo list` shows all",
    "file:///etc": "'file:///etc'. `zoo list` shows all",
}


@pytest.mark.parametrize("name", NAMES)
def test_refused_name(tmp_path, monkeypatch, name):
    monkeypatch.setattr(_registry, "presets", lambda: ["vae-mnist"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(zoo.PresetError) as refusal:
        zoo.load(name)
    assert f"No preset is called {NAMES[name]}" in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_a_count_of_0_is_no_excuse(preset):
    """Not even without weights, where the model itself is what takes memory."""
    edit(preset, parameters=0, config={"hidden": [10**5, 10**4]})
    with pytest.raises(zoo.PresetError, match="parameters, but lists 0"):
        zoo.load(preset, weights=False)


def test_a_list_without_end_is_not_followed(preset, saved):
    """HDF5 takes all memory for this: each list of gaps among names is a ring."""
    path = preset / "model.weights.h5"
    data = bytearray(path.read_bytes())
    for match in re.finditer(b"HEAP", bytes(data)):
        gap, at = struct.unpack_from("<QQ", data, match.start() + 16)
        struct.pack_into("<Q", data, at + gap, gap)
    path.write_bytes(data)
    sign(preset)
    for old, new in zip(zoo.load(saved).get_weights(), zoo.load(preset).get_weights()):
        np.testing.assert_array_equal(old, new)


# In child processes, so that their memory is their own


def child(task, *arguments):
    """Run a function of this file in a process of its own; return what it returns."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs the memory counters of Linux")
    run = subprocess.run(
        [sys.executable, __file__, task, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def memory(entry):
    """Return "VmHWM", the most memory yet, "VmRSS" or "VmSize" in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"{entry}:\s+(\d+) kB", text)[1]) * 1024


def limit(margin):
    """Let this process take so many bytes more, and no more."""
    import resource

    size = memory("VmSize") + margin
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def taken(folder):
    """Load a preset.

    Returns:
        The most memory the process had meanwhile; the model or None; the refusal.
    """
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from here.
    model, reason = None, ""
    try:
        model = zoo.load(folder)
    except zoo.PresetError as error:
        reason = str(error)
    return memory("VmHWM"), model, reason


def alive():
    gc.collect()
    kinds = keras.Variable, keras.Layer
    return sum(isinstance(thing, kinds) for thing in gc.get_objects())


def refuse(good, root):
    """Load all presets in a folder; return the refusals and what they cost."""
    zoo.load(good)
    keras_hub()  # Code, of which importing takes more than any preset.
    left, told, most = alive(), {}, 0
    for folder in sorted(Path(root).iterdir()):
        start = memory("VmRSS")  # Of each, since Python frees cycles when it likes.
        size, model, told[folder.name] = taken(folder / "vae")
        most = max(most, size - start)
        assert model is None, folder
    return {"told": told, "most": most, "left": alive() - left}


def test_a_refusal_takes_no_memory_and_leaves_no_model(saved, tmp_path):
    for number, (change, _) in enumerate(HOSTILE.values()):
        change(shutil.copytree(saved, tmp_path / f"{number}" / "vae"))
    for model, cls in ((name, getattr(zoo, name)) for name in zoo.MODELS):
        for key, parameter in inspect.signature(cls).parameters.items():
            kind = type(parameter.default)
            for number, value in enumerate(GREEDY.get(kind, GREEDY[int])):
                folder = tmp_path / f"{model} {key} {number}" / "vae"
                shutil.copytree(saved, folder)
                card = json.loads((folder / "config.json").read_text())
                card |= {"model": model, "config": {key: value}}
                (folder / "config.json").write_text(json.dumps(card))
    report = child("refuse", saved, tmp_path)
    assert len(report["told"]) > len(HOSTILE)
    for name, reason in report["told"].items():
        assert not re.search("MemoryError|[Aa]llocate", reason), (name, reason)
    assert report["most"] < 16 * MB  # Of which JSON, as Python, is most.
    assert report["left"] == 0


def weigh(tiny, *folders):
    """Return for each preset the memory that loading it takes, and the refusal."""
    zoo.load(tiny)
    start, report = memory("VmRSS"), []
    for folder in folders:
        gc.collect()
        size, _, reason = taken(folder)
        report.append((size - start, reason))
    return report


def test_memory_within_four_times_the_size(saved, tmp_path):
    model = zoo.VAE(latent=1, hidden=[8_000])  # 13 million parameters
    last = "encoder/layers/dense_1/vars/0"
    dtypes = ("bfloat14", "float16", "float32")  # A tighter bound than bfloat16's.
    for dtype in dtypes:
        _saving.save_preset(model, tmp_path / dtype, dtype=dtype)
        bad = shutil.copytree(tmp_path / dtype, tmp_path / f"{dtype}, bad")
        with h5py.File(bad / "model.weights.h5", "r+") as file:
            file[last][-1] = np.nan
        sign(bad)
    names = [name for dtype in dtypes for name in (f"{dtype}, bad", dtype)]
    report = child("weigh", saved, *(tmp_path / name for name in names))
    for name, (grown, reason) in zip(names, report):
        size = 4 * model.count_params()  # A model's variables are float32.
        if "bad" in name:
            size = (tmp_path / name / "model.weights.h5").stat().st_size
        assert (f"{last} holds NaN" in reason) == ("bad" in name)
        assert grown < 4 * size + 16 * MB, name


def damage(data, generator):
    """Cut bytes short, or change up to eight of them."""
    if generator.random() < 0.2:
        return data[: generator.randrange(len(data))]
    data = bytearray(data)
    for _ in range(generator.choice((1, 1, 1, 2, 8))):
        data[generator.randrange(len(data))] ^= generator.randrange(1, 256)
    return bytes(data)


def fuzz(good, work, first, count):
    """Load damaged presets, of the seeds from `first` on; return what came of them."""
    names = "config.json", "model.weights.h5"
    whole = {name: (Path(good) / name).read_bytes() for name in names}
    kept = {v.tobytes() for v in zoo.load(good).get_weights()}
    folder = shutil.copytree(good, Path(work) / "vae")
    zoo.load(folder)
    limit(1024 * MB)
    start = memory("VmRSS")
    came = {"refused": 0, "loaded": 0, "loaded, signed": 0, "most": 0}
    for seed in range(int(first), int(first) + int(count)):
        print(seed, file=sys.stderr, flush=True)  # The last is the one that crashed.
        signal.alarm(60)  # Ends a process that hangs.
        generator = random.Random(seed)
        name, signed = generator.choice(names), generator.random() < 0.8
        for other, data in whole.items():
            (folder / other).write_bytes(data)
        (folder / name).write_bytes(damage(whole[name], generator))
        if signed := signed and name != "config.json":
            sign(folder)
        size, model, reason = taken(folder)
        came["most"] = max(came["most"], size - start)
        if reason:
            came["refused"] += 1
            continue
        data = (folder / "model.weights.h5").read_bytes()
        assert signed or data == whole["model.weights.h5"], seed
        for variable in model.weights:
            value = keras.ops.convert_to_numpy(variable)
            assert np.isfinite(value).all(), seed
            stored = any(value.astype(kind).tobytes() in data for kind in ("f4", "f2"))
            assert stored or value.tobytes() in kept, seed  # Or deflated and checked.
        came["loaded, signed" if signed else "loaded"] += 1
    return came


def survives(saved, tmp_path, runs, count):
    total, packed = {}, tmp_path / "packed"
    wide = {**CONFIG, "hidden": [100, 100]}
    zoo.VAE(**wide).save_preset(packed, dtype="bfloat16", summary="Deflated.")
    for run in range(runs):
        (tmp_path / f"{run}").mkdir()
        good = packed if run % 2 else saved
        came = child("fuzz", good, tmp_path / f"{run}", run * count, count)
        assert came.pop("most") < 32 * MB
        total = {key: total.get(key, 0) + number for key, number in came.items()}
    assert sum(total.values()) == runs * count
    assert total["refused"] > sum(total.values()) / 3
    assert total["loaded, signed"] > 0  # Some did reach the parser.


def test_any_bytes_load_as_they_are_or_are_refused(saved, tmp_path):
    survives(saved, tmp_path, 2, 75)


@pytest.mark.slow
def test_5000_damaged_presets(saved, tmp_path):
    survives(saved, tmp_path, 5, 1000)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
