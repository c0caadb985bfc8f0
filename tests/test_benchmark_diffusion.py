"""The benchmarks of denoisers: what is compared, said and drawn."""

import functools
import types

import numpy as np
import pytest

from zoo.diffusion import solvers
from zoo.diffusion.schedules import SCHEDULES, times
from zoo.tools import _benchmark, _benchmark_diffusion, _benchmark_solvers
from zoo.tools._benchmark_solvers import EVALUATIONS, Row

pytestmark = pytest.mark.once
SETTING = _benchmark.Setting(("jax",), rounds=2, tell=lambda line: None)


class Fake:
    """A worker of known distances and times."""

    def __init__(self, distance, milliseconds, fault=None):
        self.distance, self.milliseconds, self.fault = distance, milliseconds, fault

    def ask(self, command, **arguments):
        return {
            "ready": lambda: self.fault,
            "distance": lambda steps: self.distance(steps),
            "many": lambda steps: [steps * self.milliseconds] * 3,
        }[command](**arguments)


def compare(ours, fault=None):
    eager = Fake(lambda steps: 2.0 + 0 * steps, 10.0)
    workers = {_benchmark_diffusion.EAGER: eager, "jax": Fake(ours, 5.0, fault)}
    return _benchmark_diffusion.quality(SETTING, workers)


def test_time_to_quality_takes_the_fewest_steps_that_are_as_good():
    theirs, ours = compare(lambda steps: 10 / steps)
    assert "5 steps for 50" in ours.measure
    assert (theirs.peer, ours.value, ours.peer, ours.ratio) == (500, 25, 500, 20)
    assert ours.met is True


def test_quality_that_is_not_reached_or_not_measured_is_said():
    [row] = compare(lambda steps: 3.0)
    assert "not reached: 2.000, 3.000 in 50 steps" in row.note
    [row] = compare(None, fault="not run: MNIST is not here")
    assert row.note == "not run: MNIST is not here"
    [row] = _benchmark_diffusion.quality(SETTING, {"jax": Fake(None, 1.0)})
    assert row.note == "not run: no diffusers"


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "euler", "heun", "dpm++"])
def test_steps_are_as_many_evaluations_or_one_fewer(solver):
    for count in EVALUATIONS:
        grid = times(_benchmark_solvers.steps(solver, count))
        table = solvers.SOLVERS[solver](SCHEDULES["cosine"], grid)
        assert count - 1 <= len(table.times) <= count


ROWS = [
    Row("floor", 0, 0.5),
    *(Row("ddim", n, 10 / n) for n in EVALUATIONS),
    *(Row("heun", n, 60 / n) for n in EVALUATIONS),
]


def test_the_table_of_solvers_says_floor_and_best():
    cells, note, result = _benchmark_solvers.told(ROWS)
    assert cells[0] == ("SOLVER", "5", "10", "20", "50", "100")
    assert cells[1] == ("ddim", "2.00", "1.00", "0.50", "0.20", "0.10")
    assert "floor is 0.50" in note
    assert "0.10, by ddim in 100 evaluations, 0.20 times the floor" in result


def test_solvers_are_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib, in [benchmark]")
    _benchmark_solvers.draw(ROWS, tmp_path / "solvers.png")
    assert (tmp_path / "solvers.png").read_bytes().startswith(b"\x89PNG")


def test_each_solver_is_measured_at_each_number(monkeypatch):
    """Of a model whose images are farther from real ones the fewer the steps."""
    asked = []

    def generate(num, seed, solver, steps, guidance):
        assert guidance == 1.0  # Another evaluates twice.
        asked.append((solver, steps))
        return np.full((num, 4), 1 / steps)

    model = types.SimpleNamespace(
        image_shape=(2, 2, 1), solvers=("ddim", "heun"), generate=generate
    )
    judge = types.SimpleNamespace(
        features=lambda x: np.asarray(x, float).reshape(len(x), -1)
    )
    models = {"ddpm-mnist": model, "lenet-mnist": judge}
    monkeypatch.setattr("zoo.load", models.get)
    data = np.random.default_rng(0).normal(0, 1e-3, (50, 4))
    monkeypatch.setattr("zoo.trainers.data.open_data", lambda *args: data)
    rows = _benchmark_solvers.measure(
        _benchmark.Setting((), examples=20, tell=lambda line: None)
    )
    assert rows[0].distance == pytest.approx(0, abs=1e-4)
    assert asked == [
        *(("ddim", n) for n in EVALUATIONS),
        *(("heun", n) for n in (3, 5, 10, 25, 50)),
    ]
    found = {(r.solver, r.evaluations): r.distance for r in rows}
    assert found["ddim", 5] == pytest.approx(4 * (1 / 5) ** 2, rel=0.02)


def test_workers_know_their_commands():
    ours = {"train", "sample", "ready", "distance", "many", "memory"}
    made = functools.partial(_benchmark_diffusion.ours, steps=1)
    assert set(made()) == ours
