"""An MLP VAE on several devices: pictures a second, and bytes the devices exchange.

A process fixes its devices when it starts, so each number of them has one of its own,
which trains by `fit` and `Batches`, as `zoo train` does, at one batch size after
another. The bytes are counted in the step that runs: on TensorFlow and torch by what
passes the mean over the replicas, on JAX by the collectives of the compiled program.
"""

import collections
import contextlib
import dataclasses
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from zoo.tools import _benchmark

TITLE = "MLP VAE 784-512-512-32-512-512-784 on several devices"
PEER = None
EXAMPLES = 8_192  # Of one epoch, unless --examples says otherwise.
STRATEGIES = {"jax": "data_parallel", "tensorflow": "mirrored", "torch": "ddp"}
DUMP = "--xla_dump_hlo_as_text --xla_dump_hlo_module_re=.*train_step.*"
REDUCES = r"= (.*?) (?:all-reduce|all-reduce-start|reduce-scatter)\("
OTHERS = (
    r" (?:all-gather|all-to-all|collective-permute|collective-broadcast)(?:-start)?\("
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        backend, strategy, devices, platform: Where it was trained; "cpu" is simulated.
        batch: Pictures of a step, on all devices together.
        speed: Pictures a second, median over the rounds.
        ratio: To one device at the same batch, the median over the rounds; None if one
            was not measured.
        gradients: Bytes of a gradient: 4 for each parameter that learns.
        reduced: Bytes whose mean over the devices is taken in a step; None if unknown.
        sent: Bytes that each device then sends, if the mean is taken in a ring.
        other: Collectives of a step that move data otherwise, such as gathers.
    """

    backend: str
    strategy: str
    devices: int
    platform: str
    batch: int
    speed: float
    ratio: float | None
    gradients: int
    reduced: int | None
    sent: float | None
    other: int | None


def measure(setting):
    """Return the rows of the table, by backend, batch and devices."""
    found = collections.defaultdict(list)
    for index in range(setting.rounds):
        for name in setting.backends:
            for devices in sorted(setting.devices):
                setting.tell(
                    f"round {index + 1} of {setting.rounds}: {name}, devices: {devices}"
                )
                time.sleep(_benchmark.PAUSE)
                for answer in _ask(name, devices, setting):
                    found[name, answer["batch"], devices].append(answer)
    return [
        _row(*place, answers, found.get((*place[:2], 1)))
        for place, answers in sorted(found.items())
    ]


def ring(size, devices):
    """Return the bytes each device sends to take the mean of `size` bytes in a ring."""
    return 2 * (devices - 1) / devices * size


def collectives(hlo):
    """Return the bytes that a compiled XLA program reduces over its devices.

    A collective within a loop counts once; a training step here has no loop.

    Args:
        hlo: The program after optimizations, as text.

    Returns:
        The bytes that its reductions yield, and the number of its other collectives.
    """
    total = 0
    for result in re.findall(REDUCES, hlo):  # One array, or a tuple of them.
        for kind, shape in re.findall(r"([a-z]+\d*\w*)\[([\d,]*)\]", result):
            lengths = [int(length) for length in shape.split(",") if length]
            total += _width(kind) * math.prod(lengths)
    return total, len(re.findall(OTHERS, hlo))


def _width(kind):
    """Return the bytes of a number, from the name of its type: bf16, f32, pred."""
    bits = re.search(r"\d+", kind)
    return int(bits.group()) // 8 if bits else 1


def told(rows):
    """Return the cells of the table, what to know when reading it, and the result."""
    cells = [
        ("BACKEND", "STRATEGY", "DEVICES", "BATCH", "IMAGES/S", "RATIO")
        + ("MB REDUCED", "MB SENT")
    ]
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f} x"
        megabytes = [
            "-" if size is None else f"{size / 1e6:.2f}"
            for size in (row.reduced, row.sent)
        ]
        cells.append(
            (row.backend, row.strategy, str(row.devices), f"{row.batch:,}")
            + (f"{row.speed:,.0f}", ratio, *megabytes)
        )
    note = (
        "RATIO: to one device at the same batch. MB REDUCED: of a step, counted. "
        "MB SENT: by each device, in a ring."
    )
    if any(row.platform == "cpu" and row.devices > 1 for row in rows):
        note += (
            "\nThe devices are simulated and share the processor's cores: RATIO shows "
            "what dividing costs, not what devices gain."
        )
    others = max((row.other or 0 for row in rows), default=0)
    if others:
        note += f"\nNot counted: up to {others} collectives a step that do not reduce."
    several = [row for row in rows if row.reduced and row.devices > 1]
    if not several:
        return cells, note, "Nothing was reduced."
    beyond = {row.backend: row.reduced - row.gradients for row in several}
    more = ", ".join(f"{size:,} bytes on {name}" for name, size in beyond.items())
    result = (
        f"A step reduces the {several[0].gradients:,} bytes of the gradients and, "
        f"beyond them: {more}."
    )
    return cells, note, result


def draw(rows, file):
    """Plot pictures a second against devices and against batch size, as a PNG."""
    from matplotlib.figure import Figure

    batch, most = max(row.batch for row in rows), max(row.devices for row in rows)
    figure = Figure(figsize=(8, 3.4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for index, name in enumerate(dict.fromkeys(row.backend for row in rows)):
        mine = [row for row in rows if row.backend == name]
        style = {"marker": "osD"[index % 3], "color": f"C{index}", "label": name}
        points = [(r.devices, r.speed) for r in mine if r.batch == batch]
        left.plot(*zip(*sorted(points)), **style)
        for devices, line in ((1, "-"), (most, "--")):
            points = [(r.batch, r.speed) for r in mine if r.devices == devices]
            if points:
                right.plot(*zip(*sorted(points)), line, **style)
                style.pop("label", None)
    cpu = any(row.platform == "cpu" and row.devices > 1 for row in rows)
    left.set_title(f"batch of {batch:,}", fontsize=10)
    left.set_xlabel(f"{'simulated ' if cpu else ''}devices")
    left.set_xticks(sorted({row.devices for row in rows}))
    right.set_title(f"1 device (solid), {most} (dashed)", fontsize=10)
    right.set_xlabel("images in a batch (all devices together)")
    right.set_xscale("log", base=2)
    batches = sorted({row.batch for row in rows})
    right.set_xticks(batches, [f"{b:,}" for b in batches])
    left.set_ylabel("images/s")
    left.set_ylim(0)
    left.yaxis.set_major_formatter("{x:,.0f}")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right", frameon=False)
    figure.savefig(file, format="png")


def _row(backend, batch, devices, answers, ones):
    speeds, ratio = [answer["speed"] for answer in answers], None
    if ones:
        ratio = statistics.median(a / b["speed"] for a, b in zip(speeds, ones))
    last = answers[-1]
    return Row(
        backend,
        last["strategy"],
        devices,
        last["platform"],
        batch,
        statistics.median(speeds),
        ratio,
        last["gradients"],
        last["reduced"],
        None if last["reduced"] is None else ring(last["reduced"], devices),
        last["other"],
    )


def _ask(backend, devices, setting):
    """Return the answers of a process that trains on so many devices, one a batch."""
    environment = _benchmark.environment(backend)
    with tempfile.TemporaryDirectory() as folder:
        if backend == "jax":
            flags = [environment.get("XLA_FLAGS", ""), f"--xla_dump_to={folder}", DUMP]
            environment["XLA_FLAGS"] = " ".join(flags)
            environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # It dumps nothing.
            # On a CPU each device may hold two threads of XLA's pool: one in the step,
            # one that waits to start the next. With fewer, an all-reduce never ends.
            threads = max(_benchmark.machine()["cores"], 2 * devices)
            environment.setdefault("NPROC", str(threads))
        asked = {
            "strategy": STRATEGIES[backend] if devices > 1 else "none",
            "devices": devices,
            "batches": list(setting.batches),
            "examples": setting.examples,
            "folder": folder,
        }
        done = subprocess.run(
            [sys.executable, "-m", "zoo.tools._benchmark_scaling", json.dumps(asked)],
            env=environment,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        tail = "\n".join(done.stderr.splitlines()[-5:])
        raise OSError(f"{backend} on {devices} devices failed:\n{tail}")
    return json.loads(done.stdout.splitlines()[-1])


# What follows runs in the process that trains


def main():
    """Train as the first argument says, and print the answers as JSON."""
    from zoo.trainers import strategies

    asked = json.loads(sys.argv[1])
    strategy, devices = asked["strategy"], asked["devices"]
    count = strategies.workers(strategy, devices, None)
    if count > 1:
        command = [sys.executable, "-m", "zoo.tools._benchmark_scaling"]
        return strategies.launch(command + sys.argv[1:], count, strategy)
    place = strategies.enter(strategy, devices if strategy != "none" else None)
    folder = Path(asked["folder"])
    with place.scope:
        answers = [
            _train(place, b, asked["examples"], folder) for b in asked["batches"]
        ]
    if place.chief:
        print(json.dumps([{"strategy": strategy, **answer} for answer in answers]))
    return 0


def _train(place, batch, examples, folder):
    """Train one epoch to warm up and one on the clock, and return what was measured."""
    import keras
    import numpy as np

    import zoo
    from zoo.trainers.data import Batches, Data

    counted = {}

    class Counted(zoo.VAE):
        def train_step(self, *args):
            counted[threading.get_ident()] = 0
            return super().train_step(*args)

    class Clock(keras.callbacks.Callback):
        async_safe = True

        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds = time.perf_counter() - self.start

    steps, clock = max(1, examples // batch), Clock()
    model = Counted()
    model.compile()  # Adam at 1e-3.
    generator = np.random.default_rng(0)
    rows = (steps * batch, *model.image_shape)
    images = generator.integers(0, 256, rows, dtype="uint8")
    shared = place.replicas, place.process, place.processes
    batches = Batches(Data(images), batch, 0, *shared)
    with _counting(counted):
        model.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[clock])
    gradients = 4 * sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    reduced, other = max(counted.values()), 0
    if keras.backend.backend() == "jax":
        reduced, other = _compiled(folder)
    return {
        "platform": _platform(),
        "batch": batch,
        "speed": steps * batch / clock.seconds,
        "gradients": gradients,
        "reduced": reduced,
        "other": other,
    }


@contextlib.contextmanager
def _counting(counted):
    """Add up the bytes that pass the mean over replicas, by the thread they pass in.

    TensorFlow traces each replica in a thread of its own; torch has one thread, and
    JAX takes no such mean.
    """
    from zoo import _backend

    mean = getattr(_backend, "_mean", None)

    def counting(tensors):
        import keras

        for tensor in tensors:
            if tensor is not None:
                width = _width(keras.backend.standardize_dtype(tensor.dtype))
                size = math.prod(int(length) for length in tensor.shape)
                counted[threading.get_ident()] += width * size
        return mean(tensors)

    if mean is None:
        yield
        return
    _backend._mean = counting
    try:
        yield
    finally:
        _backend._mean = mean


def _compiled(folder):
    """Return `collectives` of the newest training step that XLA has dumped."""
    dumps = sorted(folder.glob("*train_step.*after_optimizations.txt"))
    return collectives(dumps[-1].read_text("utf-8")) if dumps else (None, None)


def _platform():
    """Return what kind of devices Keras found: "cpu", "gpu", "cuda" or "tpu"."""
    import keras

    if keras.backend.backend() == "torch":
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    return keras.distribution.list_devices()[0].split(":")[0].lower()


if __name__ == "__main__":
    sys.exit(main())
