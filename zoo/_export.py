"""Export the whole sampler, noise in and data out, to run without Keras.

A model's `signatures()` become the signatures of one LiteRT file or one SavedModel.
What was written is run and compared with Keras before it gets its name.
"""

import functools
import hashlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from zoo import _backend
from zoo._formats import (
    QUANTIZE,
    ExportError,
    by_name,
    flat,
    in_place,
    named,
    operators,
    still_float,
    traced,
    write_litert,
    write_saved_model,
)

FORMATS = {"litert": "ai_edge_litert", "saved_model": "tensorflow"}  # What runs each.
BATCHES = {"litert": (1,), "saved_model": (1, 8, 32)}  # Rows of the signatures.
EXAMPLES = 256  # Rows that the scales of int8 are measured on.
CALLS = 4  # Calls of each signature that are compared.
FILES = {"litert": "model.tflite", "saved_model": "1"}  # In the folder that is written.
# Largest difference, where values are at most 1 in size; None: it is measured alone.
TOLERANCE = {None: 1e-4, "float16": 5e-3, "int8-dynamic": None, "int8": None}


def export(
    model,
    path,
    format="saved_model",
    batch=None,
    quantize=None,
    steps=None,
    verbose=True,
):
    """Write a model's signatures; see `Model.export`.

    The copy computes in float32, whatever the model's policy, and is compared with
    Keras on TensorFlow, on the CPU. From JAX and torch the model is rebuilt under
    TensorFlow in a process of its own.

    Args:
        model: The model; on JAX and torch, of a class in `zoo.MODELS`.
        path: Folder to write, with a description, a guide and reference outputs beside
            the model; or, ending in .tflite, the LiteRT file alone. Must not exist.
        format: "litert" or "saved_model".
        batch: Rows of every input and output, 1 or more. None: 1, and of a SavedModel
            also 8 and 32, as signatures such as `generate_8`.
        quantize: Of litert, how weights are stored: None for float32, "float16",
            "int8-dynamic" (computed in int8 where an operator can) or "int8" (scales
            of activations measured on examples).
        steps: Of a diffusion model, steps of its solver; None for its own.
        verbose: Whether to print a table of the signatures.

    Returns:
        dict: Signature name to the largest absolute difference from Keras; of whole
        numbers, such as those of characters, the share that differs.

    Raises:
        ValueError: An argument is none of the above.
        FileExistsError, FileNotFoundError: `path` exists, or its folder does not.
        ImportError: TensorFlow or ai_edge_litert is not installed.
        ExportError: An operator is not built into LiteRT, or the copy differs from
            Keras by more than 1e-4 (in float16 5e-3), or that share of the largest
            value where it is more than 1. Of int8 the difference is returned alone.
    """
    path = _checked(path, format, batch, quantize)
    model = _with_steps(model, steps)
    if verbose:
        print(f"Exporting the {type(model).__name__} to {format} …", flush=True)
    how = {
        "format": format,
        "batches": (int(batch),) if batch else BATCHES[format],
        "quantize": quantize,
        "steps": getattr(model, "steps", None),
    }
    write = _write_here if _backend.NAME == "tensorflow" else _write_there
    with tempfile.TemporaryDirectory(
        prefix=f".{path.name}.", dir=path.parent
    ) as scratch:
        folder = Path(scratch, "export")
        folder.mkdir()
        target = folder / FILES[format]
        report = write(model, target, how)
        if path.suffix == ".tflite":
            os.rename(target, path)
        else:
            from zoo._manifest import describe

            describe(model, folder, how, report)
            os.rename(folder, path)
    if verbose:
        print(_table(path, report))
    return {row["signature"]: row["difference"] for row in report["rows"]}


def _checked(path, format, batch, quantize):
    """Return the path as absolute, or raise what is wrong with the request."""
    if format not in FORMATS:
        known = " or ".join(map(repr, FORMATS))
        raise ValueError(f"format is {known}, not {format!r}.")
    whole = isinstance(batch, int | np.integer) and not isinstance(batch, bool)
    if batch is not None and (not whole or batch < 1):
        raise ValueError(f"batch is a whole number of 1 or more, not {batch!r}.")
    if quantize is not None and (quantize not in QUANTIZE or format != "litert"):
        raise ValueError(
            f"quantize is {', '.join(QUANTIZE)} or None, and of litert alone; this is "
            f"{quantize!r} of {format}."
        )
    path = Path(path).expanduser().absolute()
    if path.suffix == ".tflite" and format != "litert":
        raise ValueError(f"A {format} is a folder; {path.name} names a LiteRT file.")
    if path.suffix not in (".tflite", ""):
        raise ValueError(
            f"An export is a folder, or a file ending in .tflite; {path.name} is "
            "neither."
        )
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


