"""What generators of whole images share: their noise, their samples, their verbs.

A class that takes them in calls `_build_networks` in its constructor, which sets
`latent`, `image_shape`, `classes` and `seed`, and the networks `generator` and
`critic`, both of images in [-1, 1].
"""

import math

import keras
import numpy as np
from keras import ops

from zoo._model import check_arcs, unit
from zoo._noise import philox
from zoo.adversarial._networks import check_sizes, critic, generator


class Images:
    """noise, sample, interpolate and judge."""

    options = ("truncation",)

    def _build_networks(self, image_shape, latent, hidden, classes):
        check_sizes(image_shape, hidden, latent)
        self.image_shape, self.latent = tuple(image_shape), latent
        self.classes = classes
        self.generator = generator(latent, image_shape, hidden, classes)
        self.critic = critic(image_shape, hidden, classes)
        self.seed = keras.random.SeedGenerator()

    def noise(self, num, seed=None, truncation=None):
        """Draw standard normal codes, (num, latent).

        Args:
            num, seed: As in `generate`.
            truncation: Largest size of a number, 0.01 or more; the normal
                distribution ends there (Brock et al., 2019): less gives more typical
                and less varied images. None for the whole distribution. Each number
                moves to its quantile, so a seed shows the same subject at any value.
        """
        z = philox(seed).standard_normal((num, self.latent), "float32")
        return z if truncation is None else _truncated(z, truncation)

    def sample(self, noise, labels=None):
        """Return images in [0, 1] of codes (n, latent)."""
        return 0.5 * self._generate(noise, labels) + 0.5

    def interpolate(self, steps=8, num=1, seed=None, labels=None, truncation=None):
        """Return images on arcs between pairs of codes.

        Args:
            steps: Images on each arc, its ends included, 2 or more.
            num: How many arcs.
            seed, truncation: As in `generate`.
            labels: (num,) for a model with `classes`; all in turn when None.

        Returns:
            Images, (num, steps, height, width, channels) in [0, 1].
        """
        check_arcs(steps, num)
        given = {} if labels is None else {"labels": labels}
        given = self.conditions(num, **given)
        first, second = self.noise(2 * num, seed, truncation).reshape(2, num, 1, -1)
        turn = np.linspace(0, np.pi / 2, steps, dtype="float32")[None, :, None]
        # An arc of two independent codes is as long as they are, everywhere.
        codes = (np.cos(turn) * first + np.sin(turn) * second).reshape(-1, self.latent)
        given = [np.repeat(values, steps, axis=0) for values in given.values()]
        images = self._run("sample", codes, *given)
        return images.reshape(num, steps, *self.image_shape)

    def judge(self, images, labels=None):
        """Return what the critic says of each image, (N,): higher for real.

        Args:
            images: (N, height, width, channels): float in [0, 1], or uint8.
            labels: (N,) for a model with `classes`.
        """
        images = self._prepare(images)
        if (labels is None) == bool(self.classes):
            takes = "images and labels" if self.classes else "images"
            raise ValueError(f"judge of this {type(self).__name__} takes {takes}.")
        given = [] if labels is None else [self._labels(labels, len(images))]
        return self._run("call", images, *given)

    def call(self, images, labels=None, training=False):
        return self._criticise(signed(images), labels, training)

    def _generate(self, noise, labels, training=False):
        inputs = [noise] if labels is None else [noise, self._one_hot(labels)]
        return self.generator(inputs, training=training)

    def _criticise(self, images, labels, training=True):
        inputs = [images] if labels is None else [images, self._one_hot(labels)]
        return self.critic(inputs, training=training)

    def _fakes(self, like, labels):
        """Return as many images as `like` has rows, and the labels they were given."""
        shape = (ops.shape(like)[0], self.latent)
        noise = keras.random.normal(shape, seed=self.seed)
        return self._generate(noise, labels, training=True)

    def _one_hot(self, labels):
        return ops.one_hot(ops.cast(labels, "int32"), self.classes)


def signed(images):
    """Return a tensor of images, as `fit` takes them, as float32 in [-1, 1]."""
    return 2.0 * unit(images) - 1.0


def _truncated(z, most):
    """Move normal numbers to their quantiles in [-most, most]."""
    number = isinstance(most, int | float | np.integer | np.floating)
    if not number or isinstance(most, bool) or not most >= 0.01:
        raise ValueError(f"truncation is 0.01 or more, or None, not {most!r}.")
    most = min(float(most), 6.0)

    def table(reach):
        x = np.linspace(-reach, reach, 8193)
        return x, np.array([0.5 * math.erfc(-t / math.sqrt(2)) for t in x])

    x, share = table(6.0)
    quantile = np.interp(z, x, share)
    x, share = table(most)
    share = (share - share[0]) / (share[-1] - share[0])
    return np.interp(quantile, share, x).astype("float32")
