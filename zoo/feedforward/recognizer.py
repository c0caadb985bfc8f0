"""Recognizer: what is said, and by whom, from the waveform itself.

After the M5 network of Dai et al., 2017, "Very deep convolutional neural networks for
raw waveforms", https://arxiv.org/abs/1610.00087. What differs: fewer channels, a head
for each question, and sounds that are moved, stretched in time (and so in pitch), heard
with an echo, made louder or softer and mixed with noise in training.
"""

import keras
import numpy as np
from keras import layers, ops, random

from zoo._model import Model, _array


class Recognizer(Model):
    """A classifier of short sounds, of one label or several.

    Args:
        samples: Samples of the longest sound.
        classes: Number of classes of each question.
        hidden: Channels of each convolution after the first, which has as many as the
            next.
        dropout: Share of the last layer hidden in training.
        shift: Most samples that a sound is moved by in training.
        stretch: Largest share by which it is made slower or faster then.
        echo: Loudness of the loudest echo then, 1 that of the sound itself; it makes
            what is learned depend less on phases.
    """

    medium = "sounds"

    def __init__(
        self,
        samples=8192,
        classes=(10, 5),
        hidden=(48, 96, 192, 192),
        dropout=0.3,
        shift=800,
        stretch=0.1,
        echo=1.0,
    ):
        super().__init__()
        bounds = 0 <= shift < samples and 0 <= stretch < 1 and echo >= 0
        if min(samples, *classes, *hidden) < 1 or not bounds:
            raise ValueError(
                "Recognizer takes sizes of 1 or more, a shift below samples, a stretch "
                f"below 1 and an echo of 0 or more, not {samples}, {classes}, {hidden},"
                f" {shift}, {stretch} and {echo}."
            )
        self.samples, self.classes = samples, tuple(classes)
        self.shift, self.stretch, self.echo = shift, stretch, echo
        sound = x = keras.Input((samples, 1))
        for i, channels in enumerate(hidden):
            size, stride = (64, 4) if i == 0 else (3, 1)
            x = layers.Conv1D(channels, size, stride, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization(momentum=0.9)(x)
            x = layers.MaxPooling1D(4, padding="same")(layers.ReLU()(x))
        x = layers.GlobalAveragePooling1D()(x)
        self.body = keras.Model(sound, x, name="body")
        self.dropout = layers.Dropout(dropout)
        self.heads = [layers.Dense(n, name=f"head_{i}") for i, n in enumerate(classes)]
        for head in self.heads:
            head.build((None, hidden[-1]))
        self.seed = random.SeedGenerator()
        self.built = True

    def call(self, sounds, training=False):
        """Return the logits of each question, a list of (n, classes)."""
        x = self.body(sounds[..., None], training=training)
        x = self.dropout(x, training=training)
        return [ops.cast(head(x), "float32") for head in self.heads]

    def objective(self, sounds, labels):
        """Return the sum of the cross-entropies in nats."""
        logits = self.call(self._varied(sounds), training=True)
        losses = [
            keras.losses.sparse_categorical_crossentropy(
                labels[:, i], each, from_logits=True
            )
            for i, each in enumerate(logits)
        ]
        return sum(ops.mean(loss) for loss in losses)

    def _varied(self, sounds):
        """Return sounds moved and stretched, of another loudness and with noise."""
        num, last = ops.shape(sounds)[0], self.samples - 1

        def drawn(low, high):
            return random.uniform((num, 1), low, high, seed=self.seed)

        rate = drawn(1.0 - self.stretch, 1.0 + self.stretch)
        middle = 0.5 * last + drawn(-self.shift, self.shift)
        offset = ops.cast(ops.arange(self.samples), "float32")[None] - 0.5 * last
        place = offset * rate + middle  # Where each sample comes from.
        before = ops.floor(place)
        share = place - before
        index = ops.cast(before, "int32")
        left, right = (
            ops.take_along_axis(sounds, ops.clip(index + k, 0, last), axis=1)
            for k in (0, 1)
        )
        there = ops.logical_and(place >= 0, place <= last)
        moved = ops.where(there, (1.0 - share) * left + share * right, 0.0)
        if self.echo:
            moved = self._echoed(moved, drawn(0.0, self.echo), drawn(0.002, 0.02))
        hiss = random.normal((num, self.samples), seed=self.seed)
        return moved * drawn(0.3, 1.5) + drawn(0.0, 0.01) * hiss

    def _echoed(self, sounds, loudness, length):
        """Return sounds with echoes that die away, as in a small room.

        Args:
            sounds: (n, samples).
            loudness: (n, 1), of all echoes together.
            length: (n, 1), share of the samples after which echoes are e times softer.
        """
        time = ops.cast(ops.arange(self.samples), "float32")[None]
        fade = ops.exp(-time / (length * self.samples))
        fade = fade * loudness / ops.sqrt(ops.sum(fade**2, axis=1, keepdims=True))
        echo = fade * random.normal(ops.shape(sounds), seed=self.seed)
        (a, b), (c, d) = ops.rfft(sounds), ops.rfft(echo)
        return sounds + ops.irfft((a * c - b * d, a * d + b * c), self.samples)

    def classify(self, sounds):
        """Return the probabilities of each question, a list of (N, classes) float32.

        Args:
            sounds: List of (samples,) arrays in [-1, 1], or (N, samples); longer ones
                are cut, and shorter ones followed by silence.
        """
        return self._run("probabilities", self.padded(sounds))

    def padded(self, sounds):
        """Return sounds of the model's length, (N, samples) float32, centred."""
        out = np.zeros((len(sounds), self.samples), "float32")
        for row, sound in zip(out, sounds):
            sound = _array(sound, "sounds")
            if sound.ndim != 1 or not np.isfinite(sound).all():
                raise ValueError(
                    "sounds are arrays of finite numbers, (samples,) each."
                )
            extra = max(0, len(sound) - self.samples) // 2
            sound = sound[extra : extra + self.samples]
            start = (self.samples - len(sound)) // 2
            row[start : start + len(sound)] = sound
        return out

    def probabilities(self, sounds):
        return [ops.softmax(logits) for logits in self.call(sounds)]

    def conditions(self, num, **given):
        return {}  # It makes nothing that could be conditioned.

    def signatures(self):
        sounds = np.zeros((1, self.samples), "float32")
        return {"classify": ("probabilities", {"sounds": sounds})}
