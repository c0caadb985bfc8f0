"""Auto-Encoding Variational Bayes.

Kingma & Welling, 2014, https://arxiv.org/abs/1312.6114; with the importance-weighted
bound of Burda et al., 2016, https://arxiv.org/abs/1509.00519, the weight beta of
Higgins et al., 2017, https://openreview.net/forum?id=Sy2fzU9gl, and, with Gaussian
pixels, one learned variance (Rybkin et al., 2021, https://arxiv.org/abs/2006.13202).
"""

import math

import keras
import numpy as np
from keras import ops

from zoo._model import Model, binarize, unit
from zoo._noise import philox
from zoo.autoencoders._codes import Codes
from zoo.autoencoders._networks import decoder, encoder

LOG_2PI = math.log(2 * math.pi)


class VAE(Codes, Model):
    """A decoder of latent codes, learned with an encoder that bounds its likelihood.

    Args:
        image_shape: Height, width and channels of the images.
        latent: Number of latent variables, standard normal a priori.
        hidden: Units of the dense layers, or channels of the convolutions that each
            halve the image.
        network: "dense" or "convolutional".
        activation: Name of the nonlinearity between layers.
        likelihood: "bernoulli": pixels are coin flips, drawn afresh from the grey
            values at each step; "gaussian": real numbers with one learned variance.
        beta: Weight of the Kullback-Leibler term; above 1, codes disentangle.
        samples: Importance samples of the training bound; above 1, this is an IWAE.
        classes: Number of labels to condition on; None for none.
        neck: Channels of the smallest plane as the dense layers of a convolutional
            network see it; None: all. A few save most of its weights.
    """

    def __init__(
        self,
        image_shape=(28, 28, 1),
        latent=32,
        hidden=(512, 512),
        network="dense",
        activation="relu",
        likelihood="bernoulli",
        beta=1.0,
        samples=1,
        classes=None,
        neck=None,
    ):
        super().__init__()
        if likelihood not in ("bernoulli", "gaussian"):
            raise ValueError(
                f"likelihood is 'bernoulli' or 'gaussian', not {likelihood!r}."
            )
        self.image_shape, self.latent, self.classes = (
            tuple(image_shape),
            latent,
            classes,
        )
        self.likelihood, self.beta, self.samples = likelihood, beta, samples
        self.pixels = math.prod(image_shape)
        self.encoder = encoder(
            image_shape, hidden, 2 * latent, network, activation, neck, classes
        )
        self.decoder = decoder(
            image_shape, hidden, latent, network, activation, neck, classes
        )
        if likelihood == "gaussian":
            self.log_scale = self.add_weight(
                shape=(),
                initializer=keras.initializers.Constant(-1.0),
                name="log_scale",
            )
        self.seed = keras.random.SeedGenerator()
        self.built = True

    # The model: p(z) p(x | z) and the approximate posterior q(z | x)

    def posterior(self, images, labels=None):
        """Return the mean and log-variance of q(z | x), each (n, latent)."""
        codes = self.encoder(self._with(unit(images), labels))
        mean, log_variance = ops.split(ops.cast(codes, "float32"), 2, axis=-1)
        return mean, log_variance

    def logits(self, codes, labels=None):
        """Return what p(x | z) is made from, (n, height, width, channels)."""
        return ops.cast(self.decoder(self._with(codes, labels)), "float32")

    def log_likelihood(self, images, codes, labels=None):
        """Return log p(x | z) in nats for k codes a picture.

        Args:
            images: (n, height, width, channels), binary for a Bernoulli likelihood.
            codes: (n, k, latent).
            labels: (n,) for a model with `classes`.

        Returns:
            (n, k).
        """
        k = codes.shape[1]
        if labels is not None:
            labels = ops.repeat(labels, k, axis=0)
        out = self.logits(ops.reshape(codes, (-1, self.latent)), labels)
        out = ops.reshape(out, (-1, k, self.pixels))  # Flat: XLA vectorises it.
        images = ops.reshape(images, (-1, 1, self.pixels))
        if self.likelihood == "bernoulli":
            return ops.sum(images * out - ops.softplus(out), axis=-1)
        error = (images - ops.sigmoid(out)) * ops.exp(-self.log_scale)
        return ops.sum(-0.5 * (error**2 + LOG_2PI) - self.log_scale, axis=-1)

    def log_weights(self, images, noise, labels=None, beta=1.0):
        """Return log p(x | z) + beta (log p(z) - log q(z | x)) for k codes a picture.

        Args:
            images, labels: As in `log_likelihood`.
            noise: Standard normal, (n, k, latent).
            beta: Weight of the second term.

        Returns:
            Nats, (n, k). With beta = 1 their mean bounds log p(x) from below.
        """
        mean, log_variance = (v[:, None] for v in self.posterior(images, labels))
        codes = mean + ops.exp(0.5 * log_variance) * noise
        ratio = 0.5 * ops.sum(noise**2 + log_variance - codes**2, axis=-1)
        return self.log_likelihood(images, codes, labels) + beta * ratio

    def objective(self, images, labels=None):
        """Return the negative bound in nats: the ELBO, or the IWAE bound for k > 1."""
        images = ops.reshape(unit(images), (-1, self.pixels))
        n = ops.shape(images)[0]
        if self.likelihood == "bernoulli":
            coin = keras.random.uniform((n, self.pixels), seed=self.seed)
            images = ops.cast(coin < images, "float32")
        images = ops.reshape(images, (n, *self.image_shape))
        noise = keras.random.normal((n, self.samples, self.latent), seed=self.seed)
        if self.samples > 1:
            weights = self.log_weights(images, noise, labels, self.beta)
            return math.log(self.samples) - ops.mean(ops.logsumexp(weights, axis=1))
        mean, log_variance = self.posterior(images, labels)
        codes = mean + ops.exp(0.5 * log_variance) * noise[:, 0]
        divergence = 0.5 * ops.sum(  # KL(q || p) in closed form, Appendix B.
            ops.exp(log_variance) + mean**2 - 1 - log_variance, axis=-1
        )
        likelihood = self.log_likelihood(images, codes[:, None], labels)[:, 0]
        return ops.mean(self.beta * divergence - likelihood)

    def noise(self, num, seed=None):
        """Draw latent codes from the prior, (num, latent)."""
        return philox(seed).standard_normal((num, self.latent), dtype="float32")

    def sample(self, noise, labels=None):
        """Return the mean pictures of latent codes, in [0, 1]."""
        return self.picture(noise, labels)

    def code(self, images, labels=None):
        return self.posterior(images, labels)[0]

    def picture(self, codes, labels=None):
        return ops.sigmoid(self.logits(codes, labels))

    # What a user asks of it

    def score(self, images, labels=None, samples=100, seed=0):
        """Return log p(x) of each picture in nats, estimated by importance sampling.

        Args:
            images: (N, height, width, channels). A Bernoulli likelihood takes 0 and
                1; grey pixels are drawn once, black or white, with `seed`.
            labels: (N,) for a model with `classes`.
            samples: Importance samples. The estimate is low by less the more.
            seed: Of the samples.

        Returns:
            NumPy array (N,), higher is likelier.
        """
        return self.bounds(images, labels, samples, seed)[0]

    def elbo(self, images, labels=None, samples=100, seed=0):
        """Return the evidence lower bound of each picture in nats; as `score`."""
        return self.bounds(images, labels, samples, seed)[1]

    def bounds(self, images, labels=None, samples=100, seed=0, progress=None):
        """Return `score` and `elbo` from the same importance samples, (N,) each.

        Args:
            images, labels, samples, seed: As in `score`.
            progress: Called with the share of pictures done, if given.
        """
        images, *labels = self._pictures(images, labels)
        images = images.astype("float32") / (255 if images.dtype == np.uint8 else 1)
        generator = philox(seed)
        if self.likelihood == "bernoulli":
            images = binarize(images, generator)
        scores, elbos = [], []
        for start in range(0, len(images), 64):
            part = [a[start : start + 64] for a in (images, *labels)]
            best, total, mean = -np.inf, 0.0, 0.0  # A running log-sum-exp.
            for first in range(0, samples, 50):
                k = min(50, samples - first)
                shape = (len(part[0]), k, self.latent)
                noise = generator.standard_normal(shape, dtype="float32")
                arrays = (part[0], noise, *part[1:])
                weights = self._run("log_weights", *arrays, rows=64).astype("float64")
                top = np.maximum(best, weights.max(axis=1))
                total = total * np.exp(best - top)
                total = total + np.exp(weights - top[:, None]).sum(axis=1)
                best, mean = top, mean + weights.sum(axis=1) / samples
            scores.append(best + np.log(total / samples))
            elbos.append(mean)
            if progress:
                progress(min(1.0, (start + 64) / len(images)))
        return np.concatenate(scores), np.concatenate(elbos)
