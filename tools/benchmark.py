"""Measure the zoo's speed beside a peer's, in one run, as ratios.

    zoo benchmark vae
    zoo benchmark vae --backends jax,tensorflow --rounds 9
    zoo benchmark vae --json speed.json

docs/speed.md says what is measured and how.
"""

import importlib
import json
import sys
from pathlib import Path

from absl import app, flags

from zoo.tools import _benchmark

# A benchmark is a module with TITLE, PEER and measure(setting), a list of rows.
BENCHMARKS = {"vae": "zoo.tools._benchmark_vae"}

_BACKENDS = flags.DEFINE_list("backends", None, "Backends; all installed if unset.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of each program.", 1)
_EXAMPLES = flags.DEFINE_integer("examples", 20_000, "Examples of one epoch.", 1)
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to.")


def main(argv):
    if len(argv) != 2 or argv[1] not in BENCHMARKS:
        raise app.UsageError(f"zoo benchmark takes one of: {', '.join(BENCHMARKS)}.")
    file = Path(_JSON.value) if _JSON.value else None
    if file and not file.absolute().parent.is_dir():
        raise app.UsageError(f"--json is a file in a folder that exists, not {file}.")
    setting = _benchmark.Setting(
        _backends(_BACKENDS.value), _ROUNDS.value, _EXAMPLES.value, _tell
    )
    module = importlib.import_module(BENCHMARKS[argv[1]])
    report = {
        "benchmark": argv[1],
        "title": module.TITLE,
        "rounds": setting.rounds,
        "examples": setting.examples,
        "machine": _benchmark.machine(),
        "versions": _benchmark.versions(
            ["generative-zoo", "keras", *setting.backends, module.PEER]
        ),
    }
    if not report["versions"][module.PEER]:
        print(
            f"{module.PEER} is not installed, so these are our own numbers alone: "
            'pip install "generative-zoo[benchmark]" installs it.'
        )
    rows = module.measure(setting)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print(text(report, rows, module.PEER))
    if file:
        report["rows"] = [vars(row) for row in rows]
        file.write_text(
            json.dumps(report, indent=2, ensure_ascii=False) + "\n", "utf-8"
        )
    told = [row.met for row in rows if row.met is not None]
    wrote = f" Wrote {file}." if file else ""
    print(f"\n{sum(told)} of {len(told)} targets met.{wrote}")


def text(report, rows, peer):
    """Return what was run, on what, and the table, as text."""
    machine = report["machine"]
    lines = [("MEASURE", "BACKEND", "ZOO", peer.upper(), "RATIO", "TARGET", "")]
    for row in rows:
        met = {True: "met", False: "missed", None: ""}[row.met]
        lines.append(
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
    widths = [max(map(len, column)) for column in zip(*lines)]
    table = ("  ".join(c.ljust(w) for c, w in zip(x, widths)).rstrip() for x in lines)
    versions = (f"{k} {v}" for k, v in report["versions"].items() if v)
    load = machine["load"]
    busy = load is not None and load > machine["cores"] / 4
    return "\n".join(
        [
            f"{report['title']}: {report['examples']:,} examples, "
            f"medians over rounds: {report['rounds']}.",
            f"{machine['processor']}, {machine['cores']} cores, Python "
            f"{machine['python']}; {', '.join(versions)}.",
            *(
                [f"The machine was busy (load {load}): trust no number."]
                if busy
                else []
            ),
            "A ratio above 1 is faster than the peer.",
            "",
            *table,
        ]
    )


def _backends(names):
    """Return the backends to run, or say why not."""
    have = [name for name in _benchmark.BACKENDS if _benchmark.installed(name)]
    for name in names or []:
        if name not in have:
            raise app.UsageError(
                f"--backends takes what is installed, {', '.join(have)}; not {name!r}."
            )
    return tuple(names or have)


def _number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _tell(line):
    """Show progress on one line that is overwritten, where there is a terminal."""
    end = "" if sys.stderr.isatty() else "\n"
    start = "\r\033[K" if sys.stderr.isatty() else ""
    print(f"{start}{line}", end=end, file=sys.stderr, flush=True)
