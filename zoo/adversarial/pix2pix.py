"""Image-to-Image Translation with Conditional Adversarial Networks.

Isola et al., 2017, https://arxiv.org/abs/1611.07004. What differs: dropout, the paper's
only noise, and batch statistics are for training alone, so that a drawing has one
translation, whatever stands beside it; a mean over the batch, which may be large, in
place of the paper's batch of one.
"""

import keras
from keras import layers, ops

from zoo._model import Model
from zoo.adversarial._images import signed
from zoo.adversarial._translation import Pairs, check_halving, patch_critic


class Pix2Pix(Pairs, Model):
    """A U-Net that translates images, learnt from pairs by `fit(sources, targets)`.

    Args:
        image_shape: Height, width and channels of both images of a pair; the sides are
            multiples of 2 to the power of the number of hidden layers.
        hidden: Channels of the U-Net's layers, each of which halves the image.
        patch: Channels of the critic's layers, each of which halves the image.
        dropout: Share of the two lowest layers of the decoder hidden in training.
        l1: Weight λ of the mean absolute error.
        mirror: Whether to turn half of the pairs left to right in training.
    """

    def __init__(
        self,
        image_shape=(32, 32, 3),
        hidden=(32, 64, 128, 128),
        patch=(32, 64),
        dropout=0.5,
        l1=100.0,
        mirror=True,
    ):
        super().__init__()
        check_halving(image_shape, hidden, len(hidden))
        if not 0 <= dropout < 1 or l1 < 0:
            raise ValueError(
                "dropout lies in [0, 1) and l1 is 0 or more; these are "
                f"dropout={dropout} and l1={l1}."
            )
        self.image_shape, self.l1 = tuple(image_shape), l1
        self.mirror = mirror
        self.generator = _unet(image_shape, hidden, dropout)
        self.critic = patch_critic(2 * image_shape[-1], patch)
        self.seed = keras.random.SeedGenerator()
        self.built = True

    def turns(self):
        return [
            ("critic", self.critic, self.critic_loss),
            ("generator", self.generator, self.generator_loss),
        ]

    def critic_loss(self, sources, targets):
        """Return half of -log σ(D(x, y)) - log(1 - σ(D(x, G(x)))), its mean."""
        x, y = self._pair(sources, targets)
        real = self.critic(ops.concatenate([x, y], -1))
        fake = self.critic(ops.concatenate([x, self.generator(x, training=True)], -1))
        return 0.5 * ops.mean(ops.softplus(-real) + ops.softplus(fake))

    def generator_loss(self, sources, targets):
        """Return -log σ(D(x, G(x))) + λ |y - G(x)|, its mean, equation 4."""
        x, y = self._pair(sources, targets)
        fake = self.generator(x, training=True)
        judged = self.critic(ops.concatenate([x, fake], -1))
        return ops.mean(ops.softplus(-judged)) + self.l1 * ops.mean(ops.abs(y - fake))

    def call(self, images, training=False):
        return 0.5 * self.generator(signed(images), training=training) + 0.5

    def translate(self, images):
        """Return the translation of each image, float32 in [0, 1].

        Args:
            images: (N, height, width, channels): float in [0, 1], or uint8.
        """
        return self._run("call", self._prepare(images))

    def signatures(self):
        return {"translate": ("call", {"images": self._blank()})}


def _unet(image_shape, hidden, dropout):
    """Return the network from images to images in [-1, 1], with skips at each size."""
    images = x = keras.Input(image_shape)
    skips = []
    for depth, units in enumerate(hidden):
        x = layers.Conv2D(units, 4, 2, padding="same")(x)
        if 0 < depth < len(hidden) - 1:
            x = layers.BatchNormalization(momentum=0.9)(x)
        skips.append(x)
        x = layers.LeakyReLU(0.2)(x)
    for depth, skip in enumerate(reversed(skips[:-1])):
        x = layers.Conv2DTranspose(skip.shape[-1], 4, 2, padding="same")(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        if depth < 2:
            x = layers.Dropout(dropout)(x)
        x = layers.ReLU()(layers.Concatenate()([x, skip]))
    x = layers.Conv2DTranspose(image_shape[-1], 4, 2, padding="same")(x)
    x = layers.Activation("tanh", dtype="float32")(x)
    return keras.Model(images, x, name="generator")
