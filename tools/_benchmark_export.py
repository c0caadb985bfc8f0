"""What exports cost: bytes, time and quality of each preset, as it is and quantized.

Each trained preset is exported to LiteRT as float32, float16, int8-dynamic and int8,
all signatures in one file, and the sampler inside measured beside Keras. Quality is
one number of the preset's own kind, by `zoo evaluate`'s code with the export in place
of the network: Fréchet distance of 10,000 digits, nats, accuracy or error.
"""

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from zoo import _registry
from zoo._card import weights_of
from zoo.tools._benchmark import Worker, serve

TITLE = "Exports to LiteRT"
PEER = EXAMPLES = None
KINDS = None, "float16", "int8-dynamic", "int8"
FIRST = "generate", "translate", "classify"  # The signature that is timed.
CALLS = 20


@dataclasses.dataclass(frozen=True)
class Row:
    """One export of a preset.

    Attributes:
        preset: Its name.
        quantize: How weights are stored, "float32" as they are.
        bytes: Of model.tflite.
        difference: The largest from Keras in float32, over all signatures.
        ms: Of a call of the sampler, of one row.
        keras_ms: The same in Keras on its best backend, `backend`.
        metric, value: The number of quality, and what it is.
        floats: Names of weights that stayed float32.
    """

    preset: str
    quantize: str
    bytes: int
    difference: float
    ms: float
    keras_ms: float
    backend: str
    metric: str
    value: float
    floats: tuple


def measure(setting):
    """Return a `Row` for each trained preset and kind."""
    import zoo
    from zoo._export import ExportError
    from zoo._run import Exported

    names = [name for name in zoo.presets() if _trained(name)]
    times = {}
    for backend in setting.backends:
        setting.tell(f"Keras on {backend}")
        with Worker("zoo.tools._benchmark_export", "keras", backend) as worker:
            times[backend] = worker.ask("time", names=names)
    rows = []
    for name in names:
        backend = min(times, key=lambda b, n=name: times[b][n])
        for kind in KINDS:
            setting.tell(f"{name}, {kind or 'float32'}")
            with tempfile.TemporaryDirectory() as scratch:
                model, folder = zoo.load(name), Path(scratch, "export")
                try:
                    found = model.export(folder, "litert", quantize=kind, verbose=False)
                except ExportError:
                    if kind != "int8":  # Which has no loops.
                        raise
                    continue
                ran = Exported(folder, threads=2)
                through(model, ran)
                metric, value = quality(name, model)
                file = folder / "model.tflite"
                rows.append(
                    Row(
                        name,
                        kind or "float32",
                        file.stat().st_size,
                        max(found.values()),
                        milliseconds(*first(ran)),
                        times[backend][name],
                        backend,
                        metric,
                        value,
                        tuple(ran.about.get("float32") or ()),
                    )
                )
    return rows


def _trained(name):
    return weights_of(_registry.read(_registry.home() / name))


def quality(name, model):
    """Return what is measured of a preset, and its value."""
    from zoo.tools._measures import held_out, measure

    card = _registry.read(_registry.home() / name)
    if model.image_shape == (28, 28, 1) and "generate" in model.verbs():
        wanted = {"FD[lenet-mnist]@10k": {}}
    else:
        kinds = ("nll", "accuracy", "word accuracy", "mae", "mode KL", "FD")
        wanted = next(
            {key: card["metrics"][key].get("with", {})}
            for kind in kinds
            for key in card["metrics"]
            if key.split("[")[0] == kind
        )
    data = held_out(card, model)
    found = measure(
        model, data, wanted, train=lambda: held_out(card, model, split="train")
    )
    return next(iter(found.items()))


def through(model, exported):
    """Make a model compute by its export: all verbs that a signature carries."""
    methods = {method: name for name, (method, _) in model.signatures().items()}

    def run(method, *arrays, rows=None, **options):
        name = methods[method]
        inputs = exported.signatures[name]["inputs"]
        flat = [a for x in arrays for a in (x.values() if isinstance(x, dict) else [x])]
        flat = [a / np.float32(255) if a.dtype == np.uint8 else a for a in flat]
        flat += [np.ones(len(flat[0]))] * (len(inputs) - len(flat))  # Guidance.
        out = exported.call(name, **dict(zip(inputs, flat)))
        return out["output"] if "output" in out else tuple(out.values())

    def score(sequences):
        total = np.zeros(len(sequences))
        for row, sequence in enumerate(sequences):
            state = exported.start()
            for symbol in sequence:
                out = exported.call("step", **state)
                logits = out.pop("logits")[0].astype("float64")
                top = logits.max()
                total[row] += logits[symbol] - top - np.log(np.exp(logits - top).sum())
                state = {**out, "symbol": np.full(1, symbol)}
        return total

    vars(model).update(_run=run, _score=score)


def first(exported):
    """Return what calls the sampler of an export once, with its reference inputs."""
    name = next(name for name in FIRST if name in exported.signatures)
    inputs = {}
    for key, spec in exported.signatures[name]["inputs"].items():
        value = 0 if spec["dtype"].startswith("int") else 0.5
        inputs[key] = np.full(spec["shape"], value, spec["dtype"])
    return exported.call, name, inputs


def milliseconds(call, name, inputs):
    """Return the median time of a call, after one that does not count."""
    call(name, **inputs)
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        call(name, **inputs)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def told(rows):
    """Return the table, its note and the result."""
    head = "PRESET", "WEIGHTS", "MB", "SHARE", "DIFFERENCE", "MS", "KERAS MS"
    cells = [(*head, "BACKEND", "MEASURE", "VALUE", "STAYED FLOAT32")]
    whole = {row.preset: row for row in rows if row.quantize == "float32"}
    for row in rows:
        cells.append(
            (
                row.preset,
                row.quantize,
                f"{row.bytes / 1e6:.2f}",
                f"{row.bytes / whole[row.preset].bytes:.2f}",
                f"{row.difference:.1e}",
                f"{row.ms:.2f}",
                f"{row.keras_ms:.2f}",
                row.backend,
                row.metric,
                f"{row.value:.4g}",
                ", ".join(row.floats) or "-",
            )
        )
    note = (
        "MS is a call of one row, on two threads; KERAS MS the same on Keras's best "
        "backend. DIFFERENCE is the largest from Keras; of symbols, the share."
    )
    slower = [row for row in whole.values() if row.ms > row.keras_ms]
    result = (
        f"{len(rows)} exports of {len(whole)} presets; LiteRT float32 is no slower "
        f"than Keras in {len(whole) - len(slower)} of {len(whole)}."
    )
    return cells, note, result


def _keras():
    """Be the worker that times Keras on the backend of its environment."""
    import zoo

    def times(names):
        found = {}
        for name in names:
            model = zoo.load(name)
            signatures = model.signatures()
            method, arguments = signatures[next(n for n in FIRST if n in signatures)]

            def call(_, **inputs):
                return model._run(method, *inputs.values())  # noqa: B023

            found[name] = milliseconds(call, None, arguments)
        return found

    return {"time": times}


if __name__ == "__main__":
    serve({"keras": _keras})
