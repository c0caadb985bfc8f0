"""Run an export with NumPy and LiteRT alone: the reference for an app's author.

    model = Exported("vae")                 what `zoo export … --out vae` wrote
    images = model.generate(16, seed=0)     the samples that the preset makes
    english = model.translate("Ein Hund.")  of a model from text to text

Neither Keras nor TensorFlow is imported. What is here is what an app does too: draw
noise, fill in conditions, call a signature, and turn numbers into pictures or text.
"""

import codecs
import hashlib
import importlib.util
import itertools
import json
import os
from pathlib import Path

import numpy as np

from zoo._byte_pairs import BytePairs
from zoo._litert import Runner
from zoo._midi import roll_of
from zoo._noise import philox
from zoo._sentencepieces import SentencePieces
from zoo._speech import sounds_of

LENGTH = {"text": 200, "music": 64}  # Symbols and frames, if not asked for.
MOST = 100_000  # Samples of one call, and symbols of one text.


class Exported:
    """A folder that `zoo export --format litert` wrote.

    Args:
        folder: With model.tflite and model.json.
        threads: That LiteRT uses; None for 4, or as many as there are cores.

    Raises:
        ValueError: It is no such folder, or the model is not the one described.
        ImportError: ai-edge-litert is not installed.
    """

    def __init__(self, folder, threads=None):
        folder = Path(folder)
        try:
            self.about = json.loads((folder / "model.json").read_text("utf-8"))
            kind, file = self.about["format"], self.about["file"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{folder} is no export: it has no model.json that says what it holds. "
                f"zoo export NAME --out {folder} writes one."
            ) from error
        if kind != "litert":
            raise ValueError(
                f"zoo run runs litert, and {folder} is a {kind}: TensorFlow Serving "
                "or tf.saved_model.load runs that."
            )
        if importlib.util.find_spec("ai_edge_litert") is None:
            raise ImportError(
                "An export runs by ai-edge-litert, which is not installed: pip install "
                "ai-edge-litert."
            )
        content = (folder / Path(file).name).read_bytes()
        if hashlib.sha256(content).hexdigest() != self.about["sha256"]:
            raise ValueError(
                f"{folder / file} is not the file that model.json describes: its "
                "sha256 differs. Export again."
            )
        facts, threads = self.about["facts"], threads or min(4, os.cpu_count() or 1)
        self.signatures, self.batch = self.about["signatures"], self.about["batch"]
        self._runner = Runner(content, self.signatures, self.batch, threads)
        self.medium, self.classes = self.about["medium"], facts.get("classes")
        self.rate, self.vocabulary = facts.get("rate"), facts.get("vocabulary")
        self._tokens = None
        if "merges" in facts:
            self._tokens = BytePairs(facts["merges"])
        elif "sentencepiece" in facts:
            self._tokens = SentencePieces(facts["sentencepiece"])

    def call(self, signature, **inputs):
        """Return the outputs of a signature, a dict of arrays of N rows.

        Args:
            signature: Its name.
            **inputs: Arrays of N rows each; rows are padded to whole calls.

        Raises:
            ValueError: There is no such signature, or an input is missing, unknown or
                of another shape; the message says what it takes.
        """
        if signature not in self.signatures:
            raise ValueError(
                f"This export has no signature {signature!r}; it has "
                f"{', '.join(self.signatures)}."
            )
        specs = self.signatures[signature]["inputs"]
        if set(inputs) != set(specs):
            raise ValueError(
                f"{signature} takes {', '.join(specs)}, not "
                f"{', '.join(inputs) or 'nothing'}."
            )
        arrays, rows = {}, None
        for name, spec in specs.items():
            given = np.asarray(inputs[name])
            with np.errstate(invalid="ignore"):  # NaN as a whole number.
                array = given.astype(spec["dtype"])
            rows = len(array) if rows is None and array.ndim else rows
            if array.shape != (rows, *spec["shape"][1:]) or not rows:
                each = ", ".join(map(str, ["N", *spec["shape"][1:]]))
                raise ValueError(
                    f"{name} of {signature} has the shape ({each}), the same N of 1 or "
                    f"more as the others; this is {array.shape}."
                )
            ends = spec.get("range") or (None, None)
            low, high = (given if end is None else end for end in ends)
            whole = array.dtype.kind == "f" or np.array_equal(array, given)
            inside = np.isfinite(given) & (given >= low) & (given <= high)
            if not (inside.all() and whole):
                raise ValueError(
                    f"{name} of {signature} lies in {ends[0]} to {ends[1]}, is finite "
                    f"and fits {spec['dtype']}; this has {given.min()} to "
                    f"{given.max()}."
                )
            arrays[name] = array
        return self._runner.run(signature, arrays)

    def start(self, num=1, signature="step"):
        """Return the inputs of `step` before the first one, a dict, of `num` rows.

        Of `decode` those that are not from `encode`.
        """
        return {
            name: np.full((num, *spec["shape"][1:]), spec["start"], spec["dtype"])
            for name, spec in self.signatures[signature]["inputs"].items()
            if "start" in spec
        }

    def generate(self, num=1, seed=None, **given):
        """Return `num` new samples, as the `generate` of the model that was exported.

        Args:
            num: How many, 1 to 100,000.
            seed: A whole number of 0 or more; None draws a fresh one.
            **given: `labels`, `speakers`, `guidance`: one number or one for each; of
                text and music `length`, `prompt` and `temperature`; of speech
                `temperature`.
        """
        whole = isinstance(num, int) and not isinstance(num, bool)
        if not whole or not 1 <= num <= MOST:
            raise ValueError(f"num is a whole number from 1 to {MOST:,}, not {num!r}.")
        writes = self.medium in LENGTH and "step" in self.signatures
        if not writes and "generate" not in self.signatures:
            raise ValueError(
                f"This export makes nothing; it has {', '.join(self.signatures)}."
            )
        if self.medium in LENGTH:
            symbols = np.stack([*self._written(num, seed, **given)], axis=1)
            if self.medium == "text":
                return ["".join(self._texts(row)) for row in symbols]
            facts = self.about["facts"]
            return np.stack(
                [roll_of(row, facts["voices"], facts["lowest"]) for row in symbols]
            )
        specs = self.signatures["generate"]["inputs"]
        known = [name for name, spec in specs.items() if "draw" not in spec]
        for name in given:
            if name not in known:
                takes = ", ".join(known) or "none"
                raise ValueError(f"There is no condition {name!r}; it takes {takes}.")
        inputs = {
            name: self._noise(spec, num, seed)
            if "draw" in spec
            else self._condition(name, spec, num, given.get(name))
            for name, spec in specs.items()
        }
        made = self.call("generate", **inputs)["output"]
        return sounds_of(made) if self.medium == "speech" else made

    def stream(self, seed=None, **given):
        """Return an iterator of the parts of one text, without its prompt."""
        skip = len(self._numbers(given.get("prompt") or ""))
        symbols = itertools.islice(self._written(1, seed, **given), skip, None)
        return self._texts(symbol[0] for symbol in symbols)

    def _texts(self, symbols):
        """Yield the text of each symbol; a character comes when all its bytes have."""
        if self._tokens is None:
            yield from (self.vocabulary[symbol] for symbol in symbols)
            return
        if not hasattr(self._tokens, "bytes_of"):  # Pieces tell spaces from before.
            yield self._tokens.decode([*symbols])
            return
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for symbol in symbols:
            yield decoder.decode(self._tokens.bytes_of([symbol]))
        yield decoder.decode(b"", final=True)

    def _noise(self, spec, num, seed):
        """Return noise as model.json says it is drawn."""
        rule, shape = spec["draw"], (num, *spec["shape"][1:])
        generator = philox(seed, rule["stream"])
        if rule["distribution"] == "uniform":
            return generator.random(shape, dtype="float32")
        return generator.standard_normal(shape, dtype="float32")

    def _condition(self, name, spec, num, value):
        if value is None:
            turns, first = np.arange(num), self.classes or 1
            value = {
                "labels": turns % first,
                "speakers": turns // first % (self.about["facts"].get("speakers") or 1),
            }.get(name, spec.get("default", 1))
        value = np.asarray(value)
        if value.shape not in ((), (num,)):
            raise ValueError(f"{name} is one number, or {num}, one for each sample.")
        return np.broadcast_to(value, (num,))

    def _written(self, num, seed, **given):
        """Return an iterator of one symbol after another of `num` rows, by `step`."""
        takes = "length", "prompt", "temperature"
        for name in given:
            if name not in takes:
                raise ValueError(
                    f"There is no condition {name!r}; it takes {', '.join(takes)}."
                )
        return self._writing(num, seed, **given)

    def _writing(self, num, seed, length=None, prompt=None, temperature=1.0):
        length = LENGTH[self.medium] if length is None else length
        if not isinstance(length, int) or not 1 <= length <= MOST:
            raise ValueError(f"length is a whole number from 1 to {MOST:,}.")
        if not temperature >= 0:
            raise ValueError(f"temperature is 0 or more, not {temperature!r}.")
        facts = self.about["facts"]
        if self.medium == "text":
            begun = self._numbers(prompt or "")
        elif prompt is None:
            begun, length = [], length * facts["voices"]
        else:
            raise ValueError("zoo run writes music from its beginning, without prompt.")
        noise = philox(seed).random((num, length), dtype="float32")
        found = np.tile(np.array(begun, "int32"), (num, 1))
        yield from found.T
        (states, symbol, held), window = self._remembered(found), facts.get("window")
        for step in noise.T:
            if held == window:  # It is full: go on from its last half.
                states, symbol, held = self._remembered(found)
            logits, held = self._next("step", symbol, states), held + 1
            symbol = _drawn(logits, step, temperature)
            if window:
                found = np.column_stack([found, symbol])
            yield symbol

    def _remembered(self, symbols):
        """Read the beginnings of sequences, (num, steps), or their last part.

        By the longest `prefill` that fits, then by `step`; as Keras does.

        Returns:
            The states that `step` goes on from, the last symbol, and how many symbols
            the states hold.
        """
        window, steps = self.about["facts"].get("window"), symbols.shape[1]
        if window and steps >= window:
            held = window // 2 + (steps - window) % (window - window // 2)
            symbols = symbols[:, -held:]
        state, left = self.start(len(symbols)), symbols
        last = state.pop("symbol")
        states = self._runner.keep("step", state)
        sizes = [n.partition("prefill_")[2] for n in self.signatures]
        sizes = sorted(int(size) for size in sizes if size)
        while left.shape[1]:
            size = max((s for s in sizes if s <= left.shape[1]), default=1)
            if size > 1:
                block = {"symbols": left[:, :size], "symbol": last}
                self._runner.run(f"prefill_{size}", block, states)
            else:
                self._next("step", last, states)
            last, left = left[:, size - 1], left[:, size:]
        return states, last, symbols.shape[1]

    def _next(self, signature, symbol, states):
        """Return the log-odds of what follows a symbol; `states` then hold it."""
        return self._runner.run(signature, {"symbol": symbol}, states)["logits"]

    def translate(self, texts, seed=None, temperature=0.0):
        """Return for each text the one that follows from it, by `encode` and `decode`.

        Args:
            texts: A text, or a list of them.
            seed: Where something is drawn, as for `generate`.
            temperature: 0 for the likeliest symbol each time, 1 to draw it.
        """
        facts, each = self.about["facts"], [texts] if isinstance(texts, str) else texts
        end, window = facts["end"], facts["window"]
        source = np.full((len(each), window), -1, "int32")
        for row, text in zip(source, each):
            numbers = [*self._numbers(text), end]
            if not 2 <= len(numbers) <= window:
                raise ValueError(
                    f"translate takes texts of 1 to {window - 1} symbols; one has "
                    f"{len(numbers) - 1}."
                )
            row[: len(numbers)] = numbers
        heard = self.call("encode", source=source)
        state = {f"state_{name}": array for name, array in heard.items()}
        state |= self.start(len(each), "decode")
        symbol = state.pop("symbol")
        states = self._runner.keep("decode", state)
        noise, found = philox(seed).random(source.shape, dtype="float32"), []
        for step in noise.T:
            symbol = _drawn(self._next("decode", symbol, states), step, temperature)
            found.append(symbol)
            if (np.stack(found) == end).any(axis=0).all():
                break
        made = [
            "".join(self._texts(itertools.takewhile(lambda n: n != end, row)))
            for row in np.stack(found, axis=1)
        ]
        return made[0] if isinstance(texts, str) else made

    def _numbers(self, text):
        if self._tokens:
            return [*self._tokens.encode(text)]
        unknown = sorted(set(text) - set(self.vocabulary))
        if unknown:
            raise ValueError(
                f"The prompt has {unknown}, not among the model's "
                f"{len(self.vocabulary)} characters."
            )
        return [self.vocabulary.index(character) for character in text]


def _drawn(logits, noise, temperature):
    """Return the symbol at which the cumulative distribution passes its number."""
    logits = (logits - logits.max(axis=-1, keepdims=True)).astype("float32")
    odds = np.exp(logits / np.float32(max(temperature, 1e-6)))
    edges = np.cumsum(odds / odds.sum(axis=-1, keepdims=True), axis=-1)
    spot = np.minimum(noise, 1 - 1e-6)[:, None] * edges[:, -1:]
    return (edges <= spot).sum(axis=-1, dtype="int32")
