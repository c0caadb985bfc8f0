"""Verbs of models that write music for a few voices, and what music is stored as.

A piece is a piano roll, (frames, 128) of truth values: which MIDI keys sound in a
frame. Within a model it is symbols: the keys of each frame from the highest down, as
many as there are voices, with 0 where none is left.
"""

import reprlib

import numpy as np

from zoo._midi import KEYS, roll_of
from zoo._noise import philox
from zoo._symbols import FREE, Symbols, controls

LONGEST = 100_000  # Frames of one sample, its prompt included.


class Music(Symbols):
    """What `zoo._model.Model` lacks for music; the model gives what `Symbols` asks for.

    Attributes:
        voices: Most keys of a frame.
        lowest, highest: The range of keys, MIDI numbers.
    """

    medium = "music"
    options = ("length", "prompt", "temperature", "top_k", "top_p")

    def roll(self, symbols):
        """Return the piano roll of symbols, (frames * voices,) -> (frames, 128)."""
        return roll_of(symbols, self.voices, self.lowest)

    def numbers(self, roll, name="music"):
        """Return the symbols of a piano roll, (frames * voices,) int32.

        Args:
            roll: (frames, 128), true where a key sounds; or a list of one list of keys
                for each frame.
            name: For messages.

        Raises:
            ValueError: A frame has too many keys, or one out of the model's range.
        """
        if isinstance(roll, np.ndarray):
            if roll.ndim != 2 or roll.shape[1] != KEYS:
                raise ValueError(
                    f"The {name} is a piano roll, (frames, {KEYS}), or a list of "
                    f"one list of keys for each frame; its shape is {roll.shape}."
                )
            roll = [np.flatnonzero(frame) for frame in roll]
        symbols = np.zeros((len(roll), self.voices), "int32")
        for time, keys in enumerate(roll):
            keys = sorted({int(key) for key in keys}, reverse=True)
            inside = all(self.lowest <= key <= self.highest for key in keys)
            if len(keys) > self.voices or not inside:
                raise ValueError(
                    f"The {name} has at most {self.voices} keys in a frame, from "
                    f"{self.lowest} to {self.highest}; frame {time} has "
                    f"{reprlib.repr(keys)}."
                )
            symbols[time, : len(keys)] = [key - self.lowest + 1 for key in keys]
        return symbols.ravel()

    def generate(self, num=1, seed=None, length=64, prompt=None, **how):
        """Return `num` new pieces, each its prompt and what follows.

        Args:
            num: How many, 1 to 100,000.
            seed: A whole number of 0 or more: the same seed gives the same music on
                every backend. None draws a fresh one.
            length: Frames to write after the prompt, 1 or more.
            prompt: A piano roll, (frames, 128), with which all begin; None for none.
            **how: `temperature`, `top_k` and `top_p`, as for text.

        Returns:
            NumPy array of truth values, (num, frames, 128).

        Raises:
            ValueError: An argument is out of range or unknown, or the prompt has keys
                that the model does not write.
        """
        num = self._count(num)
        self._check_asked(length, LONGEST, how)
        begun = self.numbers([] if prompt is None else prompt, "prompt")
        fresh = self.noise(num, seed, length * self.voices)
        past = np.zeros((num, len(begun)), "float32")
        given = np.full(fresh.shape, FREE, "int32")
        given = np.concatenate([np.tile(begun, (num, 1)), given], axis=1)
        noise = np.concatenate([past, fresh], axis=1)
        how = controls(num, self.symbols, **how)
        symbols = self._write(noise, given.astype("int32"), how)
        return np.stack([self.roll(row) for row in symbols])

    def noise(self, num, seed=None, length=None):
        """Draw a uniform number for each symbol, (num, length); 64 frames if None."""
        length = 64 * self.voices if length is None else length
        return philox(seed).random((num, length), dtype="float32")

    def score(self, rolls):
        """Return how likely pieces are: log p in nats a frame, (N,), higher is more.

        Args:
            rolls: A list of piano rolls, as `numbers` takes them.
        """
        sequences = [self.numbers(roll) for roll in rolls]
        if not sequences or not all(map(len, sequences)):
            raise ValueError("score takes pieces of 1 frame or more.")
        return self._score(sequences) / [len(s) / self.voices for s in sequences]
