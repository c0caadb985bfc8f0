"""Models that write one symbol after another: how they draw, go on and are scored."""

import numpy as np
from keras import ops, tree

from zoo._backend import scan
from zoo._draw import drawn
from zoo._model import BUCKETS
from zoo._noise import philox

NONE = -1e9  # Log p of what is not.
FREE = -1  # In place of a symbol that is to be drawn.
PIECE = 256  # Most symbols of one call of a loop, which stops where there are fewer.
BLOCKS = 16, 64, PIECE  # Symbols that are read at once.
SOON = 16  # Symbols that are written before it looks whether all have ended.


class Symbols:
    """The loop of a model of sequences of whole numbers, for `zoo._model.Model`.

    The model has `symbols`, how many there are, and

        start(num)                the state of `num` rows before their first symbol
        read(symbols, state)      (n, steps) int32 -> logits of each next symbol,
                                  (n, steps, symbols) float32, and the state
        step(symbol, state)       the same for one symbol each, (n,) -> (n, symbols)

    The number `symbols` itself stands for the start of a sequence and comes before its
    first symbol. A state is a tensor, or a dict or list of such, the batch first.

    Attributes:
        symbols: How many there are.
        end: The symbol that ends a sequence, or None.
        window: Most symbols that a state holds, or None. When it is full, the model
            goes on from the last half of it, as if a sequence began there.
        piece: Most symbols that one call of the loop writes.
    """

    symbols = None
    window = None
    piece = PIECE
    end = None

    def call(self, symbols, training=False):
        """Return the logits of each symbol by those before it, (n, steps, symbols)."""
        before = self._before(symbols)
        return self.read(before, self.start(ops.shape(symbols)[0]), training)[0]

    def _before(self, symbols, last=None):
        """Return for each symbol the one before it, for the first one `last`."""
        first = ops.full_like(symbols[:, :1], self.symbols)
        first = first if last is None else last[:, None]
        return ops.concatenate([first, symbols[:, :-1]], axis=1)

    def objective(self, symbols):
        """Return the cross-entropy in nats a symbol of windows, (n, steps).

        Symbols below 0 are after the end of a sequence and do not count.
        """
        symbols = ops.cast(symbols, "int32")
        logits = self.call(symbols, training=True)
        counted = ops.cast(symbols >= 0, "float32")
        each = picked(ops.log_softmax(logits), ops.maximum(symbols, 0))
        return -ops.sum(counted * each) / ops.maximum(ops.sum(counted), 1.0)

    def _check_asked(self, length, longest, how):
        """Refuse a length that is out of range, and what the model does not take."""
        for name in how:
            if name not in self.options:
                raise ValueError(
                    f"This {type(self).__name__} has no condition {name!r}; it takes "
                    f"{', '.join(self.options)}."
                )
        if type(length) is not int or not 1 <= length <= longest:
            raise ValueError(
                f"length is a whole number from 1 to {longest:,}, not {length!r}."
            )

    def noise(self, num, seed=None, length=None):
        """Draw a uniform number for each symbol, (num, length); 64 by default."""
        length = length or min(64, self.window or 64)
        return philox(seed).random((num, length), dtype="float32")

    def sample(self, noise, given=None, temperature=None):
        """Return symbols, as many as there are numbers: (n, length) int32.

        Args:
            noise: (n, length) uniform in [0, 1), of at most `window` steps.
            given: (n, length) int32, symbols that are so, and -1 where one is drawn.
            temperature: (n,), as for `zoo._draw.drawn`.
        """
        num = noise.shape[0]
        given = (
            ops.full_like(ops.cast(noise, "int32"), FREE) if given is None else given
        )
        last = ops.full((num,), self.symbols, dtype="int32")
        how = {} if temperature is None else {"temperature": temperature}
        return self._loop(self.start(num), last, noise, given, None, how)[2]

    def advance(self, state, last, noise, given, count, how):
        """Write on from a state; return the state, the last symbol and all new ones.

        Args:
            state: As `start` or this gives it.
            last: (n,) int32, the symbol before; `symbols` at the start.
            noise, given: As for `sample`.
            count: How many of their steps are made, a tensor, or None for all.
            how: dict of further arguments of `zoo._draw.drawn`, tensors.
        """
        return self._loop(state, last, noise, given, count, how)

    def _loop(self, state, last, noise, given, count, how, step=None):
        """Do what `advance` says, by another `step` than the model's if given."""
        step = step or self.step

        def one(carry, now):
            last, state = carry
            logits, state = step(last, state)
            free = drawn(logits, now["noise"], **how)
            symbol = ops.where(now["given"] < 0, free, now["given"])
            return (symbol, state), symbol

        steps = {"noise": ops.transpose(noise), "given": ops.transpose(given)}
        (last, state), symbols = scan(one, (last, state), steps, count)
        return state, last, ops.transpose(symbols)

    def signatures(self):
        noise = self.noise(1, seed=0)
        generate = {
            "noise": noise,
            "given": np.full(noise.shape, FREE, "int32"),
            "temperature": np.ones(1, "float32"),
        }
        state = {k: np.array(v) for k, v in self.start(1).items()}
        step = {"symbol": np.full(1, self.symbols, "int32"), "state": state}
        return {"generate": ("sample", generate), "step": ("_step", step)}

    def _step(self, symbol, state):
        logits, state = self.step(symbol, state)
        return {"logits": logits, "state": state}

    def _written(self, noise, given, how, most=PIECE, start=None):
        """Yield what a few rows write, (n, some) int32 at a time.

        One compiled loop makes all lengths; a step costs the same at the end of a long
        sequence as at its start.

        Args:
            noise, given: (n, length) NumPy arrays.
            how: As for `advance`, of n rows.
            most: Most symbols at a time; never more than `piece`.
            start: As `self.start`, which it stands in for.
        """
        rows, length = noise.shape
        done = _begun(given)
        if done:
            yield given[:, :done]
        size = min(b for b in BUCKETS if rows <= b)
        pad = [(0, size - rows), (0, self.piece)]
        noise = np.pad(noise, pad)
        found = np.pad(given, pad, constant_values=FREE)
        how = {
            k: ops.convert_to_tensor(np.pad(v, pad[:1], mode="edge"))
            for k, v in how.items()
        }
        held = None
        while done < length:
            if held in (None, self.window):
                state, last, held = self._remembered(found[:, :done], how, start)
            count = self._room(held, min(most, length - done))
            part = slice(done, done + self.piece)
            now = noise[:, part], found[:, part], count
            state, last, new = self._advanced(state, last, *now, how)
            found[:, done : done + count] = new
            yield new[:rows]
            done, held = done + count, held + count

    def _room(self, held, most):
        """Return how many symbols a state can take that holds some already."""
        return min(most, self.piece, self.window - held if self.window else most)

    def _advanced(self, state, last, noise, given, count, how):
        now = [ops.convert_to_tensor(a) for a in (noise, given, np.int32(count))]
        arguments = state, last, *now, how
        state, last, symbols = self._call_compiled("advance", {}, arguments)
        return state, last, ops.convert_to_numpy(symbols)[:, :count]

    def search(self, state, last, scores, given, count):
        """Go on with the likeliest sequences found so far, a few of each row (beams).

        Args:
            state, last: As for `advance`, of n * beams rows.
            scores: (n, beams) log p of each; far below where there is none yet.
            given: (n, steps) int32, as for `sample`; and `symbols` where a sequence has
                ended, so that its beams stay as they are.
            count: As for `advance`.

        Returns:
            The state, last symbols and scores; and (n, steps, beams) int32, the symbol
            that each new beam adds and the beam before it that it goes on from.
        """
        num, beams = scores.shape

        def one(carry, now):
            last, state, scores = carry
            logits, state = self.step(last, state)
            each = ops.reshape(ops.log_softmax(logits), (num, beams, self.symbols))
            ended, every = now == self.symbols, ops.arange(self.symbols)
            if self.end is not None:  # What has ended stays as it is.
                over = ops.reshape(last == self.end, (num, beams, 1))
                each = ops.where(over, ops.where(every == self.end, 0.0, NONE), each)
            each = ops.where(ended[:, None], 0.0, each)
            open_ = ops.logical_or(now < 0, every == now)
            open_ = ops.where(ended, every == 0, open_)
            each = scores[..., None] + ops.where(open_[:, None], each, NONE)
            each = ops.reshape(each, (num, beams * self.symbols))
            scores, index = ops.top_k(each, beams)
            index = ops.cast(index, "int32")
            parent, symbol = index // self.symbols, index % self.symbols
            rows = ops.arange(num, dtype="int32")[:, None] * beams + parent
            rows = ops.reshape(rows, (-1,))
            state = tree.map_structure(lambda x: ops.take(x, rows, axis=0), state)
            carry = ops.reshape(symbol, (-1,)), state, scores
            return carry, (symbol, parent)

        steps = ops.transpose(given)[..., None]
        carry, added = scan(one, (last, state, scores), steps, count)
        last, state, scores = carry
        return state, last, scores, *(ops.transpose(x, (1, 0, 2)) for x in added)

    def _beams(self, beams, how):
        """Return the number of beams that is asked for, or None, checked."""
        if beams is None:
            return None
        if type(beams) is not int or not 1 <= beams <= 100 or how:
            raise ValueError(
                "num_beams is a whole number from 1 to 100, and draws nothing, so that "
                f"it goes without temperature, top_k and top_p; it is {beams!r}."
            )
        return beams

    def _searched(self, given, beams, start=None):
        """Return the likeliest sequences that go on from what is given, (n, length).

        Args:
            given: (n, length) NumPy array, -1 where a symbol is to be found, and
                `symbols` after the end of a sequence.
            beams: How many of each row are kept on the way.
            start: As for `_written`, of rows times beams.
        """
        rows, length = given.shape
        size = min(b for b in BUCKETS if rows <= b)
        given = np.pad(given, [(0, size - rows), (0, 0)], mode="edge")
        done = _begun(given)
        found = np.repeat(np.maximum(given, 0)[:, None], beams, axis=1)
        scores = ops.convert_to_tensor([[0.0] + [NONE] * (beams - 1)] * size)
        held = None
        while done < length:
            if held in (None, self.window):
                whole = found[:, :, :done].reshape(size * beams, done)
                state, last, held = self._remembered(whole, {}, start or self.start)
            most = PIECE if self.end is None else SOON
            count = self._room(held, min(most, length - done))
            part = np.pad(given[:, done : done + count], [(0, 0), (0, PIECE - count)])
            now = [ops.convert_to_tensor(a) for a in (part, np.int32(count))]
            arguments = state, last, scores, *now
            out = self._call_compiled("search", {}, arguments)
            state, last, scores, *added = out
            added = [ops.convert_to_numpy(array)[:, :count] for array in added]
            for step, (symbol, parent) in enumerate(zip(*np.swapaxes(added, 1, 2))):
                found = np.take_along_axis(found, parent[..., None], axis=1)
                found[:, :, done + step] = symbol
            done, held = done + count, held + count
            if self.end is not None and (found[:, :, done - 1] == self.end).all():
                break
        if self.end is None:
            return found[:rows, 0]
        # Of those that ended, the likeliest a symbol.
        whole = found[:, :, :done] == self.end
        lengths = np.where(whole.any(2), whole.argmax(2), done) + 1
        each = ops.convert_to_numpy(scores) / lengths + NONE * ~whole.any(2)
        return found[np.arange(size), each.argmax(1)][:rows, :done]

    def _remembered(self, symbols, how, start=None):
        """Read the beginnings of sequences, (n, steps) NumPy, or their last part.

        Blocks are read at once, and what is left by the loop that writes.

        Returns:
            The state, the last symbol and how many symbols the state holds.
        """
        num, steps = symbols.shape
        if self.window and steps >= self.window:  # Full, at times more than once.
            half = self.window // 2
            held = half + (steps - self.window) % (self.window - half)
            symbols = symbols[:, -held:]
        state = (start or self.start)(num)
        last = np.full(num, self.symbols, "int32")
        left = symbols
        while blocks := [b for b in BLOCKS if b <= left.shape[1]]:
            now = [ops.convert_to_tensor(a) for a in (last, left[:, : blocks[-1]])]
            state = self._call_compiled("remember", {}, (state, *now))
            last, left = left[:, blocks[-1] - 1].copy(), left[:, blocks[-1] :]
        last, count = ops.convert_to_tensor(last), left.shape[1]
        if count:
            left = np.pad(left, [(0, 0), (0, self.piece - count)])
            noise = np.zeros(left.shape, "float32")
            state, last, _ = self._advanced(state, last, noise, left, count, how)
        return state, last, symbols.shape[1]

    def remember(self, state, last, symbols):
        """Return the state after more symbols, (n, steps); as for `likelihood`."""
        return self.read(self._before(symbols, last), state)[1]

    def _write(self, noise, given, how):
        """Return what all rows write, (n, length) int32."""
        parts, most = [], BUCKETS[-1]
        for start in range(0, len(noise), most):
            rows = slice(start, start + most)
            now = {k: v[rows] for k, v in how.items()}
            pieces = self._written(noise[rows], given[rows], now)
            parts.append(np.concatenate(list(pieces), axis=1))
        return np.concatenate(parts)

    def likelihood(self, state, last, symbols, counted):
        """Read a piece of sequences; return the state and their log p in nats.

        Args:
            state: As `start` or this gives it.
            last: (n,) int32, the symbol before.
            symbols: (n, steps) int32.
            counted: (n, steps), 1 for symbols that count and 0 for others.

        Returns:
            The state, and (n,) float32.
        """
        logits, state = self.read(self._before(symbols, last), state)
        each = picked(ops.log_softmax(logits), symbols)
        return state, ops.sum(counted * each, axis=1)

    def _score(self, sequences):
        """Return log p of each sequence in nats, a list of (length,) arrays: (N,)."""
        order = np.argsort([len(s) for s in sequences], kind="stable")
        total, most = np.zeros(len(sequences)), BUCKETS[3]
        for start in range(0, len(order), most):
            rows = order[start : start + most]
            total[rows] = self._score_some([sequences[i] for i in rows])
        return total

    def _score_some(self, sequences):
        size = min(b for b in BUCKETS if len(sequences) <= b)
        longest = max(map(len, sequences))
        most = min([self.window or PIECE, *(b for b in BLOCKS if longest <= b)])
        symbols = np.zeros((size, longest + most), "int32")
        counted = np.zeros(symbols.shape, "float32")
        for row, sequence in enumerate(sequences):
            symbols[row, : len(sequence)] = sequence
            counted[row, : len(sequence)] = 1
        total, done = np.zeros(size), 0
        state, last, _ = begin = self._remembered(symbols[:, :0], {}, self.start)
        while done < longest:
            known = self.window // 2 if self.window and done else 0
            if known:
                state, last, _ = begin
            part = slice(done - known, done - known + most)
            weights = counted[:, part].copy()
            weights[:, :known] = 0
            now = [ops.convert_to_tensor(a) for a in (symbols[:, part], weights)]
            state, new = self._call_compiled("likelihood", {}, (state, last, *now))
            total += ops.convert_to_numpy(new)
            last = ops.convert_to_tensor(symbols[:, part][:, -1].copy())
            done = part.stop
        return total[: len(sequences)]


