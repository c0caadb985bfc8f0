"""What the benchmarks share: peers in processes of their own, taking turns.

A shared machine drifts, so no program is timed alone. Each runs in a worker, the
workers take turns round after round, a ratio is formed within a round, and what is
reported is the median over the rounds.
"""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BACKENDS = ("jax", "tensorflow", "torch")
PAUSE = 0.3  # Seconds before a turn, for the threads of the last one to fall asleep.


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a benchmark is run.

    Attributes:
        backends: The backends of Keras to run, each in its own process.
        rounds: How often each program has its turn.
        examples: Training examples of one epoch.
        tell: Called with a line that says what is measured now.
        devices: Numbers of devices, for a benchmark that uses several.
        batches: Its batch sizes, each on all devices together.
    """

    backends: tuple
    rounds: int = 5
    examples: int = 20_000
    tell: callable = print
    devices: tuple = (1, 2, 4)
    batches: tuple = (128, 512, 2048)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        measure, unit, backend: What was measured, in what, on which backend.
        value: Median over the rounds.
        peer: The peer's median, None when there is none.
        ratio: How many times as fast as the peer, the median over the rounds.
        target: The promise in words, None when there is none.
        met: Whether it is kept; None when it cannot be told.
    """

    measure: str
    unit: str
    backend: str
    value: float
    peer: float | None = None
    ratio: float | None = None
    target: str | None = None
    met: bool | None = None


def row(measure, unit, backend, ours, peers=None, least=None, most=None):
    """Return the `Row` of what was measured once a round.

    Args:
        measure, unit, backend: As in `Row`; more is faster when the unit ends in "/s".
        ours: One number a round.
        peers: The peer's numbers of the same rounds, None without a peer.
        least: The smallest ratio that keeps the promise, if one is made.
        most: The largest value that keeps it, in `unit`.
    """
    value, target, met = statistics.median(ours), None, None
    peer = ratio = None
    if peers:
        peer = statistics.median(peers)
        pairs = zip(ours, peers) if unit.endswith("/s") else zip(peers, ours)
        ratio = statistics.median(a / b for a, b in pairs)
    if least is not None:
        target, met = f"≥ {least:g} x", None if ratio is None else ratio >= least
    elif most is not None:
        target, met = f"≤ {most:g} {unit}", value <= most
    return Row(measure, unit, backend, value, peer, ratio, target, met)


def better(measure, unit, ours, peer, least):
    """Return a `Row` for each backend; the best of them is held to the promise.

    Args:
        measure, unit, least: As for `row`.
        ours: dict of backend to one number a round.
        peer: The peer's numbers, or None.
    """
    middle = {name: statistics.median(values) for name, values in ours.items()}
    choose = max if unit.endswith("/s") else min
    best = choose(middle, key=middle.get)
    return [
        row(measure, unit, name, values, peer, least if name == best else None)
        for name, values in ours.items()
    ]


def installed(package):
    """Return whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def versions(packages):
    """Return the installed version of each distribution, None where there is none."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def machine():
    """Return what a reader must know of this machine to judge a time."""
    name, info = platform.machine(), Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text("utf-8", "replace").splitlines()
        models = [x.split(":")[1].strip() for x in lines if x.startswith("model name")]
        name = models[0] if models else name
    return {
        "processor": name,
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def environment(backend):
    """Return the environment of a process that runs Keras on `backend`."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **quiet, "KERAS_BACKEND": backend}


class Worker:
    """A process that stays up and carries out one command at a time.

    Args:
        module: The module to run; it ends in `serve`.
        role: Who it is to be, its first argument.
        backend: The backend of Keras in its environment.
        **arguments: What JSON can hold, for its builder.
    """

    def __init__(self, module, role, backend="torch", **arguments):
        self.role = role
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, role, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(backend),
            text=True,
        )

    def ask(self, command, **arguments):
        """Have a command carried out, and return its answer."""
        self.tell(command, **arguments)
        return self.hear()

    def tell(self, command, **arguments):
        """Have a command begun; `hear` returns its answer."""
        self._told = command
        with contextlib.suppress(BrokenPipeError):  # Which `hear` will say.
            self._process.stdin.write(json.dumps([command, arguments]) + "\n")
            self._process.stdin.flush()

    def hear(self):
        """Return the answer to the command told before."""
        answer = self._process.stdout.readline()
        if not answer:
            self._process.wait()
            self._errors.seek(0)
            tail = "\n".join(self._errors.read().splitlines()[-5:])
            raise OSError(f"{self.role} ended while asked to {self._told}:\n{tail}")
        return json.loads(answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def not_run(error):
    """Return in a line why a program that a `Worker` ran has no number."""
    words = str(error).splitlines()
    why = next((line for line in words if "Error:" in line), words[-1])
    return f"not run: {why[:120]}"


def serve(builders):
    """Be a worker: build a role's commands, and carry them out until input ends.

    Args:
        builders: Role to a function of the worker's arguments, which returns a dict of
            command name to function.
    """
    role, arguments = sys.argv[1:3]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Progress bars, drawn to no one.
    commands = builders[role](**json.loads(arguments))
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print(json.dumps(commands[name](**arguments)), file=answers, flush=True)


def take_turns(workers, command, setting, what, **arguments):
    """Ask every worker in turn, round after round.

    Args:
        workers: dict of name to `Worker`.
        command: What to ask for; a worker answers with a list of numbers.
        setting: The `Setting`.
        what: What is measured, to tell the user.
        **arguments: Of the command.

    Returns:
        dict: Name to one number a round, the median of that round's answer.
    """
    measured = {name: [] for name in workers}
    for index in range(setting.rounds):
        for name, worker in workers.items():
            setting.tell(f"{what}: round {index + 1} of {setting.rounds}, {name}")
            time.sleep(PAUSE)
            measured[name].append(statistics.median(worker.ask(command, **arguments)))
    return measured


def cold(program, arguments, backend):
    """Return the seconds a fresh process takes beyond the import of Keras.

    The import is timed within the process it is taken from: the difference of two
    processes would be lost in the noise of either.

    Args:
        program: Python code.
        arguments: Of the program, as `sys.argv[1:]`.
        backend: Of Keras.
    """
    code = (
        "import time; start = time.perf_counter(); import keras; "
        f"print(time.perf_counter() - start, flush=True); {program}"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment(backend),
        capture_output=True,
        text=True,
    )
    total = time.perf_counter() - start
    if done.returncode:
        tail = "\n".join(done.stderr.splitlines()[-5:])
        raise OSError(f"{' '.join(arguments)} failed on {backend}:\n{tail}")
    return total - float(done.stdout.split()[0])
