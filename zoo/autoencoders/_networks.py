"""The encoder and decoder that the autoencoders share, dense or convolutional."""

import math

import keras
from keras import layers


def encoder(image_shape, hidden, out, network, activation, neck=None, classes=None):
    """Return a network from images, and one-hot labels if any, to `out` numbers."""
    _check(image_shape, hidden, network, neck)
    images = keras.Input(image_shape)
    inputs, x = images, images
    if classes:
        labels = keras.Input((classes,))
        inputs = [images, labels]
        height, width, _ = image_shape
        plane = layers.Dense(height * width, use_bias=False)(labels)
        plane = layers.Reshape((height, width, 1))(plane)
        x = layers.Concatenate()([images, plane])
    if network == "dense":
        x = layers.Flatten()(x)
        for units in hidden:
            x = layers.Dense(units, activation=activation)(x)
    else:
        for channels in hidden:
            x = layers.Conv2D(channels, 4, 2, "same", activation=activation)(x)
        if neck:
            x = layers.Conv2D(neck, 1, activation=activation)(x)
        x = layers.Flatten()(x)
        x = layers.Dense(4 * hidden[-1], activation=activation)(x)
    return keras.Model(inputs, layers.Dense(out)(x), name="encoder")


def decoder(image_shape, hidden, latent, network, activation, neck=None, classes=None):
    """Return a network from codes, and one-hot labels if any, to image logits."""
    codes = keras.Input((latent,))
    inputs, x = codes, codes
    if classes:
        labels = keras.Input((classes,))
        inputs = [codes, labels]
        x = layers.Concatenate()(inputs)
    height, width, channels = image_shape
    if network == "dense":
        for units in reversed(hidden):
            x = layers.Dense(units, activation=activation)(x)
        x = layers.Dense(math.prod(image_shape))(x)
        x = layers.Reshape(image_shape)(x)
    else:
        height, width = height >> len(hidden), width >> len(hidden)
        x = layers.Dense(4 * hidden[-1], activation=activation)(x)
        planes = neck or hidden[-1]
        x = layers.Dense(height * width * planes, activation=activation)(x)
        x = layers.Reshape((height, width, planes))(x)
        if neck:
            x = layers.Conv2D(hidden[-1], 3, 1, "same", activation=activation)(x)
        for width in (*reversed(hidden[:-1]), None):
            x = layers.Conv2DTranspose(
                width or channels, 4, 2, "same", activation=width and activation
            )(x)
    return keras.Model(inputs, x, name="decoder")


def _check(image_shape, hidden, network, neck):
    if network not in ("dense", "convolutional"):
        raise ValueError(f"network is 'dense' or 'convolutional', not {network!r}.")
    step = 2 ** len(hidden)
    if network == "convolutional" and (image_shape[0] % step or image_shape[1] % step):
        raise ValueError(
            f"{len(hidden)} convolutions halve the image {len(hidden)} times: height "
            f"and width are multiples of {step}, not {tuple(image_shape[:2])}."
        )
    if neck is not None and (network == "dense" or neck < 1):
        raise ValueError(
            f"neck is a number of channels in a convolutional network, or None; not "
            f"{neck!r} in a {network} one."
        )
