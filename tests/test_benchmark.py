"""The benchmark runs, forms its ratios and prints its rows; no test judges a time."""

import dataclasses
import json
import subprocess
import sys

import keras
import pytest

from zoo.tools import _benchmark, _benchmark_scaling, _benchmark_vae, benchmark

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
    cells, note, _ = benchmark.compared(rows, "pythae")
    table = benchmark.text(REPORT, cells, note).splitlines()
    assert "busy" not in "".join(table)
    assert " ".join(table[-10].split()) == "MEASURE BACKEND ZOO PYTHAE RATIO TARGET"
    told = "18.00 2.78 x ≥ 2.5 x met" if peer else "- - ≥ 2.5 x"
    assert table[-9].split() == f"training, images/s jax 50.00 {told}".split()


def test_a_busy_machine_is_named():
    report = {**REPORT, "machine": {**REPORT["machine"], "load": 3.2}}
    assert "busy (load 3.2)" in benchmark.text(report, [("A",)], "")


def test_a_tiny_run_writes_its_rows(tmp_path):
    if BACKEND != "tensorflow":
        pytest.skip("trains in three processes: once, under TensorFlow")
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


# A training step of two devices, shortened from what XLA writes.
HLO = """
ENTRY %main (p0: f32[4,2]) -> f32[4,2] {
  %all-reduce.3 = (f32[4,2]{1,0}, bf16[3]{0}, /*index=2*/f32[]) all-reduce(%a, %b, %c)
  %all-reduce-start.1 = f32[5]{0} all-reduce-start(%c), replica_groups={{0,1}}
  %all-reduce-done.1 = f32[5]{0} all-reduce-done(%all-reduce-start.1)
  %reduce-scatter.1 = u8[6]{0} reduce-scatter(%d), dimensions={0}
  %all-gather.1 = f32[8,2]{1,0} all-gather(%e), dimensions={0}
  ROOT %add.1 = f32[4,2]{1,0} add(%all-reduce.3, %f)
}
"""


def test_the_collectives_of_a_compiled_program_are_counted():
    assert _benchmark_scaling.collectives(HLO) == (32 + 6 + 4 + 20 + 6, 1)
    assert _benchmark_scaling.collectives("%add.1 = f32[2]{0} add(%a, %b)") == (0, 0)


def test_a_ring_sends_each_part_twice():
    # Of n parts, each device sends n - 1 to be summed and n - 1 that are sums.
    assert _benchmark_scaling.ring(12, 1) == 0
    assert _benchmark_scaling.ring(12, 2) == 12
    assert _benchmark_scaling.ring(12, 4) == 2 * 3 * 3


def scaling_rows(monkeypatch, **setting):
    """Return the rows of answers made up: two devices are slower by a quarter."""
    speeds = iter([100.0, 75.0, 50.0, 37.5, 100.0, 75.0])

    def ask(backend, devices, setting):
        strategy = "none" if devices == 1 else "ddp"
        answer = {"strategy": strategy, "platform": "cpu", "speed": next(speeds)}
        answer |= {"gradients": 4_000_000, "other": 0}
        answer |= {"reduced": 4_000_004 if devices > 1 else 0, "batch": 2048}
        return [answer]

    monkeypatch.setattr(_benchmark_scaling, "_ask", ask)
    monkeypatch.setattr(_benchmark, "PAUSE", 0)
    return _benchmark_scaling.measure(
        _benchmark.Setting(("torch",), 3, tell=lambda line: None, devices=(1, 2))
    )


def test_scaling_compares_devices_within_a_round(monkeypatch):
    rows = scaling_rows(monkeypatch)
    assert [(row.devices, row.speed, row.ratio) for row in rows] == [
        (1, 100.0, 1.0),
        (2, 75.0, 0.75),
    ]
    cells, note, result = _benchmark_scaling.told(rows)
    assert "simulated" in note
    table = benchmark.text(REPORT, cells, note).splitlines()
    one, two = (" ".join(line.split()) for line in table[-2:])
    assert one == "torch none 1 2,048 100 1.00 x 0.00 0.00"
    assert two == "torch ddp 2 2,048 75 0.75 x 4.00 4.00"
    assert "4,000,000 bytes" in result
    assert "4 bytes on torch" in result
    gathers = [dataclasses.replace(row, other=3, platform="gpu") for row in rows]
    note = _benchmark_scaling.told(gathers)[1]
    assert "up to 3 collectives" in note
    assert "simulated" not in note


def test_scaling_is_drawn_where_matplotlib_is(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib, in [benchmark]")
    _benchmark_scaling.draw(scaling_rows(monkeypatch), tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


# Three processes that import torch.
TINY = pytest.param(BACKEND, marks=[pytest.mark.slow] if BACKEND == "torch" else [])


@pytest.mark.parametrize("backend", [TINY])
def test_a_tiny_step_reduces_its_gradients_and_its_loss(backend, tmp_path):
    file, plot = tmp_path / "scaling.json", tmp_path / "scaling.png"
    sizes = ["--rounds=1", "--examples=4", "--devices=2", "--batch_sizes=4"]
    files = ["--json", str(file), "--plot", str(plot)]
    done = zoo("benchmark", "scaling", "--backends", backend, *sizes, *files)
    assert done.returncode == 0, done.stderr
    [row] = json.loads(file.read_text("utf-8"))["rows"]
    assert row["gradients"] == 4 * 1_379_152
    assert row["reduced"] == row["gradients"] + 4
    assert row["sent"] == row["reduced"]  # Of two devices, each sends all of it.
    assert (row["other"], row["ratio"]) == (0, None)
    assert row["speed"] > 0
    drawn = _benchmark.installed("matplotlib")
    assert plot.exists() == drawn
    assert ('pip install "generative-zoo[benchmark]"' in done.stdout) != drawn


def test_what_passes_the_mean_over_replicas_is_counted(monkeypatch, tmp_path):
    if BACKEND != "torch":
        pytest.skip("a step of two real replicas is counted in the test above")
    from zoo import _backend
    from zoo.trainers import strategies

    monkeypatch.setattr(_backend, "_replicas", lambda: 2)
    monkeypatch.setattr(_backend, "_replica", lambda: 0)
    monkeypatch.setattr(_backend, "_mean", list)
    answer = _benchmark_scaling._train(strategies.enter("none"), 4, 8, tmp_path)
    assert answer["reduced"] == answer["gradients"] + 4
    assert _backend._mean is list


def test_scaling_says_what_its_flags_take():
    for flags, told in [
        (["--devices", "1,x"], "--devices takes whole numbers above 0, such as 1,2,4"),
        (["--devices", "3", "--batch_sizes", "4"], "a multiple of each of --devices"),
        (["--plot", "nowhere/plot.png"], "--plot is a file in a folder that exists"),
    ]:
        done = zoo("benchmark", "scaling", *flags)
        assert done.returncode
        assert told in " ".join((done.stdout + done.stderr).split())
    done = zoo("benchmark", "vae", "--plot", "plot.png")
    assert "--plot is for scaling" in done.stdout + done.stderr