def _with_steps(model, steps):
    """Return a model that samples in so many steps, with the same weights."""
    if steps is None:
        return model
    if not hasattr(model, "steps"):
        raise ValueError(
            f"steps is of diffusion models; {type(model).__name__} has no solver."
        )
    copy = type(model)(**model.config)
    copy.set_weights(model.get_weights())
    vars(copy).update(recipe=model.recipe, card=model.card)
    copy.steps = model._way(steps=steps)["steps"]
    return copy


def _write_there(model, target, how):
    """Rebuild the model under TensorFlow in another process, and export it there."""
    import zoo

    name = type(model).__name__
    if getattr(zoo, name, None) is not type(model):
        raise ExportError(
            f"Keras on {_backend.NAME} exports the models {', '.join(zoo.MODELS)}; "
            f"{name} needs a process that runs with KERAS_BACKEND=tensorflow."
        )
    scratch = target.parent.parent
    preset, answer = scratch / "preset", scratch / "answer.json"
    model.save_preset(preset)
    # -P and PYTHONPATH: the same packages as here, none from the current folder.
    command = [sys.executable, "-P", "-m", "zoo._export", preset, target]
    done = subprocess.run(
        [*command, json.dumps(how), answer],
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
    return result


def _main(preset, target, how, answer):
    """Do the part of `_write_there` that runs under TensorFlow."""
    import zoo

    try:
        model, how = zoo.load(preset), json.loads(how)
        if how["steps"]:
            model.steps = how["steps"]
        result = _write_here(model, Path(target), how)
    except ValueError as error:  # An ExportError or a PresetError.
        result = {"error": str(error)}
    Path(answer).write_text(json.dumps(result), "utf-8")


def _write_here(model, target, how):
    """Write the export, run it and compare it; write references beside it.

    Returns:
        dict: "rows" of the table, and what the file is.
    """
    model, (first, *more) = _plain(model), how["batches"]
    rows = max(CALLS * first, *more, EXAMPLES if how["quantize"] == "int8" else 1)
    known = _signatures(model, rows)
    functions, frozen = {}, how["format"] == "litert"
    for batch in (first, *more):
        for name, signature in known.items():
            full = name if batch == first else f"{name}_{batch}"
            functions[full] = traced(model, signature, batch, frozen)
    if frozen:
        examples = [
            (name, flat(_rows(arguments, i, i + first)))
            for name, (_, arguments) in known.items()
            for i in range(0, rows - first + 1, first)
        ]
        run = write_litert(functions, target, how["quantize"], examples)
    else:
        run = write_saved_model(functions, target)
    table, reference = [], {}
    for name, (method, arguments) in known.items():
        keras_call = functools.partial(_in_keras, model, method)
        expected, calls = keras_call(arguments, first), _rows(arguments, 0, first)
        for batch in (first, *more):
            full = name if batch == first else f"{name}_{batch}"
            allowed = TOLERANCE[how["quantize"]]
            row = _row(full, arguments, expected, run, batch, allowed)
            if batch == first:
                row["ms in Keras"] = _milliseconds(
                    functools.partial(keras_call, calls, first)
                )
            table.append(row)
        for kind, arrays in (("input", flat(calls)), ("output", expected)):
            for key, array in arrays.items():
                reference[f"{name}.{kind}.{key}"] = array[:first]
    np.savez_compressed(target.parent / "reference.npz", **reference)
    report = {"rows": table}
    if frozen:
        content = target.read_bytes()
        report["operators"] = operators(content)
        report["in_place"] = in_place(content)
        report["sha256"] = hashlib.sha256(content).hexdigest()
        if how["quantize"]:
            report["float32"] = still_float(content)
    return report


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
    if hasattr(model, "steps"):
        copy.steps = model.steps
    return copy


def _signatures(model, rows):
    """Return name to (method, arguments), with `rows` rows of real input each.

    Noise is drawn with seed 0 and conditions are the model's own. Other numbers are
    uniform in [0, 1), a range that images and codes share. Whole ones are repeated, and
    so is the temperature: near 0 it makes of rounding another symbol.
    """
    generator = np.random.Generator(np.random.Philox(0))

    def fill(name, example):
        shape = (rows, *example.shape[1:])
        if example.dtype.kind == "f" and name != "temperature":
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
                key: real[key] if key in real else by_name({key: value}, fill)[key]
                for key, value in arguments.items()
            },
        )
    return filled


