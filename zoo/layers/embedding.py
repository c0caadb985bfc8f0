"""Numbers as vectors that a network can read."""

import math

from keras import initializers, layers, ops


def label_embedding(classes, width):
    """Return the layer that makes labels vectors, and `classes` itself one for none.

    They are apart from the start, about as far as times are.
    """
    start = initializers.RandomNormal(stddev=0.5)
    return layers.Embedding(classes + 1, width, embeddings_initializer=start)


class TimeEmbedding(layers.Layer):
    """Sines and cosines of a time in [0, 1] (Vaswani et al., 2017), as vectors.

    Args:
        width: Length of a vector, even.
        scale: What times are multiplied by first; 1,000 as if they were counted.
        longest: The longest period.
    """

    def __init__(self, width, scale=1000.0, longest=10_000.0, **kwargs):
        super().__init__(**kwargs)
        self.width, self.scale, self.longest = width, scale, longest
        self.built = True

    def call(self, times):
        """Return (n, width), float32 cast to the layer's precision, of times (n,)."""
        half = self.width // 2
        powers = ops.arange(half, dtype="float32") / half
        rates = self.scale * ops.exp(-math.log(self.longest) * powers)
        angles = ops.cast(times, "float32")[:, None] * rates[None]
        waves = ops.concatenate([ops.cos(angles), ops.sin(angles)], axis=-1)
        return ops.cast(waves, self.compute_dtype)

    def compute_output_shape(self, shape):
        return (*shape, self.width)
