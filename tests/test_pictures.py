"""The pictures of a preset show what they are to show."""

import numpy as np
import pytest

from zoo.trainers import pictures

pytestmark = pytest.mark.once


def test_the_closest_pairs_are_copies_and_not_plain_images(monkeypatch):
    """A sample near a lone training image, and one amid many that are alike."""
    values = np.random.default_rng(0)
    alike = values.integers(0, 3, (30, 4, 4, 1))  # Nearly black, near each other.
    lone = values.integers(0, 255, (5, 4, 4, 1))
    train = np.concatenate([alike, lone]).astype("uint8")
    plain, copy = np.zeros((4, 4, 1)), np.clip(lone[2] / 255 + 0.02, 0, 1)

    class Model:
        image_shape = 4, 4, 1

        def generate(self, num, seed):
            return np.stack([plain, copy])

    shown = []
    monkeypatch.setattr(pictures, "save_grid", lambda _, x, columns: shown.append(x))
    pictures.save_closest(Model(), None, None, train, num=2)
    assert np.abs(plain - train / 255).mean((1, 2, 3)).min() < 0.02  # Nearer still.
    np.testing.assert_array_equal(shown[0][0], copy)
    np.testing.assert_allclose(shown[0][1], lone[2] / 255, atol=1e-6)
