"""Unsupervised Representation Learning with Deep Convolutional GANs.

Radford, Metz & Chintala, 2016, https://arxiv.org/abs/1511.06434. What differs: the
critic has a penalty on its gradient at real images, R1 (Mescheder et al., 2018,
https://arxiv.org/abs/1801.04406), in place of batch normalisation; the noise is normal;
with `classes`, the critic is the projection discriminator of Miyato & Koyama, 2018,
https://arxiv.org/abs/1802.05637.
"""

from keras import ops

from zoo._backend import input_gradient
from zoo._model import Model
from zoo.adversarial._images import Images, signed


class DCGAN(Images, Model):
    """A convolutional generator and critic with the non-saturating loss.

    Args:
        image_shape: Height, width and channels of the images; the sides are multiples
            of 2 to the power of the number of hidden layers.
        latent: Numbers in a code.
        hidden: Channels of the generator's layers, small images first; the critic's
            are the same, backwards.
        classes: Number of labels to condition on; None for none.
        r1: Weight γ of the penalty, γ/2 E‖∇D‖² at real images.
        r1_every: The penalty is taken on every n-th image of a batch: its expectation
            stays the same, its cost falls.
    """

    def __init__(
        self,
        image_shape=(28, 28, 1),
        latent=64,
        hidden=(128, 64),
        classes=None,
        r1=1.0,
        r1_every=4,
    ):
        super().__init__()
        if r1 < 0 or r1_every < 1:
            raise ValueError(
                "r1 is 0 or more and r1_every 1 or more; these are "
                f"r1={r1} and r1_every={r1_every}."
            )
        self._build_networks(image_shape, latent, hidden, classes)
        self.r1, self.r1_every = r1, r1_every
        self.built = True

    def turns(self):
        return [
            ("critic", self.critic, self.critic_loss),
            ("generator", self.generator, self.generator_loss),
        ]

    def critic_loss(self, images, labels=None):
        """Return -log σ(D(x)) - log(1 - σ(D(G(z)))) + γ/2 ‖∇D(x)‖², its mean."""
        real, fake = signed(images), self._fakes(images, labels)
        loss = ops.mean(
            ops.softplus(-self._criticise(real, labels))
            + ops.softplus(self._criticise(fake, labels))
        )
        if not self.r1:
            return loss
        some = None if labels is None else labels[:: self.r1_every]
        at = real[:: self.r1_every]
        slope = input_gradient(lambda x: self._criticise(x, some), at)
        return loss + 0.5 * self.r1 * ops.mean(ops.sum(slope**2, axis=(1, 2, 3)))

    def generator_loss(self, images, labels=None):
        """Return -log σ(D(G(z))), its mean."""
        fake = self._fakes(images, labels)
        return ops.mean(ops.softplus(-self._criticise(fake, labels)))
