"""Distances of samples from real images, by name, with a small judge."""

import keras
import numpy as np
import pytest

import zoo
from zoo import metrics
from zoo.tools import _distances, _measures, _translation
from zoo.trainers.data import Data

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets") / "judge"
    keras.utils.set_random_seed(0)
    model = zoo.Classifier([8, 8, 1], 3, [4], 5)
    model.save_preset(folder)
    return folder


@pytest.fixture
def named(judge, monkeypatch):
    """Let the judge's folder be found by a plain name."""
    load = zoo.load
    monkeypatch.setattr(zoo, "load", lambda n: load(judge if n == "judge" else n))
    return load(judge)


def images(seed, num=60, channels=1):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 255, (num, 8, 8, channels)).astype("uint8")


def measured(model, name, test, train, **options):
    wanted = {name: {"few": True, **options}}
    return _measures.measure(model, test, wanted, train=lambda: train)[name]


def test_a_distance_is_that_of_the_features(named):
    keras.utils.set_random_seed(1)
    model = zoo.DCGAN([8, 8, 1], 4, [8])
    test, train = Data(images(0)), Data(images(1, 90))
    real, fake = named.features(test[:40]), named.features(model.generate(40, seed=0))
    found = measured(model, "FD[judge]@40", test, train)
    assert found == pytest.approx(metrics.frechet_distance(real, fake), rel=1e-6)
    rows = np.random.default_rng(0).permutation(90)[:40]
    floor = metrics.frechet_distance(real, named.features(train[rows]))
    assert measured(model, "FD floor[judge]@40", test, train) == pytest.approx(floor)
    assert floor != pytest.approx(found)
    for name, function in (
        ("recall", metrics.precision_recall),
        ("coverage", metrics.density_coverage),
    ):
        found = measured(model, f"{name}[judge]@40", test, train)
        assert found == function(real, fake)[name]
    pixels = (images.reshape(40, -1) / 255 for images in (test[:40], train[rows]))
    found = measured(model, "KD floor[pixels]@40", test, train)
    assert found == pytest.approx(metrics.kernel_distance(*pixels), rel=1e-4)


def test_copies_of_the_training_set_are_found():
    class Copier:
        image_shape, classes, pairs = (8, 8, 1), None, False

        def generate(self, num, seed):
            return images(1)[:num] / np.float32(255)

    test, train = Data(images(0)), Data(images(1))
    found = measured(Copier(), "memorization[pixels]@30", test, train)
    assert found == pytest.approx(0, abs=1e-3)


def test_modes_of_stacked_digits_are_read_channel_by_channel(named):
    class Three:
        image_shape, classes, pairs = (8, 8, 3), None, False

        def generate(self, num, seed):
            return images(5, num, 3) / np.float32(255)

    test, train = Data(images(3, 50, 3)), Data(images(4, 50, 3))
    sets = _distances.Sets(Three(), test, lambda: train, "judge", 50)
    single = [
        named.classify(test[np.arange(50)][..., [c]]).argmax(-1) for c in range(3)
    ]
    expected = 9 * single[0] + 3 * single[1] + single[2]
    np.testing.assert_array_equal(sets.labels("test"), expected)
    assert sets.classes == 27
    found = measured(Three(), "modes floor[judge]@50", test, train)
    assert found == len(np.unique(sets.labels("train")))
    shares = np.bincount(sets.labels("fake"), minlength=27) / 50
    shares = shares[shares > 0]
    found = measured(Three(), "mode KL[judge]@50", test, train)
    assert found == pytest.approx((shares * np.log(shares * 27)).sum())


def test_few_samples_are_refused_unless_asked_for():
    model = zoo.DCGAN([8, 8, 1], 4, [8])
    with pytest.raises(ValueError, match="2,000 samples or more.*here 60.*--few"):
        _measures.measure(model, Data(images(0)), {"FD[pixels]@10k": {}})


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(
        ValueError, match="no metric FID; .*FD, KD.*FD\\[lenet-mnist\\]"
    ):
        _measures.measure(None, None, {"FID": {}})
    parse = _distances.parse
    assert parse("FD[lenet-mnist]@10k") == ("FD", "fake", "lenet-mnist", 10_000)
    assert parse("class KL floor[a-b]@354") == ("class KL", "train", "a-b", 354)
    assert parse("FD[lenet-mnist]") is None
    assert _distances.of_at_most("FD floor[a]@10k", 500) == "FD floor[a]@500"
    assert _distances.spelled("FD", "a", 10_000, "train") == "FD floor[a]@10k"


def test_translations_stand_beside_what_needs_no_learning(judge):
    drawing = np.ones((1, 8, 8, 1), "float32")
    drawing[:, 2, 2:6] = drawing[:, 5, 2:6] = drawing[:, 2:6, 2] = drawing[
        :, 2:6, 5
    ] = 0
    filled = drawing.copy()
    filled[:, 3:5, 3:5] = 0.5
    np.testing.assert_array_equal(_translation.grey_fill(drawing), filled)
    drawing[:, 2, 3] = 1  # The line is open: nothing is enclosed.
    np.testing.assert_array_equal(_translation.grey_fill(drawing), drawing)

    class Copier:
        image_shape, classes, pairs = (8, 8, 1), None, True

        def translate(self, images, back=False):
            return np.clip(images + (-0.1 if back else 0.2), 0, 1)

    test = Data(images(0, 20) // 2, images(1, 20))
    train = Data(images(2, 30), images(3, 30))
    names = "mae", "perceptual", "mae of nearest drawing", "mae of grey fill"
    wanted = dict.fromkeys(names, {"judge": str(judge)}) | {"cycle error": {}}
    found = _measures.measure(Copier(), test, wanted, train=lambda: train)
    first, second = test.images / 255, test.labels / 255
    assert found["mae"] == pytest.approx(np.abs(first + 0.2 - second).mean(), rel=1e-5)
    index, _ = metrics.nearest(first, train.images / 255)
    nearest = np.abs(train.labels[index] / 255 - second).mean()
    assert found["mae of nearest drawing"] == pytest.approx(nearest, rel=1e-5)
    assert found["perceptual"] > 0
    forth = np.abs(first + 0.1 - first).mean()
    again = np.clip(np.clip(second - 0.1, 0, 1) + 0.2, 0, 1)
    expected = (forth + np.abs(again - second).mean()) / 2
    assert found["cycle error"] == pytest.approx(expected, rel=1e-4)
