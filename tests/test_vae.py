"""What the papers behind the VAE promise."""

import math

import keras
import numpy as np
import pytest
from keras import ops

import zoo

pytestmark = pytest.mark.maths


def test_with_the_exact_posterior_every_weight_is_the_likelihood():
    """x independent of z: q = p(z) is exact, so log w = log p(x) for any noise."""
    model = zoo.VAE([2, 2, 1], 2, hidden=[])
    for layer in (model.encoder, model.decoder):
        layer.set_weights([np.zeros(w.shape) for w in layer.weights])
    images = np.array([[[[1], [0]], [[1], [1]]]] * 3, "float32")
    score, elbo = model.bounds(images, samples=7)
    np.testing.assert_allclose(score, 4 * math.log(0.5), rtol=1e-6)
    np.testing.assert_allclose(elbo, score, rtol=1e-6)


def test_the_score_is_the_likelihood_of_a_model_summed_by_hand():
    """One latent, one pixel: integrate p(x | z) p(z) on a fine grid."""
    model = zoo.VAE([1, 1, 1], 1, hidden=[])
    model.encoder.set_weights([np.zeros((1, 2)), np.zeros(2)])  # q = p(z)
    slope, bias = 2.0, -0.5
    model.decoder.set_weights([np.array([[slope]]), np.array([bias])])
    z = np.linspace(-8, 8, 20001)
    prior = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    one = np.trapezoid(prior / (1 + np.exp(-(slope * z + bias))), z)
    images = np.array([1, 0], "float32").reshape(2, 1, 1, 1)
    score = model.score(images, samples=20_000)
    np.testing.assert_allclose(score, np.log([one, 1 - one]), atol=0.01)


def test_more_samples_tighten_the_bound():
    keras.utils.set_random_seed(1)
    model = zoo.VAE([4, 4, 1], 2, hidden=[8])
    images = (np.random.default_rng(0).random((64, 4, 4, 1)) < 0.5).astype("float32")
    elbo = model.elbo(images, samples=2000).mean()
    few, many = (model.score(images, samples=k).mean() for k in (2, 500))
    assert elbo < few < many


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_closed_form_bound_is_the_mean_weight(likelihood):
    """objective with k = 1 uses KL in closed form; log_weights samples it."""
    keras.utils.set_random_seed(2)
    model = zoo.VAE([2, 2, 1], 2, hidden=[4], likelihood=likelihood)
    images = np.ones((2000, 2, 2, 1), "float32")
    model.compile()
    closed = model.evaluate(images, batch_size=2000, verbose=0)
    sampled = -model.elbo(images[:2], samples=20_000).mean()
    assert closed == pytest.approx(sampled, abs=0.05)


def test_gaussian_pixels_have_the_normal_density():
    model = zoo.VAE([1, 2, 1], 1, hidden=[], likelihood="gaussian")
    model.decoder.set_weights([np.zeros((1, 2)), np.zeros(2)])  # Mean 1/2.
    model.log_scale.assign(math.log(0.2))
    images = np.array([0.5, 0.9], "float32").reshape(1, 1, 2, 1)
    expected = sum(
        -0.5 * ((x - 0.5) / 0.2) ** 2 - math.log(0.2) - 0.5 * math.log(2 * math.pi)
        for x in (0.5, 0.9)
    )
    codes = ops.zeros((1, 1, 1))
    density = model.log_likelihood(ops.convert_to_tensor(images), codes)
    assert float(ops.convert_to_numpy(density)[0, 0]) == pytest.approx(expected, 1e-5)


def test_beta_weighs_the_divergence_but_not_the_score():
    keras.utils.set_random_seed(3)
    config = {"image_shape": [2, 2, 1], "latent": 2, "hidden": [4]}
    plain, heavy = zoo.VAE(**config), zoo.VAE(**config, beta=4.0)
    plain.encoder.layers[-1].bias.assign([1.0, 2.0, -1.0, 0.5])  # A divergence to see.
    heavy.set_weights(plain.get_weights())
    images = np.ones((8, 2, 2, 1), "float32")
    np.testing.assert_allclose(plain.score(images), heavy.score(images), rtol=1e-6)
    plain.compile()
    heavy.compile()
    assert heavy.evaluate(images, verbose=0) > plain.evaluate(images, verbose=0) + 3


def test_the_label_reaches_encoder_and_decoder():
    keras.utils.set_random_seed(4)
    model = zoo.VAE([4, 4, 1], 2, hidden=[8], classes=3)
    images = np.full((1, 4, 4, 1), 0.5, "float32")
    codes = [model.encode(images, labels=[k]) for k in range(3)]
    pictures = [model.decode(codes[0], labels=[k]) for k in range(3)]
    for first, second in ((codes[0], codes[1]), (pictures[0], pictures[2])):
        assert np.abs(first - second).max() > 1e-3
    for labels in (None, [0, 1]):
        with pytest.raises(ValueError, match="labels"):
            model.encode(images, labels=labels)


def test_interpolation_ends_at_the_reconstructions():
    keras.utils.set_random_seed(5)
    model = zoo.VAE([4, 4, 1], 2, hidden=[8])
    first, second = np.random.default_rng(0).random((2, 3, 4, 4, 1)).astype("float32")
    lines = model.interpolate(first, second, steps=5)
    assert lines.shape == (3, 5, 4, 4, 1)
    np.testing.assert_allclose(lines[:, 0], model.reconstruct(first), atol=1e-5)
    np.testing.assert_allclose(lines[:, -1], model.reconstruct(second), atol=1e-5)
    with pytest.raises(ValueError, match="2 steps or more"):
        model.interpolate(first, second, steps=1)


def test_codes_of_another_size_are_refused():
    model = zoo.VAE([4, 4, 1], 2, hidden=[8])
    with pytest.raises(ValueError, match=r"codes have the shape \(N, 2\)"):
        model.decode(np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"likelihood": "poisson"}, "'bernoulli' or 'gaussian'"),
        ({"network": "recurrent"}, "'dense' or 'convolutional'"),
        ({"network": "convolutional", "image_shape": [6, 6, 1]}, "multiples of 4"),
    ],
)
def test_wrong_arguments_say_the_options(change, text):
    with pytest.raises(ValueError, match=text):
        zoo.VAE(**{"hidden": [4, 4], **change})
