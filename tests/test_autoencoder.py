"""What the papers behind the autoencoder promise."""

import keras
import numpy as np
import pytest

import zoo

pytestmark = pytest.mark.maths

pytest.importorskip("sklearn", reason="the density of the codes needs scikit-learn")


def blobs(num=400):
    """Images of two kinds, bright above or bright below, with a little noise."""
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 0.1, (num, 4, 4, 1))
    images[: num // 4, :2] += 0.8  # A quarter are bright above.
    images[num // 4 :, 2:] += 0.8
    return generator.permutation(images).astype("float32")


def trained():
    keras.utils.set_random_seed(0)
    model = zoo.Autoencoder([4, 4, 1], 2, [16], components=2)
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(blobs(), batch_size=50, epochs=40, verbose=0)
    return model


def test_samples_come_from_the_density_of_the_codes():
    model = trained()
    samples = model.generate(1000, seed=0)
    above = samples[:, :2].mean(axis=(1, 2, 3)) > samples[:, 2:].mean(axis=(1, 2, 3))
    assert above.mean() == pytest.approx(0.25, abs=0.06)
    shape = np.cov(model.encode(blobs()).T)
    noise = model.noise(1000, 0)
    shares, means, scales = (
        keras.ops.convert_to_numpy(v) for v in (model.shares, model.means, model.scales)
    )
    chosen = (noise["component"] >= shares[0]).astype(int)
    drawn = means[chosen] + np.einsum("nij,nj->ni", scales[chosen], noise["normal"])
    np.testing.assert_allclose(np.cov(drawn.T), shape, atol=0.2 * np.abs(shape).max())
    np.testing.assert_allclose(model.decode(drawn), samples, atol=1e-4)


def test_an_unusual_picture_scores_lower():
    model = trained()
    usual, unusual = model.score(blobs(50)), model.score(1 - blobs(50))
    assert usual.shape == (50,)
    assert usual.min() > unusual.max()


def test_denoising_learns_the_clean_picture():
    keras.utils.set_random_seed(0)
    model = zoo.Autoencoder([4, 4, 1], 2, [16], corruption=0.3)
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(blobs(), batch_size=50, epochs=40, verbose=0)
    clean = blobs(100)
    noisy = clean + np.random.default_rng(1).normal(0, 0.2, clean.shape)
    noisy = np.clip(noisy, 0, 1).astype("float32")
    before, after = (
        np.mean((noisy - clean) ** 2),
        np.mean((model.reconstruct(noisy) - clean) ** 2),
    )
    assert after < 0.5 * before
