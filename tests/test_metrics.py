"""Metrics against numbers worked out by hand."""

import numpy as np
import pytest

from zoo import metrics

pytestmark = pytest.mark.once


def test_accuracy():
    assert metrics.accuracy([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4]], [1, 0, 1]) == (
        pytest.approx(2 / 3)
    )


def test_active_units():
    codes = np.zeros((100, 3))
    codes[:, 0] = np.linspace(-1, 1, 100)
    codes[:, 1] = 0.05 * np.linspace(-1, 1, 100)  # Variance 0.0009.
    assert metrics.active_units(codes) == 1
    assert metrics.active_units(codes, threshold=1e-4) == 2


def test_auroc_counts_pairs_and_halves_ties():
    # Pairs where unusual < usual: (3,1) (2,1) (3,2); tie (2,2) is one half; of 4.
    assert metrics.auroc([3, 2], [1, 2]) == pytest.approx(3.5 / 4)
    assert metrics.auroc([1, 1], [1, 1]) == 0.5
    assert metrics.auroc([0], [1]) == 0.0


def test_auroc_agrees_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics", reason="needs [data]")
    generator = np.random.default_rng(0)
    usual = generator.normal(1, 1, 200).round(1)
    unusual = generator.normal(size=300).round(1)
    truth = np.r_[np.ones(200), np.zeros(300)]
    expected = sklearn.roc_auc_score(truth, np.r_[usual, unusual])
    assert metrics.auroc(usual, unusual) == pytest.approx(expected)


def test_mean_squared_error():
    assert metrics.mean_squared_error([[1, 2]], [[1, 4]]) == 2.0
