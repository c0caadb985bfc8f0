"""Export the whole sampler, noise in and data out, to run without Keras.

A model's `signatures()` become the signatures of one LiteRT file or one SavedModel.
What was written is run and compared with Keras before it gets its name.
"""

import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from zoo import _backend

FORMATS = {"litert": "ai_edge_litert", "saved_model": "tensorflow"}  # What runs each.
TOLERANCE = 1e-4  # Largest difference, where values are at most 1 in size.
CALLS = 4  # Calls of each signature that are compared.


class ExportError(ValueError):
    """A model that the format cannot hold, or a copy that differs from Keras."""


def export(model, path, format="saved_model", batch=1, verbose=True):
    """Write a model's signatures; see `Model.export`.

    The copy computes in float32, whatever the model's policy, and is compared with
    Keras on TensorFlow, on the CPU. From JAX and torch the model is rebuilt under
    TensorFlow in a process of its own.

    Args:
        model: The model; on JAX and torch, of a class in `zoo.MODELS`.
        path: File to write, ending in .tflite (litert), or folder (saved_model): one
            called models/NAME/1 is what TensorFlow Serving mounts. Must not exist.
        format: "litert" or "saved_model".
        batch: Rows of every input and output, 1 or more.
        verbose: Whether to print a table of the signatures.

    Returns:
        dict: Signature name to the largest absolute difference from Keras.

    Raises:
        ValueError: `format`, `batch` or the ending of `path` is none of the above.
        FileExistsError, FileNotFoundError: `path` exists, or its folder does not.
        ImportError: TensorFlow or ai_edge_litert is not installed.
        ExportError: An operator is not built into LiteRT, or the copy differs from
            Keras by more than 1e-4, or 1e-4 of the largest value where that is more.
    """
    path = _checked(path, format, batch)
    if verbose:
        print(f"Exporting the {type(model).__name__} to {format} …", flush=True)
    write = _write_here if _backend.NAME == "tensorflow" else _write_there
    with tempfile.TemporaryDirectory(
        prefix=f".{path.name}.", dir=path.parent
    ) as scratch:
        target = Path(scratch, "export")
        rows = write(model, target, format, int(batch))
        os.rename(target, path)
    if verbose:
        print(_table(path, rows))
    return {row["signature"]: row["difference"] for row in rows}


def _checked(path, format, batch):
    """Return the path as absolute, or raise what is wrong with the request."""
    if format not in FORMATS:
        known = " or ".join(map(repr, FORMATS))
        raise ValueError(f"format is {known}, not {format!r}.")
    whole = isinstance(batch, int | np.integer) and not isinstance(batch, bool)
    if not whole or batch < 1:
        raise ValueError(f"batch is a whole number of 1 or more, not {batch!r}.")
    path = Path(path).expanduser().absolute()
    if format == "litert" and path.suffix != ".tflite":
        raise ValueError(f"A litert file ends in .tflite; {path.name} does not.")
    if os.path.lexists(path):
        raise FileExistsError(f"An export replaces nothing, and {path} exists.")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"An export is written into a folder that exists; {path.parent} does not."
        )
    for package in ("tensorflow", FORMATS[format]):
        if importlib.util.find_spec(package) is None:
            raise ImportError(
                f"An export to {format} needs {package}, which is not installed: "
                'pip install "generative-zoo[tensorflow]".'
            )
    return path


def _write_there(model, target, format, batch):
    """Rebuild the model under TensorFlow in another process, and export it there."""
    import zoo

    name = type(model).__name__
    if getattr(zoo, name, None) is not type(model):
        raise ExportError(
            f"Keras on {_backend.NAME} exports the models {', '.join(zoo.MODELS)}; "
            f"{name} needs a process that runs with KERAS_BACKEND=tensorflow."
        )
    preset, answer = target.with_name("preset"), target.with_name("answer.json")
    model.save_preset(preset)
    # -P and PYTHONPATH: the same packages as here, none from the current folder.
    command = [sys.executable, "-P", "-m", "zoo._export", preset, target, format]
    done = subprocess.run(
        [*command, str(batch), answer],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
            "KERAS_BACKEND": "tensorflow",
            "CUDA_VISIBLE_DEVICES": "-1",  # JAX holds the memory of the GPU.
        },
        capture_output=True,
        text=True,
    )
    if not answer.is_file():
        tail = "\n".join(done.stderr.strip().splitlines()[-10:])
        raise ExportError(
            "The process that exports under TensorFlow ended with exit status "
            f"{done.returncode} and no result. Its last lines:\n{tail}"
        )
    result = json.loads(answer.read_text("utf-8"))
    if "error" in result:
        raise ExportError(result["error"])
    return result["rows"]


