"""Text as training data: windows of it, and what characters it has.

    data = open_text("tfds:tiny_shakespeare", "train", model, length=128)
    data = open_text("novels/", "train", model)
    data[:8]                                   (8, 128) numbers of characters

A window is a row; all are moved by a few characters from epoch to epoch, so that each
character comes at each place of a window.
"""

import contextlib
import functools
import gzip
import os
from pathlib import Path

import numpy as np

from zoo.trainers.data import Data, DataError, prepared

LENGTH = 128  # Characters of a window, if a recipe says no other.


class Windows(Data):
    """Windows of one long sequence, by index.

    Args:
        symbols: (length,) whole numbers.
        length: Symbols of a window.
        name: For messages.
        text: What the symbols stand for, if it is text.
    """

    def __init__(self, symbols, length, name="arrays", text=None, starts=None):
        self.symbols, self.length = symbols, max(1, min(length, len(symbols)))
        self.name, self.labels, self.text = name, None, text
        most = len(symbols) - self.length
        if starts is None:  # So few that all can move by a window less one.
            count = max(1, (most + 1) // self.length)
            starts = np.arange(count) * self.length
        self.starts, self.room = starts, min(self.length - 1, most - starts.max())
        self.offset = 0

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, indices):
        starts = self.starts[indices] + self.offset
        return self.symbols[starts[:, None] + np.arange(self.length)]

    def begin(self, generator):
        """Move all windows, for a new epoch."""
        self.offset = int(generator.integers(self.room + 1))

    def only(self, keep):
        """Return the part of the windows that an index array or mask keeps."""
        starts = self.starts[np.arange(len(self))[keep]]
        last = int(starts.max()) + self.length
        text = None if self.text is None else self.text[int(starts.min()) : last]
        return Windows(self.symbols, self.length, self.name, text, starts)


def open_text(address, split, model, length=None, manual_dir=None):
    """Return the `Windows` of a text.

    Args:
        address: "tfds:NAME" for a set of TensorFlow Datasets with the feature `text`,
            such as tfds:tiny_shakespeare; a .txt file; or a folder of them, UTF-8.
        split: As for `open_data`; a file is read whole.
        model: With a `vocabulary` and `numbers(text)`.
        length: Characters of a window; 128 if None.
        manual_dir: As for `open_data`.

    Raises:
        DataError: Nothing is there, or has characters that are not in the vocabulary.
    """
    text, name = read_text(str(address), split, manual_dir)
    try:
        symbols = model.numbers(text, f"text of {name}")
    except ValueError as error:
        raise DataError(
            f"{error} Take them out or replace them; or train from the start, without "
            "--init, which takes the characters of the text."
        ) from None
    small = model.symbols <= 256
    length = length or model.window or LENGTH
    length = min(length, model.window or length)
    return Windows(symbols.astype("uint8" if small else "int32"), length, name, text)


def open_pairs(address, split, model, length=None, manual_dir=None):
    """Return the `Data` of pairs of texts, as rows of numbers.

    Pairs of which one has more symbols, its end included, are left out.

    Args:
        address: "multi30k:de-en" for the captions of Multi30k (Elliott et al., 2016),
            or "multi30k:en-de"; or a .tsv file, UTF-8, a pair a line with a tab
            between, or a folder of them by split, such as train.tsv.
        split: "train", "val" or "test"; a file is read whole.
        model: A `T5`.
        length: Most symbols of a text; the model's window if None.
        manual_dir: Folder of the files of Multi30k.

    Raises:
        DataError: Nothing is there, or it is not in pairs.
    """
    length = min(length or model.window, model.window)
    rows = []
    for pair in read_pairs(str(address), split, manual_dir):
        with contextlib.suppress(ValueError):  # Too long for the model, or unknown.
            both = np.stack([model.rows(text, "fit")[0] for text in pair])
            if (both[:, length:] < 0).all():
                rows.append(both[:, :length])
    if not rows:
        raise DataError(
            f"No pair of {address} is within {length} symbols a text and of the "
            "vocabulary of the model."
        )
    source, target = np.stack(rows, axis=1)
    return Data(source, target, name=f"{address} {split}")


def read_pairs(address, split, manual_dir=None):
    """Return the pairs of texts at an address, a list of tuples."""
    name, _, way = address.partition(":")
    if name == "multi30k":
        sides = way.split("-")
        if sorted(sides) != ["de", "en"]:
            raise DataError(
                f"multi30k is read as multi30k:de-en or en-de, not {way!r}."
            )
        split = {"test": "test_2016_flickr", "validation": "val"}.get(split, split)
        texts = [_lines(f"{split}.{side}.gz", manual_dir) for side in sides]
        return [*zip(*texts)]
    path = Path(address)
    path = path / f"{split}.tsv" if path.is_dir() else path
    if not path.is_file():
        raise DataError(
            f"There are no pairs of texts at {path}. They are a .tsv file, a pair a "
            "line with a tab between, a folder of them such as train.tsv, or "
            "multi30k:de-en."
        )
    lines = path.read_text("utf-8-sig").splitlines()
    pairs = [tuple(line.split("\t")) for line in lines if line.strip()]
    wrong = next((i for i, pair in enumerate(pairs) if len(pair) != 2), None)
    if wrong is not None or not pairs:
        raise DataError(
            f"Pairs are two texts with one tab between; {path} has none, or a line "
            f"{(wrong or 0) + 1} that is otherwise."
        )
    return pairs


def _lines(file, manual_dir):
    """Return the lines of a gzipped file of Multi30k."""
    home = os.environ.get("ZOO_MANUAL_DIR")
    for folder in (manual_dir, home and Path(home) / "multi30k"):
        if folder and (Path(folder) / file).is_file():
            with gzip.open(Path(folder) / file, "rt", encoding="utf-8") as stream:
                return stream.read().splitlines()
    raise DataError(
        f"Multi30k's {file} is not on this machine. Put it into a folder named by "
        "--manual_dir, or into $ZOO_MANUAL_DIR/multi30k; it is data/task1/raw of "
        "https://github.com/multi30k/dataset (research and educational use)."
    )


@functools.lru_cache(maxsize=4)
def read_text(address, split, manual_dir=None):
    """Return the whole text at an address, and its name."""
    if address.startswith("tfds:"):
        source = prepared(address[5:], manual_dir).as_data_source(split=split)
        rows = [source[i] for i in range(len(source))]
        if not rows or "text" not in rows[0]:
            raise DataError(f"{address} has no feature 'text', which this model reads.")
        texts = [row["text"] for row in rows]
        texts = [t.decode("utf-8") if isinstance(t, bytes) else str(t) for t in texts]
        return "\n".join(texts), f"{address} {split}"
    path = Path(address)
    if path.is_dir():
        path = path / split if (path / split).is_dir() else path
        files = sorted(f for f in path.rglob("*") if f.suffix.lower() == ".txt")
    else:
        files = [path] if path.is_file() else []
    try:
        texts = [file.read_text("utf-8-sig") for file in files]
    except UnicodeDecodeError as error:
        raise DataError(
            f"Text is UTF-8; {address} has a file that is not: {error}."
        ) from error
    if not any(texts):
        raise DataError(
            f"There is no text at {address}. Text is a .txt file, a folder of them, or "
            "tfds:NAME for a set of TensorFlow Datasets, such as tfds:tiny_shakespeare."
        )
    return "\n".join(texts), str(path)


def vocabulary_of(address, split, manual_dir=None):
    """Return the characters of a text, sorted, as one str."""
    return "".join(sorted(set(read_text(str(address), split, manual_dir)[0])))
