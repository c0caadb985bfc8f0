"""Stacked MNIST (Metz et al., 2017): three digits in the channels of one image.

Its 1,000 classes are the three digits read as one number, red first: a generator shows
by how many of them it makes whether it has collapsed.
"""

import numpy as np

from zoo.trainers.data import Data, DataError

ADDRESS = "stacked_mnist"
ROWS = {"train": 60_000, "test": 26_000}  # As many as the samples of the protocol.


def open_stacked(split, labels, single):
    """Return the `Data`: images (N, 28, 28, 3) uint8, and labels 0 to 999.

    Args:
        split: "train" or "test", whose digits are drawn with a seed of its own.
        labels: Whether labels are wanted.
        single: Function of a split that opens MNIST with its labels.

    Raises:
        DataError: The split is another.
    """
    if split not in ROWS:
        raise DataError(
            f"{ADDRESS} has the splits {' and '.join(ROWS)}, not {split!r}."
        )
    digits = single(split)
    seed = list(ROWS).index(split)
    rows = np.random.default_rng(seed).integers(len(digits), size=(ROWS[split], 3))
    images = np.moveaxis(digits.images[rows][..., 0], 1, -1)
    numbers = digits.labels[rows] @ [100, 10, 1]
    numbers = numbers.astype("int32") if labels else None
    return Data(np.ascontiguousarray(images), numbers, name=f"{ADDRESS} {split}")
