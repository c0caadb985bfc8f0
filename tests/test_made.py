"""What MADE promises: a likelihood that sums to one, and samples of that very one."""

import itertools

import keras
import numpy as np
import pytest

import zoo
from zoo.tools._measures import measure
from zoo.trainers.data import Data

pytestmark = pytest.mark.maths


def build(shape=(2, 3, 1), hidden=7, scale=2.0, **changes):
    """A MADE of large random weights and biases, so that pixels depend on others."""
    keras.utils.set_random_seed(0)
    model, random = zoo.MADE(shape, hidden, **changes), np.random.default_rng(1)
    model.set_weights(
        [scale * random.normal(size=w.shape) for w in model.get_weights()]
    )
    return model


def every_image(shape):
    bits = list(itertools.product((0, 1), repeat=int(np.prod(shape))))
    return np.array(bits, "float32").reshape(-1, *shape)


@pytest.mark.parametrize("hidden", [1, 4, 7])
def test_the_likelihoods_of_all_images_sum_to_one(hidden):
    model = build(hidden=hidden)
    likely = np.exp(model.score(every_image((2, 3, 1))).astype("float64"))
    assert likely.sum() == pytest.approx(1, abs=1e-5)
    assert likely.max() > 0.1  # No coin tossed evenly: that would be 1/64 each.


def test_a_pixel_depends_on_all_before_it_and_on_none_after():
    model, images = build((2, 3, 1), hidden=50), every_image((2, 3, 1))
    logits = model._run("call", images).reshape(-1, 6)
    for pixel in range(6):
        turned = images.reshape(-1, 6).copy()
        turned[:, pixel] = 1 - turned[:, pixel]
        changed = model._run("call", turned.reshape(images.shape)).reshape(-1, 6)
        moved = np.abs(changed - logits).max(axis=0)
        assert (moved[: pixel + 1] == 0).all()
        assert (moved[pixel + 1 :] > 1e-3).all()


def test_each_sample_is_white_where_its_noise_is_below_its_odds():
    model = build((4, 3, 2), hidden=20, scale=0.7)
    noise = model.noise(200, seed=3)
    samples = model.generate(200, seed=3)
    assert set(np.unique(samples)) == {0, 1}
    odds = 1 / (1 + np.exp(-model._run("call", samples).reshape(200, -1)))
    np.testing.assert_array_equal(samples.reshape(200, -1), noise < odds)


def test_samples_come_as_often_as_they_are_likely():
    model, images = build((2, 2, 1), scale=1.0), every_image((2, 2, 1))
    expected = np.exp(model.score(images))
    samples = model.generate(20_000, seed=0).reshape(-1, 4) @ [8, 4, 2, 1]
    found = np.bincount(samples.astype(int), minlength=16) / 20_000
    np.testing.assert_allclose(found, expected, atol=0.012)


def test_grey_images_are_drawn_once_with_the_seed():
    model, grey = build(), np.full((3, 2, 3, 1), 0.5, "float32")
    np.testing.assert_array_equal(model.score(grey, seed=1), model.score(grey, seed=1))
    assert (model.score(grey, seed=1) != model.score(grey, seed=2)).any()


def test_what_evaluate_measures_is_the_score():
    model, images = build(), every_image((2, 3, 1))
    data = Data(255 * images.astype("uint8"))
    nll = measure(model, data, {"nll": {}})["nll"]
    assert nll == pytest.approx(-model.score(images).mean())
    with pytest.raises(ValueError, match="A MADE has no elbo"):
        measure(model, data, {"elbo": {}})


def test_it_learns_a_dependence_exactly():
    """Pixel two is pixel one: a fair coin and a certainty, ln 2 nats in all."""
    keras.utils.set_random_seed(0)
    model = zoo.MADE((1, 2, 1), hidden=2)
    images = np.array([[0, 0], [1, 1]] * 640, "float32").reshape(-1, 1, 2, 1)
    model.compile(keras.optimizers.Adam(0.1))
    model.fit(images, batch_size=128, epochs=30, verbose=0)
    assert -model.score(images).mean() == pytest.approx(np.log(2), abs=0.02)


@pytest.mark.parametrize(
    "arguments", [{"image_shape": (1, 1, 1)}, {"hidden": 0}, {"dropout": 1.0}]
)
def test_sizes_that_cannot_be_are_refused(arguments):
    with pytest.raises(ValueError, match="MADE takes images of 2 pixels or more"):
        zoo.MADE(**arguments)
