"""Verbs of models that write text, by characters or by pairs of bytes."""

import codecs
import itertools
import reprlib

import numpy as np

from zoo._documents import APART
from zoo._noise import philox
from zoo._symbols import FREE, Symbols, controls, windows

ASCII = "\n" + "".join(map(chr, range(32, 127)))
LONGEST = 1_000_000  # Symbols of one sample, after its prompt.


class Letters:
    """A vocabulary of characters.

    Args:
        vocabulary: Each once, in the order of their numbers.
    """

    def __init__(self, vocabulary):
        if not isinstance(vocabulary, str) or len(vocabulary) < 2:
            raise ValueError(
                "vocabulary is a text of the 2 characters or more that the model "
                f"knows, not {reprlib.repr(vocabulary)}."
            )
        if len(set(vocabulary)) < len(vocabulary):
            twice = sorted({c for c in vocabulary if vocabulary.count(c) > 1})
            raise ValueError(f"vocabulary has {_shown(twice)} more than once.")
        self.vocabulary = vocabulary
        self.number = {character: i for i, character in enumerate(vocabulary)}

    def __len__(self):
        return len(self.vocabulary)

    def encode(self, text, name="text"):
        """Return the numbers of a text, or say which of its characters have none."""
        unknown = sorted(set(text) - set(self.number))
        if unknown:
            raise ValueError(
                f"The {name} has {_shown(unknown)}, not in the vocabulary of this "
                f"model, whose {len(self)} characters are {self.vocabulary[:200]!r}."
            )
        return np.array([self.number[c] for c in text], "int32")

    def decode(self, numbers):
        """Return the text of numbers."""
        return "".join(self.vocabulary[i] for i in np.ravel(numbers))