def _main(preset, target, format, batch, answer):
    """Do the part of `_write_there` that runs under TensorFlow."""
    import zoo

    try:
        rows = _write_here(zoo.load(preset), Path(target), format, int(batch))
        result = {"rows": rows}
    except ValueError as error:  # An ExportError or a PresetError.
        result = {"error": str(error)}
    Path(answer).write_text(json.dumps(result), "utf-8")


def _write_here(model, target, format, batch):
    """Write the export, run it and compare it; return the rows of the table."""
    model = _plain(model)
    signatures = _signatures(model, batch * CALLS)
    write = {"litert": _write_litert, "saved_model": _write_saved_model}[format]
    run = write(model, signatures, batch, target)
    return [_row(model, name, *signatures[name], run, batch) for name in signatures]


def _plain(model):
    """Return a copy that computes in float32 on the CPU, where no TF32 rounds it."""
    import tensorflow as tf

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        with tf.device("CPU"):
            copy = type(model)(**model.get_config())
    finally:
        keras.config.set_dtype_policy(policy)
    copy.set_weights(model.get_weights())
    return copy


# What goes in and comes out


def _signatures(model, rows):
    """Return name to (method, arguments), with `rows` rows of real input each.

    Noise is drawn with seed 0 and conditions are the model's own. Other numbers are
    uniform in [0, 1), a range that images and codes share; whole ones are repeated.
    """
    generator = np.random.Generator(np.random.Philox(0))

    def fill(name, example):
        shape = (rows, *example.shape[1:])
        if example.dtype.kind == "f":
            return generator.random(shape, dtype="float32").astype(example.dtype)
        return np.resize(example, shape)

    filled = {}
    for name, (method, arguments) in model.signatures().items():
        real = model.conditions(rows)
        if method == "sample":
            real["noise"] = model.noise(rows, seed=0)
        filled[name] = (
            method,
            {
                key: real[key] if key in real else _by_name({key: value}, fill)[key]
                for key, value in arguments.items()
            },
        )
    return filled


def _by_name(arguments, function, prefix=""):
    """Replace each array in nested dicts by function(name, array).

    The name joins the keys: {"noise": {"normal": x}} gives "noise_normal".
    """
    return {
        key: _by_name(value, function, f"{prefix}{key}_")
        if isinstance(value, dict)
        else function(prefix + key, value)
        for key, value in arguments.items()
    }


def _flat(arguments):
    """Return nested dicts as one, by the names of `_by_name`."""
    flat = {}
    _by_name(arguments, flat.__setitem__)
    return flat


def _named(output):
    """Return what a method returns as a dict of named tensors or arrays."""
    if isinstance(output, list | tuple):
        output = {f"output_{i}": part for i, part in enumerate(output)}
    return _flat(output if isinstance(output, dict) else {"output": output})


# The two formats


def _function(model, signature, batch, frozen):
    """Return a signature as a TensorFlow function of named tensors of `batch` rows.

    `frozen` makes the weights constants of it, for LiteRT: a variable that the
    converter does not freeze itself breaks the file at READ_VARIABLE.
    """
    import tensorflow as tf

    method, arguments = signature
    weights = [(v, v.numpy()) for v in model.variables] if frozen else []

    def function(**tensors):
        constants = [(v, tf.constant(value)) for v, value in weights]
        nested = _by_name(arguments, lambda name, _: tensors[name])
        with keras.StatelessScope(constants):
            return _named(getattr(model, method)(**nested))

    specs = {
        name: tf.TensorSpec((batch, *array.shape[1:]), array.dtype, name)
        for name, array in _flat(arguments).items()
    }
    return tf.function(function, autograph=False).get_concrete_function(**specs)


