"""T5: text into text, such as a language into another, over keras-hub's layers.

Raffel et al., 2020, https://arxiv.org/abs/1910.10683: one Transformer reads the source
both ways, another writes the target symbol by symbol and looks at what the first found.
Places are told by a bias on how far one looks, and layers are scaled, not centred. What
differs: symbols may be characters or pairs of bytes, known to both sides, and targets
may be smoothed (Szegedy et al., 2016, https://arxiv.org/abs/1512.00567, section 7).
"""

import itertools
import warnings

import numpy as np
from keras import ops

from zoo._byte_pairs import BytePairs
from zoo._model import BUCKETS, Model
from zoo._noise import philox
from zoo._sentencepieces import SentencePieces, packed
from zoo._symbols import FREE, SOON, Symbols, controls, picked
from zoo._text import ASCII, Letters, Reader
from zoo.transformers._keras_hub import LARGEST, check_sizes, keras_hub
from zoo.transformers._published import numbers

MOST = 64  # Texts that are translated at once.
LONGEST = 4096  # Symbols of a window; no table of the weights is as long.
PUBLISHED = 512  # Symbols of a window that the published ones were trained with.
ACTIVATIONS = "relu", "gelu", "silu"


class T5(Reader, Symbols, Model):
    """A Transformer that reads a text and writes another.

    It learns from pairs of texts, `fit(sources, targets)`.

    Attributes:
        backbone: The `keras_hub.models.T5Backbone` that it is made of.
        end: The number of the symbol that ends a text, which has no characters.

    Args:
        vocabulary: The characters it knows, each once.
        merges: In place of characters, those of a byte-level byte-pair encoding: see
            `zoo._byte_pairs.BytePairs`. Then `vocabulary` is None or of no account.
        window: Most symbols of a text, of either side, its end included.
        width: Numbers that stand for a symbol within it.
        depth: Layers of each side.
        heads: Heads of attention, which divide the width.
        hidden: Units of the dense networks; four times the width if None.
        dropout: Share of units that are hidden in training.
        smoothing: Share of each target that is spread over all symbols in training.
        sentencepiece: In place of characters, the pieces of a SentencePiece model: its
            file, as `zoo._sentencepieces.packed` gives it.
        table: Rows of the table of symbols, if more than there are pieces.
        head: Width of a head; the width divided by the heads if None.
        activation: Of the dense networks: "relu", "gelu" or "silu".
        gated: Whether these are gated (Shazeer, 2020,
            https://arxiv.org/abs/2002.05202), as from T5 1.1 on.
        tied: Whether the table of symbols also tells which one follows.
    """

    medium = "translation"
    # T5's table of symbols begins with numbers near 1, its queries with numbers near
    # 0.02: steps are relative to what they change, or it hardly learns (LAMB: You et
    # al., 2020, https://arxiv.org/abs/1904.00962).
    learns_by = "lamb", 0.005
    pairs = True
    noise = Model.noise  # It makes nothing of noise alone.

    def __init__(
        self,
        vocabulary=ASCII,
        merges=None,
        window=64,
        width=128,
        depth=3,
        heads=4,
        hidden=None,
        dropout=0.1,
        smoothing=0.0,
        sentencepiece=None,
        table=None,
        head=None,
        activation="relu",
        gated=False,
        tied=True,
    ):
        super().__init__()
        if sentencepiece is not None:
            self.read_by(SentencePieces(sentencepiece))
        else:
            self.read_by(Letters(vocabulary) if merges is None else BytePairs(merges))
        split = heads if head is None else 1  # Else heads need not divide the width.
        check_sizes("T5", 2, window, width, depth, split, hidden, dropout)
        check_sizes("T5", 2, window, heads * (head or 1), 1, heads, None, dropout)
        if not 0 <= smoothing < 1 or window > LONGEST:
            raise ValueError(
                f"T5 takes smoothing in [0, 1) and a window of at most {LONGEST:,}, "
                f"not {smoothing!r} and {window:,}."
            )
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"activation is one of {', '.join(ACTIVATIONS)}, not {activation!r}."
            )
        if sentencepiece is None:  # Two rows more: an end, and what starts a target.
            self.end, self.symbols = self.symbols, self.symbols + 1
            least, self.first = self.symbols + 1, self.symbols
        else:
            least, self.end = self.symbols, self._tokens.end
            self.symbols, self.first = table or least, self._tokens.pad
        table = least if table is None else table
        if type(table) is not int or not least <= table <= LARGEST:
            raise ValueError(f"table has {least:,} to {LARGEST:,} rows, not {table!r}.")
        self.window, self.width, self.heads = window, width, heads
        self.head = width // heads if head is None else head
        self.smoothing, self.merges, self.tied = smoothing, merges, tied
        self.sentencepiece = sentencepiece
        with warnings.catch_warnings():  # Attention takes a mask and says it can not.
            warnings.filterwarnings("ignore", ".*does not support masking", UserWarning)
            self.backbone = keras_hub().models.T5Backbone(
                vocabulary_size=table,
                num_layers=depth,
                num_heads=heads,
                hidden_dim=width,
                intermediate_dim=hidden or 4 * width,
                key_value_dim=self.head,
                dropout=dropout,
                activation=activation,
                use_gated_activation=gated,
                tie_embedding_weights=tied,
            )
        for layer in self.backbone._flatten_layers():
            if hasattr(layer, "relative_attention_buckets"):
                layer.supports_masking = True
        self.built = True

    @classmethod
    def from_published(cls, config, asset):
        """Return the arguments that make a `T5Backbone` of keras-hub.

        Args:
            config: What that is made with.
            asset: Gives a file of the preset by its path.

        Raises:
            ValueError: Sizes are missing, or do not fit the pieces.
        """
        table, depth, heads, width, hidden = numbers(
            config,
            *("vocabulary_size", "num_layers", "num_heads", "hidden_dim"),
            "intermediate_dim",
        )
        if config.get("layer_norm_epsilon", 1e-6) != 1e-6:
            raise ValueError("the zoo has a layer_norm_epsilon of 1e-6 alone.")
        return {
            "vocabulary": None,
            "sentencepiece": packed(asset("assets/tokenizer/vocabulary.spm", "rb")),
            "window": PUBLISHED,
            "width": width,
            "depth": depth,
            "heads": heads,
            "hidden": hidden,
            "dropout": config.get("dropout", 0.1),
            "table": table,
            "head": config.get("key_value_dim"),
            "activation": config.get("activation", "relu"),
            "gated": config.get("use_gated_activation", True),
            "tied": config.get("tie_embedding_weights", True),
        }

    # How it learns

    def call(self, source, target, training=False):
        """Return the logits of each symbol of the target, (n, steps, symbols)."""
        target = ops.cast(target, "int32")
        before = self._rows(self._before(ops.maximum(target, 0)))
        inputs = {
            "encoder_token_ids": ops.maximum(ops.cast(source, "int32"), 0),
            "encoder_padding_mask": ops.cast(source >= 0, "int32"),
            "decoder_token_ids": before,
            "decoder_padding_mask": ops.ones_like(before),
        }
        found = self.backbone(inputs, training=training)
        return self._logits(found["decoder_sequence_output"])

    def objective(self, source, target):
        """Return the cross-entropy in nats a symbol; those below 0 do not count."""
        logits = ops.log_softmax(self.call(source, target, training=True))
        target = ops.cast(target, "int32")
        counted = ops.cast(target >= 0, "float32")
        each = picked(logits, ops.maximum(target, 0))
        if self.smoothing:
            each = each + self.smoothing * (ops.mean(logits, axis=-1) - each)
        return -ops.sum(counted * each) / ops.maximum(ops.sum(counted), 1.0)

    def fit(self, x=None, y=None, **kwargs):
        """Train, as `keras.Model.fit`, on pairs of texts.

        Args:
            x, y: Lists of as many sources and targets; or what `zoo train` gives,
                rows of numbers with -1 after the end of a text, (N, steps).
            **kwargs: As in `keras.Model.fit`: epochs, batch_size, callbacks, …
        """
        if isinstance(x, list | tuple) and isinstance(y, list | tuple):
            if len(x) != len(y):
                raise ValueError(
                    "fit takes as many targets as sources; these are "
                    f"{len(y):,} and {len(x):,}."
                )
            x, y = self.rows(x, "fit"), self.rows(y, "fit")
        return Model.fit(self, x, y, **kwargs)  # Of windows is the reader's own.

    # What a user asks of it

    def rows(self, texts, verb):
        """Return texts as numbers, (N, window) int32: an end, then -1."""
        texts = self._texts(texts, verb)
        rows = np.full((len(texts), self.window), FREE, "int32")
        for row, text in zip(rows, texts):
            found = self.numbers(text)
            if len(found) >= self.window:
                raise ValueError(
                    f"{verb} takes texts of at most {self.window - 1} symbols, the "
                    f"window of this {type(self).__name__} less an end; one has "
                    f"{len(found):,}."
                )
            row[: len(found)], row[len(found)] = found, self.end
        return rows

    def text(self, numbers):
        """Return the text of an array of numbers, up to its end."""
        there = np.ravel(numbers)
        known = itertools.takewhile(lambda n: n >= 0 and n != self.end, there)
        return super().text([*known])

    def translate(self, texts, seed=None, num_beams=None, temperature=0.0, **how):
        """Return for each text the one that follows from it.

        Args:
            texts: A text, or a list of them, each of at most `window` - 1 symbols.
            seed: A whole number of 0 or more, where something is drawn: the same seed
                gives the same texts on every backend. None draws a fresh one.
            num_beams: Keep so many beginnings at each symbol, 1 to 100, and return
                what is likeliest a symbol of those that end. None goes on with one.
            temperature: 0 for the likeliest symbol each time, 1 to draw it.
            **how: `top_k` and `top_p`, as for `GPT.generate`.

        Returns:
            str for a str, else list of str.
        """
        source = self.rows(texts, "translate")
        beams = self._beams(num_beams, temperature or how)
        how = controls(len(source), self.symbols, temperature, **how)
        noise = philox(seed).random(source.shape, dtype="float32")
        found = []
        for start in range(0, len(source), MOST):
            rows = slice(start, start + MOST)
            now = {k: v[rows] for k, v in how.items()}
            found += self._translated(source[rows], noise[rows], now, beams)
        return found[0] if isinstance(texts, str) else found

    def _translated(self, source, noise, how, beams):
        def start(num):
            size = min(b for b in BUCKETS if len(source) <= b)
            whole = np.pad(source, [(0, size - len(source)), (0, 0)], mode="edge")
            whole = np.repeat(whole, num // size, axis=0)
            return self._call_compiled("begin", {}, (ops.convert_to_tensor(whole),))

        given = np.full(source.shape, FREE, "int32")
        if beams:
            found = self._searched(given, beams, start)
        else:
            pieces, ended = [], np.zeros(len(source), bool)
            for piece in self._written(noise, given, how, SOON, start):
                pieces.append(piece)
                ended |= (piece == self.end).any(axis=1)
                if ended.all():
                    break
            found = np.concatenate(pieces, axis=1)
        return [self.text(row) for row in found]

    def score(self, texts, targets):
        """Return how likely targets are, given texts, (N,), in nats a symbol.

        Args:
            texts, targets: A text each, or lists of as many.
        """
        source, target = self.rows(texts, "score"), self.rows(targets, "score")
        if len(source) != len(target):
            raise ValueError(
                "score takes as many targets as texts; these are "
                f"{len(target):,} and {len(source):,}."
            )
        return self._run("_likelihood", source, target, rows=MOST)

    def _likelihood(self, source, target):
        logits = ops.log_softmax(self.call(source, target))
        counted = ops.cast(target >= 0, "float32")
        each = counted * picked(logits, ops.maximum(target, 0))
        return ops.sum(each, axis=1) / ops.sum(counted, axis=1)

    def attention(self, text, target=None):
        """Return how much each symbol of a translation looks at each of its source.

        Args:
            text: The source.
            target: The translation; None for that of `translate`.

        Returns:
            The m symbols of the target and the n of the source as texts, "" for an end
            or a start; and NumPy (depth, heads, m, n), of which each row sums to 1. A
            row is the place at which its symbol is read, to find the one that follows.
        """
        source, row = self.rows(text, "attention"), np.zeros((1, self.window), "int32")
        if target is None:
            target = self.translate(text)
        else:
            self.rows(target, "attention")  # Which says what is wrong with it.
        made = self.numbers(target)[: self.window - 1]  # The last of all is not read.
        row[0, : len(made)], size = made, int((source >= 0).sum())
        maps = self._run("_attention", source, row)[0, :, :, : len(made) + 1, :size]
        return ["", *map(self.text, made)], [*map(self.text, source[0, :size])], maps

    def _attention(self, source, target):
        maps = self._read(self._before(target), self.begin(source))[2]
        return ops.stack(maps, axis=1)

    # How it writes

    def begin(self, source):
        """Read sources, (n, window) int32 with -1 after their ends; return a state.

        It holds the keys and values of the source for each layer, and room for those
        of the target.
        """
        num, state = source.shape[0], self._heard(source)
        size = num, self.heads, self.window, self.head
        empty = ops.zeros(size, state["source_keys0"].dtype)
        for i in range(len(self.backbone.decoder_transformer_layers)):
            state[f"keys{i}"] = state[f"values{i}"] = empty
        return {**state, "place": ops.zeros((num,), "int32")}

    def _heard(self, source):
        """Return the part of a state that stays as it is: what sources say."""
        seen = source >= 0
        x, bias = self.backbone.token_embedding(ops.maximum(source, 0)), None
        for layer in self.backbone.encoder_transformer_layers:
            x, bias = layer(x, attention_mask=seen[:, None], position_bias=bias)
        x = self.backbone.encoder_layer_norm(x)
        state = {"seen": ops.cast(seen, "float32")}
        for i, layer in enumerate(self.backbone.decoder_transformer_layers):
            attention = layer.cross_attention
            state[f"source_keys{i}"] = self._apart(attention.key_projector(x))
            state[f"source_values{i}"] = self._apart(attention.value_projector(x))
        return state

    def read(self, symbols, state, training=False):
        logits, state, _ = self._read(symbols, state)
        return logits, state

    def _read(self, symbols, state):
        """Read on from a state: return logits, the state and maps of the source."""
        place, steps = state["place"][0], symbols.shape[1]
        new = {**state, "place": state["place"] + steps}
        x = self.backbone.token_embedding(self._rows(symbols))
        layers = self.backbone.decoder_transformer_layers
        far = layers[0].self_attention.compute_bias(steps, self.window, place)
        seen = ops.arange(self.window)[None] <= place + ops.arange(steps)[:, None]
        bias = ops.where(seen, ops.cast(far, "float32"), -1e9)
        source = ops.where(state["seen"][:, None, None] > 0, 0.0, -1e9)
        maps = []
        for i, layer in enumerate(layers):
            y = layer.self_attention_layer_norm(x)
            own = layer.self_attention
            update = own.key_projector(y), own.value_projector(y)
            for name, value in zip((f"keys{i}", f"values{i}"), update):
                value = ops.cast(self._apart(value), state[name].dtype)
                new[name] = ops.slice_update(state[name], [0, 0, place, 0], value)
            x = x + self._looked(own, y, new[f"keys{i}"], new[f"values{i}"], bias)[0]
            y = layer.cross_attention_layer_norm(x)
            past = state[f"source_keys{i}"], state[f"source_values{i}"]
            found, shares = self._looked(layer.cross_attention, y, *past, source)
            x, maps = x + found, [*maps, shares]
            y = layer.layer_norm(x)
            found = layer.input_projector(y)
            if layer.use_gated_activation:
                found = found * layer.gate_projector(y)
            x = x + layer.output_projector(found)
        return self._logits(self.backbone.decoder_layer_norm(x)), new, maps

    def step(self, symbol, state):
        logits, state = self.read(symbol[:, None], state)
        return logits[:, 0], state

    def signatures(self):
        source = np.full((1, self.window), FREE, "int32")
        source[:, 0] = self.end
        state = self._run("begin", source)
        step = {"symbol": np.full(1, self.symbols, "int32"), "state": state}
        return {"encode": ("_heard", {"source": source}), "decode": ("_step", step)}

    def _step(self, symbol, state):
        logits, new = self.step(symbol, state)
        changed = {k: v for k, v in new.items() if v is not state[k]}
        return {"logits": logits, "state": changed}

    def _looked(self, attention, y, keys, values, bias):
        """Return what queries of y find among keys, and how much they look at each.

        T5 does not scale their product.
        """
        query = self._apart(attention.query_projector(y))
        near = ops.matmul(query, ops.transpose(keys, (0, 1, 3, 2)))
        shares = ops.softmax(ops.cast(near, "float32") + bias)
        found = ops.matmul(ops.cast(shares, values.dtype), values)
        found = ops.transpose(found, (0, 2, 1, 3))
        found = ops.reshape(found, (*y.shape[:2], self.heads * self.head))
        return attention.output_projector(found), shares

    def _apart(self, x):
        """Return the heads apart: (n, steps, width) -> (n, heads, steps, …)."""
        shape = (x.shape[0], x.shape[1], self.heads, self.head)
        return ops.transpose(ops.reshape(x, shape), (0, 2, 1, 3))

    def _rows(self, symbols):
        """Return the rows of the table for symbols; `symbols` starts a target."""
        if self.first == self.symbols:
            return symbols
        return ops.where(symbols == self.symbols, self.first, symbols)

    def _logits(self, x):
        x = x * self.width**-0.5 if self.tied else x  # The table is its weights.
        logits = self.backbone.token_embedding(x, reverse=True)
        return ops.cast(logits[..., : self.symbols], "float32")
