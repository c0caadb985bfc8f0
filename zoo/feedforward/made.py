"""MADE: Masked Autoencoder for Distribution Estimation.

Germain et al., 2015, https://arxiv.org/abs/1502.03509, with one hidden layer and direct
connections. What differs: one order of the pixels and one set of masks, spread evenly
and not drawn; pixels drawn black or white afresh at each training step.
"""

import math

import keras
import numpy as np
from keras import layers, ops

from zoo._model import Model, binarize, philox, unit


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
        self.into = Masked(self.pixels, hidden, name="into")
        self.out = Masked(hidden, self.pixels, name="out")
        self.direct = Masked(self.pixels, self.pixels, use_bias=False, name="direct")
        self.activation = keras.activations.get(activation)
        self.dropout = layers.Dropout(dropout)
        self.seed = keras.random.SeedGenerator()
        self.built = True

    def masks(self):
        """Return what is connected, equations 8 and 9, as tensors of truth values.

        Hidden unit k sees its first m(k) pixels, and pixel d sees the units of which
        m(k) is d or less, and all pixels before it.

        Returns:
            (pixels, hidden), (hidden, pixels) and (pixels, pixels).
        """
        pixel, hidden = ops.arange(self.pixels), self.into.units
        seen = 1 + ops.arange(hidden) * (self.pixels - 1) // hidden
        before = pixel[:, None] < pixel[None]
        return pixel[:, None] < seen[None], seen[:, None] <= pixel[None], before

    def call(self, images, training=False):
        """Return the log-odds that each pixel is white, as the images' shape."""
        x = ops.reshape(images, (-1, self.pixels))
        into, out, direct = self.masks()
        h = self.dropout(self.activation(self.into(x, into)), training=training)
        logits = ops.cast(self.out(h, out) + self.direct(x, direct), "float32")
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
        parts = self.into, self.out, self.direct
        into, out, direct = (
            ops.cast(layer.kernel, "float32") * ops.cast(mask, "float32")
            for layer, mask in zip(parts, self.masks())
        )
        out = ops.transpose(out)

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
            ops.cast(layer.bias, "float32") + empty[:, :1] for layer in parts[:2]
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


class Masked(layers.Layer):
    """A dense layer of which a mask says what is connected.

    Args:
        inputs, units: Numbers in and out.
        use_bias: Whether it adds a bias.
    """

    def __init__(self, inputs, units, use_bias=True, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.kernel = self.add_weight(
            shape=(inputs, units), initializer="glorot_uniform", name="kernel"
        )
        self.bias = None
        if use_bias:
            self.bias = self.add_weight(
                shape=(units,), initializer="zeros", name="bias"
            )
        self.built = True

    def call(self, x, mask):
        kernel = self.kernel * ops.cast(mask, self.compute_dtype)
        y = ops.matmul(ops.cast(x, self.compute_dtype), kernel)
        return y if self.bias is None else y + self.bias
