"""Ways from noise to data, as plain functions over (denoise, noise, schedule).

    images = ddim(denoise, noise, SCHEDULES["cosine"], times(50))

`denoise(x, t)` returns the image that a network believes is in x, at times (n,). Every
way here is a recursion with fixed weights: with x_k what there is at evaluation k, D_k
what `denoise` makes of it and z_k fresh noise,

    x_{k+1} = a_k x_k + b_k D_k + c_k D_{k-1} + d_k x_{k-1} + s_k z_k

so a solver is a table of these numbers, made by NumPy in float64, and one loop serves
all: compiled as a whole, or step by step from Python. Times run from 1, noise, to 0,
where the last step goes to D itself. Run backwards, from an image at a time above 0,
`ddim` turns data into noise.
"""

import dataclasses

import numpy as np
from keras import ops


@dataclasses.dataclass(frozen=True)
class Table:
    """The numbers of a way.

    Attributes:
        times: At which the network is evaluated, (K,).
        mix: a, b, c and d of each evaluation, (K, 4).
        noise: s of each, (K,).
    """

    times: np.ndarray
    mix: np.ndarray
    noise: np.ndarray


def ddpm(denoise, noise, schedule, times, fresh):
    """Walk the ancestors (Ho et al., 2020): the chain's posterior, at any times.

    Args:
        denoise: Function of a tensor (n, …) and times (n,).
        noise: Tensor to start from, (n, …).
        schedule: One of `SCHEDULES`.
        times: (K + 1,), falling.
        fresh: Noise of the steps, (n, K, …).

    Returns:
        Tensor (n, …).
    """
    return follow(denoise, noise, ddpm_table(schedule, times), fresh)


def ddim(denoise, noise, schedule, times, eta=0.0, fresh=None):
    """Walk as Song et al., 2021, https://arxiv.org/abs/2010.02502; order 1 at eta 0.

    Args:
        denoise, noise, schedule, times: As in `ddpm`; rising times with eta 0 go back.
        eta: Share of fresh noise: 0 for none, 1 for that of `ddpm`.
        fresh: Noise of the steps, (n, K, …); None with eta 0.
    """
    return follow(denoise, noise, ddim_table(schedule, times, eta), fresh)


def euler(denoise, noise, schedule, times):
    """Walk along the probability flow by Euler's method in time: order 1."""
    return follow(denoise, noise, euler_table(schedule, times))


def heun(denoise, noise, schedule, times):
    """Walk along the probability flow by Heun's method in time: order 2.

    Two evaluations a step, one for the last when it ends at 0.
    """
    return follow(denoise, noise, heun_table(schedule, times))


def dpm_solver(denoise, noise, schedule, times):
    """Walk by DPM-Solver++(2M): order 2 at one evaluation a step.

    Lu et al., 2022, https://arxiv.org/abs/2211.01095, algorithm 2.
    """
    return follow(denoise, noise, dpm_table(schedule, times))


def follow(denoise, noise, table, fresh=None):
    """Walk by a table in one loop that can be compiled and exported."""

    def body(k, state):
        drawn = None if fresh is None else ops.take(fresh, k, axis=1)
        return advance(denoise, table, k, state, drawn)

    empty = ops.zeros_like(noise)
    return ops.fori_loop(0, len(table.times), body, (noise, empty, empty))[0]


def advance(denoise, table, k, state, fresh=None):
    """Take one evaluation of a way.

    Args:
        denoise: As in `ddpm`.
        table: A `Table`.
        k: Which evaluation, a whole number or tensor.
        state: x_k, x_{k-1} and D_{k-1}; zeros where there is none.
        fresh: z_k, or None.

    Returns:
        The next state.
    """
    x, before, last = state
    rows = ops.zeros_like(ops.reshape(x, (ops.shape(x)[0], -1))[:, 0])
    found = denoise(x, rows + _take(table.times, k))
    a, b, c, d = (_take(column, k) for column in table.mix.T)
    new = a * x + b * found
    if table.mix[:, 2:].any():
        new = new + c * last + d * before
    if fresh is not None:
        new = new + _take(table.noise, k) * fresh
    return new, x, found


def _take(column, k):
    return ops.take(ops.convert_to_tensor(column.astype("float32")), k)


# The tables


def ddim_table(schedule, times, eta=0.0):
    alpha, sigma = _marginals(schedule, times)
    now, then = np.s_[:-1], np.s_[1:]
    with np.errstate(divide="ignore", invalid="ignore"):  # α is 0 where a flow starts.
        kept = 1.0 - (alpha[now] / alpha[then]) ** 2
    noise = eta * sigma[then] / sigma[now] * np.sqrt(np.maximum(kept, 0.0))
    a = np.sqrt(np.maximum(sigma[then] ** 2 - noise**2, 0.0)) / sigma[now]
    zero = np.zeros_like(a)
    mix = np.stack([a, alpha[then] - a * alpha[now], zero, zero], axis=1)
    return Table(times[:-1], mix, noise)


