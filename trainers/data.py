"""Training data by one address: a TFDS name, a folder of images, or NumPy arrays.

    data = open_data("tfds:mnist", "train", image_shape=(28, 28, 1))
    data = open_data("photographs/", "train", image_shape=(32, 32, 3))

A `Data` is an array that need not lie in memory: `len(data)` and `data[indices]`,
which returns images, or images and labels. `Batches` feeds it to `fit`, shuffled by
(seed, epoch) alone, so that a training can be taken up again where it stopped.
"""

import functools
import importlib.util
import os
import socket
import sys
import urllib.parse
from pathlib import Path

import keras
import numpy as np

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")

JUDGES = {  # Presets that tell the classes of a data set apart, by its address.
    "tfds:mnist": "lenet-mnist",
    "stacked_mnist": "lenet-mnist",
    "noto_emoji": "lenet-emoji",
}


class DataError(ValueError):
    """Data that is not there, or is not what the model takes."""


class Data:
    """Images, and labels where the model takes them, by index.

    An image file that cannot be read gives its place to the next that can, is named on
    stderr and counted in `damaged`, index to reason.

    Args:
        images: Array (N, height, width, channels), or a list of image files.
        labels: Array (N,), or None.
        image_shape: Height, width and channels that files are brought to.
        name: For messages.
    """

    def __init__(self, images, labels=None, image_shape=None, name="arrays"):
        self.images, self.labels, self.name = images, labels, name
        self.image_shape = image_shape or images.shape[1:]
        self.damaged = {}

    def __len__(self):
        return len(self.images)

    def __getitem__(self, indices):
        if isinstance(self.images, np.ndarray):
            images = self.images[indices]
        else:
            read = [self._read(i) for i in np.arange(len(self))[indices]]
            images = np.stack([image for image, _ in read])
            indices = [index for _, index in read]
        return images if self.labels is None else (images, self.labels[indices])

    def begin(self, generator):
        """Change, for a new epoch, what rows hold; images stay as they are."""

    def _read(self, index):
        """Return the image of a row, or of the next sound one, and its row."""
        while True:
            if index not in self.damaged:
                try:
                    return read_image(self.images[index], self.image_shape), index
                except Exception as error:  # Pillow's own are of many types.
                    self.damaged[index] = error
                    tell_damage(self.images[index], error, self.damaged, len(self))
            index = (index + 1) % len(self)

    def only(self, keep):
        """Return the part of the data that an index array or mask keeps."""
        chosen = np.arange(len(self))[keep]
        held = isinstance(self.images, np.ndarray)
        images = self.images[chosen] if held else [self.images[i] for i in chosen]
        labels = None if self.labels is None else self.labels[chosen]
        return Data(images, labels, self.image_shape, self.name)


class Batches(keras.utils.PyDataset):
    """Batches of `data` whose order is a function of (seed, epoch).

    Keras does not tell a dataset which epoch it is, and starts one more than it
    counts; `fit` therefore also needs the callback `follow()`, and shuffle=False.

    Args:
        data: A `Data`.
        batch_size: Rows of a batch; the last may have fewer.
        seed: Of the shuffle; None keeps the order.
        replicas: Parts that each batch can be divided into; so many rows fewer than
            that may be left out of an epoch.
        process, processes: Of several processes that share each batch, which this is.

    Raises:
        DataError: A batch cannot be divided.
    """

    def __init__(self, data, batch_size, seed=0, replicas=1, process=0, processes=1):
        super().__init__()
        if batch_size % replicas or len(data) < replicas:
            raise DataError(
                f"The rows of a batch are divided among {replicas} devices; the batch "
                f"size is {batch_size}, of {len(data)} rows."
            )
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.rows = len(data) // replicas * replicas
        self.process, self.processes = process, processes
        self.start(0)

    def start(self, epoch, skip=0):
        """Put the rows in the order of an epoch, and leave out the first batches."""
        self.order = np.arange(len(self.data))
        if self.seed is not None:
            generator = np.random.default_rng((self.seed, epoch))
            generator.shuffle(self.order)
            self.data.begin(generator)
        self.order = self.order[skip * self.batch_size : self.rows]

    def follow(self, skip=0):
        """Return the callback that starts each epoch of `fit` in its own order.

        Args:
            skip: Batches of the first epoch that are done already.
        """
        left = [skip]

        def begin(epoch, logs):
            self.start(epoch, left.pop() if left else 0)

        return keras.callbacks.LambdaCallback(on_epoch_begin=begin)

    def __len__(self):
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        share = len(rows) // self.processes
        batch = self.data[rows[self.process * share : (self.process + 1) * share]]
        return batch if isinstance(batch, tuple) else (batch,)


