"""Measure the zoo's speed in one run, as ratios: beside a peer's, or on more devices.

    zoo benchmark vae
    zoo benchmark vae --backends jax,tensorflow --rounds 9
    zoo benchmark vae --json speed.json
    zoo benchmark gan
    zoo benchmark gpu --backends jax,torch
    zoo benchmark rnn
    zoo benchmark gpt
    zoo benchmark diffusion
    zoo benchmark solvers --examples 10000 --plot docs/solvers.png
    zoo benchmark export --table docs/exports.md
    zoo benchmark scaling --plot scaling.png
    zoo benchmark scaling --backends jax --devices 1,8 --batch_sizes 1024,4096

docs/speed.md and docs/scaling.md say what is measured and how.
"""

import functools
import importlib
import json
import sys
from pathlib import Path

from absl import app, flags

from zoo.tools import _benchmark

# A benchmark is a module with TITLE, PEER and measure(setting), a list of rows. Without
# a peer it also has told(rows), the table, a note and the result, and draw(rows, file).
# One that takes neither --examples nor --rounds has EXAMPLES = None; one that takes no
# --rounds has ROUNDS = None.
BENCHMARKS = {
    "vae": "zoo.tools._benchmark_vae",
    "gan": "zoo.tools._benchmark_gan",
    "gpu": "zoo.tools._benchmark_gpu",
    "rnn": "zoo.tools._benchmark_rnn",
    "gpt": "zoo.tools._benchmark_gpt",
    "diffusion": "zoo.tools._benchmark_diffusion",
    "solvers": "zoo.tools._benchmark_solvers",
    "export": "zoo.tools._benchmark_export",
    "scaling": "zoo.tools._benchmark_scaling",
}

_BACKENDS = flags.DEFINE_list("backends", None, "Backends; all installed if unset.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of each program.", 1)
_EXAMPLES = flags.DEFINE_integer("examples", None, "Examples of one epoch.", 1)
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to.")
_TABLE = flags.DEFINE_string("table", None, "Markdown file to write the table to.")
_DEVICES = flags.DEFINE_list("devices", ["1", "2", "4"], "scaling: how many devices.")
_BATCHES = flags.DEFINE_list(
    "batch_sizes", ["128", "512", "2048"], "scaling: rows of a batch, on all devices."
)
_PLOT = flags.DEFINE_string("plot", None, "scaling, solvers: PNG file to plot to.")
_PEAK = flags.DEFINE_float(
    "peak", None, "gan, gpu: the GPU's TFLOP/s in bfloat16, if unknown to the zoo.", 1
)


def main(argv):
    if len(argv) != 2 or argv[1] not in BENCHMARKS:
        raise app.UsageError(f"zoo benchmark takes one of: {', '.join(BENCHMARKS)}.")
    module = importlib.import_module(BENCHMARKS[argv[1]])
    file, plot = _file("--json", _JSON.value), _file("--plot", _PLOT.value)
    table = _file("--table", _TABLE.value)
    if plot and module.PEER:
        raise app.UsageError(
            f"--plot is for scaling and solvers; {argv[1]} is a table alone."
        )
    if _PEAK.value and argv[1] not in ("gan", "gpu"):
        raise app.UsageError(
            f"--peak is for gan and gpu; {argv[1]} takes no share of it."
        )
    devices, batches = (
        _counts("--devices", _DEVICES),
        _counts("--batch_sizes", _BATCHES),
    )
    if any(batch % count for batch in batches for count in devices):
        raise app.UsageError(
            "A batch is divided among the devices: each of --batch_sizes is a multiple "
            f"of each of --devices; {batches} and {devices} are not."
        )
    setting = _benchmark.Setting(
        _backends(_BACKENDS.value),
        _ROUNDS.value,
        _EXAMPLES.value or getattr(module, "EXAMPLES", 20_000),
        _tell,
        devices,
        batches,
    )
    report = {
        "benchmark": argv[1],
        "title": module.TITLE,
        "rounds": getattr(module, "ROUNDS", setting.rounds),
        "examples": setting.examples,
        "machine": _benchmark.machine(),
        "versions": _benchmark.versions(
            ["generative-zoo", "keras", *setting.backends]
            + ([module.PEER] if module.PEER else [])
        ),
    }
    if module.PEER and not report["versions"][module.PEER]:
        print(
            f"{module.PEER} is not installed, so these are our own numbers alone: "
            'pip install "generative-zoo[benchmark]" installs it.'
        )
    if plot and not _benchmark.installed("matplotlib"):
        print(
            "matplotlib is not installed, so there is a table and no plot: "
            'pip install "generative-zoo[benchmark]" installs it.'
        )
        plot = None
    peak = {"peak": _PEAK.value} if _PEAK.value else {}
    rows = module.measure(setting, **peak)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    told = functools.partial(compared, peer=module.PEER) if module.PEER else module.told
    cells, note, result = told(rows)
    print(text(report, cells, note))
    if file:
        report["rows"] = [vars(row) for row in rows]
        file.write_text(
            json.dumps(report, indent=2, ensure_ascii=False) + "\n", "utf-8"
        )
    if plot:
        module.draw(rows, plot)
    if table:
        table.write_text(_markdown(report, cells, note, result), "utf-8")
    wrote = " and ".join(str(path) for path in (file, plot, table) if path)
    print(f"\n{result}{wrote and f' Wrote {wrote}.'}")


