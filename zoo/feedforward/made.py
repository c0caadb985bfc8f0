"""MADE: Masked Autoencoder for Distribution Estimation.

Germain et al., 2015, https://arxiv.org/abs/1502.03509, with one hidden layer and direct
connections. What differs: one order of the pixels and one set of masks, spread evenly
and not drawn; pixels drawn black or white afresh at each training step.
"""

import functools
import math

import keras
import numpy as np
from keras import layers, ops

from zoo._model import Model, binarize, unit
from zoo._noise import philox


class MADE(Model):
    """An exact likelihood of black and white images, pixel by pixel.

    Each pixel is a coin whose odds depend on those before it, row by row. Masks let one
    pass give all odds, so training is as fast as that of an autoencoder; sampling adds
    to the hidden layer what each new pixel changes, so that all of an image costs no
    more than one pass.

    Args:
        image_shape: Height, width and channels of the images.
        hidden: Units of the hidden layer.
        activation: Name of its nonlinearity.
        dropout: Share of it hidden in training.
    """

    def __init__(
        self, image_shape=(28, 28, 1), hidden=1000, activation="relu", dropout=0.0
    ):
        super().__init__()
        self.image_shape, self.pixels = tuple(image_shape), math.prod(image_shape)
        if self.pixels < 2 or hidden < 1 or not 0 <= dropout < 1:
            raise ValueError(
                "MADE takes images of 2 pixels or more, 1 hidden unit or more and "
                f"dropout in [0, 1), not {self.pixels}, {hidden} and {dropout}."
            )
        self.woven = Woven(self.pixels, hidden, name="woven")
        self.direct = layers.Dense(self.pixels, use_bias=False, name="direct")
        self.direct.build((None, self.pixels))
        self.activation = keras.activations.get(activation)
        self.dropout = layers.Dropout(dropout)
        self.seed = keras.random.SeedGenerator()
        self.built = True

    def masks(self):
        """Return what is connected, equations 8 and 9, as tensors of 0 and 1.

        Hidden unit k sees its first m(k) pixels, and pixel d sees the units of which
        m(k) is d or less, and all pixels before it. So of a unit and a pixel, either
        sees the other: one is 1 minus the other, and one number serves both.

        Returns:
            Which pixels a unit sees, (pixels, hidden), and a pixel, (pixels, pixels).
        """
        pixel, hidden = ops.arange(self.pixels), self.woven.units
        seen = 1 + ops.arange(hidden) * (self.pixels - 1) // hidden
        masks = pixel[:, None] < seen[None], pixel[:, None] < pixel[None]
        return [ops.cast(mask, "float32") for mask in masks]

    def call(self, images, training=False):
        """Return the log-odds that each pixel is white, as the images' shape."""
        x = ops.reshape(images, (-1, self.pixels))
        mask, before = self.masks()
        hide = functools.partial(self.dropout, training=training)
        direct = self.direct.kernel * ops.cast(before, self.compute_dtype)
        logits = self.woven(x, mask, then=lambda h: hide(self.activation(h)))
        logits = logits + ops.matmul(ops.cast(x, self.compute_dtype), direct)
        logits = ops.cast(logits, "float32")
        return ops.reshape(logits, ops.shape(images))

    def log_likelihood(self, images, training=False):
        """Return log p(x) in nats, (n,), of a tensor of images of 0 and 1."""
        logits = self(images, training=training)
        return ops.sum(images * logits - ops.softplus(logits), axis=(1, 2, 3))

    def objective(self, images):
        """Return the negative log-likelihood in nats of pixels drawn from grey ones."""
        images = unit(images)
        coin = keras.random.uniform(ops.shape(images), seed=self.seed)
        images = ops.cast(coin < images, "float32")
        return -ops.mean(self.log_likelihood(images, training=True))

    def noise(self, num, seed=None):
        """Draw a uniform number for each pixel, (num, pixels)."""
        return philox(seed).random((num, self.pixels), dtype="float32")

    def sample(self, noise):
        """Return images of 0 and 1: white where a pixel's number is below its odds.

        Equation 6, pixel after pixel, with the hidden layer and the direct connections
        kept up to date: the work of a step does not grow.
        """
        mask, before = self.masks()
        kernel = ops.cast(self.woven.kernel, "float32")
        into, out = kernel * mask, kernel * (1.0 - mask)
        direct = ops.cast(self.direct.kernel, "float32") * before

        def step(d, state):
            hidden, logits, images = state
            here = ops.cast(ops.equal(ops.arange(self.pixels), d), "float32")
            odds = ops.sum(self.activation(hidden) * ops.take(out, d, 0), axis=1)
            odds = odds + ops.sum(logits * here, axis=1)
            coin = ops.sum(noise * here, axis=1)
            white = ops.cast(coin < ops.sigmoid(odds), "float32")[:, None]
            hidden = hidden + white * ops.take(into, d, 0)
            logits = logits + white * ops.take(direct, d, 0)
            return hidden, logits, images + white * here

        empty = ops.zeros_like(noise)
        hidden, logits = (
            ops.cast(bias, "float32") + empty[:, :1]
            for bias in (self.woven.into_bias, self.woven.out_bias)
        )
        state = hidden, logits, empty
        images = ops.fori_loop(0, self.pixels, step, state)[2]
        return ops.reshape(images, (-1, *self.image_shape))

    def score(self, images, seed=0):
        """Return log p(x) of each image in nats, exactly.

        Args:
            images: (N, height, width, channels) of 0 and 1; grey pixels are drawn once,
                black or white, with `seed`.
            seed: A whole number of 0 or more.

        Returns:
            NumPy array (N,), higher is likelier.
        """
        images = self._prepare(images)
        images = images.astype("float32") / (255 if images.dtype == np.uint8 else 1)
        return self._run("log_likelihood", binarize(images, philox(seed)))

    def signatures(self):
        return {
            **super().signatures(),
            "score": ("log_likelihood", {"images": self._blank()}),
        }


class Woven(layers.Layer):
    """A hidden layer and the one after it, of which each pair has one weight.

    The mask says whose it is: where it is 1, that of the way in, else of the way out.
    A file of a given size so has twice as many units.

    Args:
        inputs, units: Numbers in, which come out too, and hidden ones.
    """

    def __init__(self, inputs, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.kernel = self.add_weight(
            shape=(inputs, units), initializer="glorot_uniform", name="kernel"
        )
        self.into_bias, self.out_bias = (
            self.add_weight(shape=(size,), initializer="zeros", name=name)
            for size, name in ((units, "into_bias"), (inputs, "out_bias"))
        )
        self.built = True

    def call(self, x, mask, then):
        """Return what comes out, (n, inputs)."""
        mask = ops.cast(mask, self.compute_dtype)
        hidden = ops.matmul(ops.cast(x, self.compute_dtype), self.kernel * mask)
        hidden = then(hidden + self.into_bias)
        out = ops.transpose(self.kernel * (1.0 - mask))
        return ops.matmul(hidden, out) + self.out_bias
