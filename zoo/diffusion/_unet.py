"""The U-Net that models of pixels denoise with."""

import keras
from keras import layers, ops

from zoo.layers.attention import ImageAttention
from zoo.layers.embedding import TimeEmbedding, label_embedding
from zoo.layers.normalization import GroupNorm

GROUPS = 8  # Of channels that are normalised together; fewer where they do not divide.


def unet(image_shape, channels, blocks, attention, patch, dropout, classes):
    """Return the network from images, times in [0, 1] and labels to images.

    As in Ho et al., 2020: each level has `blocks` residual blocks on the way down and
    one more on the way up, which reads what the way down left; between levels images
    are halved by a convolution of stride 2 and doubled by repetition and a convolution.
    What differs: time and label scale and shift what is normalised (Dhariwal & Nichol,
    2021), and with `patch` above 1 the image is read and written in squares of as many
    pixels (Hoogeboom et al., 2023, https://arxiv.org/abs/2301.11093, section 3.2).

    Args:
        image_shape: Height, width and channels.
        channels: Channels of each level, the finest first.
        blocks: Residual blocks of a level.
        attention: Levels that have attention, counted from 0, or from the end by -1.
        patch: Side of the squares.
        dropout: Share of what a block's second convolution reads hidden in training.
        classes: Number of labels, beside which there is a null label; None for none.
    """
    _check(image_shape, channels, blocks, attention, patch, dropout)
    attention = {level % len(channels) for level in attention}
    images = keras.Input(image_shape, name="images")
    times = keras.Input((), name="times")
    inputs, width = [images, times], 4 * channels[0]
    e = layers.Dense(width)(TimeEmbedding(channels[0], dtype="float32")(times))
    e = layers.Dense(width)(layers.Activation("silu")(e))
    if classes:
        inputs.append(keras.Input((), name="labels", dtype="int32"))
        e = layers.Add()([e, label_embedding(classes, width)(inputs[-1])])
    e = layers.Activation("silu")(e)

    def level(x, units, depth):
        x = _residual(x, e, units, dropout)
        return _attention(x) if depth in attention else x

    x = layers.Conv2D(channels[0], max(3, patch), patch, padding="same")(images)
    skips = [x]
    for depth, units in enumerate(channels):
        if depth:
            x = layers.Conv2D(x.shape[-1], 3, 2, padding="same")(x)
            skips.append(x)
        for _ in range(blocks):
            x = level(x, units, depth)
            skips.append(x)
    x = _residual(x, e, channels[-1], dropout)
    x = _attention(x) if attention else x
    x = _residual(x, e, channels[-1], dropout)
    for depth, units in reversed(list(enumerate(channels))):
        for _ in range(blocks + 1):
            x = level(layers.Concatenate()([x, skips.pop()]), units, depth)
        if depth:
            x = layers.UpSampling2D()(x)
            x = layers.Conv2D(units, 3, padding="same")(x)
    x = layers.Activation("silu")(_norm(x.shape[-1])(x))
    x = _zero(patch * patch * image_shape[-1], 3, dtype="float32")(x)
    x = unfold(x, patch, image_shape)
    # Its inputs stay float32: half of it would blur times, and the least noise.
    return keras.Model(inputs, x, name="network", dtype="float32")


def _check(image_shape, channels, blocks, attention, patch, dropout):
    """Refuse images that cannot be halved so often, and levels that are not there."""
    levels = len(channels)
    if not 1 <= levels <= 8 or not 1 <= blocks <= 8 or not 1 <= patch <= 16:
        raise ValueError(
            "A U-Net has 1 to 8 channels, one for each level, 1 to 8 blocks and a "
            f"patch of 1 to 16; these are {channels!r}, {blocks} and {patch}."
        )
    if any(channel < 2 or channel % 2 for channel in channels):
        raise ValueError(f"channels are even and 2 or more, not {channels!r}.")
    multiple = patch << (levels - 1)
    if any(side < 1 or side % multiple for side in image_shape[:2]):
        raise ValueError(
            f"The sides of images are multiples of {multiple} here, patch times 2 for "
            f"each level but one; these are {image_shape[:2]!r}."
        )
    if any(not -levels <= level < levels for level in attention):
        raise ValueError(
            f"attention names levels from {-levels} to {levels - 1}, not {attention!r}."
        )
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is in [0, 1), not {dropout}.")


def _norm(channels):
    groups = next(g for g in range(min(GROUPS, channels), 0, -1) if channels % g == 0)
    return GroupNorm(groups)


def _residual(x, e, units, dropout):
    """Return two convolutions of x, the second modulated by e, added to x."""
    h = layers.Activation("silu")(_norm(x.shape[-1])(x))
    h = layers.Conv2D(units, 3, padding="same")(h)
    h = _norm(units)(h, layers.Dense(2 * units)(e))
    h = layers.Activation("silu")(h)
    h = layers.Dropout(dropout)(h) if dropout else h
    h = _zero(units, 3)(h)
    x = x if x.shape[-1] == units else layers.Conv2D(units, 1)(x)
    return layers.Add()([x, h])


def _attention(x):
    return ImageAttention(_norm(x.shape[-1]))(x)


def _zero(units, size, dtype=None):
    """Return a convolution that is 0 at first, so that a block starts as nothing."""
    start = {"kernel_initializer": "zeros", "dtype": dtype}
    return layers.Conv2D(units, size, padding="same", **start)


def fold(x, patch):
    """Return squares of pixels of images as the channels of smaller ones."""
    if patch == 1:
        return x
    height, width, channels = x.shape[1:]
    x = ops.reshape(x, (-1, height // patch, patch, width // patch, patch, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    shape = height // patch, width // patch, patch * patch * channels
    return ops.reshape(x, (-1, *shape))


def unfold(x, patch, image_shape):
    """Return squares of pixels, held as channels, side by side as an image."""
    if patch == 1:
        return x
    height, width, channels = image_shape
    x = ops.reshape(x, (-1, height // patch, width // patch, patch, patch, channels))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, *image_shape))
