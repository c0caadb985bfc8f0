"""Weights rounded to few bits and deflated, and refused when they mean harm."""

import struct
import zlib

import h5py
import keras
import numpy as np
import pytest

import zoo
from zoo import _hdf5, _saving

pytestmark = pytest.mark.once

LARGE = "encoder/layers/dense_1/vars/0"  # 200 by 100
SHAPE = (200, 100)


def vae(seed=0):
    keras.utils.set_random_seed(seed)
    return zoo.VAE(image_shape=(4, 4, 1), latent=2, hidden=(200, 100))


@pytest.fixture
def preset(tmp_path):
    vae().save_preset(tmp_path / "vae", dtype="bfloat16")
    return tmp_path / "vae"


@pytest.mark.parametrize(
    ("dtype", "bits", "share"), [("bfloat16", 8, 0.85), ("bfloat14", 6, 0.8)]
)
def test_rounded_to_few_bits(tmp_path, dtype, bits, share):
    vae().save_preset(tmp_path / "few", dtype=dtype)
    for old, new in zip(vae().get_weights(), zoo.load(tmp_path / "few").get_weights()):
        part, _ = np.frexp(new)
        np.testing.assert_array_equal(part * 2**bits, np.rint(part * 2**bits))
        np.testing.assert_allclose(old, new, rtol=2**-bits, atol=2**-25)
    vae().save_preset(tmp_path / "half", dtype="float16")
    packed, half = (
        (tmp_path / name / "model.weights.h5").stat().st_size
        for name in ("few", "half")
    )
    assert packed < share * half  # Of which the names are most of the rest.


def test_keras_reads_them(preset):
    model = vae(seed=1)
    model.load_weights(preset / "model.weights.h5")
    for old, new in zip(zoo.load(preset).get_weights(), model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_tables_are_small_where_hdf5_can_be_told(tmp_path, monkeypatch):
    def nothing(name):
        raise OSError(name)

    vae().save_preset(tmp_path / "small", dtype="bfloat14")
    monkeypatch.setattr(_saving.ctypes, "CDLL", nothing)
    vae().save_preset(tmp_path / "large", dtype="bfloat14")
    models = [zoo.load(tmp_path / name) for name in ("small", "large")]
    for old, new in zip(*(model.get_weights() for model in models)):
        np.testing.assert_array_equal(old, new)
    sizes = {
        name: (tmp_path / name / "model.weights.h5").stat().st_size
        for name in ("small", "large")
    }
    assert sizes["small"] < sizes["large"] - 10_000


def test_what_does_not_pay_stays_plain(tmp_path):
    """Also zeros, of which a small file might claim any number."""
    with h5py.File(tmp_path / "x.h5", "w", libver="earliest") as file:
        assert not _saving._write_deflated(file, "zeros", np.zeros(10**5, "f2"))
        half = np.r_[np.zeros(6 * 10**4), np.random.default_rng(0).random(4 * 10**4)]
        assert not _saving._write_deflated(file, "half", half.astype("f2"))
        assert not _saving._write_deflated(file, "few", np.ones(999, "f2"))
        noise = np.random.default_rng(0).integers(2**16, size=10**5, dtype="u2")
        assert not _saving._write_deflated(file, "noise", noise)
        assert not list(file)
    model = vae()
    model.set_weights([np.zeros_like(v) for v in model.get_weights()])
    model.save_preset(tmp_path / "zeros", dtype="bfloat16")
    assert not any(v.any() for v in zoo.load(tmp_path / "zeros").get_weights())


def test_nan_and_infinity_are_not_rounded_away(tmp_path):
    for value in (np.nan, -np.inf, 65_519.0):
        model = vae()
        kernel = model.weights[0]
        kernel.assign(np.full(kernel.shape, value, "f4"))
        with pytest.raises(ValueError, match="NaN or infinity as bfloat16; not saved"):
            model.save_preset(tmp_path / "new", dtype="bfloat16")
    assert not list((tmp_path / "new").iterdir())


def dataset(file, data, packed=None, **options):
    """Put an array in place of LARGE, its one chunk of bytes that are given."""
    del file[LARGE]
    options = {"chunks": SHAPE, "shuffle": True, "compression": 9, **options}
    made = file.create_dataset(LARGE, data.shape, data.dtype, **options)
    if packed is None:
        made[...] = data
    else:
        made.id.write_direct_chunk((0,) * data.ndim, packed)


WEIGHTS = np.random.default_rng(0).normal(size=SHAPE).astype("f2")
BYTES = _hdf5.shuffled(WEIGHTS)
PACKED = zlib.compress(BYTES, 9)
HARMFUL = {
    "no shuffling": {"shuffle": False},
    "another level": {"compression": 1},
    "another filter": {"compression": "lzf"},
    "a sum of checks": {"fletcher32": True},
    "several chunks": {"chunks": (100, 100)},
    "a chunk beyond the array": {"chunks": (200, 128), "maxshape": (None, None)},
    "a bomb": {"packed": zlib.compress(bytes(10**8), 9)},
    "few bytes for many": {"packed": zlib.compress(bytes(40_000), 9)},
    "a byte too many": {"packed": zlib.compress(BYTES + b"\0", 9)},
    "a byte too few": {"packed": zlib.compress(BYTES[:-1], 9)},
    "something after it": {"packed": PACKED + b"more"},
    "half a stream": {"packed": PACKED[: len(PACKED) // 2]},
    "a wrong sum": {"packed": PACKED[:-1] + bytes([PACKED[-1] ^ 1])},
    "no stream": {"packed": BYTES},
}


def signed(preset, change):
    with h5py.File(preset / "model.weights.h5", "r+") as file:
        change(file)
    resign(preset)


def resign(preset):
    card = zoo._registry.read(preset)
    files = _saving.manifest(preset, card["files"])
    _saving.write_card(preset, {**card, "files": files})


@pytest.mark.parametrize("name", HARMFUL)
def test_refused(preset, name):
    signed(preset, lambda file: dataset(file, WEIGHTS, **HARMFUL[name]))
    with pytest.raises(zoo.PresetError, match=f"{LARGE} is not one block of numbers"):
        zoo.load(preset)


def test_what_is_written_by_h5py_alone_is_read(preset):
    signed(preset, lambda file: dataset(file, WEIGHTS))
    arrays = zoo.load(preset).get_weights()
    assert any(np.array_equal(v, WEIGHTS.astype("f4")) for v in arrays)


TREE = b"TREE\1\0\1\0"
NODE = {  # What follows the first 24 bytes: size, filters skipped, start, address.
    "of names": (0, struct.pack("<4sBBH", b"TREE", 0, 0, 1)),
    "of two levels": (0, struct.pack("<4sBBH", b"TREE", 1, 1, 1)),
    "of two chunks": (0, struct.pack("<4sBBH", b"TREE", 1, 0, 2)),
    "of a chunk that is too long": (24, struct.pack("<I", 2**32 - 1)),
    "of a chunk that is not deflated": (28, struct.pack("<I", 1)),
    "of a chunk elsewhere": (32, struct.pack("<Q", 100)),
    "of a chunk out of the file": (56, struct.pack("<Q", 2**63)),
}


@pytest.mark.parametrize("name", NODE)
def test_a_tree_is_refused(preset, name):
    path = preset / "model.weights.h5"
    data, (offset, written) = bytearray(path.read_bytes()), NODE[name]
    at = data.index(TREE) + offset
    data[at : at + len(written)] = written
    path.write_bytes(data)
    resign(preset)
    with pytest.raises(zoo.PresetError, match="is not one block of numbers"):
        zoo.load(preset)
