"""Two recurrent layers: LSTM and GRU, whose inputs come multiplied by their weights.

What a layer reads is known for all steps at once when it learns, so that product is one
large one, outside the loop; within it, only the state is multiplied.
"""

from keras import layers, ops
from keras.random import dropout

from zoo._backend import recur

GATES = {"lstm": 4, "gru": 3}


class Recurrent(layers.Layer):
    """A layer of memory cells, without the weights of its inputs.

    An LSTM (Hochreiter & Schmidhuber, 1997, https://doi.org/10.1162/neco.1997.9.8.1735)
    with the forget gate of Gers et al. (2000), whose bias starts at 1; or a GRU (Cho et
    al., 2014, https://arxiv.org/abs/1406.1078) that resets after the product, so that a
    step has one.

    Args:
        units: Numbers in the hidden state.
        cell: "lstm" or "gru".
        forgetful: Share of the recurrent weights hidden in training, the same at all
            steps of a batch (Merity et al., 2018, https://arxiv.org/abs/1708.02182).
        seed: A `keras.random.SeedGenerator`, for `forgetful`.
    """

    def __init__(self, units, cell="lstm", forgetful=0.0, seed=None, **kwargs):
        super().__init__(autocast=False, **kwargs)  # States stay float32.
        self.units, self.cell = units, cell
        self.forgetful, self.seed = forgetful, seed
        self.width = GATES[cell] * units
        self.kernel = self.add_weight(
            shape=(units, self.width), initializer="orthogonal", name="kernel"
        )
        self.bias = self.add_weight(
            shape=(self.width,), initializer="zeros", name="bias"
        )
        self.built = True

    def start(self, num):
        """Return the state of `num` rows before their first step."""
        names = ("h", "c") if self.cell == "lstm" else ("h",)
        return {name: ops.zeros((num, self.units)) for name in names}

    def call(self, inputs, state, training=False):
        """Read a sequence.

        Args:
            inputs: (steps, n, width), multiplied by the weights of the inputs.
            state: As `start` gives it.
            training: Whether recurrent weights are hidden.

        Returns:
            The hidden states, (steps, n, units), and the last state.
        """
        kernel = ops.convert_to_tensor(self.kernel)  # Once, outside the loop.
        if training and self.forgetful:
            kernel = dropout(kernel, self.forgetful, seed=self.seed)
        kernel = ops.cast(kernel, self.compute_dtype)
        bias = ops.convert_to_tensor(self.bias)
        return recur(self._next, kernel, bias, state, inputs)

    def step(self, inputs, state):
        """Return the state after one step; `inputs` are (n, width)."""
        kernel = ops.cast(self.kernel, self.compute_dtype)
        past = ops.matmul(ops.cast(state["h"], self.compute_dtype), kernel)
        return self._next(ops.cast(past, "float32") + self.bias, inputs, state)

    def _next(self, past, x, state):
        x = ops.cast(x, "float32")
        if self.cell == "lstm":
            write, forget, new, show = ops.split(past + x, 4, axis=-1)
            kept = ops.sigmoid(forget + 1.0) * state["c"]
            c = kept + ops.sigmoid(write) * ops.tanh(new)
            return {"h": ops.sigmoid(show) * ops.tanh(c), "c": c}
        u = 2 * self.units
        keep, reset = ops.split(ops.sigmoid(past[:, :u] + x[:, :u]), 2, axis=-1)
        new = ops.tanh(x[:, u:] + reset * past[:, u:])
        return {"h": keep * state["h"] + (1.0 - keep) * new}
