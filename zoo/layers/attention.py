"""Attention of all places of an input to one another."""

import math

from keras import layers, ops


class SelfAttention(layers.Layer):
    """Multi-head attention of n tokens to all of them (Vaswani et al., 2017).

    Args:
        heads: Number of heads, which divides the width.
    """

    def __init__(self, heads=1, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, shape):
        width = shape[-1]
        if width % self.heads:
            raise ValueError(
                f"The heads divide the width; {self.heads} and {width} do not."
            )
        self.qkv = layers.Dense(3 * width, dtype=self.dtype_policy, name="qkv")
        self.out = layers.Dense(width, dtype=self.dtype_policy, name="out")
        self.qkv.build(shape)
        self.out.build(shape)

    def call(self, x):
        """Return tokens (n, tokens, width) from tokens of that shape."""
        tokens, width = x.shape[1:]
        size = width // self.heads
        parts = ops.reshape(self.qkv(x), (-1, tokens, 3, self.heads, size))
        parts = ops.transpose(parts, (2, 0, 3, 1, 4))
        query, key, value = ops.unstack(parts)  # (n, heads, tokens, size) each
        logits = ops.matmul(query * size**-0.25, ops.swapaxes(key * size**-0.25, 2, 3))
        weights = ops.softmax(ops.cast(logits, "float32"), axis=-1)
        mixed = ops.matmul(ops.cast(weights, value.dtype), value)
        mixed = ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, tokens, width))
        return self.out(mixed)

    def compute_output_shape(self, shape):
        return shape


class ImageAttention(layers.Layer):
    """Normalised attention among the places of an image, added to it (Ho et al., 2020).

    Args:
        norm: Its normalisation, a layer.
        heads: Number of heads.
    """

    def __init__(self, norm, heads=1, **kwargs):
        super().__init__(**kwargs)
        self.norm = norm
        self.attention = SelfAttention(heads, dtype=self.dtype_policy)

    def build(self, shape):
        self.norm.build(shape)
        self.attention.build((shape[0], math.prod(shape[1:3]), shape[-1]))

    def call(self, x):
        height, width, channels = x.shape[1:]
        tokens = ops.reshape(self.norm(x), (-1, height * width, channels))
        return x + ops.reshape(self.attention(tokens), (-1, height, width, channels))

    def compute_output_shape(self, shape):
        return shape
