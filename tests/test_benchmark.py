"""The benchmark runs, forms its ratios and prints its rows; no test judges a time."""

import json
import subprocess
import sys

import keras
import pytest

from zoo.tools import _benchmark, _benchmark_vae, benchmark

BACKEND = keras.backend.backend()
REPORT = {
    "title": "A model",
    "rounds": 3,
    "examples": 20_000,
    "machine": {"processor": "A CPU", "cores": 4, "python": "3.11.0", "load": 0.1},
    "versions": {"keras": "3.15.1", "pythae": None},
}


def zoo(*arguments):
    """Run the program, and return what became of it."""
    program = "from zoo.tools.main import run; run()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True
    )


def test_a_ratio_is_formed_within_a_round():
    # The machine is half as fast in the second round: the ratio does not see it.
    row = _benchmark.row("training", "images/s", "jax", [30, 15, 30], [10, 5, 10], 2.5)
    assert (row.value, row.peer, row.ratio, row.met) == (30, 10, 3, True)
    assert row.target == "≥ 2.5 x"


def test_a_ratio_of_times_is_the_inverse():
    row = _benchmark.row("sampling", "ms", "jax", [2.0, 2.0], [1.0, 1.0], least=1)
    assert (row.ratio, row.met) == (0.5, False)


def test_without_a_peer_a_ratio_is_no_verdict():
    row = _benchmark.row("training", "images/s", "jax", [30.0], None, least=2.5)
    assert (row.peer, row.ratio, row.met) == (None, None, None)
    row = _benchmark.row("cold", "s", "jax", [1.0], most=1.5)
    assert (row.target, row.met) == ("≤ 1.5 s", True)


@pytest.mark.parametrize("peer", [True, False])
def test_vae_measures_three_things_on_each_backend(monkeypatch, peer):
    speeds = {"jax": [50.0], "tensorflow": [25.0], "torch": [20.0]}
    times = {"jax": [0.5], "tensorflow": [0.8], "torch": [0.9]}
    if peer:
        speeds["pythae"], times["pythae"] = [18.0], [0.4]
    monkeypatch.setattr(_benchmark_vae, "warm", lambda *_: (speeds, times))
    monkeypatch.setattr(_benchmark_vae, "cold_starts", lambda *_: times)
    setting = _benchmark.Setting(("jax", "tensorflow", "torch"))
    rows = _benchmark_vae.measure(setting)
    assert [row.backend for row in rows] == list(setting.backends) * 3
    assert [row.target for row in rows] == [
        *("≥ 2.5 x", "≥ 1.2 x", None),
        *[None] * 3,
        *["≤ 1.5 s"] * 3,
    ]
    assert [row.met for row in rows[:3]] == [peer or None, peer or None, None]
    table = benchmark.text(REPORT, rows, "pythae").splitlines()
    assert "busy" not in "".join(table)
    assert " ".join(table[-10].split()) == "MEASURE BACKEND ZOO PYTHAE RATIO TARGET"
    told = "18.00 2.78 x ≥ 2.5 x met" if peer else "- - ≥ 2.5 x"
    assert table[-9].split() == f"training, images/s jax 50.00 {told}".split()


def test_a_busy_machine_is_named():
    report = {**REPORT, "machine": {**REPORT["machine"], "load": 3.2}}
    assert "busy (load 3.2)" in benchmark.text(report, [], "pythae")


def test_a_tiny_run_writes_its_rows(tmp_path):
    file = tmp_path / "speed.json"
    sizes = ["--rounds", "1", "--examples", "256"]
    done = zoo("benchmark", "vae", "--backends", BACKEND, *sizes, "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "training, images/s" in done.stdout
    assert f"Wrote {file}." in done.stdout
    if not _benchmark.installed("pythae"):
        assert 'pip install "generative-zoo[benchmark]"' in done.stdout
    report = json.loads(file.read_text("utf-8"))
    assert [row["unit"] for row in report["rows"]] == ["images/s", "ms", "s"]
    assert all(row["value"] > 0 for row in report["rows"])
    assert report["machine"]["cores"] >= 1
    assert report["versions"]["keras"] == keras.__version__


def test_unknown_names_are_refused_with_the_options():
    done = zoo("benchmark", "vea")
    assert done.returncode
    assert "takes one of: vae" in done.stdout + done.stderr
    done = zoo("benchmark", "vae", "--backends", "theano")
    assert done.returncode
    assert "takes what is installed" in done.stdout + done.stderr


def test_a_worker_that_fails_says_why():
    told = pytest.raises(OSError, match="nobody ended while asked to train")
    with (
        _benchmark.Worker("zoo.tools._benchmark_vae", "nobody") as worker,
        told as error,
    ):
        worker.ask("train", epochs=1)
    assert "KeyError" in str(error.value)