class Reader:
    """What `zoo._model.Model` lacks to learn from text.

    Attributes:
        symbols: How many it knows.
        vocabulary: Of a model of characters, these in the order of their numbers.
        window: Most symbols it sees at once; None for no limit.
        documents: None for one long text; else as `zoo.GPT` has it.
    """

    medium = "text"
    documents = None
    vocabulary = None
    window = None

    def read_by(self, tokens):
        """Keep how texts become numbers; called by the constructor.

        Args:
            tokens: Has `encode(text, name)`, `decode(numbers)` and a length.
        """
        self._tokens, self.symbols = tokens, len(tokens)
        self.vocabulary = getattr(tokens, "vocabulary", None)

    def numbers(self, text, name="text"):
        """Return the numbers of the symbols of a text, (length,) int32.

        Raises:
            ValueError: Some are not in the vocabulary; the message names them.
        """
        if not isinstance(text, str):
            raise ValueError(f"{name} is a str, not {reprlib.repr(text)}.")
        return self._tokens.encode(text, name)

    def text(self, numbers):
        """Return the text of an array of numbers."""
        return self._tokens.decode(numbers)

    def _texts(self, texts, verb):
        """Return a list of the texts that a verb is given, none of them empty."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts or not all(texts):
            raise ValueError(
                f"{verb} takes texts of 1 character or more; one has none."
            )
        return texts

    def fit(self, x=None, y=None, length=128, **kwargs):
        """Train, as `keras.Model.fit`, on text.

        Args:
            x: A text, or a list of them, which are joined by line ends; or what
                `zoo train` gives, windows of numbers, (N, steps).
            y: None.
            length: Symbols of the windows that texts are cut into, at most the
                model's own `window`.
            **kwargs: As in `keras.Model.fit`: epochs, batch_size, callbacks, …
        """
        if isinstance(x, str | list | tuple):
            x = self._cut(x, min(length, self.window or length))
        if isinstance(x, np.ndarray):
            x = self._windows(x)
        return super().fit(x, y, **kwargs)

    def _cut(self, texts, length):
        """Return a text, or a list of them, as windows of numbers, (N, length)."""
        text = texts if isinstance(texts, str) else "\n".join(texts)
        return windows(self.numbers(text), length)

    def _windows(self, x):
        whole = x.dtype.kind in "iu" and x.ndim == 2 and x.size
        least = APART if self.documents else 0
        if not whole or x.min() < least or x.max() >= self.symbols:
            raise ValueError(
                f"A {type(self).__name__} learns from a text, a list of them, or "
                f"windows (N, steps) of whole numbers below {self.symbols}."
            )
        if self.window and x.shape[1] > self.window:
            raise ValueError(
                f"This {type(self).__name__} sees {self.window} symbols at once; these "
                f"windows have {x.shape[1]}."
            )
        return x


class Text(Reader, Symbols):
    """What `zoo._model.Model` lacks for text; the model gives what `Symbols` asks for.

    A symbol is a character or, of a model of byte pairs, some bytes.
    """

    options = ("length", "prompt", "temperature", "top_k", "top_p", "num_beams")

    def generate(self, num=1, seed=None, **how):
        """Return `num` new texts, each its prompt and what follows.

        Args:
            num: How many, 1 to 100,000.
            seed: A whole number of 0 or more: the same seed gives the same text on
                every backend. None draws a fresh one.
            length: Symbols to write after the prompt, 1 or more; 200 if not given.
            prompt: What the text begins with, of the model's characters: one for all,
                or a list of one for each. Without any, text begins anywhere. Of one
                longer than the model's `window`, it reads the last part.
            temperature: Above 1 for odder text, below 1 for plainer, 0 for the
                likeliest symbol each time.
            top_k: Only so many of the likeliest symbols are drawn; None for all.
            top_p: Only the likeliest symbols are drawn that together have this
                probability, above 0 and at most 1; None for all.
            num_beams: Draw nothing, but find what is likeliest as a whole, or near
                it: keep so many beginnings at each symbol, 1 to 100.

        Returns:
            list of str.

        Raises:
            ValueError: An argument is out of range or unknown, or a prompt has
                characters that are not in the vocabulary; the message names them.
        """
        num, beams = self._count(num), how.pop("num_beams", None)
        noise, given, how, ends = self._plan(num, seed, **how)
        if self._beams(beams, how) is None:
            symbols = self._write(noise, given, how)
        else:
            for row, end in zip(given, ends):
                row[end:] = self.symbols
            parts = np.split(given, range(16, len(given), 16))
            symbols = np.concatenate([self._searched(p, beams) for p in parts])
        return [self.text(row[:end]) for row, end in zip(symbols, ends)]

    def stream(self, seed=None, every=16, **how):
        """Return an iterator of one text while it is written, some symbols each.

        Args:
            seed: As for `generate`: together, the pieces are what it returns, without
                the prompt.
            every: Most symbols of a piece.
            **how: `length`, `prompt`, `temperature`, `top_k` and `top_p`, as for
                `generate`.
        """
        if type(every) is not int or every < 1:
            raise ValueError(f"every is a whole number of 1 or more, not {every!r}.")
        if how.get("num_beams") is not None:
            raise ValueError("A stream is drawn as it goes; num_beams is of generate.")
        return self._stream(every, *self._plan(1, seed, **how)[:3])

    def _stream(self, every, noise, given, how):
        skip = int((given[0] != FREE).sum())
        pieces = self._written(noise, given, how, most=every)
        symbols = itertools.chain.from_iterable(piece[0] for piece in pieces)
        symbols = itertools.islice(symbols, skip, None)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        bytes_of = getattr(self._tokens, "bytes_of", None)
        while piece := list(itertools.islice(symbols, every)):
            if bytes_of:  # A character may end in the piece that follows.
                yield decoder.decode(bytes_of(piece))
            else:
                yield self.text(piece)
        if left := decoder.decode(b"", final=True):
            yield left

    def _plan(self, num, seed, length=200, prompt="", **how):
        """Return noise, given symbols, controls and ends of what is to be written."""
        self._check_asked(length, LONGEST, how)
        prompts = [prompt] * num if isinstance(prompt, str) else list(prompt)
        if len(prompts) != num:
            raise ValueError(
                f"prompt is one text, or {num}, one for each sample; these are "
                f"{len(prompts)}."
            )
        known = {p: self.numbers(p, "prompt") for p in dict.fromkeys(prompts)}
        ends = [len(known[p]) + length for p in prompts]
        noise = np.zeros((num, max(ends)), "float32")
        given = np.full(noise.shape, FREE, "int32")
        fresh = philox(seed).random((num, length), dtype="float32")
        for row, (text, end) in enumerate(zip(prompts, ends)):
            given[row, : end - length] = known[text]
            noise[row, end - length : end] = fresh[row]
        return noise, given, controls(num, self.symbols, **how), ends

    def score(self, texts, per="symbol"):
        """Return how likely texts are, (N,), higher is more.

        Args:
            texts: A text, or a list of them, each of 1 character or more.
            per: "symbol" for log p in nats a symbol; "byte" for log2 p in bits a byte
                of UTF-8, which compares models of different symbols.
        """
        if per not in ("symbol", "byte"):
            raise ValueError(f"per is 'symbol' or 'byte', not {per!r}.")
        texts = self._texts(texts, "score")
        sequences = [self.numbers(text) for text in texts]
        found = self._score(sequences)
        if per == "byte":
            return found / np.log(2) / [len(text.encode()) for text in texts]
        return found / [len(s) for s in sequences]


def _shown(characters, most=20):
    """Return characters as a message names them."""
    shown = " ".join(map(repr, characters[:most]))
    left = len(characters) - most
    return f"{shown} and {left} more" if left > 0 else shown
