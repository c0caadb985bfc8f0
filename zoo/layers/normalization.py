"""Group normalisation that costs a convolutional network little."""

import math

from keras import layers, ops


class GroupNorm(layers.Layer):
    """Normalise groups of channels of each image (Wu & He, 2018).

    What Keras' own layer does, with sums over channels first and groups afterwards: the
    pixels are read once and written once. A scale and a shift from outside may come in
    place of the layer's own, as adaptive group normalisation wants it (Dhariwal &
    Nichol, 2021, https://arxiv.org/abs/2105.05233, section 4.1).

    Args:
        groups: Number of groups, which divides the channels.
        epsilon: Added to the variance.
    """

    def __init__(self, groups, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.groups, self.epsilon = groups, epsilon

    def build(self, x_shape, modulation_shape=None):
        channels = x_shape[-1]
        if channels % self.groups:
            raise ValueError(
                f"The groups divide the channels; {self.groups} and {channels} do not."
            )
        common = {"shape": (channels,), "autocast": False}
        self.gamma = self.add_weight(initializer="ones", name="gamma", **common)
        self.beta = self.add_weight(initializer="zeros", name="beta", **common)

    def call(self, x, modulation=None):
        """Return x normalised.

        Args:
            x: (n, height, width, channels).
            modulation: (n, 2 · channels), scale and shift, of 0 on average; or None.
        """
        channels = x.shape[-1]
        wide = ops.cast(x, "float32")
        grouped = self.groups, channels // self.groups
        count = math.prod(x.shape[1:3]) * grouped[1]
        mean, square = (
            ops.sum(ops.reshape(power, (-1, *grouped)), axis=-1, keepdims=True) / count
            for power in (ops.sum(wide, (1, 2)), ops.sum(ops.square(wide), (1, 2)))
        )
        scale = ops.rsqrt(ops.relu(square - mean * mean) + self.epsilon)
        scale = scale * ops.reshape(self.gamma, grouped)
        shift = ops.reshape(self.beta, grouped) - mean * scale
        scale, shift = (ops.reshape(t, (-1, 1, 1, channels)) for t in (scale, shift))
        if modulation is not None:
            modulation = ops.reshape(modulation, (-1, 1, 1, 2 * channels))
            more, add = ops.split(ops.cast(modulation, "float32"), 2, axis=-1)
            scale, shift = scale * (1.0 + more), shift * (1.0 + more) + add
        return x * ops.cast(scale, x.dtype) + ops.cast(shift, x.dtype)

    def compute_output_shape(self, x_shape, modulation_shape=None):
        return x_shape
