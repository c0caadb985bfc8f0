"""Training data: what is read, in what order, and what is said without any."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from zoo.trainers.data import Batches, Data, DataError, open_data, prepared

pytestmark = pytest.mark.once

PIL = pytest.importorskip("PIL.Image", reason="needs pillow, in [data]")


def picture(path, colour, size=(20, 10), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.new(mode, size, colour).save(path)


def test_the_order_is_a_function_of_seed_and_epoch():
    data = Data(np.arange(10).reshape(10, 1, 1, 1))

    def order(batches):
        return [int(v) for i in range(len(batches)) for v in batches[i][0].ravel()]

    batches = Batches(data, 4, seed=1)
    first = order(batches)
    batches.start(1)
    second = order(batches)
    assert len(batches) == 3
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    batches.start(0)
    assert order(batches) == first
    assert order(Batches(data, 4, seed=2)) != first
    assert order(Batches(data, 4, seed=None)) == list(range(10))


def test_a_folder_of_pictures_becomes_the_shape_of_the_model(tmp_path):
    picture(tmp_path / "a.png", (255, 0, 0))
    picture(tmp_path / "deep" / "b.jpg", (0, 0, 255))
    picture(tmp_path / "c.png", (0, 0, 0, 0), mode="RGBA")  # Clear: white beneath.
    (tmp_path / "notes.txt").write_text("no picture")
    data = open_data(tmp_path, "train", (8, 8, 3))
    images = data[np.arange(3)]
    assert images.shape == (3, 8, 8, 3)
    assert images.dtype == np.uint8
    assert images[0, 4, 4].tolist() == [255, 0, 0]
    assert images[1, 4, 4].tolist() == [255, 255, 255]
    assert images[2, 4, 4, 2] > 200
    assert open_data(tmp_path, "train", (8, 4, 1))[:2].shape == (2, 8, 4, 1)


def test_the_centre_is_kept_not_squeezed(tmp_path):
    wide = np.zeros((10, 30, 3), "uint8")
    wide[:, 10:20] = 255  # A white square in the middle third.
    PIL.fromarray(wide).save(tmp_path / "wide.png")
    image = open_data(tmp_path, "train", (10, 10, 1))[:1]
    assert image.min() > 200


def test_subfolders_are_labels_and_splits(tmp_path):
    for split, names in (("train", "ab"), ("test", "a")):
        for name in names:
            picture(tmp_path / split / name / "1.png", (9, 9, 9))
    images, labels = open_data(tmp_path, "train", (4, 4, 1), labels=True)[np.arange(2)]
    assert labels.tolist() == [0, 1]
    assert len(open_data(tmp_path, "test", (4, 4, 1))) == 1


def test_data_that_is_no_data_is_refused(tmp_path):
    with pytest.raises(DataError, match="There is no folder .*nowhere"):
        open_data(tmp_path / "nowhere", "train", (4, 4, 1))
    with pytest.raises(DataError, match="holds no images"):
        open_data(tmp_path, "train", (4, 4, 1))
    picture(tmp_path / "1.png", (9, 9, 9))
    with pytest.raises(DataError, match="one subfolder for each label"):
        open_data(tmp_path, "train", (4, 4, 1), labels=True)
    pytest.importorskip("tensorflow_datasets", reason="needs [data]")
    with pytest.raises(DataError, match="no set called 'mnits'"):
        open_data("tfds:mnits", "train", (4, 4, 1))


def test_without_network_and_files_it_says_quickly_what_to_put_where(tmp_path):
    pytest.importorskip("tensorflow_datasets", reason="needs [data]")
    code = (
        "import socket, time\n"
        "def none(*a, **k): raise OSError('no network')\n"
        "socket.create_connection = none\n"
        "import tensorflow_datasets\n"
        "from zoo.trainers.data import open_data\n"
        "start = time.time()\n"
        "try:\n"
        "    open_data('tfds:mnist', 'train', (28, 28, 1))\n"
        "except Exception as error:\n"
        "    print(error)\n"
    )
    environment = {**os.environ, "TFDS_DATA_DIR": str(tmp_path)}
    environment.pop("ZOO_MANUAL_DIR", None)
    start = time.time()
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert time.time() - start < 60  # Not the minutes that TFDS retries for.
    assert "no network answers" in done.stdout
    assert str(tmp_path / "downloads" / "manual") in done.stdout
    for file in ("train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        assert file in done.stdout
    checksum = "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    assert checksum in done.stdout


def test_mnist_through_tfds(mnist):
    images, labels = mnist("test[:50]", labels=True)[np.arange(50)]
    assert images.shape == (50, 28, 28, 1)
    assert images.dtype == np.uint8
    assert set(labels) <= set(range(10))
    assert 20 < images.mean() < 50


def test_two_processes_may_prepare_a_set_at_once(mnist, monkeypatch):
    from tensorflow_datasets.core import DatasetBuilder

    def beaten(*_, **__):
        raise FileExistsError("mnist/3.0.1")

    answers = iter([False, True, False, False])
    monkeypatch.setattr(DatasetBuilder, "download_and_prepare", beaten)
    monkeypatch.setattr(DatasetBuilder, "is_prepared", lambda _: next(answers))
    assert prepared("mnist", mnist.folder).name == "mnist"
    with pytest.raises(FileExistsError):  # There, but not prepared.
        prepared("mnist", mnist.folder)


def test_stacked_mnist_shows_three_digits_as_one_number(mnist, monkeypatch):
    monkeypatch.setenv("ZOO_MANUAL_DIR", str(mnist.folder.parent))
    data, single = open_data("stacked_mnist", "test", (28, 28, 3), True), mnist("test")
    images, numbers = data[np.arange(len(data))]
    assert images.shape == (26_000, 28, 28, 3)
    assert len(np.unique(numbers)) == 1000
    digits = {image.tobytes() for image in single.images}
    for channel in range(3):
        assert images[7, ..., channel].tobytes() in digits
    again = open_data("stacked_mnist", "test", (28, 28, 3))
    np.testing.assert_array_equal(again[:50], images[:50])
    with pytest.raises(DataError, match="splits train and test, not 'valid'"):
        open_data("stacked_mnist", "valid", (28, 28, 3))
