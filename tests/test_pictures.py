"""The pictures of a preset show what they are to show."""

import numpy as np
import pytest

from zoo.trainers import pictures
from zoo.trainers.data import Data

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


def test_halves_are_hidden_and_filled(monkeypatch):
    images = np.random.default_rng(0).integers(0, 255, (6, 4, 4, 1), dtype="uint8")
    labels = np.array([1, 1, 0, 2, 0, 2])

    class Model:
        classes = 3

        def inpaint(self, images, mask, seed, labels):
            assert list(labels) == [0, 1, 2]
            return np.where(mask > 0, images, seed / 10)

    shown = []
    monkeypatch.setattr(pictures, "save_grid", lambda _, x, columns: shown.extend(x))
    pictures.save_inpainting(Model(), None, Data(images, labels))
    shown = np.stack(shown).reshape(5, 3, 4, 4, 1)
    whole = images[[2, 0, 3]] / 255
    np.testing.assert_allclose(shown[0], whole, atol=1e-6)
    for row, filled in ((1, 0.5), (2, 0.0), (4, 0.2)):
        np.testing.assert_allclose(shown[row, 0, :2], whole[0, :2], atol=1e-6)
        np.testing.assert_allclose(shown[row, 0, 2:], filled, atol=1e-6)
        np.testing.assert_allclose(shown[row, 1, :, 2:], filled, atol=1e-6)


def test_a_film_shows_every_step(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="needs pillow, in [data]")

    class Model:
        classes = None

        def generate(self, num, seed, on_step):
            for step in range(1, 6):
                on_step(step, np.full((num, 4, 4, 3), step / 5))

    pictures.save_denoising(Model(), tmp_path / "film.gif")
    with image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 5
        assert film.size == (2 * (8 * 6 + 2), 2 * (6 + 2))
        film.seek(4)
        assert film.info["duration"] == 1500