def compared(rows, peer):
    """Return the table of a benchmark with a peer, its note and its result."""
    cells = [("MEASURE", "BACKEND", "ZOO", peer.upper(), "RATIO", "TARGET", "")]
    for row in rows:
        met = {True: "met", False: "missed", None: getattr(row, "note", "")}[row.met]
        cells.append(
            (
                f"{row.measure}, {row.unit}",
                row.backend,
                _number(row.value),
                _number(row.peer),
                "-" if row.ratio is None else f"{row.ratio:.2f} x",
                row.target or "-",
                met,
            )
        )
    met = [row.met for row in rows if row.met is not None]
    note = "A ratio above 1 is faster than the peer."
    return cells, note, f"{sum(met)} of {len(met)} targets met."


def text(report, cells, note):
    """Return what was run, on what, and the table, as text."""
    widths = [max(map(len, column)) for column in zip(*cells)]
    table = ("  ".join(c.ljust(w) for c, w in zip(x, widths)).rstrip() for x in cells)
    return "\n".join([*_about(report), note, "", *table])


def _markdown(report, cells, note, result):
    """Return the same as a page, made by the command that it names."""
    head, *rows = ("| " + " | ".join(row) + " |" for row in cells)
    lines = [f"# {report['title']}", "", f"By `zoo benchmark {report['benchmark']}`."]
    lines += ["", *_about(report), "", note, "", result, "", head.lower()]
    lines += ["|" + "---|" * len(cells[0]), *rows]
    return "\n".join(lines) + "\n"


def _about(report):
    """Return what was run, and on what, in lines."""
    machine = report["machine"]
    versions = (f"{k} {v}" for k, v in report["versions"].items() if v)
    load = machine["load"]
    busy = load is not None and load > machine["cores"] / 4
    rounds = report["rounds"]
    return [
        *(
            [
                f"{report['title']}: {report['examples']:,} examples"
                + (f", medians over rounds: {rounds}." if rounds else ".")
            ]
            if report["examples"]
            else []
        ),
        f"{machine['processor']}, {machine['cores']} cores, Python "
        f"{machine['python']}; {', '.join(versions)}.",
        *([f"The machine was busy (load {load}): trust no number."] if busy else []),
    ]


def _backends(names):
    """Return the backends to run, or say why not."""
    have = [name for name in _benchmark.BACKENDS if _benchmark.installed(name)]
    for name in names or []:
        if name not in have:
            raise app.UsageError(
                f"--backends takes what is installed, {', '.join(have)}; not {name!r}."
            )
    return tuple(names or have)


def _counts(flag, values):
    """Return the numbers of a list flag, or say what it takes."""
    if not all(value.isdecimal() and int(value) for value in values.value):
        raise app.UsageError(
            f"{flag} takes whole numbers above 0, such as {','.join(values.default)}; "
            f"not {','.join(values.value)}."
        )
    return tuple(int(value) for value in values.value)


def _file(flag, name):
    """Return the file to write, or say why it cannot be; None for none."""
    file = Path(name) if name else None
    if file and not file.absolute().parent.is_dir():
        raise app.UsageError(f"{flag} is a file in a folder that exists, not {file}.")
    return file


def _number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _tell(line):
    """Show progress on one line that is overwritten, where there is a terminal."""
    end = "" if sys.stderr.isatty() else "\n"
    start = "\r\033[K" if sys.stderr.isatty() else ""
    print(f"{start}{line}", end=end, file=sys.stderr, flush=True)
