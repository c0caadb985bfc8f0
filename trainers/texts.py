"""Text as training data: windows of it, and what characters it has.

    data = open_text("tfds:tiny_shakespeare", "train", model, length=128)
    data = open_text("novels/", "train", model)
    data[:8]                                   (8, 128) numbers of characters

A window is a row; all are moved by a few characters from epoch to epoch, so that each
character comes at each place of a window.
"""

import functools
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
