"""SpeechRNN: spoken words, frame by frame, by a recurrent mixture density network.

Graves, 2013, "Generating sequences with recurrent neural networks", section 4,
https://arxiv.org/abs/1308.0850, whose pen strokes are frames of sound here: a mixture
of Gaussians says what comes. Frames are log mel spectra of 16 ms, and phases are found
afterwards, see `zoo._speech`: a word is some 25 steps, not 4,000 samples, so that a
small network, and a phone, can keep it in mind. What differs: Gaussians without
correlation; GRU by default; noise on what is heard and dropout of it, so that the
network does not lean on the last frame alone (Wang et al., 2017, "Tacotron",
https://arxiv.org/abs/1703.10135); and in place of a coin for the end, the number of
frames is drawn first and a clock tells how much of it is past, as durations are drawn
first by Zen et al., 2016, https://arxiv.org/abs/1606.06061.
"""

import math
import reprlib

import numpy as np
from keras import layers, ops, random

from zoo._backend import scan
from zoo._draw import drawn
from zoo._model import Model
from zoo._noise import philox
from zoo._speech import RATE, frames_of, sounds_of
from zoo.recurrent._cells import GATES, Recurrent

TURNS = 1, 2, 4  # Half turns of the hands of the clock, from begin to end.


class SpeechRNN(Model):
    """A recurrent model of short speech, conditioned on the word and the speaker.

    Args:
        classes: Number of words.
        speakers: Number of speakers.
        bands: Numbers of a frame.
        frames: Frames of the longest sample.
        cell: "gru" or "lstm".
        hidden: Units of the recurrent layer.
        heard: Units that the last frame goes through.
        mixture: Gaussians of a frame.
        dropout: Share of these units, and of the recurrent ones, hidden in training.
        hiss: Standard deviation of the noise on the last frame in training.
    """

    medium = "speech"
    rate = RATE

    def __init__(
        self,
        classes=10,
        speakers=5,
        bands=48,
        frames=48,
        cell="gru",
        hidden=320,
        heard=128,
        mixture=8,
        dropout=0.3,
        hiss=0.2,
    ):
        super().__init__()
        sizes = classes, speakers, bands, frames, hidden, heard, mixture
        if cell not in GATES or min(sizes) < 1 or not 0 <= dropout < 1 <= 1 + hiss:
            raise ValueError(
                "SpeechRNN takes sizes of 1 or more, a cell of lstm or gru, dropout in "
                f"[0, 1) and hiss of 0 or more; these are {sizes}, {cell!r}, {dropout} "
                f"and {hiss}."
            )
        self.classes, self.speakers, self.mixture = classes, speakers, mixture
        self.bands, self.frames, self.hiss = bands, frames, hiss
        self.seed = random.SeedGenerator()
        self.cell = Recurrent(hidden, cell, name="cell")
        self.heard = layers.Dense(heard, activation="relu", name="heard")
        self.heard.build((None, bands))
        self.into = layers.Dense(self.cell.width, use_bias=False, name="into")
        self.into.build((None, heard))
        self.words = layers.Embedding(classes, self.cell.width, name="words")
        self.voices = layers.Embedding(speakers, self.cell.width, name="voices")
        self.words.build()
        self.voices.build()
        self.clock = layers.Dense(self.cell.width, use_bias=False, name="clock")
        self.clock.build((None, 2 + 2 * len(TURNS)))
        self.word_lengths = layers.Embedding(classes, frames, name="word_lengths")
        self.voice_lengths = layers.Embedding(speakers, frames, name="voice_lengths")
        self.word_lengths.build()
        self.voice_lengths.build()
        self.dropout = layers.Dropout(dropout)
        self.out = layers.Dense(mixture * (1 + 2 * bands), name="out")
        self.out.build((None, hidden))
        self.built = True

    def _given(self, labels, speakers):
        """Return what the cell reads at every step, (n, width)."""
        given = self.words(labels) + self.voices(speakers)
        return ops.cast(given, "float32")

    def _lengths(self, labels, speakers):
        """Return the log-odds that a sound has 1 frame, 2, …: (n, frames)."""
        odds = self.word_lengths(labels) + self.voice_lengths(speakers)
        return ops.cast(odds, "float32")

    def _inputs(self, past, given, place, length, training=False):
        """Return what the cell reads of the frame before, the word and the clock.

        Args:
            past: (…, bands).
            given: As `_given` returns it, of the same axes.
            place: How many frames are past, float32, of axes that fit.
            length: How many there are in all, likewise.
            training: Whether dropout is on.
        """
        heard = self.dropout(self.heard(past), training=training)
        turn = math.pi * place / length
        faces = [place / self.frames, (length - place) / self.frames]
        faces += [f(n * turn) for n in TURNS for f in (ops.cos, ops.sin)]
        clock = self.clock(ops.stack(faces, axis=-1))
        return ops.cast(self.into(heard) + clock, "float32") + given

    def _split(self, hidden):
        """Return log shares, means and log deviations of the Gaussians."""
        out = ops.cast(self.out(hidden), "float32")
        k, d = self.mixture, self.bands
        shares = ops.log_softmax(out[..., :k])
        shape = (*out.shape[:-1], k, d)
        shape = tuple(-1 if size is None else size for size in shape)
        means = ops.reshape(out[..., k : k + k * d], shape)
        deviations = ops.reshape(out[..., k + k * d :], shape)
        return shares, means, ops.clip(deviations - 0.5, -5.0, 3.0)

    def call(self, sounds, labels, training=False):
        """Return log p of each frame in nats, and which count, both (n, frames).

        That of the first has the log p of how many there are in it.

        Args:
            sounds: (n, frames, bands + 1): frames, and 1 where there is one, else 0.
            labels: (n, 2) whole numbers, word and speaker.
            training: Whether dropout is on.
        """
        frames, there = sounds[..., :-1], sounds[..., -1]
        given = self._given(labels[:, 0], labels[:, 1])
        length = ops.maximum(ops.sum(there, axis=1), 1.0)
        place = ops.arange(self.frames, dtype="float32")
        past = ops.pad(frames[:, :-1], [[0, 0], [1, 0], [0, 0]])
        if training and self.hiss:
            noise = random.normal(ops.shape(past), seed=self.seed)
            past = past + self.hiss * noise
        past = ops.transpose(past, (1, 0, 2))  # Steps first, as the loop takes them.
        place = ops.minimum(place[:, None], length[None])
        x = self._inputs(past, given[None], place, length[None], training)
        hidden, _ = self.cell(
            x, self.cell.start(ops.shape(frames)[0]), training=training
        )
        hidden = self.dropout(ops.transpose(hidden, (1, 0, 2)), training=training)
        shares, means, deviations = self._split(hidden)
        z = (frames[:, :, None] - means) * ops.exp(-deviations)
        each = -0.5 * z**2 - deviations - 0.5 * math.log(2 * math.pi)
        density = ops.logsumexp(shares + ops.sum(each, axis=-1), axis=-1)
        odds = ops.log_softmax(self._lengths(labels[:, 0], labels[:, 1]))
        length = ops.one_hot(ops.cast(length, "int32") - 1, self.frames)
        length = ops.sum(length * odds, axis=1)
        first = ops.pad(length[:, None], [[0, 0], [0, self.frames - 1]])
        return there * density + first, there

    def objective(self, sounds, labels):
        """Return the negative log-likelihood in nats a frame and band."""
        each, counted = self.call(sounds, labels, training=True)
        return -ops.sum(each) / (ops.sum(counted) * self.bands)

    def conditions(self, num, temperature=0.05, **given):
        """Check `labels`, `speakers` and `temperature` of `num` samples.

        Each is one number, or one for each sample. Without, words and speakers come in
        turn.

        Returns:
            dict: Name to array, (num,).
        """
        for name in given:
            if name not in ("labels", "speakers"):
                raise ValueError(
                    f"This {type(self).__name__} has no condition {name!r}; it takes "
                    "labels, speakers, temperature."
                )
        warmth = np.asarray(temperature, "float32")
        if (
            warmth.shape not in ((), (num,))
            or not ((warmth >= 0) & (warmth <= 2)).all()
        ):
            raise ValueError(
                f"temperature is from 0 to 2, not {reprlib.repr(temperature)}."
            )
        turns = np.arange(num)
        labels, speakers = given.get("labels"), given.get("speakers")
        labels = turns % self.classes if labels is None else labels
        speakers = (
            turns // self.classes % self.speakers if speakers is None else speakers
        )
        return {
            "labels": self._labels(labels, num),
            "speakers": self._labels(speakers, num, self.speakers, "speakers"),
            "temperature": np.broadcast_to(warmth, (num,)).copy(),
        }

    def noise(self, num, seed=None):
        """Draw what `num` samples are made from.

        Returns:
            dict: "uniform" (num, frames, 2), which Gaussian and, of the first frame,
            how many there are; and "normal" (num, frames, bands).
        """
        shape = (num, self.frames, self.bands)
        return {
            "uniform": philox(seed).random((num, self.frames, 2), dtype="float32"),
            "normal": philox(seed, 1).standard_normal(shape, dtype="float32"),
        }

    def start(self, num):
        """Return the frame before the first, (num, bands + 1), and the state by it."""
        zeros = ops.zeros((num, 1))
        state = {**self.cell.start(num), "place": zeros, "length": zeros}
        return ops.zeros((num, self.bands + 1)), state

    def step(self, frame, state, noise, labels, speakers, temperature):
        """Return the frame after one, and the state by it.

        Args:
            frame, state: As `start` or this returns them.
            noise: As `noise` draws it, of one step: (n, 2) and (n, bands).
            labels, speakers: (n,) whole numbers.
            temperature: (n,), how far frames stray from their Gaussian's mean, and how
                readily a sound has an odd length.
        """
        given = self._given(labels, speakers), self._lengths(labels, speakers)
        return self._next(frame, state, noise, given, temperature)

    def _next(self, frame, state, noise, given, temperature):
        given, lengths = given
        state, place, length = dict(state), state["place"], state["length"]
        new = 1 + drawn(lengths, noise["uniform"][:, 1], temperature)
        length = ops.where(length > 0, length, ops.cast(new, "float32")[:, None])
        clock = ops.minimum(place, length)[:, 0], length[:, 0]
        cell = {k: v for k, v in state.items() if k not in ("place", "length")}
        cell = self.cell.step(self._inputs(frame[:, :-1], given, *clock), cell)
        state = {**cell, "place": place + 1.0, "length": length}
        shares, means, deviations = self._split(cell["h"])
        edges = ops.cumsum(ops.exp(shares), axis=-1)
        spot = noise["uniform"][:, :1] * (1 - 1e-6) * edges[:, -1:]
        lower = ops.pad(edges[:, :-1], [[0, 0], [1, 0]])
        one = ops.logical_and(lower <= spot, spot < edges)
        one = ops.expand_dims(ops.cast(one, "float32"), -1)
        mean, deviation = (ops.sum(one * x, axis=1) for x in (means, deviations))
        strayed = temperature[:, None] * ops.exp(deviation) * noise["normal"]
        there = ops.cast(place < length, "float32")
        return ops.concatenate([(mean + strayed) * there, there], axis=-1), state

    def sample(self, noise, labels, speakers, temperature):
        """Return frames, and 1 where there is one: (n, frames, bands + 1)."""
        given = self._given(labels, speakers), self._lengths(labels, speakers)

        def one(carry, now):
            frame, state = self._next(*carry, now, given, temperature)
            return (frame, state), frame

        first = self.start(noise["uniform"].shape[0])
        steps = {k: ops.transpose(v, (1, 0, 2)) for k, v in noise.items()}
        return ops.transpose(scan(one, first, steps)[1], (1, 0, 2))

    def generate(self, num=1, seed=None, **conditions):
        """Return `num` new sounds.

        Args:
            num: How many, 1 to 100,000.
            seed: As for other models.
            **conditions: `labels`, the words, `speakers` and `temperature`, 0 to 2
                and 0.05 if not given: one number or one for each.

        Returns:
            list of (samples,) float32 arrays in [-1, 1], of 8,000 samples a second.
        """
        return sounds_of(super().generate(num, seed, **conditions))

    def score(self, sounds, labels, speakers):
        """Return how likely sounds are: log p in nats a frame, (N,), higher is more.

        Args:
            sounds: A list of (samples,) arrays in [-1, 1], 8,000 samples a second.
            labels, speakers: The words and who says them: one number or one for each.
        """
        if not len(sounds):
            raise ValueError("score takes a list of 1 sound or more.")
        given = self.conditions(len(sounds), labels=labels, speakers=speakers)
        rows = np.stack([self.numbers(sound) for sound in sounds])
        asked = np.stack([given["labels"], given["speakers"]], axis=1)
        each, counted = self._run("call", rows, asked)
        return each.sum(axis=1) / counted.sum(axis=1)

    def numbers(self, sound):
        """Return a sound as the model reads it, (frames, bands + 1) float32.

        Args:
            sound: (samples,) in [-1, 1], 8,000 samples a second; what is too long for
                the model is left out.
        """
        sound = np.asarray(sound)
        if sound.ndim != 1 or not len(sound) or not np.abs(sound).max() <= 1:
            raise ValueError(
                "A sound is (samples,) numbers in [-1, 1], of 1 sample or more; this "
                f"is {reprlib.repr(sound)} of shape {sound.shape}."
            )
        frames = frames_of(sound, self.bands)[: self.frames]
        row = np.zeros((self.frames, self.bands + 1), "float32")
        row[: len(frames), :-1], row[: len(frames), -1] = frames, 1
        return row

    def signatures(self):
        noise, given = self.noise(1, seed=0), self.conditions(1)
        frame, state = self.start(1)
        step = {
            "frame": ops.convert_to_numpy(frame),
            "state": {k: ops.convert_to_numpy(v) for k, v in state.items()},
            "noise": {k: v[:, 0] for k, v in noise.items()},
            **given,
        }
        return {
            "generate": ("sample", {"noise": noise, **given}),
            "step": ("_step", step),
        }

    def _step(self, *given):
        frame, state = self.step(*given)
        return {"frame": frame, "state": state}
