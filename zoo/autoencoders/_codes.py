"""The verbs of models that encode images to codes and decode codes to images.

A class that takes them in defines `code(images, labels)`, `picture(codes, labels)`,
functions of tensors, and the attributes `latent`, `image_shape` and `classes`.
"""

import numpy as np
from keras import ops


class Codes:
    """encode, decode, reconstruct and interpolate."""

    def encode(self, images, labels=None):
        """Return the code of each picture, (N, latent) float32.

        Args:
            images: (N, height, width, channels): float in [0, 1], or uint8.
            labels: (N,) for a model with `classes`.
        """
        return self._run("code", *self._pictures(images, labels))

    def decode(self, codes, labels=None):
        """Return the picture of each code, (N, height, width, channels) in [0, 1].

        Args:
            codes: (N, latent).
            labels: (N,) for a model with `classes`; all in turn when None.
        """
        codes = np.asarray(codes, "float32")
        if codes.ndim != 2 or codes.shape[1] != self.latent or not len(codes):
            raise ValueError(
                f"codes have the shape (N, {self.latent}) with N of 1 or more, "
                f"not {codes.shape}."
            )
        given = {} if labels is None else {"labels": labels}
        given = self.conditions(len(codes), **given)
        return self._run("picture", codes, *given.values())

    def reconstruct(self, images, labels=None):
        """Return pictures after encoding and decoding, in [0, 1]; as `encode`."""
        return self._run("call", *self._pictures(images, labels))

    def interpolate(self, first, second, steps=8, labels=None):
        """Return pictures on straight lines between codes of two sets of pictures.

        Args:
            first, second: Images, (N, height, width, channels) each.
            steps: Pictures on each line, its ends included, 2 or more.
            labels: (N,) for a model with `classes`.

        Returns:
            Images, (N, steps, height, width, channels) in [0, 1].
        """
        if len(first) != len(second) or steps < 2:
            raise ValueError(
                "interpolate takes as many first as second pictures and 2 steps or "
                f"more; it got {len(first)}, {len(second)} and {steps}."
            )
        ends = self.encode(first, labels), self.encode(second, labels)
        lines = np.linspace(*ends, steps, axis=1)  # (N, steps, latent)
        if labels is not None:
            labels = np.repeat(self._labels(labels, len(lines)), steps)
        images = self.decode(lines.reshape(-1, self.latent), labels)
        return images.reshape(len(lines), steps, *self.image_shape)

    def call(self, images, labels=None, training=False):
        return self.picture(self.code(images, labels), labels)

    def signatures(self):
        picture = {"images": self._blank()}
        codes, labels = np.zeros((1, self.latent), "float32"), self.conditions(1)
        return {
            **super().signatures(),
            "encode": ("code", {**picture, **labels}),
            "decode": ("picture", {"codes": codes, **labels}),
        }

    def _with(self, x, labels):
        """Return a network's input: `x`, and one-hot labels where there are classes."""
        return [x, ops.one_hot(labels, self.classes)] if self.classes else x

    def _pictures(self, images, labels):
        """Check pictures, and labels where there are classes; return them in a list."""
        images = self._prepare(images)
        if (labels is None) == bool(self.classes):
            takes = "labels, one a picture" if self.classes else "no labels"
            raise ValueError(f"This {type(self).__name__} takes {takes}.")
        return (
            [images] if labels is None else [images, self._labels(labels, len(images))]
        )
