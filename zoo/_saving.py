"""Write presets, and read and write their weights: each file whole or not at all.

A weights file is one that Keras reads too: at the path where Keras would put it, each
variable as one block of float32 or float16, and nothing else. The private parts of
Keras below have no public counterpart; the tests exercise each.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import zlib
from pathlib import Path, PurePosixPath

from zoo._card import ADAPTER, WEIGHTS, card_text

SCHEMA = 1
BITS = {"bfloat16": 8, "bfloat14": 6}  # Significant ones that numbers are rounded to.
DTYPES = ("float32", "float16", *BITS)
STRATEGIES = zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY
TREE = 400  # bytes that HDF5 spends on an array that is deflated
MOST_VARIABLES = 4_000  # of a model


def save_preset(model, folder, dtype="float32", files=(), **card):
    """Write `model` as a preset; see `Model.save_preset`.

    Of an adapted model of a preset that comes with the zoo, the adapter is written in
    place of weights.

    All files are written under temporary names first, config.json is renamed last: an
    error or a full disk leaves the preset that was there.

    Args:
        model: The model.
        folder: Where to.
        dtype: Of the weights in the file: "float32", "float16", or "bfloat16" for
            float16 rounded to the eight significant bits of bfloat16 and deflated, or
            "bfloat14", with six bits.
        files: Names of further files in `folder` that belong to the preset.
        **card: Entries of config.json; those that are None are left out.

    Raises:
        ValueError: `dtype` is another, or a weight is not finite in it.
    """
    from zoo import _lora

    folder, base = Path(folder), _lora.base_of(model)
    folder.mkdir(parents=True, exist_ok=True)
    given = {"recipe": model.recipe, "base": base, **card}
    plain = outline(type(model), model.get_config())[0] if base else model
    card = {
        "schema": SCHEMA,
        "model": type(model).__name__,
        "config": model.get_config(),
        "parameters": plain.count_params(),
        **{key: value for key, value in given.items() if value is not None},
    }
    names = ADAPTER if base else (WEIGHTS,)
    with contextlib.ExitStack() as last_first:
        config, readme, *stored = (
            last_first.enter_context(whole(folder / name))
            for name in ("config.json", "README.md", *names)
        )
        (_lora.write if base else write_weights)(model, *stored, dtype=dtype)
        entries = dict(zip(names, map(_entry, stored)))
        card["files"] = {**entries, **manifest(folder, files)}
        _write_texts(folder, card, config, readme)


def write_card(folder, card):
    """Write config.json and the README.md made from it."""
    folder = Path(folder)
    with whole(folder / "config.json") as config, whole(folder / "README.md") as readme:
        _write_texts(folder, card, config, readme)


def _write_texts(folder, card, config, readme):
    from zoo._registry import parse

    text = json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    parse(folder / "config.json", text)  # What is saved can be loaded.
    config.write_text(text, "utf-8")
    readme.write_text(card_text(folder.resolve().name, card), "utf-8")


def manifest(folder, names):
    """Return the size and sha256 of files, as config.json lists them."""
    return {name: _entry(Path(folder) / name) for name in names}


def _entry(path):
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def sha256(path):
    """Return the checksum of a file in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def whole(path):
    """Give a temporary name to write to, renamed to `path` when all went well."""
    path = Path(path)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield scratch
        with open(scratch, "rb") as file:
            os.fsync(file.fileno())
        os.replace(scratch, path)
        if os.name == "posix":  # The new name too must survive a loss of power.
            directory = os.open(path.parent, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)
    finally:
        scratch.unlink(missing_ok=True)


def outline(cls, config):
    """Build a model whose variables have shapes but no values, so it costs nothing.

    Returns:
        The model, and its variables for `fill`: weights, seeds and all.
    """
    import keras
    from keras.src.backend.common import global_state

    key = "uninitialized_variables"
    # Keras would give values to all in this list when any later scope ends, also to
    # those of a model that has been refused: take ours out.
    others = global_state.get_global_attribute(key)
    global_state.set_global_attribute(key, _Few())
    try:
        with keras.StatelessScope(initialize_variables=False):
            model = cls(**config)
        return model, global_state.get_global_attribute(key)
    finally:
        global_state.set_global_attribute(key, others or [])


class _Few(list):
    """A list that ends before a loop of a billion layers does."""

    def append(self, variable):
        if len(self) == MOST_VARIABLES:
            raise ValueError(
                f"A model has {MOST_VARIABLES:,} variables at most; this one has more."
            )
        super().append(variable)


def fill(model, variables, values):
    """Give the variables of an outline their values.

    Args:
        model, variables: From `outline`.
        values: From `read_weights`; emptied, so that each array goes once it is taken.
            Other variables, such as seeds, take what their initializers say.
    """
    for variable in variables:
        if id(variable) in values:
            variable._initializer = _Given(values.pop(id(variable)))
        variable._deferred_initialize()
    for layer in model._flatten_layers(include_self=False):
        layer._post_build()  # On torch this registers parameters.


class _Given:
    """An initializer that gives one array, once."""

    def __init__(self, value):
        self.value = value

    def __call__(self, shape, dtype=None):
        from keras import ops

        # Cast by NumPy: ops.cast would compile once for each shape.
        value = self.value.astype(dtype or "float32", copy=False)
        self.value = None
        return ops.convert_to_tensor(value)


