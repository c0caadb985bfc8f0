"""Metrics of generative models against other code, theory and plain loops."""

import warnings

import numpy as np
import pytest

from zoo import metrics
from zoo.metrics import _pairs

pytestmark = pytest.mark.once

PAIRS = {
    "frechet_distance": (metrics.frechet_distance, "first", "second", 2),
    "kernel_distance": (metrics.kernel_distance, "first", "second", 2),
    "precision_recall": (metrics.precision_recall, "real", "fake", 1),
    "density_coverage": (metrics.density_coverage, "real", "fake", 1),
    "nearest": (metrics.nearest, "rows", "train", 1),
    "memorization": (
        lambda a, b: metrics.memorization(a, b, np.add(b, 1)),
        "fake",
        "train",
        1,
    ),
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# Fréchet distance


def by_scipy(first, second, sqrtm):
    s1, s2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    shift = np.sum((first.mean(axis=0) - second.mean(axis=0)) ** 2)
    return shift + np.trace(s1 + s2) - 2 * np.trace(sqrtm(s1 @ s2)).real


@pytest.mark.parametrize("rows", [200, 13])
def test_frechet_distance_agrees_with_scipy(rows):
    linalg = pytest.importorskip("scipy.linalg", reason="needs [data]")
    first = normal(rows, 8, seed=1) @ normal(8, 8, seed=2) + 1
    second = normal(2 * rows, 8, seed=3) @ normal(8, 8, seed=4)
    expected = by_scipy(first, second, linalg.sqrtm)
    assert metrics.frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_singular_covariances():
    linalg = pytest.importorskip("scipy.linalg", reason="needs [data]")
    first, second = normal(5, 12, seed=1), normal(7, 12, seed=2)
    with warnings.catch_warnings():  # SciPy says that they are singular.
        warnings.simplefilter("ignore")
        expected = by_scipy(first, second, linalg.sqrtm)
    assert metrics.frechet_distance(first, second) == pytest.approx(expected, rel=1e-5)
    # More columns that say nothing more leave the distance what it is.
    thin, other = normal(50, 3, seed=3), 2 * normal(40, 3, seed=4)
    basis = np.linalg.qr(normal(20, 3, seed=5))[0].T
    wide = metrics.frechet_distance(thin @ basis, other @ basis)
    assert wide == pytest.approx(metrics.frechet_distance(thin, other), rel=1e-10)


def test_frechet_distance_by_hand():
    # In one dimension: (m1 - m2)^2 + (s1 - s2)^2; here means 1, 5, variances 2, 8.
    assert metrics.frechet_distance([[0], [2]], [[3], [7]]) == pytest.approx(16 + 2)
    rows, shift = normal(40, 6), np.arange(6.0)
    shifted = metrics.frechet_distance(rows, rows + shift)
    assert shifted == pytest.approx(np.sum(shift**2), rel=1e-12)
    wide = normal(4, 5, 5, 2)  # Fewer rows than columns, and images.
    assert 0 <= metrics.frechet_distance(wide, wide) < 1e-12
    assert isinstance(metrics.frechet_distance(wide, wide), float)


@pytest.mark.parametrize(("rows", "draws"), [(500, 8), (10_000, 2)])
def test_frechet_distance_of_two_draws_is_its_known_bias(rows, draws):
    # Both sets have N rows of N(0, I). The means differ by N(0, 2 I / N): 2 d / N.
    # For S = I + E, tr(S1 + S2 - 2 (S1 S2)^(1/2)) is |E1 - E2|^2 / 4 to second order,
    # as (sqrt(1 + a) - sqrt(1 + b))^2 is (a - b)^2 / 4. Of a Wishart matrix of N - 1
    # degrees, E has variance 2 / (N - 1) on the diagonal and 1 / (N - 1) off it;
    # E1 - E2 has twice that: (4 d + 2 d (d - 1)) / (N - 1) / 4 in all.
    # So 2 d / N + d (d + 1) / (2 (N - 1)): 7.49 for N = 500, 0.374 for N = 10,000.
    d = 84
    expected = 2 * d / rows + d * (d + 1) / (2 * (rows - 1))
    found = [
        metrics.frechet_distance(normal(rows, d, seed=s), normal(rows, d, seed=s + 1))
        for s in range(0, 2 * draws, 2)
    ]
    assert np.mean(found) == pytest.approx(expected, rel=0.05)


# Kernel distance


def test_kernel_distance_agrees_with_loops(monkeypatch):
    first, second = normal(7, 3, seed=1), normal(5, 3, seed=2) + 0.5

    def mean(a, b, same):
        return np.mean(
            [
                (x @ y / 3 + 1) ** 3
                for i, x in enumerate(a)
                for j, y in enumerate(b)
                if not same or i != j
            ]
        )

    expected = mean(first, first, True) + mean(second, second, True)
    expected -= 2 * mean(first, second, False)
    found = metrics.kernel_distance(first, second)
    assert found == pytest.approx(expected, rel=1e-12)
    assert isinstance(found, float)
    monkeypatch.setattr(_pairs, "ENTRIES", 10)  # Blocks of one or two rows.
    assert metrics.kernel_distance(first, second) == pytest.approx(found, rel=1e-12)


def test_kernel_distance_is_unbiased():
    found = [
        metrics.kernel_distance(
            normal(20, 4, seed=2 * s), normal(30, 4, seed=2 * s + 1)
        )
        for s in range(400)
    ]
    assert min(found) < 0
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
    assert metrics.kernel_distance(normal(50, 4), normal(50, 4, seed=1) + 1) > 1


# Balls of the nearest neighbours


def balls(rows, nearest):
    """The radius of each row's ball, by sorting its distances to the others."""
    return [
        sorted(np.sum((x - y) ** 2) for j, y in enumerate(rows) if j != i)[nearest - 1]
        for i, x in enumerate(rows)
    ]


def held(points, rows, nearest):
    """Whether point i is in the ball of row j."""
    reach = balls(rows, nearest)
    return np.array(
        [[np.sum((p - x) ** 2) <= r for x, r in zip(rows, reach)] for p in points]
    )


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("nearest", [1, 3, 5])
def test_balls_agree_with_loops(ties, nearest, monkeypatch):
    real, fake = normal(30, 2, seed=1), 1.5 * normal(20, 2, seed=2)
    if ties:  # On a grid, many rows are on the edge of a ball, which is inside.
        real, fake = np.round(2 * real) + 100, np.round(2 * fake) + 100
    inside = held(fake, real, nearest)
    expected = {
        "precision": np.mean(inside.any(axis=1)),
        "recall": np.mean(held(real, fake, nearest).any(axis=1)),
    }
    other = {
        "density": inside.sum() / (nearest * len(fake)),
        "coverage": np.mean(inside.any(axis=0)),
    }
    for entries in (_pairs.ENTRIES, 70):  # In one go, and in blocks of two or three.
        monkeypatch.setattr(_pairs, "ENTRIES", entries)
        found = metrics.precision_recall(real, fake, nearest=nearest)
        assert found == pytest.approx(expected)
        found = metrics.density_coverage(real, fake, nearest=nearest)
        assert found == pytest.approx(other)


def test_half_the_modes_is_half_the_recall():
    real = 0.1 * normal(400, 2)
    real[200:] += 10
    fake = real[:200] + 1e-5 * normal(200, 2, seed=1)
    found = metrics.precision_recall(real, fake)
    assert found == {"precision": 1.0, "recall": 0.5}
    found = metrics.density_coverage(real, fake)
    assert found["density"] > 1
    assert found["coverage"] == 0.5


def test_balls_of_like_sets():
    real, fake = normal(1000, 8, seed=1), normal(1000, 8, seed=2)
    found = metrics.density_coverage(real, fake)
    assert found["density"] == pytest.approx(1, abs=0.05)
    # A ball is empty when the k nearest of the 2 N - 1 other rows are all real:
    # (N - 1) ... (N - k) / ((2 N - 1) ... (2 N - k)) (Naeem et al.).
    empty = np.prod([(1000 - i) / (2000 - i) for i in range(1, 6)])
    assert found["coverage"] == pytest.approx(1 - empty, abs=0.015)
    same = metrics.density_coverage(real, real)
    assert same == {"density": 6 / 5, "coverage": 1.0}
    assert metrics.precision_recall(real, real) == {"precision": 1.0, "recall": 1.0}


@pytest.mark.parametrize("nearest", [0, 10, 2.0, True])
def test_balls_refuse_a_wrong_nearest(nearest):
    for metric in (metrics.precision_recall, metrics.density_coverage):
        told = "1 or more and below the 10 rows of real, not "
        with pytest.raises(ValueError, match=f"{told}{nearest}"):
            metric(normal(10, 2), normal(20, 2), nearest=nearest)
    with pytest.raises(ValueError, match="below the 3 rows of fake, not 3"):
        metrics.precision_recall(normal(10, 2), normal(3, 2))


# Classes


def test_class_histogram_and_modes():
    labels = np.array([0, 2, 2, 3], "uint8")
    assert metrics.class_histogram(labels, 5).tolist() == [0.25, 0, 0.5, 0.25, 0]
    assert metrics.modes_found([7, 999, 7], 1000) == 2
    assert metrics.modes_found(np.array([1], "uint64"), 2) == 1


def test_histogram_kl_by_hand():
    expected = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert metrics.histogram_kl([0.5, 0.5], [0.25, 0.75]) == pytest.approx(expected)
    assert metrics.histogram_kl([1, 0], [0.5, 0.5]) == pytest.approx(np.log(2))
    assert metrics.histogram_kl([0.5, 0.5], [1, 0]) == np.inf
    assert metrics.histogram_kl([0.3, 0.7, 0], [0.3, 0.7, 0]) == 0.0


def test_classes_refuse_what_is_none():
    for labels in ([], [0.0, 1.0], [[0, 1]], 3, [True]):
        with pytest.raises(ValueError, match="whole numbers of the shape .N,."):
            metrics.class_histogram(labels, 2)
    for labels, wrong in (([0, 2], 2), ([-1, 0], -1)):
        with pytest.raises(ValueError, match=f"from 0 to 1, not {wrong}"):
            metrics.modes_found(labels, 2)
    for classes in (0, 2.0, True):
        with pytest.raises(ValueError, match=f"1 or more, not {classes}"):
            metrics.modes_found([0], classes)
    for shares in ([0.5, 0.4], [1.5, -0.5], [[1.0]], [np.nan, 1], []):
        with pytest.raises(ValueError, match="shares has the shape .classes,., no"):
            metrics.histogram_kl(shares, [0.5, 0.5])
    with pytest.raises(ValueError, match="reference has .* the sum 0.9"):
        metrics.histogram_kl([1.0], [0.9])
    with pytest.raises(ValueError, match="same classes, not 1 and 2"):
        metrics.histogram_kl([1.0], [0.5, 0.5])


# Memorization


def test_nearest(monkeypatch):
    rows, train = normal(9, 2, 3, seed=1), normal(20, 2, 3, seed=2) + 1000
    rows += 1000
    rows[4] = train[7]
    squared = np.sum((rows[:, None] - train) ** 2, axis=(2, 3))
    for entries in (_pairs.ENTRIES, 45):
        monkeypatch.setattr(_pairs, "ENTRIES", entries)
        indices, distances = metrics.nearest(rows, train)
        assert indices.tolist() == squared.argmin(axis=1).tolist()
        np.testing.assert_allclose(distances, np.sqrt(squared.min(axis=1)))
        assert (indices[4], distances[4]) == (7, 0)


def test_memorization():
    train, held_out = normal(2000, 4, seed=1), normal(2000, 4, seed=2)
    copies = metrics.memorization(train[::2], train, held_out)
    assert copies == {"ratio": 0.0, "share": 1.0}
    fresh = metrics.memorization(normal(2000, 4, seed=3), train, held_out)
    assert fresh["ratio"] == pytest.approx(1, abs=0.05)
    assert fresh["share"] == pytest.approx(0.01, abs=0.008)
    far = metrics.memorization(normal(100, 4) + 50, train, held_out)
    assert far["ratio"] > 50
    assert far["share"] == 0
    # Data that repeat themselves: copies are still told.
    held_out[:100] = train[:100]
    assert metrics.memorization(train[:50], train, held_out)["share"] == 1
    with pytest.raises(ValueError, match="of its 3 rows 2 are in train"):
        metrics.memorization(train, train, np.r_[train[:2], held_out[-1:]])


# What all of them refuse


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_refuse_what_are_no_features(name):
    metric, first, second, least = PAIRS[name]
    rows, told = normal(10, 2), f"has the shape .N, d. .* N of {least} or more, not"
    for wrong in (np.ones(10), np.ones((least - 1, 2)), np.ones((10, 0)), 1.0):
        with pytest.raises(ValueError, match=f"{first} {told}"):
            metric(wrong, rows)
        with pytest.raises(ValueError, match=f"{second} {told}"):
            metric(rows, wrong)
    for wrong in (np.nan, np.inf):
        spoilt = rows.copy()
        spoilt[3, 1] = wrong
        with pytest.raises(ValueError, match=f"{second} holds finite .* row 3 has NaN"):
            metric(rows, spoilt)
    with pytest.raises(ValueError, match=f"{first}, {second}.* one size, not 3, 2"):
        metric(normal(10, 3), rows)


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_take_lists_and_images_and_leave_them(name):
    metric = PAIRS[name][0]
    first, second = normal(10, 2, 3, 1), normal(12, 2, 3, 1, seed=1)
    kept = first.copy(), second.copy()
    flat = metric(first.reshape(10, 6).tolist(), second.reshape(12, 6).tolist())
    np.testing.assert_equal(metric(first, second), flat)
    assert (first == kept[0]).all()
    assert (second == kept[1]).all()