def _begun(given):
    """Return how many first symbols all rows are given, fewer than there are in all."""
    known = int((given >= 0).all(axis=0).cumprod().sum())
    return min(known, given.shape[1] - 1)


def picked(values, symbols):
    """Return the values of the symbols that are: (n, steps, symbols) -> (n, steps)."""
    return ops.take_along_axis(values, symbols[..., None], axis=-1)[..., 0]


def controls(num, symbols, temperature=1.0, top_k=None, top_p=None):
    """Check how `num` rows are drawn; return arrays for `zoo._draw.drawn`, in a dict.

    Raises:
        ValueError: One of them is out of range.
    """
    numbers = {"temperature": (temperature, "0 or more", lambda v: 0 <= v < 1e6)}
    numbers["top_p"] = (top_p, "above 0 and at most 1, or None", lambda v: 0 < v <= 1)
    numbers["top_k"] = (
        top_k,
        "a whole number of 1 or more, or None",
        lambda v: v >= 1 and v == int(v),
    )
    for name, (value, rule, good) in numbers.items():
        number = isinstance(value, int | float | np.number)
        if isinstance(value, bool) or not (
            (value is None and name != "temperature") or (number and good(value))
        ):
            raise ValueError(f"{name} is {rule}, not {value!r}.")
    how = {}
    if temperature != 1:
        how["temperature"] = np.full(num, temperature, "float32")
    if top_k is not None or top_p is not None:
        top_k = min(top_k or symbols, symbols)
        how["top_k"] = np.full(num, top_k, "int32")
        how["top_p"] = np.full(num, 1.0 if top_p is None else top_p, "float32")
    return how


def windows(symbols, length):
    """Return a sequence cut into windows, (N, length), without its last few symbols."""
    length = max(1, min(length, len(symbols)))
    count = len(symbols) // length
    return np.asarray(symbols[: count * length]).reshape(count, length)
