"""What models from image to image share: mirroring, critics, normalisation."""

import keras
from keras import layers, ops

from zoo.adversarial._images import signed


class Pairs:
    """What a loss sees of two arrays of images that `fit` takes.

    A class that takes it in sets `seed` and `mirror` in its constructor.
    """

    pairs = True

    def _pair(self, *images):
        """Return images as [-1, 1], with `mirror` half of the rows turned around."""
        pair = [signed(each) for each in images]
        if not self.mirror:
            return pair
        shape = ops.shape(pair[0])[0], 1, 1, 1
        coin = keras.random.uniform(shape, seed=self.seed) < 0.5
        return [ops.where(coin, ops.flip(each, axis=2), each) for each in pair]


def patch_critic(channels, hidden, name="critic"):
    """Return a PatchGAN critic: from images in [-1, 1] to one number for each patch.

    A convolution of stride 2 for each number of `hidden`, and one of stride 1 more; the
    images may have any size.
    """
    images = x = keras.Input((None, None, channels))
    for depth, units in enumerate(hidden):
        x = layers.Conv2D(units, 4, 2, padding="same")(x)
        x = layers.LeakyReLU(0.2)(instance_norm(x) if depth else x)
    patches = layers.Conv2D(1, 4, padding="same", dtype="float32")(x)
    return keras.Model(images, patches, name=name)


def instance_norm(x):
    """Normalise each channel of each image (Ulyanov et al., 2016)."""
    return layers.GroupNormalization(groups=-1, epsilon=1e-5)(x)


def check_halving(image_shape, hidden, times):
    """Refuse images that the network cannot halve so many times and double again."""
    if not hidden or any(side % (1 << times) for side in image_shape[:2]):
        raise ValueError(
            "hidden names one layer or more, and the sides of images are multiples of "
            f"{1 << times}; these are hidden={hidden!r} and {image_shape[:2]!r}."
        )
