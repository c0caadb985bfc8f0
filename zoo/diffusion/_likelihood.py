"""The bound on the likelihood that a denoiser gives."""

import math

import numpy as np
from keras import ops

from zoo._noise import philox
from zoo.diffusion.schedules import STEPS

LEVELS = 255  # Steps between black and white.


class Likelihood:
    """score."""

    def score(self, images, labels=None, samples=20, seed=0):
        """Return a lower bound of log p(x) of each image in bits per dimension.

        The variational bound of a chain of 1,000 steps (Ho et al., 2020, equation 5;
        Kingma et al., 2021, equation 13) for images of 256 levels: its negative is the
        number that papers print. The steps but the first are drawn by lot, evenly in
        the logarithm of signal to noise.

        Args:
            images: (N, height, width, channels): float in [0, 1], which is rounded to
                256 levels, or uint8.
            labels: (N,) for a model with `classes`.
            samples: Steps that are evaluated of each image; the estimate is right on
                average, and varies by less the more.
            seed: Of noise and steps.

        Returns:
            NumPy array (N,), higher is likelier.
        """
        images = self._prepare(images)
        if (labels is None) == bool(self.classes):
            takes = "labels, one an image" if self.classes else "no labels"
            raise ValueError(f"This {type(self).__name__} takes {takes}.")
        given = [] if labels is None else [self._labels(labels, len(images))]
        scale = 1 if images.dtype == np.uint8 else LEVELS
        levels = np.round(images.astype("float32") * np.float32(scale))
        generator, found = philox(seed), []
        for first in range(0, len(levels), 64):
            rows = np.s_[first : first + 64]
            x = levels[rows] * np.float32(2 / LEVELS) - 1
            found.append(self._bound(x, [g[rows] for g in given], samples, generator))
        return np.concatenate(found) / (math.log(2) * math.prod(self.image_shape))

    def _bound(self, x, given, samples, generator):
        """Return the bound in nats, (n,)."""
        n = len(x)

        def draw():
            return generator.standard_normal(x.shape, dtype="float32")

        times = self._chain()
        first = np.full((n,), times[0], "float32")
        total = self._run("log_levels", x, draw(), first, *given, rows=64)
        total = total.astype("float64")
        alpha, sigma = self.schedule(times)
        snr = (alpha / sigma) ** 2
        shares = -np.diff(np.log(np.maximum(snr, 1e-7)))  # 0 where a flow starts.
        shares /= shares.sum()
        weights = 0.5 * (snr[:-1] - snr[1:]) / (shares * samples)  # From t to t - 1.
        bounds, offset = np.cumsum(shares)[:-1], generator.random(n)
        for index in range(samples):
            step = np.searchsorted(bounds, (index + offset) / samples)
            now = times[step + 1].astype("float32")
            error = self._run("squared_error", x, draw(), now, *given, rows=64)
            total -= weights[step] * error
        alpha, sigma = self.schedule(np.float64(1.0))
        prior = sigma**2 - 1 - 2 * np.log(sigma)
        square = np.square(x.reshape(n, -1), dtype="float64").sum(1)
        return total - 0.5 * (prior * x[0].size + alpha**2 * square)

    def _chain(self):
        """Return the times of the chain, (1000,), evenly from the first to 1.

        The first is 1/1000, or where noise has grown to half the distance of two
        levels: with less of it no network says of a pixel more than its level.
        """
        early = np.arange(10, 10 * STEPS) / (10 * STEPS)
        alpha, sigma = self.schedule(early)
        return np.linspace(early[np.argmax(LEVELS * sigma >= alpha)], 1.0, STEPS)

    def squared_error(self, images, noise, times, labels=None):
        """Return |x - D|² of images in [-1, 1] seen at times, (n,)."""
        alpha, sigma = self._marginals(times)
        found = self.denoise(alpha * images + sigma * noise, times, labels)
        return ops.sum(ops.square(found - images), axis=(1, 2, 3))

    def log_levels(self, images, noise, times, labels=None):
        """Return the last step's log p(x | x_1) in nats, (n,), equation 13.

        The levels of a pixel are shares of a normal distribution about D, of the width
        that noise has at that time; black and white take what lies beyond.
        """
        alpha, sigma = self._marginals(times)
        found = self.denoise(alpha * images + sigma * noise, times, labels)
        above = (images + 1 / LEVELS - found) / sigma
        below = (images - 1 / LEVELS - found) / sigma
        above = ops.where(images > 1 - 1 / LEVELS, 1.0, _below(above))
        below = ops.where(images < 1 / LEVELS - 1, 0.0, _below(below))
        chance = ops.maximum(above - below, 1e-12)
        return ops.sum(ops.log(chance), axis=(1, 2, 3))


def _below(x):
    """Return the standard normal distribution function."""
    return 0.5 * (1.0 + ops.erf(x / math.sqrt(2)))
