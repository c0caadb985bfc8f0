"""Solvers against truths: the score of a mixture of Gaussians, known exactly."""

import numpy as np
import pytest
from keras import ops

from zoo.diffusion import solvers
from zoo.diffusion.schedules import SCHEDULES, times

pytestmark = pytest.mark.maths

MEANS, SCALES = np.array([-0.7, 0.1, 0.8]), np.array([0.25, 0.15, 0.3])
SHARES = np.array([0.3, 0.45, 0.25])
every = pytest.mark.parametrize("name", SCHEDULES)
ORDERS = {"euler": 1, "ddim": 1, "heun": 2, "dpm++": 2}


def posterior_mean(x, alpha, sigma):
    """E[image | x] where images are a mixture of Gaussians, in float64."""
    spread = (alpha * SCALES) ** 2 + sigma**2
    error = x[..., None] - alpha * MEANS
    logs = np.log(SHARES) - 0.5 * (error**2 / spread + np.log(spread))
    weights = np.exp(logs - logs.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return (weights * (MEANS + alpha * SCALES**2 / spread * error)).sum(-1)


def walk(table, x, schedule, fresh=None):
    """The recursion of the module's docstring, by NumPy in float64."""
    before = last = np.zeros_like(x)
    for k, (a, b, c, d) in enumerate(table.mix):
        found = posterior_mean(x, *schedule(table.times[k]))
        drawn = 0 if fresh is None else table.noise[k] * fresh[:, k]
        x, before, last = a * x + b * found + c * last + d * before + drawn, x, found
    return x


def denoiser(schedule):
    """The same as a function of tensors."""

    shares, means, scales = (
        ops.convert_to_tensor(v.astype("float32")) for v in (SHARES, MEANS, SCALES)
    )

    def denoise(x, t):
        alpha, sigma = (v[:, None, None] for v in schedule(t, ops))
        spread = (alpha * scales) ** 2 + sigma**2
        error = x[..., None] - alpha * means
        logs = ops.log(shares) - 0.5 * (error**2 / spread + ops.log(spread))
        part = alpha * scales**2 / spread * error
        return ops.sum(ops.softmax(logs, -1) * (means + part), -1)

    return denoise


def start(rows=64, columns=2):
    return np.random.default_rng(0).normal(size=(rows, columns))


@every
def test_slopes_are_those_of_the_schedule(name):
    schedule, t = SCHEDULES[name], np.linspace(0.05, 0.95, 19)
    above, below = schedule(t + 1e-6), schedule(t - 1e-6)
    for slope, a, b in zip(schedule.slopes(t), above, below):
        np.testing.assert_allclose(slope, (a - b) / 2e-6, rtol=1e-6)
    alpha, sigma = schedule(t)
    assert (np.diff(alpha) < 0).all()
    assert (np.diff(sigma) > 0).all()
    if name != "straight":
        np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-12)
    found = schedule(ops.convert_to_tensor(t.astype("float32")), ops)
    for tensor, exact in zip(found, (alpha, sigma)):
        np.testing.assert_allclose(ops.convert_to_numpy(tensor), exact, atol=1e-6)


def test_the_linear_schedule_is_that_of_ho():
    beta = np.linspace(1e-4, 0.02, 1000)
    alpha, _ = SCHEDULES["linear"]((np.arange(1000) + 1) / 1000)
    np.testing.assert_allclose(alpha, np.sqrt(np.cumprod(1 - beta)), atol=2e-3)


@every
@pytest.mark.parametrize("solver", ORDERS)
def test_solvers_converge_at_their_order(solver, name):
    schedule, x = SCHEDULES[name], start()
    first, last = 0.9, 0.1
    exact = walk(solvers.heun_table(schedule, times(4000, first, last)), x, schedule)
    numbers = np.array([40, 80, 160, 320])
    errors = []
    for steps in numbers:
        table = solvers.SOLVERS[solver](schedule, times(steps, first, last))
        errors.append(np.abs(walk(table, x, schedule) - exact).mean())
    order = -np.polyfit(np.log(numbers), np.log(errors), 1)[0]
    assert abs(order - ORDERS[solver]) < 0.2, order


@every
def test_compiled_loops_are_the_recursion(name):
    schedule, x = SCHEDULES[name], start()
    fresh = np.random.default_rng(1).normal(size=(64, 19, 2))
    tensors = [ops.convert_to_tensor(a.astype("float32")) for a in (x, fresh)]
    denoise, grid = denoiser(schedule), times(10, 0.95)
    for solver in ("ddim", "euler", "heun", "dpm++", "ddpm"):
        function = {"dpm++": solvers.dpm_solver}.get(
            solver, getattr(solvers, solver, None)
        )
        noisy = solver == "ddpm"
        given = [tensors[1][:, :10]] if noisy else []
        found = function(denoise, tensors[0], schedule, grid, *given)
        table = solvers.SOLVERS[solver](schedule, grid)
        assert len(table.times) == (19 if solver == "heun" else 10)
        exact = walk(table, x, schedule, fresh if noisy else None)
        np.testing.assert_allclose(ops.convert_to_numpy(found), exact, atol=2e-4)


@every
def test_ddim_without_noise_repeats_and_goes_back(name):
    schedule, x, grid = SCHEDULES[name], start(), times(400, 0.9, 0.02)
    there = walk(solvers.ddim_table(schedule, grid), x, schedule)
    np.testing.assert_array_equal(
        there, walk(solvers.ddim_table(schedule, grid), x, schedule)
    )
    back = walk(solvers.ddim_table(schedule, grid[::-1]), there, schedule)
    assert np.abs(back - x).mean() < 0.02
    assert np.abs(there - x).mean() > 0.2


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "heun", "dpm++"])
def test_samples_are_of_the_mixture(solver):
    schedule, draw = SCHEDULES["cosine"], np.random.default_rng(2)
    x, fresh = draw.normal(size=20_000), draw.normal(size=(20_000, 100))
    table = solvers.SOLVERS[solver](schedule, times(100))
    found = walk(table, x, schedule, fresh if solver == "ddpm" else None)
    mean = SHARES @ MEANS
    variance = SHARES @ (SCALES**2 + MEANS**2) - mean**2
    np.testing.assert_allclose(found.mean(), mean, atol=0.02)
    rtol = 0.08 if solver == "ddpm" else 0.03  # Of order 1, with too little noise.
    np.testing.assert_allclose(found.var(), variance, rtol=rtol)


def test_repeated_steps_keep_the_distribution():
    schedule, draw = SCHEDULES["cosine"], np.random.default_rng(3)
    grid = times(100)
    table = solvers.repeated(solvers.ddpm_table(schedule, grid), schedule, grid, 3)
    assert len(table.times) == 300
    x, fresh = draw.normal(size=5_000), draw.normal(size=(5_000, 300))
    found = walk(table, x, schedule, fresh)
    variance = SHARES @ (SCALES**2 + MEANS**2) - (SHARES @ MEANS) ** 2
    np.testing.assert_allclose(found.mean(), SHARES @ MEANS, atol=0.02)
    np.testing.assert_allclose(found.var(), variance, rtol=0.15)
