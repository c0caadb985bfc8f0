"""The networks that the generators of whole images share."""

import math

import keras
from keras import layers, ops


def generator(latent, image_shape, hidden, classes):
    """Return the network from noise (n, latent) to images in [-1, 1].

    A dense layer, a dense layer to the smallest image, and one transposed convolution
    for each doubling, with batch normalisation and ReLU after each but the last, as in
    DCGAN; classes come in beside the noise, one-hot.
    """
    height, width, channels = image_shape
    side = height >> len(hidden), width >> len(hidden)
    noise = keras.Input((latent,), name="noise")
    inputs, x = [noise], noise
    if classes:
        inputs.append(keras.Input((classes,), name="labels"))
        x = layers.Concatenate()(inputs)
    x = _normalised(layers.Dense(2 * hidden[0], use_bias=False)(x))
    x = layers.Dense(math.prod(side) * hidden[0], use_bias=False)(x)
    x = layers.Reshape((*side, hidden[0]))(x)
    for units in hidden[1:]:
        x = _normalised(x)
        x = layers.Conv2DTranspose(units, 4, 2, padding="same", use_bias=False)(x)
    x = layers.Conv2DTranspose(channels, 4, 2, padding="same")(_normalised(x))
    images = layers.Activation("tanh", dtype="float32")(x)
    return keras.Model(inputs, images, name="generator")


def _normalised(x):
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def critic(image_shape, hidden, classes):
    """Return the network from images in [-1, 1] to one number, higher for real.

    One convolution for each halving, backwards, and one more of twice the channels, so
    that its last layer sees whole images and not their patches. Nothing is normalised:
    penalties on its gradient are for each image alone. Classes come in by projection
    (Miyato & Koyama, 2018).
    """
    images = x = keras.Input(image_shape, name="images")
    inputs = [images]
    for units in (*reversed(hidden), 2 * hidden[0]):
        conv = layers.Conv2D(
            units, 4, 2, padding="same", kernel_initializer="he_normal"
        )
        x = layers.LeakyReLU(0.2)(conv(x))
    x = layers.Flatten()(x)
    out = layers.Dense(1, dtype="float32")(x)
    if classes:
        inputs.append(keras.Input((classes,), name="labels"))
        rows = layers.Dense(x.shape[-1], use_bias=False)(inputs[-1])
        dot = layers.Dot(1, dtype="float32")([x, rows])
        out = layers.Add(dtype="float32")([out, dot])
    return keras.Model(inputs, ops.squeeze(out, -1), name="critic")


def check_sizes(image_shape, hidden, latent):
    """Refuse images that cannot be halved once for each of the hidden layers."""
    sides = image_shape[:2]
    if not hidden or any(side % (1 << len(hidden)) for side in sides) or latent < 1:
        raise ValueError(
            "hidden names one layer or more, each of which halves the image, and "
            f"latent is 1 or more; these are hidden={hidden!r} and latent={latent} "
            f"for images of {sides[0]}×{sides[1]}."
        )
