"""How much signal and how much noise there is at each time.

At a time t in [0, 1] an image x is seen as α(t) x + σ(t) ε, where ε is standard normal:
the image itself at 0, noise alone or nearly so at 1. A schedule says α and σ, for NumPy
in float64 and for tensors alike.
"""

import dataclasses
import math

import numpy as np
from keras import ops

STEPS = 1000  # Discrete times that a DDPM is trained at and bounded by.


@dataclasses.dataclass(frozen=True)
class Linear:
    """β grows from 0.1 to 20: of Ho et al., 2020, in the limit of many steps.

    Song et al., 2021, https://arxiv.org/abs/2011.13456, equation 33.
    """

    least: float = 0.1
    most: float = 20.0

    def __call__(self, t, xp=np):
        """Return α and σ at times t; `xp` is numpy, or keras.ops for tensors."""
        decay = t * (self.least + 0.5 * (self.most - self.least) * t)  # -log α²
        half = xp.tanh(0.5 * decay)  # 1 - exp(-x) without cancellation.
        return xp.exp(-0.5 * decay), xp.sqrt(2.0 * half / (1.0 + half))

    def slopes(self, t):
        """Return the derivatives of α and σ in t, above 0."""
        alpha, sigma = self(t)
        slope = -0.5 * (self.least + (self.most - self.least) * t) * alpha
        return slope, -alpha * slope / sigma


@dataclasses.dataclass(frozen=True)
class Cosine:
    """α is a cosine (Nichol & Dhariwal, 2021, https://arxiv.org/abs/2102.09672).

    Equation 17, with the offset s. It ends at the share `end` of the way, where a
    little signal is left, so that noise as a prediction still tells the image.
    """

    offset: float = 0.008
    end: float = 0.997

    def _angles(self, t):
        turn = 0.5 * math.pi / (1.0 + self.offset)
        return turn * self.offset, turn * (self.offset + self.end * t), turn * self.end

    def __call__(self, t, xp=np):
        """Return α and σ at times t; `xp` is numpy, or keras.ops for tensors."""
        first, angle, _ = self._angles(t)
        square = xp.sin(angle - first) * xp.sin(angle + first)  # cos² first - cos²
        return xp.cos(angle) / math.cos(first), xp.sqrt(square) / math.cos(first)

    def slopes(self, t):
        """Return the derivatives of α and σ in t, above 0."""
        first, angle, speed = self._angles(t)
        alpha, sigma = self(t)
        slope = -speed * np.sin(angle) / math.cos(first)
        return slope, -alpha * slope / sigma


@dataclasses.dataclass(frozen=True)
class Straight:
    """Straight paths from the image to noise: α is 1 - t and σ is t.

    Flow matching of Lipman et al., 2023, https://arxiv.org/abs/2210.02747, and of Liu
    et al., 2023, https://arxiv.org/abs/2209.03003, with time running towards noise.
    """

    def __call__(self, t, xp=np):
        """Return α and σ at times t; `xp` is numpy, or keras.ops for tensors."""
        return 1.0 - t, 1.0 * t

    def slopes(self, t):
        """Return the derivatives of α and σ in t."""
        return -np.ones_like(t), np.ones_like(t)


SCHEDULES = {"linear": Linear(), "cosine": Cosine(), "straight": Straight()}


def times(steps, start=1.0, end=0.0):
    """Return evenly spaced times, (steps + 1,) float64: what a solver goes along."""
    return np.linspace(start, end, steps + 1)


def even_times(like, seed):
    """Draw a time for each row: uniform in [0, 1), spread evenly over the batch.

    One number for all and a lattice: the mean loss varies less than with independent
    times (Kingma et al., 2021, https://arxiv.org/abs/2107.00630, appendix I.1).

    Args:
        like: A tensor of as many rows.
        seed: A `keras.random.SeedGenerator`.

    Returns:
        (n,) float32.
    """
    import keras

    rows = ops.shape(like)[0]
    lattice = ops.cast(ops.arange(rows), "float32") / ops.cast(rows, "float32")
    return (keras.random.uniform((1,), seed=seed) + lattice) % 1.0