def open_for(model, address, split, manual_dir=None, **how):
    """Return the `Data` at an address as a model takes it: images, text, music, …

    Args:
        model: A model of the zoo.
        address, split, manual_dir: As for `open_data`, `open_text` or `open_music`.
        **how: `length` of the rows that sequences are cut into; `transpose`, of music.
    """
    if model.medium == "music":
        from zoo.trainers.music import open_music

        return open_music(address, split, model, manual_dir=manual_dir, **how)
    if model.medium in ("speech", "sounds"):
        from zoo.trainers.speech import open_speech

        return open_speech(address, split, model, manual_dir)
    if model.medium == "translation":
        from zoo.trainers.texts import open_pairs

        return open_pairs(address, split, model, manual_dir=manual_dir, **how)
    if model.medium == "text" and model.documents:
        from zoo.trainers.documents import open_documents

        return open_documents(address, split, model, manual_dir=manual_dir, **how)
    if model.medium == "text":
        from zoo.trainers.texts import open_text  # Which needs this module.

        return open_text(address, split, model, manual_dir=manual_dir, **how)
    labels = bool(model.classes)
    return open_data(address, split, model.image_shape, labels, manual_dir)


def open_data(address, split, image_shape, labels=False, manual_dir=None):
    """Return the `Data` at an address.

    Args:
        address: "tfds:NAME" for a data set of TensorFlow Datasets, "noto_emoji" (and
            ":drawings", ":styles"), "stacked_mnist", or a folder of images; its
            subfolders, sorted by name, are the labels.
        split: As TFDS writes it: "train", "test", "train[:100]". A folder with
            subfolders of that name is read from there, else whole.
        image_shape: Height, width and channels that the model takes.
        labels: Whether labels are wanted.
        manual_dir: Folder with a TFDS set's files as its publisher distributes
            them, for machines without a network; also $ZOO_MANUAL_DIR/NAME.

    Raises:
        DataError: Nothing is there; the message says what to put where.
    """
    if str(address).startswith("tfds:"):
        return _from_tfds(address[len("tfds:") :], split, labels, manual_dir)
    if str(address).split(":")[0] == "noto_emoji":
        from zoo.trainers.emoji import open_emoji  # Which needs this module.

        return open_emoji(address, split, image_shape, labels, manual_dir)
    if address == "stacked_mnist":
        from zoo.trainers.stacked import open_stacked

        return open_stacked(
            split, labels, lambda split: _from_tfds("mnist", split, True, manual_dir)
        )
    folder = Path(address)
    if not folder.is_dir():
        raise DataError(
            f"There is no folder {address}. Data is a folder of images, or "
            "tfds:NAME for a set of TensorFlow Datasets, such as tfds:mnist."
        )
    return _from_folder(folder, split, tuple(image_shape), labels)


def judge_of(address):
    """Return the preset whose features the data at an address is compared in."""
    parts = address.split(":")
    return JUDGES.get(address) or JUDGES.get(parts[0])


