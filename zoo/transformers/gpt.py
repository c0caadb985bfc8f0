"""GPT: text by a Transformer that looks back, over the layers of keras-hub's GPT-2.

Radford et al., 2019, "Language models are unsupervised multitask learners",
https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf:
layers of attention and of a dense network, each after a normalization, with learned
places, and the table of symbols as the output's weights. What it has read it keeps as
keys and values, an array of a fixed size for each layer, so that a symbol costs the
same at the end of a text as at its start.
"""

import functools
import json

import numpy as np
from keras import ops

from zoo import _documents
from zoo._byte_pairs import BytePairs
from zoo._model import Model
from zoo._symbols import BLOCKS
from zoo._text import ASCII, Letters, Text
from zoo.transformers._keras_hub import check_sizes, keras_hub
from zoo.transformers._published import numbers

LARGEST = 2**29  # bytes of weights in an export's signatures together, in float32
LITTLE = 256  # Symbols that there is room for while a text is short.


class GPT(Text, Model):
    """A Transformer decoder of text.

    Attributes:
        backbone: The `keras_hub.models.GPT2Backbone` that it is made of.

    Args:
        vocabulary: The characters it knows, each once.
        merges: In place of characters, those of a byte-level byte-pair encoding: see
            `zoo._byte_pairs.BytePairs`. Then `vocabulary` is None or of no account.
        window: Most symbols that it sees at once. Of a longer text, it goes on from
            the last half of what it has seen.
        width: Numbers that stand for a symbol within it.
        depth: Layers.
        heads: Heads of attention, which divide the width.
        hidden: Units of the dense networks; four times the width if None.
        dropout: Share of units that are hidden in training.
        documents: None where a text is one from start to end. "texts" where texts are
            documents, such as modules or mails: in training several share a window,
            and none sees another (Krell et al., 2021, "Efficient sequence packing
            without cross-contamination", https://arxiv.org/abs/2107.02027). "chats"
            where these are conversations, a turn a line: then there is `chat`.
    """

    piece = 64

    def __init__(
        self,
        vocabulary=ASCII,
        merges=None,
        window=128,
        width=128,
        depth=4,
        heads=4,
        hidden=None,
        dropout=0.0,
        documents=None,
    ):
        super().__init__()
        pairs = None if merges is None else BytePairs(merges)
        self.read_by(Letters(vocabulary) if pairs is None else pairs)
        check_sizes("GPT", 2, window, width, depth, heads, hidden, dropout)
        if documents not in _documents.KINDS:
            raise ValueError(
                f"documents is None, 'texts' or 'chats', not {documents!r}."
            )
        self.window, self.width, self.heads, self.merges = window, width, heads, merges
        self.documents = documents
        self.backbone = keras_hub().models.GPT2Backbone(
            vocabulary_size=self.symbols + 1,  # The last one starts a text.
            num_layers=depth,
            num_heads=heads,
            hidden_dim=width,
            intermediate_dim=hidden or 4 * width,
            dropout=dropout,
            max_sequence_length=window,
        )
        self.built = True

    @classmethod
    def from_published(cls, config, asset):
        """Return the arguments that make a `GPT2Backbone` of keras-hub.

        Args:
            config: What that is made with.
            asset: Gives the text of a file of the preset by its path.

        Raises:
            ValueError: Sizes are missing, or the numbers of the tokenizer are not
                those of GPT-2: bytes, then merges, and last the end of a text.
        """
        symbols, depth, heads, width, hidden, window = numbers(
            config,
            *("vocabulary_size", "num_layers", "num_heads", "hidden_dim"),
            *("intermediate_dim", "max_sequence_length"),
        )
        lines = asset("assets/tokenizer/merges.txt").rstrip("\n").split("\n")
        merges = "\n".join(lines[1:] if lines[0].startswith("#version") else lines)
        names = [*BytePairs(merges).number]
        listed = json.loads(asset("assets/tokenizer/vocabulary.json"))
        there = isinstance(listed, dict) and [*map(listed.get, names)]
        if there != [*range(len(names))] or symbols != len(names) + 1:
            raise ValueError(
                "the zoo reads vocabularies in the order of GPT-2, bytes, then merges, "
                f"and last the end of a text; this one has {symbols:,} symbols and "
                f"{len(lines):,} merges in another."
            )
        return {
            "vocabulary": None,
            "merges": merges,
            "window": window,
            "width": width,
            "depth": depth,
            "heads": heads,
            "hidden": hidden,
            "dropout": config.get("dropout", 0.0),
        }

    def verbs(self):
        return [v for v in super().verbs() if v != "chat" or self.documents == "chats"]

    def fit(self, x=None, y=None, length=128, **kwargs):
        """Train, as `keras.Model.fit`, on text.

        Args:
            x: A text, or a list of them, joined by line ends or, with `documents`,
                kept apart; of "chats", a list of conversations, as `chat` takes them;
                or what `zoo train` gives, windows of numbers, (N, steps), with -1
                after the end of a document.
            y: None.
            length: Symbols of the windows that texts are cut into, at most `window`.
            **kwargs: As in `keras.Model.fit`: epochs, batch_size, callbacks, …
        """
        return super().fit(x, y, length, **kwargs)

    def _cut(self, texts, length):
        if not self.documents:
            return super()._cut(texts, length)
        texts = [texts] if isinstance(texts, str) else texts
        if self.documents == "chats":
            texts = [_documents.as_text(_documents.turns_of(t)) for t in texts]
        return _documents.packed([self.numbers(text) for text in texts], length)

    def chat(self, turns, length=100, seed=None, **how):
        """Return the answer to what was said, a text of one line.

        Args:
            turns: What the user said; or a list of texts, by turns the user's and the
                model's, that ends with the user's; or a list of messages, dicts of
                "role" ("user", "assistant") and "content". Of long conversations the
                first turns are forgotten: half of `window` is read.
            length: Most symbols of the answer, 1 or more.
            seed: As for `generate`.
            **how: `temperature`, `top_k` and `top_p`, as for `generate`.

        Raises:
            ValueError: The model is not one for conversations, they are of another
                form, or an argument is out of range.
        """
        if self.documents != "chats":
            raise ValueError(
                "chat is for a GPT that learned from conversations, documents='chats', "
                f"such as gpt-chat; here documents is {self.documents!r}."
            )
        turns = _documents.turns_of(turns)
        if len(turns) % 2 == 0:
            raise ValueError(
                "The last turn of a conversation is the user's, so that there is an "
                f"odd number of them; these are {len(turns)}."
            )
        while len(turns) > 2 and len(self._said(turns)) > self.window // 2:
            turns = turns[2:]
        prompt, answer = _documents.as_text(turns), ""
        for piece in self.stream(prompt=prompt, length=length, seed=seed, **how):
            answer += piece
            if "\n" in answer:
                break
        return answer.split("\n")[0]

    def _said(self, turns):
        return self.numbers(_documents.as_text(turns))

    def call(self, symbols, training=False):
        before = self._before(symbols)
        places, seen = None, None
        if self.documents:  # Each is read as if it stood alone.
            before = ops.where(before < 0, self.symbols, before)
            which = ops.cumsum(ops.cast(before == self.symbols, "int32"), axis=1)
            order = ops.arange(before.shape[1])
            seen = which[:, :, None] == which[:, None]
            earlier = ops.logical_and(seen, order < order[:, None])
            places = ops.sum(ops.cast(earlier, "int32"), axis=-1)
        x = self._embedded(before, 0, training, places)
        for layer in self.backbone.transformer_layers:
            x = layer(x, decoder_attention_mask=seen, training=training)
        return self._logits(x)

    def start(self, num, room=None):
        """Return the state before a text, with room for `room` symbols, or all."""
        size = (num, self.heads, room or self.window, self.width // self.heads)
        caches = {
            f"{name}{i}": ops.zeros(size, self.compute_dtype)
            for i in range(self.backbone.num_layers)
            for name in ("keys", "values")
        }
        return {"place": ops.zeros((num,), "int32"), **caches}  # The same in all rows.

    def read(self, symbols, state, training=False):
        logits, state, _ = self._read(symbols, state)
        return logits, state

    def step(self, symbol, state, known=None):
        logits, state, _ = self._read(symbol[:, None], state, known)
        return logits[:, 0], state

    def advance(self, state, last, noise, given, count, how):
        """Write on from a state that `apart` made; return its part "new"."""
        step = functools.partial(self.step, known=state["known"])
        return self._loop(state["new"], last, noise, given, count, how, step)

    def apart(self, state):
        """Return a state as what is known, keys transposed, and what is new: nothing.

        A loop that changes a large array copies it at each turn; a small one costs
        little, and the large one is only read.
        """
        known = dict(state)
        for i in range(self.backbone.num_layers):
            known[f"keys{i}"] = ops.transpose(state[f"keys{i}"], (0, 1, 3, 2))
        num = state["place"].shape[0]
        return {"known": known, "new": self.start(num, self.piece)}

    def joined(self, known, new):
        """Return both parts as one state again."""
        place, room = known["place"][0], known["values0"].shape[2]
        order = ops.arange(room) - place
        fresh = ops.logical_and(order >= 0, order < new["place"][0])[:, None]
        order = ops.clip(order, 0, self.piece - 1)
        state = {"place": known["place"] + new["place"]}
        for name, old in known.items():
            if name != "place":
                axes = (0, 1, 3, 2) if name.startswith("keys") else (0, 1, 2, 3)
                old, last = ops.transpose(old, axes), ops.take(new[name], order, axis=2)
                state[name] = ops.where(fresh, last, old)
        return state

    def _remembered(self, symbols, how, start=None):
        if start:
            state, last, held = super()._remembered(symbols, how, start)
            return self._whole(state), last, held
        start = functools.partial(self.start, room=self._enough(symbols.shape[1]))
        return super()._remembered(symbols, how, start)

    def _advanced(self, state, last, noise, given, count, how):
        if "known" in state and _place(state["new"]) + count > self.piece:
            state = self._whole(state)
        if "known" not in state:
            room, enough = state["keys0"].shape[2], self._enough(_place(state))
            if enough > room:
                more = [(0, 0), (0, 0), (0, enough - room), (0, 0)]
                small = {k: v for k, v in state.items() if k != "place"}
                state = {**state, **{k: ops.pad(v, more) for k, v in small.items()}}
            state = self._call_compiled("apart", {}, (state,))
        new, *rest = super()._advanced(state, last, noise, given, count, how)
        return {"known": state["known"], "new": new}, *rest

    def _whole(self, state):
        if "known" not in state:
            return state
        return self._call_compiled("joined", {}, (state["known"], state["new"]))

    def _enough(self, symbols):
        """Return the room for so many symbols and a piece: little, or the window."""
        return LITTLE if symbols + self.piece <= LITTLE <= self.window else self.window

    def attention(self, text):
        """Return how much each place of a text looks at each one before it.

        Args:
            text: A text of at most `window` symbols, n of them.

        Returns:
            The symbols as texts, of what is read: "" for the start, then all but the
            last; and NumPy (depth, heads, n, n), of which each row sums to 1.
        """
        numbers = self.numbers(text)
        if not 1 <= len(numbers) <= self.window:
            raise ValueError(
                f"attention takes a text of 1 to {self.window} symbols, the window of "
                f"this {type(self).__name__}, not of {len(numbers):,}."
            )
        padded = np.zeros((1, self.window), "int32")
        padded[0, : len(numbers)] = numbers
        maps = self._run("_attention", padded)[0]
        read = ["", *(self.text(number) for number in numbers[:-1])]
        return read, maps[:, :, : len(numbers), : len(numbers)]

    def _attention(self, symbols):
        maps = self._read(self._before(symbols), self.start(symbols.shape[0]))[2]
        return ops.stack(maps, axis=1)

    def signatures(self):
        found = super().signatures()
        state = found["step"][1]["state"]
        for size in BLOCKS:
            if size < self.window:
                symbols = np.zeros((1, size), "int32")
                last = np.full(1, self.symbols, "int32")
                block = {"symbols": symbols, "symbol": last, "state": state}
                found[f"prefill_{size}"] = "_prefill", block
        # Of a large one few: each holds all weights while it is written. To write by
        # `step` is enough; `generate` is the first to go.
        wanted = ["step", *(name for name in found if "prefill" in name), "generate"]
        most = max(1, LARGEST // (4 * self.count_params()))
        return {name: found[name] for name in found if name in wanted[:most]}

    def _prefill(self, symbols, symbol, state):
        return {"state": self.remember(state, symbol, symbols)}

    def _embedded(self, symbols, start, training=False, places=None):
        table = self.backbone.token_embedding(symbols)
        layer, where = self.backbone.position_embedding, {"start_index": start}
        places = layer(table, **(where if places is None else {"positions": places}))
        return self.backbone.embeddings_dropout(table + places, training=training)

    def _logits(self, x):
        x = self.backbone.layer_norm(x)
        logits = self.backbone.token_embedding(x, reverse=True)
        return ops.cast(logits[..., : self.symbols], "float32")

    def _read(self, symbols, state, known=None):
        """Read on from a state: return logits, the state and all maps of attention.

        Args:
            symbols, state: As for `read`.
            known: A state, its keys transposed, of what came before `state`, if any.
        """
        place, steps = state["place"][0], symbols.shape[1]
        room, before = state["keys0"].shape[2], 0
        seen = ops.arange(room)[None] <= place + ops.arange(steps)[:, None]
        if known:
            before = known["place"][0]
            all_known = ops.arange(known["values0"].shape[2])[None] < before
            all_known = ops.broadcast_to(all_known, (steps, all_known.shape[1]))
            seen = ops.concatenate([all_known, seen], axis=1)
        x = self._embedded(symbols, before + place)
        new, maps = {"place": state["place"] + steps}, []
        for i, layer in enumerate(self.backbone.transformer_layers):
            names = f"keys{i}", f"values{i}"
            cache = [state[name] for name in names]
            past = known and [known[name] for name in names]
            x, cache, shares = self._layer(layer, x, cache, place, seen, past)
            new.update(zip(names, cache))
            maps.append(shares)
        return self._logits(x), new, maps

    def _layer(self, layer, x, cache, place, seen, past=None):
        """Pass one layer of keras-hub, whose own way copies the cache thrice."""
        attention = layer._self_attention_layer
        y = layer._self_attention_layer_norm(x)
        query = self._apart(_product(y, attention._query_dense))
        update = attention._key_dense, attention._value_dense
        update = [self._apart(_product(y, dense)) for dense in update]
        cache = [
            ops.slice_update(old, [0, 0, place, 0], ops.cast(new, old.dtype))
            for old, new in zip(cache, update)
        ]
        keys, values = cache
        near = ops.matmul(query, ops.transpose(keys, (0, 1, 3, 2)))
        if past:
            near = ops.concatenate([ops.matmul(query, past[0]), near], axis=-1)
        near = ops.cast(near, "float32") / (self.width // self.heads) ** 0.5
        shares = ops.softmax(ops.where(seen, near, -1e9))
        weights = ops.cast(shares, values.dtype)
        if past:
            old = past[1].shape[2]
            y = ops.matmul(weights[..., :old], past[1])
            y = y + ops.matmul(weights[..., old:], values)
        else:
            y = ops.matmul(weights, values)
        y = ops.reshape(ops.transpose(y, (0, 2, 1, 3)), x.shape)
        x = x + _product(y, attention._output_dense)
        y = layer._feedforward_layer_norm(x)
        y = layer._feedforward_intermediate_dense(y)
        return x + layer._feedforward_output_dense(y), cache, shares

    def _apart(self, x):
        """Return the heads apart: (n, steps, width) -> (n, heads, steps, …)."""
        num, steps, _ = x.shape
        x = ops.reshape(x, (num, steps, self.heads, self.width // self.heads))
        return ops.transpose(x, (0, 2, 1, 3))


def _place(state):
    """Return how many symbols a state holds."""
    return int(ops.convert_to_numpy(state["place"])[0])


def _product(x, dense):
    """Return a dense layer's output with all heads side by side, as one product."""
    width = x.shape[-1]
    kernel = ops.cast(ops.reshape(dense.kernel, (width, -1)), x.dtype)
    return ops.matmul(x, kernel) + ops.cast(ops.reshape(dense.bias, (-1,)), x.dtype)
