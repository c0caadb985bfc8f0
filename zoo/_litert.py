"""Run the signatures of a LiteRT file, by ai-edge-litert alone."""

import contextlib
import ctypes
import functools
import itertools
import os
import sys

import numpy as np


class Runner:
    """The signatures of a LiteRT file, compiled.

    Args:
        content: The file's bytes.
        signatures: What model.json says of them.
        batch: Rows of a call.
        threads: That LiteRT uses.
    """

    def __init__(self, content, signatures, batch, threads):
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.options import CpuOptions, Options

        options = Options(cpu_options=CpuOptions(num_threads=threads))
        self._content = content  # LiteRT reads it where it lies.
        with _quiet():
            self._model = CompiledModel.from_buffer(
                content, environment=_environment(), options=options
            )
        self._signatures, self._batch, self._buffers = signatures, batch, {}

    def run(self, signature, arrays, states=None):
        """Return what a signature makes, a dict of arrays of N rows.

        Args:
            signature: Its name.
            arrays: Its inputs by name, arrays of N rows of its shapes and dtypes.
            states: The other inputs, as `keep` returned them. Outputs of their names
                take their place and are not returned.
        """
        states, rows = states or itertools.repeat({}), len(next(iter(arrays.values())))
        parts = [
            self._call(signature, part, state)
            for part, state in zip(self._cut(arrays), states)
        ]
        return {k: np.concatenate([p[k] for p in parts])[:rows] for k in parts[0]}

    def _call(self, signature, arrays, state):
        spec = self._signatures[signature]
        inputs = {k: state.get(k) or self._of(signature, k) for k in spec["inputs"]}
        for name, array in arrays.items():
            inputs[name].write(array)
        outputs = {}
        for name in spec["outputs"]:
            over = name in state and spec["inputs"][name].get("in_place")
            outputs[name] = state[name] if over else self._of(signature, name, "output")
        self._model.run_by_name(signature, inputs, outputs)
        for name in state.keys() & outputs.keys():
            self._buffers["output", signature, name] = state[name]
            state[name] = outputs[name]
        return {
            name: outputs[name]
            .read(int(np.prod(part["shape"])), part["dtype"])
            .reshape(part["shape"])
            for name, part in spec["outputs"].items()
            if name not in state
        }

    def keep(self, signature, arrays):
        """Return some inputs of N rows as states in LiteRT's memory, one for a call."""
        states = []
        for part in self._cut(arrays):
            create = self._model.create_input_buffer_by_name
            states.append({name: create(signature, name) for name in part})
            for name, array in part.items():
                states[-1][name].write(array)
        return states

    def _cut(self, arrays):
        """Yield the rows of each call; those of the last are filled up by its last."""
        rows, batch = len(next(iter(arrays.values()))), self._batch
        order = np.minimum(np.arange(rows + -rows % batch), rows - 1)
        for start in range(0, rows, batch):
            now = order[start : start + batch]
            whole = now[-1] - now[0] == batch - 1  # Then without a copy.
            now = slice(start, start + batch) if whole else now
            yield {name: array[now] for name, array in arrays.items()}

    def _of(self, signature, name, kind="input"):
        if (kind, signature, name) not in self._buffers:
            create = getattr(self._model, f"create_{kind}_buffer_by_name")
            self._buffers[kind, signature, name] = create(signature, name)
        return self._buffers[kind, signature, name]


@functools.cache
def _environment():
    """Return what all models share: LiteRT looks for accelerators when it begins."""
    from ai_edge_litert.environment import Environment
    from ai_edge_litert.tensor_buffer import TensorBuffer

    found, number = Environment.create(), np.zeros(16, "float32")
    TensorBuffer.create_from_host_memory(number).write(number)  # Which makes another.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(found))  # Until the process ends.
    return found


@contextlib.contextmanager
def _quiet():
    """Keep from stderr what LiteRT tells of accelerators, which no setting stops."""
    try:
        kept = os.dup(2)
    except OSError:  # There is no stderr.
        yield
        return
    try:
        hush()
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def hush():
    """Write nothing more to stderr."""
    if sys.stderr:
        sys.stderr.flush()
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
