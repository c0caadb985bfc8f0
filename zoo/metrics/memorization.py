"""Whether samples are copies of training data: distances to the nearest row of it.

Fresh real data say what distance to expect, as in Meehan et al., 2020,
https://arxiv.org/abs/2004.05675.
"""

import numpy as np

from zoo.metrics._pairs import features, squared_distances


def memorization(fake, train, held_out):
    """Return how near samples are to the training data, against fresh real data.

    Args:
        fake: Features or images of samples, (N, d) or (N, ...).
        train: The same of the training data, (M, ...).
        held_out: The same of real data that was not trained on, (K, ...).

    Returns:
        dict: `ratio`, the median distance of fake rows to their nearest training row
        over that of held-out rows: 1 or more when no nearer than fresh data, far
        below 1 for copies; and `share`, the share of fake rows as near as the nearest
        1 % of held-out rows or nearer: about 0.01 for fresh data, 1 for copies.

    Raises:
        ValueError: No rows, NaN or infinity, rows of different sizes, or half of
            `held_out` is in `train`.
    """
    fake, train, held_out = features(1, fake=fake, train=train, held_out=held_out)
    fresh = _nearest(held_out, train)[1]
    if not np.median(fresh):
        raise ValueError(
            "held_out is data that train lacks; of its "
            f"{len(fresh)} rows {np.count_nonzero(fresh == 0)} are in train."
        )
    found = _nearest(fake, train)[1]
    return {
        "ratio": float(np.median(found) / np.median(fresh)),
        "share": float(np.mean(found <= np.quantile(fresh, 0.01))),
    }


def nearest(rows, train):
    """Return the nearest training row of each row: indices (N,) and distances (N,).

    Distances are Euclidean, float64, and exactly 0 for copies.

    Args:
        rows: Features or images, (N, d) or (N, ...).
        train: The same of the training data, (M, ...).

    Raises:
        ValueError: No rows, NaN or infinity, or rows of different sizes.
    """
    return _nearest(*features(1, rows=rows, train=train))


def _nearest(rows, train):
    centre = train.mean(axis=0)
    indices, distances = np.empty(len(rows), "int64"), np.empty(len(rows))
    away = train - centre
    for part, squared in squared_distances(rows - centre, away):
        indices[part] = squared.argmin(axis=1)
        # From the rows themselves: products leave rounding where copies have 0.
        distances[part] = np.linalg.norm(rows[part] - train[indices[part]], axis=1)
    return indices, distances
