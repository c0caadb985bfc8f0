"""ChoraleRNN: music for a few voices, the notes of each moment in turn.

The joint distribution of a frame's keys as in Boulanger-Lewandowski et al., 2012,
"Modeling temporal dependencies in high-dimensional sequences",
https://arxiv.org/abs/1206.6392. Their RNN-NADE goes through all 88 keys of a frame and
decides each by those before it. Here a frame has as many decisions as voices: which key
is next below, from the top, or none. Both are exact, and so are their likelihoods
comparable; 88 keys that are independent, given the past, would now and then play two
chords at once, which no ear takes for music. What differs: one network, an LSTM, for
time and for the notes of a frame, which sees the key of four notes ago beside the last.
"""

from keras import layers, ops, random

from zoo._model import Model
from zoo._music import Music
from zoo.recurrent._cells import GATES, Recurrent


class ChoraleRNN(Music, Model):
    """A recurrent model of polyphonic music.

    Args:
        voices: Most keys that sound at once.
        lowest, highest: The range of keys, MIDI numbers.
        cell: "lstm" or "gru".
        hidden: Units of the recurrent layer.
        dropout: Share of them that the output does not see in training.
        forgetful: Share of the recurrent weights that are hidden in training.
    """

    def __init__(
        self,
        voices=4,
        lowest=36,
        highest=103,
        cell="lstm",
        hidden=256,
        dropout=0.0,
        forgetful=0.0,
    ):
        super().__init__()
        keys = 0 <= lowest < highest < 128
        shares = all(0 <= share < 1 for share in (dropout, forgetful))
        if cell not in GATES or min(voices, hidden) < 1 or not keys or not shares:
            raise ValueError(
                "ChoraleRNN takes voices and hidden of 1 or more, keys from 0 to 127, "
                "a cell of lstm or gru, and dropout and forgetful in [0, 1); these are "
                f"{voices}, {hidden}, {lowest} to {highest}, {cell!r}, {dropout} and "
                f"{forgetful}."
            )
        self.voices, self.lowest, self.highest = voices, lowest, highest
        self.symbols = highest - lowest + 2  # Each key, and none.
        self.seed = random.SeedGenerator()
        self.cell = Recurrent(hidden, cell, forgetful, self.seed, name="cell")
        rows = voices * (self.symbols + 1)  # A row for each symbol in each voice.
        self.last = layers.Embedding(rows, self.cell.width, name="last")
        self.former = layers.Embedding(rows, self.cell.width, name="former")
        self.last.build()
        self.former.build()
        self.dropout = layers.Dropout(dropout)
        self.out = layers.Dense(self.symbols, name="out")
        self.out.build((None, hidden))
        self.built = True

    def start(self, num):
        return {
            **self.cell.start(num),
            "seen": ops.full((num, self.voices - 1), self.symbols, dtype="int32"),
            "voice": ops.zeros((num,), dtype="int32"),
        }

    def read(self, symbols, state, training=False):
        steps = symbols.shape[1]
        symbols = ops.maximum(symbols, 0)  # After the end of a piece.
        seen = ops.concatenate([state["seen"], symbols], axis=1)
        voice = (
            state["voice"][:, None] + ops.arange(steps, dtype="int32")
        ) % self.voices
        x = self._inputs(symbols, seen[:, :steps], voice)
        memory = {k: v for k, v in state.items() if k in ("h", "c")}
        hidden, memory = self.cell(
            ops.transpose(x, (1, 0, 2)), memory, training=training
        )
        hidden = self.dropout(ops.transpose(hidden, (1, 0, 2)), training=training)
        logits = self._below(self.out(hidden), symbols, voice)
        voice = (state["voice"] + steps) % self.voices
        return logits, {**memory, "seen": seen[:, steps:], "voice": voice}

    def step(self, symbol, state):
        seen = ops.concatenate([state["seen"], symbol[:, None]], axis=1)
        voice = state["voice"]
        x = self._inputs(symbol, seen[:, 0], voice)
        memory = {k: v for k, v in state.items() if k in ("h", "c")}
        memory = self.cell.step(x, memory)
        logits = self._below(self.out(memory["h"]), symbol, voice)
        voice = (voice + 1) % self.voices
        return logits, {**memory, "seen": seen[:, 1:], "voice": voice}

    def _inputs(self, last, former, voice):
        """Return what the cell reads before it writes a voice's note.

        Args:
            last: The symbol before.
            former: The voice's own symbol of the frame before.
            voice: The voice.
        """
        rows = voice * (self.symbols + 1)
        return self.last(rows + last) + self.former(rows + former)

    def _below(self, logits, last, voice):
        """Return logits that leave what is below the last note of the same frame."""
        logits, number = ops.cast(logits, "float32"), ops.arange(self.symbols)
        lower = number < ops.expand_dims(last, -1)
        first = ops.expand_dims(ops.equal(voice, 0), -1)
        allowed = ops.logical_or(ops.logical_or(lower, first), ops.equal(number, 0))
        return ops.where(allowed, logits, -1e9)