def ddpm_table(schedule, times):
    return ddim_table(schedule, times, eta=1.0)


def euler_table(schedule, times):
    plain = ddim_table(schedule, times)
    mix = plain.mix.copy()
    mix[:, :2] = _slope(schedule, times[:-1]) * np.diff(times)[:, None] + [1.0, 0.0]
    _finish(mix, times)
    return Table(plain.times, mix, plain.noise)


def heun_table(schedule, times):
    steps = np.diff(times)
    first = _slope(schedule, times[:-1])  # Of dx/dt, the weights of x and D.
    after = np.where(times[1:, None] > 0, times[1:, None], times[:-1, None])
    second = _slope(schedule, after[:, 0])
    mix = np.zeros((2 * len(steps), 4))
    mix[0::2, :2] = first * steps[:, None] + [1.0, 0.0]
    mix[1::2, :2] = 0.5 * second * steps[:, None]  # Of where Euler's step led to.
    mix[1::2, 2] = 0.5 * first[:, 1] * steps
    mix[1::2, 3] = 1.0 + 0.5 * first[:, 0] * steps
    at = np.stack([times[:-1], times[1:]], axis=1).reshape(-1)
    if times[-1] == 0:
        mix, at = mix[:-1], at[:-1]
    _finish(mix, times)
    return Table(at, mix, np.zeros(len(at)))


def dpm_table(schedule, times):
    plain, mix = ddim_table(schedule, times), ddim_table(schedule, times).mix.copy()
    alpha, sigma = _marginals(schedule, times)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.diff(np.log(alpha) - np.log(sigma))  # Of half the log-SNR.
        ratio = 0.5 * steps[1:] / steps[:-1]
    ratio = np.where(np.isfinite(ratio), ratio, 0.0)
    if times[-1] == 0:
        ratio[-1:] = 0.0  # At the end the second order would need an end of time.
    mix[1:, 2] = -ratio * mix[1:, 1]
    mix[1:, 1] *= 1.0 + ratio
    return Table(plain.times, mix, plain.noise)


def jumps_table(schedule, times):
    """Jump to D and add fresh noise of the next time: of consistency models."""
    alpha, sigma = _marginals(schedule, times)
    zero = np.zeros(len(times) - 1)
    return Table(times[:-1], np.stack([zero, alpha[1:], zero, zero], 1), sigma[1:])


def repeated(table, schedule, times, rounds):
    """Take each step of `ddim_table` several times, by noise from its end to its start.

    So the parts of an image that is held in part come to agree (Lugmayr et al., 2022,
    https://arxiv.org/abs/2201.09865, algorithm 1).
    """
    alpha, sigma = _marginals(schedule, times)
    back = (alpha[:-1] / alpha[1:])[:, None]
    again = np.sqrt(
        np.maximum(sigma[:-1, None] ** 2 - (back * sigma[1:, None]) ** 2, 0)
    )
    last = (np.arange(rounds) == rounds - 1)[None]  # The last time it goes on.
    scale = np.where(last, 1.0, back).reshape(-1)
    more = np.where(last, 0.0, again).reshape(-1)
    each = np.repeat(np.arange(len(table.times)), rounds)
    noise = np.hypot(scale * table.noise[each], more)
    return Table(table.times[each], scale[:, None] * table.mix[each], noise)


def _marginals(schedule, times):
    """Return α and σ at times, the image itself at 0."""
    alpha, sigma = schedule(np.maximum(times, 1e-12))
    return np.where(times > 0, alpha, 1.0), np.where(times > 0, sigma, 0.0)


def _slope(schedule, times):
    """Return what dx/dt = α' D + σ' (x - α D) / σ has of x and of D, (K, 2)."""
    alpha, sigma = schedule(times)
    down, up = schedule.slopes(times)
    return np.stack([up / sigma, down - up * alpha / sigma], axis=1)


def _finish(mix, times):
    """Let the last step to time 0 go to D itself."""
    if times[-1] == 0:
        mix[-1] = 0.0, 1.0, 0.0, 0.0


# Name to its table, a function of (schedule, times).
SOLVERS = {
    "ddpm": ddpm_table,
    "ddim": ddim_table,
    "euler": euler_table,
    "heun": heun_table,
    "dpm++": dpm_table,
    "jumps": jumps_table,
}
