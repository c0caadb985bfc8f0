"""Improved Training of Wasserstein GANs.

Gulrajani et al., 2017, https://arxiv.org/abs/1704.00028. The critic takes several turns
for each of the generator's, each on its own part of a batch: a batch of 320 is five
critic steps on 64 images and one generator step on 64. What differs: with `classes`,
the critic is a projection (Miyato & Koyama, 2018, https://arxiv.org/abs/1802.05637).
"""

import functools

import keras
from keras import ops

from zoo._backend import input_gradient
from zoo._model import Model
from zoo.adversarial._images import Images, signed


class WGANGP(Images, Model):
    """A generator and a critic whose difference estimates the Wasserstein distance.

    Args:
        image_shape: Height, width and channels of the images; the sides are multiples
            of 2 to the power of the number of hidden layers.
        latent: Numbers in a code.
        hidden: Channels of the generator's layers, small images first; the critic's
            are the same, backwards.
        classes: Number of labels to condition on; None for none.
        penalty: Weight λ of the penalty on the slope of the critic.
        critic_turns: Critic steps for each generator step; a batch is divided among
            them.
    """

    def __init__(
        self,
        image_shape=(28, 28, 1),
        latent=64,
        hidden=(128, 64),
        classes=None,
        penalty=10.0,
        critic_turns=5,
    ):
        super().__init__()
        if penalty < 0 or not 1 <= critic_turns <= 100:
            raise ValueError(
                "penalty is 0 or more and critic_turns 1 to 100; these are "
                f"penalty={penalty} and critic_turns={critic_turns}."
            )
        self._build_networks(image_shape, latent, hidden, classes)
        self.penalty, self.critic_turns = penalty, critic_turns
        self.built = True

    def turns(self):
        parts = [
            ("critic", self.critic, functools.partial(self._critic_loss, turn))
            for turn in range(self.critic_turns)
        ]
        return [*parts, ("generator", self.generator, self.generator_loss)]

    def _critic_loss(self, turn, *batch):
        return self.critic_loss(*self._part(turn, batch))

    def critic_loss(self, images, labels=None):
        """Return E[D(G(z))] - E[D(x)] + λ E[(‖∇D(x̂)‖ - 1)²], equation 3."""
        real, fake = signed(images), self._fakes(images, labels)
        shape = (ops.shape(real)[0], 1, 1, 1)
        mix = keras.random.uniform(shape, seed=self.seed)
        between = mix * real + (1.0 - mix) * fake
        slope = input_gradient(lambda x: self._criticise(x, labels), between)
        length = ops.sqrt(ops.sum(slope**2, axis=(1, 2, 3)) + 1e-12)
        # Both at once: one pass over twice the images is faster than two passes.
        both = None if labels is None else ops.concatenate([labels, labels])
        scores = self._criticise(ops.concatenate([real, fake]), both)
        on_real, on_fake = ops.split(scores, 2)
        return ops.mean(self.penalty * (length - 1.0) ** 2 + on_fake - on_real)

    def generator_loss(self, *batch):
        """Return -E[D(G(z))] over one part of a batch."""
        images, *labels = self._part(0, batch)
        labels = labels[0] if labels else None
        return -ops.mean(self._criticise(self._fakes(images, labels), labels))

    def _part(self, turn, batch):
        """Return what a turn sees of a batch: every n-th row, at least one."""
        rows = ops.shape(batch[0])[0]
        index = ops.arange(turn, rows + turn, self.critic_turns) % rows
        return [ops.take(array, index, axis=0) for array in batch]
