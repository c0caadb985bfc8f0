"""Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks.

Zhu et al., 2017, https://arxiv.org/abs/1703.10593: two generators, two critics of
patches, least-squares losses, cycles, and a pool of past fakes for the critics. What
differs: zeros in place of reflections at the borders, for the sake of phones.
"""

import keras
from keras import layers, ops

from zoo._model import Model
from zoo.adversarial._images import signed
from zoo.adversarial._translation import (
    Pairs,
    check_halving,
    instance_norm,
    patch_critic,
)


class CycleGAN(Pairs, Model):
    """Two styles and the ways between them, by `fit(first_style, second_style)`.

    The two arrays have as many rows; which stand beside each other does not matter.

    Args:
        image_shape: Height, width and channels of images of both styles; the sides are
            multiples of 2 to the power of one less than the number of hidden layers.
        hidden: Channels of a generator: the first at full size, then each at half.
        blocks: Residual blocks at the smallest size.
        patch: Channels of a critic's layers, each of which halves the image.
        cycle: Weight λ of the mean absolute error after both ways.
        identity: Weight, as a share of λ, of the error on images that already have the
            style wanted.
        pool: Past fakes of each style that the critics also see.
        mirror: Whether to turn half of the images left to right in training.
    """

    def __init__(
        self,
        image_shape=(32, 32, 3),
        hidden=(16, 32, 64),
        blocks=3,
        patch=(32, 64),
        cycle=10.0,
        identity=0.5,
        pool=50,
        mirror=True,
    ):
        super().__init__()
        check_halving(image_shape, hidden, max(len(hidden) - 1, len(patch)))
        if cycle < 0 or identity < 0 or not 0 <= blocks <= 100 or not 1 <= pool <= 1000:
            raise ValueError(
                "cycle and identity are 0 or more, blocks 0 to 100, pool 1 to 1,000; "
                f"these are {cycle}, {identity}, {blocks} and {pool}."
            )
        self.image_shape, self.cycle = tuple(image_shape), cycle
        self.identity, self.mirror = identity, mirror
        pair = [keras.Input(image_shape), keras.Input(image_shape)]
        nets = [_resnet(image_shape, hidden, blocks, n) for n in ("forward", "back")]
        judges = [patch_critic(image_shape[-1], patch, n) for n in ("first", "second")]
        # One layer for each side of the game, since two networks learn together.
        self.generators = _both(pair, nets, "generators")
        self.critics = _both(pair, judges, "critics")
        self.seed = keras.random.SeedGenerator()
        self.first_pool = Pool(pool, image_shape)
        self.second_pool = Pool(pool, image_shape)
        self.built = True

    def turns(self):
        return [
            ("critic", self.critics, self.critic_loss),
            ("generator", self.generators, self.generator_loss),
        ]

    def critic_loss(self, first, second):
        """Return half of (D(y) - 1)² + D(fake)², its mean, for both styles together."""
        x, y = self._pair(first, second)
        fake_y, fake_x = self.generators([x, y], training=True)
        fakes = (
            self.first_pool.swap(fake_x, self.seed),
            self.second_pool.swap(fake_y, self.seed),
        )
        losses = [
            ops.mean((real - 1.0) ** 2 + fake**2)
            for real, fake in zip(self.critics([x, y]), self.critics(list(fakes)))
        ]
        return 0.5 * (losses[0] + losses[1])

    def generator_loss(self, first, second):
        """Return (D(G(x)) - 1)² + λ |F(G(x)) - x| + identity, both ways, equation 3."""
        x, y = self._pair(first, second)
        fake_y, fake_x = self.generators([x, y], training=True)
        judged = self.critics([fake_x, fake_y])
        loss = sum(ops.mean((found - 1.0) ** 2) for found in judged)
        # The way forward starts from the first style, the way back from the second.
        again_y, again_x = self.generators([fake_x, fake_y], training=True)
        loss += self.cycle * _error([x, y], [again_x, again_y])
        if self.identity:
            same_y, same_x = self.generators([y, x], training=True)
            loss += self.cycle * self.identity * _error([x, y], [same_x, same_y])
        return loss

    def call(self, images, training=False):
        return self._go(images, "forward", training)

    def back(self, images):
        """Translate a tensor of the second style to the first, in [0, 1]."""
        return self._go(images, "back")

    def translate(self, images, back=False):
        """Return the translation of each image, float32 in [0, 1].

        Args:
            images: (N, height, width, channels): float in [0, 1], or uint8.
            back: Whether they have the second style and shall have the first.
        """
        return self._run("back" if back else "call", self._prepare(images))

    def signatures(self):
        image = {"images": self._blank()}
        return {"translate": ("call", image), "translate_back": ("back", image)}

    def _go(self, images, way, training=False):
        network = self.generators.get_layer(way)
        return 0.5 * network(signed(images), training=training) + 0.5


class Pool(keras.random.SeedGenerator):
    """The last fakes, of which half of what the critic sees is drawn.

    It is state of a training, as a seed is: part of checkpoints, not of the weights.

    Args:
        size: Images kept.
        image_shape: Of one.
    """

    def __init__(self, size, image_shape):
        super().__init__(seed=0)
        self.size = size
        empty = keras.initializers.Constant(2.0)  # 2 is no pixel.
        shape = size, *image_shape
        self.state = keras.Variable(empty, shape, trainable=False, name="pool")

    def swap(self, images, seed):
        """Put images in; return them, or with one half's chance older ones."""
        rows = ops.shape(images)[0]
        empty = ops.cast(ops.any(self.state > 1.0, axis=(1, 2, 3)), "float32")
        # Empty places come first, all else by chance.
        order = ops.argsort(keras.random.uniform((self.size,), seed=seed) - empty)
        places = ops.take(order, ops.arange(rows) % self.size)
        old = ops.take(self.state, places, axis=0)
        full = ops.all(old <= 1.0, axis=(1, 2, 3), keepdims=True)
        coin = keras.random.uniform((rows, 1, 1, 1), seed=seed) < 0.5
        leave = ops.logical_and(full, ops.logical_not(coin))
        kept = ops.where(leave, old, ops.stop_gradient(images))
        self.state.assign(ops.scatter_update(self.state, places[:, None], kept))
        return ops.where(ops.logical_and(full, coin), old, images)


def _both(pair, networks, name):
    outputs = [network(images) for network, images in zip(networks, pair)]
    return keras.Model(pair, outputs, name=name)


def _error(first, second):
    return sum(ops.mean(ops.abs(a - b)) for a, b in zip(first, second))


def _resnet(image_shape, hidden, blocks, name):
    """Return the network from images to images in [-1, 1]."""
    images = keras.Input(image_shape)
    x = layers.Conv2D(hidden[0], 7, padding="same")(images)
    x = layers.ReLU()(instance_norm(x))
    for units in hidden[1:]:
        x = layers.Conv2D(units, 3, 2, padding="same")(x)
        x = layers.ReLU()(instance_norm(x))
    for _ in range(blocks):
        y = layers.Conv2D(hidden[-1], 3, padding="same")(x)
        y = layers.ReLU()(instance_norm(y))
        y = instance_norm(layers.Conv2D(hidden[-1], 3, padding="same")(y))
        x = layers.Add()([x, y])
    for units in reversed(hidden[:-1]):
        x = layers.Conv2DTranspose(units, 4, 2, padding="same")(x)
        x = layers.ReLU()(instance_norm(x))
    how = {"padding": "same", "activation": "tanh", "dtype": "float32"}
    x = layers.Conv2D(image_shape[-1], 7, **how)(x)
    return keras.Model(images, x, name=name)