def places(model):
    """Return the path of every weight of a model in its weights file.

    Returns:
        dict: Path to variable; the paths of groups, to None.

    Raises:
        TypeError: Keras would save what is no variable, or leave out a weight.
    """
    import keras
    from keras.src.saving import saving_lib

    class Recorder(saving_lib.H5IOStore):  # The walk of Keras takes no other type.
        def __init__(self):
            self.found, self.group = {}, ""

        def __bool__(self):
            return True

        def make(self, path, metadata=None):
            self.group = f"/{path}/vars" if path else "/vars"
            self.found[self.group] = None
            return self

        def __setitem__(self, key, value):
            self.found[f"{self.group}/{key}"] = value

    recorder = Recorder()
    saving_lib._save_state(model, recorder, None, "", set())
    found = recorder.found
    saved = {id(v) for v in found.values() if isinstance(v, keras.Variable)}
    if saved != {id(v) for v in model.weights}:
        raise TypeError(f"{type(model).__name__} has weights that Keras does not save.")
    parents = {str(p) for path in found for p in PurePosixPath(path).parents}
    return {**dict.fromkeys(parents), **found}


def write_weights(model, path, dtype="float32"):
    """Write the weights of a model, without optimizer and metrics.

    Raises:
        ValueError: `dtype` is not one of DTYPES, a weight is not finite in it, or the
            weights are no longer those that the model's arguments make.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype is one of {', '.join(DTYPES)}, not {dtype!r}.")
    fresh, _ = outline(type(model), model.get_config())  # Compiled models hold more.
    values = model.get_weights()
    if [tuple(v.shape) for v in fresh.weights] != [v.shape for v in values]:
        raise ValueError(
            f"The weights of this {type(model).__name__} are not those its arguments "
            "make; a preset keeps arguments and weights. Of an adapted model, merge() "
            "gives one to save, or save_adapter() keeps what it learned."
        )
    values = {id(v): value for v, value in zip(fresh.weights, values)}
    named = places(fresh).items()
    write_arrays(path, {n: values[id(v)] for n, v in named if v is not None}, dtype)


def write_arrays(path, arrays, dtype):
    """Write a dict of path to array, each in `dtype`, as `write_weights` does."""
    import numpy as np

    with _new_file(path) as file:
        for name, value in arrays.items():
            if dtype in BITS:
                value = _rounded(value, BITS[dtype])
            with np.errstate(over="ignore"):  # Said below, with the name.
                value = value.astype("float16" if dtype in BITS else dtype)
            if not np.isfinite(value).all():
                raise ValueError(f"{name} holds NaN or infinity as {dtype}; not saved.")
            if dtype not in BITS or not _write_deflated(file, name, value):
                file[name] = value


def _new_file(path):
    """Return a new HDF5 file of the form in _hdf5.py, with small tables.

    The tables of names and of blocks have 8 and 2 places for 32 and 64, most of them
    empty. HDF5 can be told so and h5py cannot; where the call is not found, on some
    systems, the file is a tenth larger and else the same.
    """
    import h5py

    made = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(h5py.h5p.__file__)
        library.H5Pset_sym_k(ctypes.c_int64(made.id), 2, 2)
        library.H5Pset_istore_k(ctypes.c_int64(made.id), 1)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_EARLIEST, h5py.h5f.LIBVER_LATEST)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    name = os.fsencode(path)
    return h5py.File(h5py.h5f.create(name, h5py.h5f.ACC_TRUNC, made, access))


def _rounded(value, bits):
    """Round to so many significant bits, halves to even."""
    import numpy as np

    part, exponent = np.frexp(value)  # From 1/2 to 1, times a power of two.
    return np.ldexp(np.rint(part * 2**bits) / 2**bits, exponent)


def _write_deflated(file, name, value):
    """Write an array deflated, if that pays; less than half would not be read."""
    from zoo._hdf5 import shuffled

    # Repeats found in what is nearly noise cost more than they save.
    tried = (_deflated(shuffled(value), how) for how in STRATEGIES)
    packed = min((p for p in tried if len(p) >= value.nbytes / 2), key=len, default=b"")
    if not packed or len(packed) >= value.nbytes - TREE:
        return False
    options = {"chunks": value.shape, "shuffle": True, "compression": 9}
    made = file.create_dataset(name, value.shape, value.dtype, **options)
    made.id.write_direct_chunk((0,) * value.ndim, packed)
    return True


def _deflated(data, strategy):
    packer = zlib.compressobj(9, strategy=strategy)
    return packer.compress(data) + packer.flush()


def read_weights(path, model):
    """Read a weights file that holds what a model needs and no more.

    Args:
        path: The file.
        model: A model, or its outline.

    Returns:
        dict: The id of each of the model's variables to its array, as stored.

    Raises:
        ValueError: What does not fit.
    """
    import numpy as np

    from zoo import _hdf5

    expected, found = places(model), {}
    with open(path, "rb") as file:
        reader = _hdf5.Reader(file)
        for name, header in reader.items():
            variable = expected.get(name)
            known = name in expected and name not in found
            if not known or (variable is None) != (_hdf5.GROUP in header):
                raise ValueError(f"it holds {name!r}, which the model has not.")
            found[name] = None
            if variable is not None:
                found[name] = reader.array(name, header, tuple(variable.shape))
                if not np.isfinite(found[name]).all():
                    raise ValueError(f"{name} holds NaN or infinity.")
    for name, variable in expected.items():
        if variable is not None and name not in found:
            raise ValueError(f"it lacks the weights {name}.")
    arrays = {n: array for n, array in found.items() if array is not None}
    return {id(expected[name]): array for name, array in arrays.items()}
