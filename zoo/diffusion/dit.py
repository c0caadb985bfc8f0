"""Scalable Diffusion Models with Transformers.

Peebles & Xie, 2023, https://arxiv.org/abs/2212.09748, with adaLN-Zero; trained by flow
matching on straight paths (Lipman et al., 2023, https://arxiv.org/abs/2210.02747), at
times of which most lie in the middle (Esser et al., 2024,
https://arxiv.org/abs/2403.03206, equation 19), or as a DDPM. What differs: pixels in
place of the codes of an autoencoder; variances are not learned.
"""

import keras
import numpy as np
from keras import layers, ops

from zoo._model import Model
from zoo.diffusion._denoiser import Denoiser
from zoo.diffusion._unet import fold, unfold
from zoo.diffusion.schedules import even_times
from zoo.layers.attention import SelfAttention
from zoo.layers.embedding import TimeEmbedding, label_embedding


class DiT(Denoiser, Model):
    """A Transformer over squares of pixels that denoises images.

    Args:
        image_shape: Height, width and channels; the sides are multiples of `patch`.
        patch: Side of the squares of pixels that are one token.
        width: Length of a token inside.
        depth: Number of blocks.
        heads: Heads of attention, which divide the width.
        mlp: Hidden units of a block's dense layers, as a multiple of the width.
        objective: "flow" for straight paths and their velocity, "ddpm" for the
            cosine schedule, v-prediction and weights of min-SNR.
        min_snr: Of "ddpm", as in `DDPM`.
        classes: Number of labels to condition on; None for none.
        drop: Share of labels left out in training, for guidance.
        steps: Of the solver, unless `generate` is told another number.
        guidance: How much labels count, likewise; two evaluations a step if not 1.
    """

    def __init__(
        self,
        image_shape=(28, 28, 1),
        patch=4,
        width=160,
        depth=6,
        heads=5,
        mlp=4,
        objective="flow",
        min_snr=5.0,
        classes=None,
        drop=0.1,
        steps=20,
        guidance=1.0,
    ):
        super().__init__(autocast=False)
        if objective not in ("flow", "ddpm") or min_snr < 0:
            raise ValueError(
                "objective is 'flow' or 'ddpm' and min_snr 0 or more; these are "
                f"{objective!r} and {min_snr}."
            )
        flow = objective == "flow"
        kind = ("straight", "velocity") if flow else ("cosine", "v")
        self._build(image_shape, classes, *kind, drop, steps, guidance)
        self.flow, self.min_snr = flow, min_snr
        self.network = transformer(
            image_shape, patch, width, depth, heads, mlp, classes
        )
        self.built = True

    def objective(self, images, labels=None):
        """Return the mean squared error of the velocity, or the loss of a DDPM."""
        if not self.flow:
            return self._chain_loss(images, labels, self.min_snr)
        share = ops.clip(even_times(images, self.seed), 1e-4, 1.0 - 1e-4)
        normal = 2**0.5 * ops.erfinv(2.0 * share - 1.0)
        return ops.mean(self._errors(images, labels, ops.sigmoid(normal))[0])


def transformer(image_shape, patch, width, depth, heads, mlp, classes):
    """Return the network from images, times in [0, 1] and labels to images."""
    _check(image_shape, patch, width, depth, heads, mlp)
    images = keras.Input(image_shape, name="images")
    times = keras.Input((), name="times")
    inputs = [images, times]
    c = layers.Dense(width, activation="silu")(
        TimeEmbedding(256, dtype="float32")(times)
    )
    c = layers.Dense(width)(c)
    if classes:
        inputs.append(keras.Input((), name="labels", dtype="int32"))
        c = layers.Add()([c, label_embedding(classes, width)(inputs[-1])])
    c = layers.Activation("silu")(c)
    x = fold(images, patch)
    rows, columns, size = x.shape[1:]
    x = layers.Dense(width)(layers.Reshape((rows * columns, size))(x))
    x = Positions(rows, columns)(x)
    for _ in range(depth):
        shift, scale, gate, *later = _modulation(c, width, 6)
        x = x + gate * SelfAttention(heads)(_modulated(x, shift, scale))
        shift, scale, gate = later
        h = _modulated(x, shift, scale)
        h = layers.Dense(mlp * width)(h)
        h = layers.Dense(width)(layers.Activation(_gelu)(h))
        x = x + gate * h
    x = _modulated(x, *_modulation(c, width, 2))
    x = layers.Dense(size, kernel_initializer="zeros")(x)
    x = layers.Activation("linear", dtype="float32")(x)
    x = unfold(x, patch, image_shape)
    # Its inputs stay float32: half of it would blur times, and the least noise.
    return keras.Model(inputs, x, name="network", dtype="float32")


class Positions(layers.Layer):
    """Add to each token sines and cosines of its row and its column.

    Args:
        rows, columns: Of the grid that the tokens are of.
    """

    def __init__(self, rows, columns, **kwargs):
        super().__init__(**kwargs)
        self.rows, self.columns = rows, columns
        self.built = True

    def call(self, x):
        """Return tokens (n, rows · columns, width) with their places added."""
        quarter = -(-x.shape[-1] // 4)
        rates = 10_000.0 ** (-np.arange(quarter) / quarter)
        row, column = np.divmod(np.arange(self.rows * self.columns), self.columns)
        angles = [place[:, None] * rates for place in (row, column)]
        waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
        places = np.concatenate(waves, axis=1)[None, :, : x.shape[-1]]
        return x + ops.cast(ops.convert_to_tensor(places.astype("float32")), x.dtype)

    def compute_output_shape(self, shape):
        return shape


def _modulation(c, width, parts):
    """Return shifts, scales and gates made of c: (n, 1, width) each, 0 at first."""
    dense = layers.Dense(parts * width, kernel_initializer="zeros")
    return ops.split(layers.Reshape((1, parts * width))(dense(c)), parts, axis=-1)


def _modulated(x, shift, scale):
    norm = layers.LayerNormalization(epsilon=1e-6, center=False, scale=False)
    return norm(x) * (1.0 + scale) + shift


def _gelu(x):
    return ops.gelu(x, approximate=True)  # By tanh: LiteRT has no erf.


def _check(image_shape, patch, width, depth, heads, mlp):
    """Refuse sizes that do not divide, or that no machine could build."""
    if patch < 1 or any(side < 1 or side % patch for side in image_shape[:2]):
        raise ValueError(
            f"The sides of images are multiples of patch; {image_shape[:2]!r} are not "
            f"of {patch}."
        )
    if not 1 <= depth <= 100 or not 1 <= mlp <= 100 or not 4 <= width <= 65_536:
        raise ValueError(
            "depth and mlp are 1 to 100 and width 4 to 65,536; these are "
            f"{depth}, {mlp} and {width}."
        )
    if heads < 1 or width % heads:
        raise ValueError(f"heads divide the width; {heads} does not divide {width}.")
