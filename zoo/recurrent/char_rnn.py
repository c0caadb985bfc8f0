"""CharRNN: text, character by character, by a recurrent network.

Graves, 2013, "Generating sequences with recurrent neural networks", section 3,
https://arxiv.org/abs/1308.0850: layers of LSTM, of which each sees the character and
the layer below, and the output sees all. What differs: no peephole connections; GRU by
argument; dropout of hidden and of recurrent weights in place of weight noise; windows
of text that begin without a state, in any place.
"""

from keras import layers, ops, random

from zoo._model import Model
from zoo._text import ASCII, Letters, Text
from zoo.recurrent._cells import GATES, Recurrent


class CharRNN(Text, Model):
    """A recurrent model of text.

    Args:
        vocabulary: The characters it knows, each once.
        cell: "lstm" or "gru".
        hidden: Units of each layer, the lowest first.
        dropout: Share of the hidden units that those above do not see in training.
        forgetful: Share of the recurrent weights that are hidden in training.
    """

    def __init__(
        self,
        vocabulary=ASCII,
        cell="lstm",
        hidden=(512,),
        dropout=0.0,
        forgetful=0.0,
    ):
        super().__init__()
        self.read_by(Letters(vocabulary))
        whole = all(type(n) is int and n > 0 for n in hidden)
        shares = all(0 <= share < 1 for share in (dropout, forgetful))
        if cell not in GATES or not hidden or not whole or not shares:
            raise ValueError(
                "CharRNN takes a cell of lstm or gru, layers of 1 unit or more, and "
                f"dropout and forgetful in [0, 1); these are {cell!r}, {hidden}, "
                f"{dropout} and {forgetful}."
            )
        self.seed = random.SeedGenerator()
        self.cells = [
            Recurrent(units, cell, forgetful, self.seed, name=f"layer_{i}")
            for i, units in enumerate(hidden)
        ]
        self.above = [
            layers.Dense(cell.width, use_bias=False, name=f"above_{i}")
            for i, cell in enumerate(self.cells[1:])
        ]
        self.tables = [
            layers.Embedding(self.symbols + 1, cell.width, name=f"table_{i}")
            for i, cell in enumerate(self.cells)
        ]
        for table in self.tables:
            table.build()
        for dense, below in zip(self.above, hidden):
            dense.build((None, below))
        self.dropout = layers.Dropout(dropout)
        self.out = layers.Dense(self.symbols, name="out")
        self.out.build((None, sum(hidden)))
        self.built = True

    def start(self, num):
        return {
            f"{name}{i}": value
            for i, cell in enumerate(self.cells)
            for name, value in cell.start(num).items()
        }

    def read(self, symbols, state, training=False):
        symbols = ops.transpose(symbols)  # Steps first, as the loop takes them.
        logits, state = self._pass(symbols, state, training)
        return ops.transpose(logits, (1, 0, 2)), state

    def step(self, symbol, state):
        return self._pass(symbol, state, step=True)

    def _pass(self, symbols, state, training=False, step=False):
        """Run all layers over symbols, (steps, n), or over those of one step, (n,)."""
        seen, new, below = [], {}, None
        for i, (cell, table) in enumerate(zip(self.cells, self.tables)):
            x = table(symbols)
            if i:
                x = x + self.above[i - 1](below)
            own = {key[0]: v for key, v in state.items() if key[1:] == str(i)}
            if step:
                own = cell.step(x, own)
                below = own["h"]
            else:
                below, own = cell(x, own, training=training)
            below = self.dropout(below, training=training)
            new.update({f"{key}{i}": value for key, value in own.items()})
            seen.append(below)
        logits = self.out(seen[0] if len(seen) == 1 else ops.concatenate(seen, -1))
        return ops.cast(logits, "float32"), new
