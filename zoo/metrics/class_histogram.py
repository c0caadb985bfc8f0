"""How samples spread over classes.

With 1,000 classes, 100 d0 + 10 d1 + d2 of the digits in three channels, these are the
numbers of Stacked MNIST: modes found of 1,000, and the KL to the training labels.
Srivastava et al., 2017 (VEEGAN), https://arxiv.org/abs/1705.07761; Lin et al., 2018
(PacGAN), https://arxiv.org/abs/1712.04086.
"""

import numpy as np


def class_histogram(labels, classes):
    """Return the share of each class, float64 (classes,), of sum 1.

    Args:
        labels: (N,) whole numbers from 0 to classes - 1, N of 1 or more.
        classes: How many classes there are.

    Raises:
        ValueError: `labels` or `classes` is something else.
    """
    return np.bincount(_checked(labels, classes), minlength=classes) / len(labels)


def modes_found(labels, classes):
    """Return how many of the classes occur in the labels; see `class_histogram`."""
    return int(np.count_nonzero(class_histogram(labels, classes)))


def histogram_kl(shares, reference):
    """Return KL(shares || reference) in nats: 0 or more, 0 when they are equal.

    A class that `shares` lacks adds 0; one that `reference` alone lacks makes it inf.

    Args:
        shares: (classes,), 0 or more, of sum 1, as `class_histogram` returns.
        reference: (classes,), the same of the data.

    Raises:
        ValueError: They are no shares, or of different numbers of classes.
    """
    shares, reference = _shares(shares, "shares"), _shares(reference, "reference")
    if len(shares) != len(reference):
        raise ValueError(
            f"shares and reference have the same classes, not {len(shares)} and "
            f"{len(reference)}."
        )
    shares, reference = shares[shares > 0], reference[shares > 0]
    if not reference.all():
        return float("inf")
    return max(0.0, float(np.sum(shares * (np.log(shares) - np.log(reference)))))


def _checked(labels, classes):
    whole = isinstance(classes, int | np.integer) and not isinstance(classes, bool)
    if not whole or classes < 1:
        raise ValueError(f"classes is a whole number of 1 or more, not {classes!r}.")
    labels = np.asarray(labels)
    if labels.ndim != 1 or not labels.size or labels.dtype.kind not in "iu":
        raise ValueError(
            "labels are whole numbers of the shape (N,) with N of 1 or more, not "
            f"{labels.dtype} {labels.shape}."
        )
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise ValueError(f"labels are from 0 to {classes - 1}, not {wrong[0]}.")
    return labels.astype("int64")  # bincount refuses uint64.


def _shares(values, name):
    values = np.asarray(values, "float64")
    right = values.ndim == 1 and np.isfinite(values).all() and (values >= 0).all()
    if not right or abs(values.sum() - 1) > 1e-5:
        raise ValueError(
            f"{name} has the shape (classes,), no value below 0 and the sum 1, not the "
            f"shape {values.shape} and the sum {values.sum():g}."
        )
    return values
