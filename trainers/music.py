"""Music as training data: Bach's chorales, or a folder of MIDI files.

    data = open_music("jsb_chorales", "train", model)
    data.rolls                       the pieces, each (frames, keys)

The chorales are those of Boulanger-Lewandowski et al. (2012), in quarter notes,
with the benchmark's split. A row is a piece, or part of one that is long: a fresh part
in each epoch, and, if asked for, in another key.
"""

import json
import os
from pathlib import Path

import numpy as np

from zoo._saving import sha256
from zoo.trainers.data import Data, DataError

ADDRESS, FILE = "jsb_chorales", "jsb-chorales-quarter.json"
SHA256 = "2db9329f1881a1d3f49703ec556bf1d6f84b4f6c1d702c156536e93cf31e1c91"
URL = "https://github.com/czhuang/JSB-Chorales-dataset"
SPLITS = {"train": "train", "validation": "valid", "valid": "valid", "test": "test"}
LENGTH = 64  # Frames of a row, if a recipe says no other.


class Pieces(Data):
    """Pieces of music, by index: (n, frames * voices) symbols, -1 after the end.

    Args:
        pieces: List of (frames, voices) int32, symbols of a `zoo._music.Music`.
        length: Frames of a row.
        symbols: How many symbols there are.
        transpose: Most semitones by which a piece is moved, up or down; half of the
            pieces stay where they are.
        name: For messages.
        rolls: The pieces as `Music.numbers` takes them.
    """

    def __init__(self, pieces, length, symbols, transpose=0, name="", rolls=None):
        self.pieces, self.length, self.symbols = pieces, length, symbols
        self.transpose, self.name, self.labels, self.rolls = (
            transpose,
            name,
            None,
            rolls,
        )
        self.starts = np.zeros(len(pieces), int)
        self.moves = np.zeros(len(pieces), int)

    def __len__(self):
        return len(self.pieces)

    def __getitem__(self, indices):
        rows = np.arange(len(self))[indices]
        voices = self.pieces[0].shape[1]
        out = np.full((len(rows), self.length, voices), -1, "int32")
        for i, row in enumerate(rows):
            start = self.starts[row]
            part = self.pieces[row][start : start + self.length]
            out[i, : len(part)] = np.where(part > 0, part + self.moves[row], part)
        return out.reshape(len(rows), -1)

    def begin(self, generator):
        """Draw, for a new epoch, where each piece begins, and its key."""
        for i, piece in enumerate(self.pieces):
            room = max(0, len(piece) - self.length)
            self.starts[i] = (
                generator.integers(room + 1) if generator.random() < 0.5 else 0
            )
            notes = piece[piece > 0]
            low, high = (notes.min(), notes.max()) if len(notes) else (1, 1)
            least = max(-self.transpose, 1 - low)
            most = min(self.transpose, self.symbols - 1 - high)
            move = generator.integers(least, most + 1)
            self.moves[i] = move if generator.random() < 0.5 else 0

    def only(self, keep):
        """Return the part of the pieces that an index array or mask keeps."""
        rows = np.arange(len(self))[keep]
        pieces, rolls = ([x[i] for i in rows] for x in (self.pieces, self.rolls))
        made = Pieces(
            pieces, self.length, self.symbols, self.transpose, self.name, rolls
        )
        return made


def open_music(address, split, model, length=None, transpose=0, manual_dir=None):
    """Return the `Pieces` at an address.

    Args:
        address: "jsb_chorales", or a folder of MIDI files.
        split: "train", "validation" or "test"; a folder with subfolders of that name
            is read from there, else whole.
        model: With `numbers(roll)`, `voices` and `symbols`.
        length: Frames of a row; 64 if None.
        transpose: As for `Pieces`.
        manual_dir: Folder of the chorales; also $ZOO_MANUAL_DIR/jsb_chorales.

    Raises:
        DataError: Nothing is there, or it is not what the model writes.
    """
    if address == ADDRESS:
        rolls, names = chorales(split, manual_dir), None
    else:
        from zoo._midi import read_midi

        folder = Path(address)
        folder = folder / split if (folder / split).is_dir() else folder
        names = sorted(
            f for f in folder.rglob("*") if f.suffix.lower() in (".mid", ".midi")
        )
        rolls = [read_midi(file) for file in names]
    if not rolls:
        raise DataError(
            f"There is no music at {address}. Music is {ADDRESS}, or a folder of MIDI "
            "files, which end in .mid."
        )
    pieces = []
    for i, roll in enumerate(rolls):
        try:
            symbols = model.numbers(roll, f"piece {names[i] if names else i}")
        except ValueError as error:
            raise DataError(str(error)) from None
        pieces.append(symbols.reshape(-1, model.voices))
    name = f"{address} {split}"
    return Pieces(pieces, length or LENGTH, model.symbols, transpose, name, rolls)


def chorales(split, manual_dir=None):
    """Return the chorales of a split: lists of frames, each a list of MIDI keys."""
    if split not in SPLITS:
        raise DataError(
            f"{ADDRESS} has the splits train, validation and test, not {split!r}."
        )
    home = os.environ.get("ZOO_MANUAL_DIR")
    folders = [Path(f) for f in (manual_dir, home and Path(home) / ADDRESS) if f]
    for folder in folders:
        path = folder / FILE
        if path.is_file():
            if sha256(path) != SHA256:
                raise DataError(
                    f"{path} is damaged or another: its sha256 is not {SHA256}."
                )
            return json.loads(path.read_text("utf-8"))[SPLITS[split]]
    raise DataError(
        f"The chorales are not on this machine. Put {FILE}, sha256 {SHA256}, "
        f"from {URL} into a folder named by --manual_dir or by "
        f"$ZOO_MANUAL_DIR/{ADDRESS}."
    )
