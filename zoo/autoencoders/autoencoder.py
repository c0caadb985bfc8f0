"""Reducing the Dimensionality of Data with Neural Networks.

Hinton & Salakhutdinov, 2006, https://doi.org/10.1126/science.1127647; with noise on
the input as in Vincent et al., 2008, https://doi.org/10.1145/1390156.1390294. After
training a mixture of Gaussians is fitted to the codes, so that it too can generate
(Ghosh et al., 2020, https://arxiv.org/abs/1903.12436).
"""

import importlib.util

import keras
import numpy as np
from keras import ops

from zoo._model import Model, unit
from zoo._noise import philox
from zoo.autoencoders._codes import Codes
from zoo.autoencoders._networks import decoder, encoder


class Autoencoder(Codes, Model):
    """An encoder to few numbers and a decoder back, learned by squared error.

    Args:
        image_shape: Height, width and channels of the images.
        latent: Numbers in a code.
        hidden: Units of the dense layers, or channels of the convolutions that each
            halve the image.
        network: "dense" or "convolutional".
        activation: Name of the nonlinearity between layers.
        corruption: Standard deviation of the noise on the input; above 0, this is a
            denoising autoencoder.
        penalty: Weight of the mean squared code, which keeps the codes together.
        components: Gaussians in the density of the codes.
        neck: Channels of the smallest plane as the dense layers of a convolutional
            network see it; None: all. A few save most of its weights.
    """

    def __init__(
        self,
        image_shape=(28, 28, 1),
        latent=16,
        hidden=(512, 256),
        network="dense",
        activation="relu",
        corruption=0.0,
        penalty=1e-4,
        components=10,
        neck=None,
    ):
        super().__init__()
        self.image_shape, self.latent = tuple(image_shape), latent
        self.corruption, self.penalty = corruption, penalty
        shape = hidden, latent, network, activation, neck
        self.encoder = encoder(image_shape, *shape)
        self.decoder = decoder(image_shape, *shape)
        frozen = {"trainable": False}
        self.shares = self.add_weight(
            (components,), keras.initializers.Constant(1 / components), **frozen
        )
        self.means = self.add_weight((components, latent), "zeros", **frozen)
        self.scales = self.add_weight(
            (components, latent, latent), _identities, **frozen
        )  # Cholesky factors of the covariances.
        self.seed = keras.random.SeedGenerator()
        self.built = True

    def code(self, images, labels=None):
        return ops.cast(self.encoder(unit(images)), "float32")

    def picture(self, codes, labels=None):
        return ops.sigmoid(ops.cast(self.decoder(codes), "float32"))

    def objective(self, images):
        """Return the squared error summed over pixels, plus the penalty on codes."""
        images = seen = unit(images)
        if self.corruption:
            noise = keras.random.normal(ops.shape(images), seed=self.seed)
            seen = images + self.corruption * noise
        codes = self.code(seen)
        error = ops.sum((self.picture(codes) - images) ** 2, axis=(1, 2, 3))
        return ops.mean(error + self.penalty * ops.sum(codes**2, axis=-1))

    def fit(self, x=None, y=None, **kwargs):
        """Train, then fit the density of the codes; see `Model.fit`."""
        _mixture()  # Fail before training, not after.
        history = super().fit(x, y, **kwargs)
        self.fit_density(x)
        return history

    def fit_density(self, images, most=20_000):
        """Fit the mixture of Gaussians that `generate` draws codes from.

        Args:
            images: (N, height, width, channels), or a `PyDataset` that yields them.
            most: Codes to fit to; the first so many.
        """
        mixture_class = _mixture()
        codes = [self.encode(part) for part in _parts(images, most)]
        codes = np.concatenate(codes)[:most]
        mixture = mixture_class(
            min(self.config["components"], len(codes) // 2),
            reg_covar=1e-4,
            random_state=0,
        ).fit(codes)
        count = len(mixture.weights_)
        for variable, values in (
            (self.shares, mixture.weights_),
            (self.means, mixture.means_),
            (self.scales, np.linalg.cholesky(mixture.covariances_)),
        ):
            padded = np.zeros(variable.shape, "float32")
            padded[:count] = values
            variable.assign(padded)

    def noise(self, num, seed=None):
        """Draw a uniform number to choose a Gaussian, and standard normal codes.

        Returns:
            dict: "component" (num,) in [0, 1) and "normal" (num, latent), float32.
        """
        normal = philox(seed, 1).standard_normal((num, self.latent), dtype="float32")
        return {
            "component": philox(seed).random(num, dtype="float32"),
            "normal": normal,
        }

    def sample(self, noise):
        """Return pictures of codes drawn from the mixture, in [0, 1]."""
        edges = ops.cumsum(self.shares)[:-1]
        chosen = ops.sum(
            ops.cast(noise["component"][:, None] >= edges, "int32"), axis=1
        )
        means = ops.take(self.means, chosen, axis=0)  # (n, latent)
        scales = ops.take(self.scales, chosen, axis=0)  # (n, latent, latent)
        codes = means + ops.squeeze(scales @ noise["normal"][..., None], -1)
        return self.picture(codes)

    def score(self, images):
        """Return how well the model knows each picture: the higher, the more usual.

        Not nats: minus the squared error of the reconstruction, summed over pixels,
        so that low scores mark anomalies.

        Args:
            images: (N, height, width, channels): float in [0, 1], or uint8.

        Returns:
            NumPy array (N,), at most 0.
        """
        return -self._run("error", *self._pictures(images, None))

    def error(self, images):
        """Return the squared error of the reconstruction, summed over pixels, (n,)."""
        return ops.sum((self(images) - unit(images)) ** 2, axis=(1, 2, 3))


def _mixture():
    if importlib.util.find_spec("sklearn") is None:
        raise ImportError(
            "The density of an Autoencoder's codes is fitted by scikit-learn: "
            'pip install "generative-zoo[data]".'
        )
    from sklearn.mixture import GaussianMixture

    return GaussianMixture


def _parts(images, most):
    """Yield arrays of images, about `most` in all, from an array or a dataset."""
    if isinstance(images, np.ndarray):
        yield images[:most]
        return
    seen = 0
    for batch in (images[i] for i in range(len(images))):
        part = np.asarray(batch[0] if isinstance(batch, tuple) else batch)
        yield part
        seen += len(part)
        if seen >= most:
            return


def _identities(shape, dtype=None):
    return ops.zeros(shape, dtype=dtype) + ops.eye(shape[-1], dtype=dtype)
