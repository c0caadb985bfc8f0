"""BERT: what is hidden in a text, by a Transformer that looks both ways.

Devlin et al., 2019, https://arxiv.org/abs/1810.04805: of each text some pieces are
hidden, swapped or left, and to be found. What differs: no next sentence is guessed, and
what is hidden is drawn afresh at each training step (RoBERTa: Liu et al., 2019,
https://arxiv.org/abs/1907.11692). It writes by Mask-Predict (Ghazvininejad et al.,
2019, https://arxiv.org/abs/1904.09324): all at once, then again what it was least sure
of. The layers are keras-hub's.
"""

import numpy as np
from keras import ops, random

from zoo._draw import drawn
from zoo._model import Model
from zoo._noise import philox
from zoo._symbols import NONE, controls, picked
from zoo._text import Reader
from zoo._word_pieces import SPECIAL, WordPieces
from zoo.transformers._keras_hub import check_sizes, keras_hub
from zoo.transformers._published import numbers

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPELLED = "\n".join([*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS)])


class BERT(Reader, Model):
    """A Transformer encoder of text.

    Attributes:
        backbone: The `keras_hub.models.BertBackbone` that it is made of.

    Args:
        pieces: What it knows, words and parts of words, one a line: see
            `zoo._word_pieces.WordPieces`.
        lower: Whether case is taken off.
        window: Most pieces of a text, with one for its start and one for its end.
        width: Numbers that stand for a piece within it.
        depth: Layers.
        heads: Heads of attention, which divide the width.
        hidden: Units of the dense networks; four times the width if None.
        dropout: Share of units that are hidden in training.
        hide: Share of the pieces of a text that are to be found in training.
        segments: Kinds of texts that are told apart; the zoo uses the first.
    """

    options = ("length", "prompt", "temperature", "top_k", "top_p", "steps")

    def __init__(
        self,
        pieces=SPELLED,
        lower=True,
        window=66,
        width=128,
        depth=4,
        heads=4,
        hidden=None,
        dropout=0.1,
        hide=0.15,
        segments=2,
    ):
        super().__init__()
        self.read_by(WordPieces(pieces, lower))
        check_sizes("BERT", 3, window, width, depth, heads, hidden, dropout)
        if type(segments) is not int or segments < 1 or not 0 < hide < 1:
            raise ValueError(
                "BERT takes segments of 1 or more and hide in (0, 1), not "
                f"{segments!r} and {hide!r}."
            )
        self.room, self.hide, self.pieces = window, hide, pieces
        self.window = window - 2  # Of a text, between its start and its end.
        hub = keras_hub()
        self.backbone = hub.models.BertBackbone(
            vocabulary_size=self.symbols,
            num_layers=depth,
            num_heads=heads,
            hidden_dim=width,
            intermediate_dim=hidden or 4 * width,
            dropout=dropout,
            max_sequence_length=window,
            num_segments=segments,
        )
        self.backbone.pooled_dense.trainable = False  # Of next sentences.
        self.head = hub.layers.MaskedLMHead(
            token_embedding=self.backbone.token_embedding,
            intermediate_activation="gelu",
            name="head",
        )
        self.head.build((None, None, width))
        self.seed = random.SeedGenerator()
        self.built = True

    @classmethod
    def from_published(cls, config, asset):
        """Return the arguments that make a `BertBackbone` of keras-hub.

        What is hidden is found by a head that such a backbone has not: it is fresh.

        Args:
            config: What that is made with.
            asset: Gives the text of a file of the preset by its path.

        Raises:
            ValueError: Sizes are missing, or do not fit the vocabulary.
        """
        symbols, depth, heads, width, hidden, window, segments = numbers(
            config,
            *("vocabulary_size", "num_layers", "num_heads", "hidden_dim"),
            *("intermediate_dim", "max_sequence_length", "num_segments"),
        )
        pieces = asset("assets/tokenizer/vocabulary.txt").rstrip("\n")
        if pieces.count("\n") + 1 != symbols:
            raise ValueError(
                f"it has {symbols:,} symbols; its vocabulary has "
                f"{pieces.count(chr(10)) + 1:,}."
            )
        return {
            "pieces": pieces,
            "lower": '"lowercase": true' in asset("tokenizer.json"),
            "window": window,
            "width": width,
            "depth": depth,
            "heads": heads,
            "hidden": hidden,
            "dropout": config.get("dropout", 0.0),
            "segments": segments,
        }

    # How it learns

    def objective(self, symbols):
        """Return the cross-entropy in nats a piece of those hidden, of (n, steps)."""
        symbols = ops.cast(symbols, "int32")
        num, steps = ops.shape(symbols)
        count = max(1, round(self.hide * steps))
        order = random.uniform((num, steps), seed=self.seed)
        places = ops.cast(ops.top_k(order, count)[1], "int32")
        chosen = ops.sum(ops.one_hot(places, steps, dtype="int32"), axis=1) > 0
        kind = random.uniform((num, steps), seed=self.seed)
        other = random.uniform((num, steps), seed=self.seed) * self.symbols
        shown = ops.where(kind < 0.8, self._tokens.mask, ops.cast(other, "int32"))
        shown = ops.where(ops.logical_or(kind > 0.9, ~chosen), symbols, shown)
        row = self._between(shown)
        logits = self.head(self._hidden(row, training=True), places + 1)
        logits = ops.log_softmax(ops.cast(logits, "float32"))
        target = ops.take_along_axis(symbols, places, axis=1)
        return -ops.mean(picked(logits, target))

    def _between(self, symbols):
        """Return texts between a start and an end, (n, steps + 2)."""
        first = ops.full_like(symbols[:, :1], self._tokens.first)
        last = ops.full_like(symbols[:, :1], self._tokens.last)
        return ops.concatenate([first, symbols, last], axis=1)

    def _hidden(self, row, training=False):
        """Return what stands for each piece, (n, steps, width); padding is not seen."""
        seen = ops.cast(row != self._tokens.pad, "int32")
        inputs = {
            "token_ids": row,
            "segment_ids": ops.zeros_like(row),
            "padding_mask": seen,
        }
        return self.backbone(inputs, training=training)["sequence_output"]

    def _logits(self, row):
        """Return the log-odds of every piece at every place, float32."""
        hidden = self._hidden(row)
        places = ops.arange(row.shape[1], dtype="int32")[None]
        places = ops.broadcast_to(places, row.shape)
        return ops.cast(self.head(hidden, places), "float32")

    # What a user asks of it

    def rows(self, texts, verb):
        """Return texts as the backbone reads them, (N, window + 2) int32, padded."""
        texts = self._texts(texts, verb)
        rows = np.full((len(texts), self.room), self._tokens.pad, "int32")
        for row, text in zip(rows, texts):
            found = self.numbers(text)
            if not 1 <= len(found) <= self.window:
                raise ValueError(
                    f"{verb} takes texts of 1 to {self.window} pieces, the window of "
                    f"this {type(self).__name__}; one has {len(found):,}."
                )
            row[0], row[1 + len(found)] = self._tokens.first, self._tokens.last
            row[1 : 1 + len(found)] = found
        return rows

    def fill(self, text, top=5):
        """Return what is likely to stand where a text says [MASK].

        Args:
            text: With [MASK] in one place or more, of at most `window` pieces.
            top: How many pieces of each place.

        Returns:
            list, for each [MASK] a list of pairs: piece and probability, likeliest
            first. A piece that goes on with a word begins with ##.
        """
        if not isinstance(text, str) or "[MASK]" not in text:
            raise ValueError(
                "fill takes a text with [MASK] where a piece is to be found."
            )
        if type(top) is not int or not 1 <= top <= self.symbols:
            raise ValueError(f"top is from 1 to {self.symbols:,}, not {top!r}.")
        rows = self.rows(text, "fill")
        odds = self._run("_fill", rows)[0]
        found = []
        for place in np.flatnonzero(rows[0] == self._tokens.mask):
            best = np.argsort(-odds[place], kind="stable")[:top]
            names = [self._tokens.pieces[i] for i in best]
            found.append([*zip(names, map(float, odds[place][best]))])
        return found

    def _fill(self, row):
        """Return the probability of each piece at each place, (n, steps, symbols)."""
        return ops.softmax(self._speakable(self._logits(row)))

    def _speakable(self, logits):
        """Return logits without pieces that stand for no text."""
        special = np.zeros(self.symbols, "float32")
        special[self._tokens.special] = NONE
        return logits + ops.convert_to_tensor(special)

    def recover(self, symbols, hidden):
        """Return what is likeliest where symbols are hidden, all at once.

        Args:
            symbols: NumPy (N, steps) of the numbers of pieces, at most `window` each.
            hidden: NumPy (N, steps), true where the model may not look.

        Returns:
            NumPy (N, steps) int32, `symbols` with its answers in the hidden places.
        """
        shown = np.where(hidden, self._tokens.mask, symbols)
        best = self._run("_best", shown.astype("int32"), rows=64)
        return np.where(hidden, best, symbols).astype("int32")

    def _best(self, symbols):
        logits = self._logits(self._between(symbols))[:, 1:-1]
        logits = self._speakable(logits)
        return ops.cast(ops.argmax(logits, axis=-1), "int32")

    def embed(self, texts):
        """Return numbers that stand for whole texts: the mean over their pieces.

        Args:
            texts: A text, or a list of them, each of 1 to `window` pieces.

        Returns:
            NumPy (N, width) float32.
        """
        return self._run("_embed", self.rows(texts, "embed"), rows=64)

    def _embed(self, row):
        special = [self._tokens.pad, self._tokens.first, self._tokens.last]
        plain = ops.ones_like(row, "float32")
        for number in special:
            plain = plain * ops.cast(row != number, "float32")
        hidden = ops.cast(self._hidden(row), "float32") * plain[..., None]
        return ops.sum(hidden, axis=1) / ops.sum(plain, axis=1, keepdims=True)

    def score(self, texts):
        """Return how likely each piece of a text is by all others, (N,), in nats.

        The pseudo-log-likelihood of Salazar et al., 2020, a piece
        (https://arxiv.org/abs/1910.14659): each is hidden once, and the mean of the
        log-probabilities of what is there is returned; higher is likelier.

        Args:
            texts: A text, or a list of them, each of 1 to `window` pieces.
        """
        rows, scores = self.rows(texts, "score"), []
        for row in rows:
            length = int((row != self._tokens.pad).sum()) - 2
            places = np.arange(1, length + 1)
            hidden = np.repeat(row[None], length, axis=0)
            hidden[np.arange(length), places] = self._tokens.mask
            found = self._run("_found", hidden, places, row[places], rows=64)
            scores.append(found.mean())
        return np.array(scores)

    def _found(self, row, place, symbol):
        """Return log p of a symbol at a place of each row, (n,)."""
        place = ops.cast(place, "int32")[:, None]
        logits = self.head(self._hidden(row), place)
        logits = ops.log_softmax(ops.cast(logits, "float32"))
        return picked(logits, ops.cast(symbol, "int32")[:, None])[:, 0]

    def attention(self, text):
        """Return how much each place of a text looks at each other one.

        Returns:
            The n pieces that are read, with those of start and end; and NumPy
            (depth, heads, n, n), of which each row sums to 1.
        """
        row = self.rows(text, "attention")
        count = int((row[0] != self._tokens.pad).sum())
        maps = self._run("_attention", row)[0]
        read = [self._tokens.pieces[i] for i in row[0, :count]]
        return read, maps[:, :, :count, :count]

    def _attention(self, row):
        backbone, maps = self.backbone, []
        seen = row != self._tokens.pad
        x = backbone.token_embedding(row)
        x = x + backbone.position_embedding(x)
        x = x + backbone.segment_embedding(ops.zeros_like(row))
        x = backbone.embeddings_layer_norm(x)
        for layer in backbone.transformer_layers:
            mask = ops.broadcast_to(seen[:, None], (*row.shape, row.shape[1]))
            shares = layer._self_attention_layer(
                x, x, attention_mask=mask, return_attention_scores=True
            )[1]
            maps.append(ops.cast(shares, "float32"))
            x = layer(x, padding_mask=seen)
        return ops.stack(maps, axis=1)

    def noise(self, num, seed=None, length=None, steps=8):
        """Draw a uniform number for each step and piece, (num, steps, length)."""
        length = length or min(16, self.window)
        return philox(seed).random((num, min(steps, length), length), dtype="float32")

    def generate(self, num=1, seed=None, length=None, prompt="", steps=8, **how):
        """Return `num` new texts, written as a whole and then mended.

        Args:
            num: How many, 1 to 100,000.
            seed: As for other models.
            length: Pieces to write; with those of the prompt at most `window`. None
                for 16, or as many as there is room for.
            prompt: What the text begins with. It may say [MASK] in places to be filled.
            steps: How often what it is least sure of is written again, 1 or more.
            **how: `temperature`, `top_k` and `top_p`, as for `GPT`.

        Returns:
            list of str.
        """
        num = self._count(num)
        for name in how:
            if name not in self.options:
                raise ValueError(
                    f"This {type(self).__name__} has no condition {name!r}; it takes "
                    f"{', '.join(self.options)}."
                )
        begun = self.numbers(prompt, "prompt")
        length = min(16, self.window - len(begun)) if length is None else length
        sizes = type(length) is int and type(steps) is int and min(length, steps) > 0
        if not sizes or len(begun) + length > self.window:
            raise ValueError(
                "length and steps are whole numbers of 1 or more, prompt and length "
                f"together at most {self.window} pieces; these are {length!r}, "
                f"{steps!r} and a prompt of {len(begun)}."
            )
        given = np.full((num, len(begun) + length), self._tokens.mask, "int32")
        given[:, : len(begun)] = begun
        noise = self.noise(num, seed, given.shape[1], steps)
        how = controls(num, self.symbols, **how)
        return [self.text(row) for row in self._run("_written", noise, given, how)]

    def sample(self, noise):
        """Return pieces, (n, length) int32, as `noise` draws their numbers."""
        given = ops.full_like(ops.cast(noise[:, 0], "int32"), self._tokens.mask)
        return self._written(noise, given, {})

    def _written(self, noise, given, how):
        """Fill in a text; hide again what is least sure, less at each step."""
        num, steps, length = noise.shape
        free = given == self._tokens.mask
        symbols, sure = given, ops.ones((num, length)) - ops.cast(free, "float32")
        count = ops.sum(ops.cast(free, "float32"), axis=1, keepdims=True)
        each = {k: ops.repeat(v, length, axis=0) for k, v in how.items()}
        for step in range(steps):
            hidden = symbols == self._tokens.mask
            logits = self._logits(self._between(symbols))[:, 1:-1]
            flat = ops.reshape(self._speakable(logits), (num * length, self.symbols))
            spot = ops.reshape(noise[:, step], (num * length,))
            new = ops.reshape(drawn(flat, spot, **each), (num, length))
            odds = picked(ops.softmax(ops.reshape(flat, logits.shape)), new)
            symbols = ops.where(hidden, new, symbols)
            sure = ops.where(hidden, odds, sure)
            left = ops.floor(count * (steps - 1 - step) / steps)
            order = ops.argsort(ops.where(free, sure, 2.0), axis=1)
            rank = ops.argsort(order, axis=1)
            again = ops.cast(rank, "float32") < left
            symbols = ops.where(again, self._tokens.mask, symbols)
        return symbols

    def signatures(self):
        row = np.full((1, self.room), self._tokens.pad, "int32")
        row[0, :3] = self._tokens.first, self._tokens.mask, self._tokens.last
        return {"fill": ("_fill", {"row": row}), "embed": ("_embed", {"row": row})}