# The check


def _rows(arguments, start, stop):
    return by_name(arguments, lambda _, array: array[start:stop])


def _in_keras(model, method, arguments, batch):
    import tensorflow as tf

    with tf.device("CPU"):
        return named(model._run(method, *arguments.values(), rows=batch))


def _row(name, arguments, expected, run, batch, allowed):
    """Compare a signature with Keras; return its row of the table."""
    whole = len(next(iter(expected.values()))) // batch
    starts = [i * batch for i in range(min(CALLS, whole))]
    parts = [run(name, flat(_rows(arguments, s, s + batch))) for s in starts]
    difference = 0.0
    for key, values in expected.items():
        values = values[: len(starts) * batch]
        found = np.concatenate([part[key] for part in parts])
        if values.dtype.kind == "f":
            error = np.abs(found - values.astype("float64")).max()
            limit = allowed and allowed * max(1.0, np.abs(values).max())
        else:  # Numbers of characters: one is as wrong as another.
            error, limit = np.mean(found != values), allowed
        good = np.isfinite(error) if limit is None else error <= limit  # Not NaN.
        if found.shape != values.shape or not good:
            rule = "a finite number" if limit is None else f"{limit:.1e}"
            raise ExportError(
                f"An export is within {rule} of Keras; the {key} of {name} "
                f"differs by {error:.1e}. Nothing was written."
            )
        difference = max(difference, float(error))
    first = flat(_rows(arguments, 0, batch))
    return {
        "signature": name,
        "inputs -> outputs": f"{_shapes(first)} -> {_shapes(parts[0])}",
        "difference": difference,
        "ms": _milliseconds(lambda: run(name, first)),
        "ms in Keras": None,
        "outputs": {key: _kind(array) for key, array in parts[0].items()},
    }


def _kind(array):
    return {"shape": list(array.shape), "dtype": str(array.dtype)}


def _milliseconds(call, most=20, seconds=0.2):
    """Return the median time of a call that has run before."""
    times, end = [], time.perf_counter() + seconds
    while not times or (len(times) < most and time.perf_counter() < end):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def _shapes(arrays):
    """Return names, dtypes and shapes; caches that differ by a number are one."""
    groups = {}
    for name, array in arrays.items():
        stem = name.rstrip("0123456789")
        like = stem, str(array.dtype), array.shape
        groups.setdefault(like, []).append(name.removeprefix(stem))
    return ", ".join(
        f"{stem}{'…'.join(dict.fromkeys((ends[0], ends[-1])))} {dtype} {list(shape)}"
        for (stem, dtype, shape), ends in groups.items()
    )


def _table(path, report):
    """Return the table that `verbose` prints."""
    shown = [{k: v for k, v in r.items() if k != "outputs"} for r in report["rows"]]
    texts = [
        [f"{v:.2g}" if isinstance(v, float) else v or "" for v in r.values()]
        for r in shown
    ]
    columns = [[head, *column] for head, column in zip(shown[0], zip(*texts))]
    padded = [[cell.ljust(max(map(len, c))) for cell in c] for c in columns]
    lines = ["  ".join(cells).rstrip() for cells in zip(*padded)]
    if "operators" in report:
        counts = ", ".join(f"{n} {name}" for name, n in report["operators"].items())
        lines.append(f"Operators, all built in: {counts}")
    if report.get("float32"):
        lines.append(f"Stayed float32: {', '.join(report['float32'])}")
    return "\n".join([*lines, f"{path.name}: {size(path):,} bytes"])


def size(path):
    """Return the bytes of a file, or of all files in a folder."""
    files = [Path(path), *Path(path).rglob("*")]
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    _main(*sys.argv[1:])
