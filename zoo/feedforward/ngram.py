"""NeuralNGram: the neural probabilistic language model, over characters.

Bengio et al., 2003, "A neural probabilistic language model",
https://www.jmlr.org/papers/v3/bengio03a.html, equation 1. What differs: characters in
place of words; dropout of the hidden layer in place of weight decay.
"""

import keras
from keras import layers, ops

from zoo._model import Model
from zoo._text import ASCII, Letters, Text


class NeuralNGram(Text, Model):
    """A model of text that sees a few characters back, and no further.

    Args:
        vocabulary: The characters it knows, each once.
        context: How many characters it sees before the one that comes.
        embedding: Numbers that stand for a character.
        hidden: Units of the hidden layer.
        direct: Whether the output sees the embeddings too.
        dropout: Share of the hidden units that the output does not see in training.
    """

    def __init__(
        self,
        vocabulary=ASCII,
        context=10,
        embedding=32,
        hidden=512,
        direct=True,
        dropout=0.0,
    ):
        super().__init__()
        self.read_by(Letters(vocabulary))
        if min(context, embedding, hidden) < 1 or not 0 <= dropout < 1:
            raise ValueError(
                "NeuralNGram takes context, embedding and hidden of 1 or more and "
                f"dropout in [0, 1), not {context}, {embedding}, {hidden} and "
                f"{dropout}."
            )
        self.context = context
        # Keras' own start, within 0.05 of 0, leaves tanh a line, and learning slow.
        self.table = layers.Embedding(
            self.symbols + 1,
            embedding,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0),
            name="table",
        )
        self.table.build()
        self.hidden = layers.Dense(hidden, activation="tanh", name="hidden")
        self.hidden.build((None, context * embedding))
        self.dropout = layers.Dropout(dropout)
        self.out = layers.Dense(self.symbols, name="out")
        self.out.build((None, hidden))
        self.direct = None
        if direct:
            self.direct = layers.Dense(self.symbols, use_bias=False, name="direct")
            self.direct.build((None, context * embedding))
        self.built = True

    def start(self, num):
        seen = (num, self.context - 1)
        return {"seen": ops.full(seen, self.symbols, dtype="int32")}

    def read(self, symbols, state, training=False):
        seen = ops.concatenate([state["seen"], symbols], axis=1)
        steps = ops.shape(symbols)[1]
        vectors = self.table(seen)
        shifted = [vectors[:, i : i + steps] for i in range(self.context)]
        logits = self._logits(ops.concatenate(shifted, axis=-1), training)
        return logits, {"seen": seen[:, steps:]}

    def step(self, symbol, state):
        seen = ops.concatenate([state["seen"], symbol[:, None]], axis=1)
        vectors = self.table(seen)
        vectors = ops.reshape(vectors, (-1, self.context * vectors.shape[-1]))
        return self._logits(vectors), {"seen": seen[:, 1:]}

    def _logits(self, vectors, training=False):
        """Equation 1, of the embeddings of the context, (…, context * embedding)."""
        hidden = self.dropout(self.hidden(vectors), training=training)
        logits = self.out(hidden)
        if self.direct is not None:
            logits = logits + self.direct(vectors)
        return ops.cast(logits, "float32")