def tell_damage(name, reason, damaged, num):
    """Say that a record is skipped; stop when that is no longer a small matter.

    Args:
        name, reason: What it is and why it cannot be read.
        damaged: Those skipped so far, this one included.
        num: Records in all.

    Raises:
        DataError: More than ten, or one in a hundred if that is more.
    """
    most = min(max(10, num // 100), num - 1)
    count = len(damaged)
    if count > most:
        raise DataError(
            f"{count} of {num} records cannot be read, and {most} may be skipped; the "
            f"last is {name}: {reason}"
        )
    print(f"Skipped {name}, {count} of at most {most}: {reason}", file=sys.stderr)


def _from_folder(folder, split, image_shape, labels):
    require("PIL", "pillow")
    folder = folder / split if (folder / split).is_dir() else folder
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"{folder} holds no images; they end in {', '.join(SUFFIXES)}.")
    if not labels:
        return Data(files, None, image_shape, str(folder))
    if any(f.parent == folder for f in files):
        raise DataError(
            f"The model takes labels: put the images of {folder} into one subfolder "
            "for each label."
        )
    named = [f.relative_to(folder).parts[0] for f in files]
    numbers = [sorted(set(named)).index(name) for name in named]
    return Data(files, np.array(numbers, "int32"), image_shape, str(folder))


def read_image(file, image_shape):
    """Return an image file as uint8 in the shape asked for, alpha on white."""
    from PIL import Image, ImageOps

    height, width, channels = image_shape
    with Image.open(file) as image:
        if image.mode in ("RGBA", "LA", "P"):
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("L" if channels == 1 else "RGB")
        image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
        return np.asarray(image, "uint8").reshape(image_shape)


def _from_tfds(name, split, labels, manual_dir):
    images, numbers = _arrays(name, split, manual_dir)
    return Data(images, numbers if labels else None, name=f"tfds:{name} {split}")


@functools.lru_cache(maxsize=4)
def _arrays(name, split, manual_dir):
    """Return the images and labels of a split, to read only, since they are kept."""
    source = prepared(name, manual_dir).as_data_source(split=split)
    rows, damaged = [], []
    for index in range(len(source)):
        try:
            example = source[index]
        except Exception as error:  # Readers and decoders have their own.
            damaged.append(index)
            tell_damage(f"{name} {split} [{index}]", error, damaged, len(source))
        else:
            rows.append((example["image"], example.get("label", 0)))
    images, numbers = map(np.array, zip(*rows))
    arrays = images, numbers.astype("int32")
    for array in arrays:
        array.flags.writeable = False
    return arrays


def prepared(name, manual_dir=None):
    """Return the TFDS builder of a data set, downloaded and prepared.

    Raises:
        DataError: It is not prepared, its files are in no folder that is looked in,
            and no network answers.
    """
    require("tensorflow_datasets", "tensorflow-datasets")
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        raise DataError(f"TensorFlow Datasets has no set called {name!r}.") from error
    if builder.is_prepared():
        return builder
    default = Path(builder.data_dir).parents[1] / "downloads" / "manual"
    home = os.environ.get("ZOO_MANUAL_DIR")
    folders = [manual_dir, home and Path(home) / name, default]
    files = {info.filename: url for url, info in (builder.url_infos or {}).items()}
    for folder in (Path(f) for f in folders if f):
        if files and all((folder / file).is_file() for file in files):
            break
    else:
        if not all(_answers(url) for url in files.values()):
            raise DataError(_what_to_put_where(name, builder, default))
        folder = default
    config = tfds.download.DownloadConfig(manual_dir=folder, try_download_gcs=False)
    try:
        builder.download_and_prepare(download_config=config)
    except FileExistsError:
        if not builder.is_prepared():  # By another process, a moment ago.
            raise
    return builder


def _what_to_put_where(name, builder, folder):
    rows = [
        f"  {info.filename}  sha256 {info.checksum}\n    {url}"
        for url, info in builder.url_infos.items()
    ]
    return (
        f"The data set {name} is not on this machine and no network answers. Put its "
        f"files into {folder}, or into a folder named by --manual_dir or by "
        f"$ZOO_MANUAL_DIR/{name}:\n" + "\n".join(rows)
    )


def _answers(url):
    """Say within seconds whether the host of a URL can be reached."""
    parts = urllib.parse.urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 443)
    try:
        socket.create_connection((parts.hostname, port), timeout=1).close()
    except OSError:
        return False
    return True


def require(module, package):
    """Refuse to go on without a package of the extra [data]."""
    if importlib.util.find_spec(module) is None:
        raise ImportError(f'This needs {package}: pip install "generative-zoo[data]".')