def _write_saved_model(model, signatures, batch, target, frozen=False):
    """Write a SavedModel; return a function that runs a signature of it."""
    import tensorflow as tf

    functions = {
        name: _function(model, signature, batch, frozen)
        for name, signature in signatures.items()
    }
    module = tf.Module()
    variables = [v for function in functions.values() for v in function.variables]
    module.weights = list({id(v): v for v in variables}.values())
    tf.saved_model.save(module, str(target), signatures=functions)
    with tf.device("CPU"):
        loaded = tf.saved_model.load(str(target))

    def run(name, arrays):
        with tf.device("CPU"):
            tensors = {key: tf.constant(array) for key, array in arrays.items()}
            output = loaded.signatures[name](**tensors)
        return {key: tensor.numpy() for key, tensor in output.items()}

    return run


def _write_litert(model, signatures, batch, target):
    """Write a LiteRT file; return a function that runs a signature of it."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    folder = target.with_name("frozen")
    _write_saved_model(model, signatures, batch, folder, frozen=True)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder), signature_keys=list(signatures)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        content = converter.convert()
    except Exception as error:  # ConverterError, which TensorFlow does not publish.
        raise ExportError(_refusal(str(error))) from error
    target.write_bytes(content)
    threads = min(4, os.cpu_count() or 1)  # As many as a phone has fast cores.
    interpreter = Interpreter(model_content=content, num_threads=threads)
    runners = {name: interpreter.get_signature_runner(name) for name in signatures}
    return lambda name, arrays: runners[name](**arrays)


def _refusal(text):
    """Say in one sentence why the converter refused."""
    needed = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", text)))
    if not needed:
        return f"LiteRT cannot hold this model: {text.strip()[:500]}"
    return (
        "A litert export uses operators built into LiteRT alone; this model needs "
        f"{', '.join(needed)}. Rewrite what makes them, or export to saved_model."
    )


# The check


def _row(model, name, method, arguments, run, batch):
    """Compare a signature with Keras; return its row of the table."""
    import tensorflow as tf

    def cut(start):
        return _by_name(arguments, lambda _, array: array[start : start + batch])

    def in_keras(arguments):
        with tf.device("CPU"):
            return _named(model._run(method, *arguments.values(), rows=batch))

    parts = [run(name, _flat(cut(i * batch))) for i in range(CALLS)]
    difference = 0.0
    for key, expected in in_keras(arguments).items():
        found = np.concatenate([part[key] for part in parts])
        error = np.abs(found - expected.astype("float64")).max()
        allowed = TOLERANCE * max(1.0, np.abs(expected).max())
        if found.shape != expected.shape or not error <= allowed:  # Or it is NaN.
            raise ExportError(
                f"An export is within {allowed:.1e} of Keras; the {key} of {name} "
                f"differs by {error:.1e}. Nothing was written."
            )
        difference = max(difference, float(error))
    first = cut(0)
    return {
        "signature": name,
        "inputs -> outputs": f"{_shapes(_flat(first))} -> {_shapes(parts[0])}",
        "difference": difference,
        "ms": _milliseconds(lambda: run(name, _flat(first))),
        "ms in Keras": _milliseconds(lambda: in_keras(first)),
    }


def _milliseconds(call, most=20, seconds=0.2):
    """Return the median time of a call that has run before."""
    times, end = [], time.perf_counter() + seconds
    while not times or (len(times) < most and time.perf_counter() < end):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def _shapes(arrays):
    return ", ".join(f"{k} {a.dtype} {list(a.shape)}" for k, a in arrays.items())


def _table(path, rows):
    """Return the table that `verbose` prints."""
    texts = [
        [f"{v:.2g}" if isinstance(v, float) else v for v in r.values()] for r in rows
    ]
    columns = [[head, *column] for head, column in zip(rows[0], zip(*texts))]
    padded = [[cell.ljust(max(map(len, c))) for cell in c] for c in columns]
    lines = ["  ".join(cells).rstrip() for cells in zip(*padded)]
    return "\n".join([*lines, f"{path.name}: {size(path):,} bytes"])


def size(path):
    """Return the bytes of a file, or of all files in a folder."""
    files = [Path(path), *Path(path).rglob("*")]
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    _main(*sys.argv[1:])
