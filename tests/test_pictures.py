"""The pictures of a preset show what they are to show."""

import numpy as np
import pytest

from zoo.trainers import pictures

pytestmark = pytest.mark.once


def test_the_closest_pairs_are_varied_copies_and_not_plain_images(monkeypatch):
    random = np.random.default_rng(0)
    plain = random.integers(0, 3, (30, 4, 4, 1))  # Nearly black: near each other.
    train = np.concatenate([plain, random.integers(0, 255, (5, 4, 4, 1))])
    near, nearer, other = (
        np.clip(train[row] / 255 + away, 0, 1)
        for row, away in ((32, 0.04), (32, 0.02), (34, 0.05))
    )
    black = np.zeros((4, 4, 1))  # Of all the nearest to a training image.
    assert np.linalg.norm(black - train / 255, axis=(1, 2)).min() < 0.02

    class Model:
        image_shape = 4, 4, 1

        def generate(self, num, seed):
            return np.stack([black, near, nearer, other])

    shown = []
    monkeypatch.setattr(pictures, "save_grid", lambda _, x, columns: shown.extend(x))
    pictures.save_closest(Model(), None, None, train.astype("uint8"), num=4, pairs=2)
    expected = [nearer, train[32] / 255, other, train[34] / 255]
    np.testing.assert_allclose(shown, expected, atol=1e-6)
