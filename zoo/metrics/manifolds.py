"""Fidelity and variety, with balls around rows in place of the distributions.

The ball of a row reaches to its k-th nearest other row of the same set.
"""

import numpy as np

from zoo.metrics._pairs import features, square, squared_distances


def precision_recall(real, fake, nearest=3):
    """Return how much of each set lies inside the balls of the other.

    Kynkäänniemi et al., 2019, https://arxiv.org/abs/1904.06991.

    Args:
        real: Features of real data, (N, d) or (N, ...).
        fake: Features of samples, (M, d) or (M, ...).
        nearest: The k of the balls, 1 to one less than N and M.

    Returns:
        dict: `precision`, the share of fake rows in a ball of a real one, and
        `recall`, the share of real rows in a ball of a fake one.

    Raises:
        ValueError: Too few rows, NaN or infinity, rows of different sizes, or
            `nearest` out of range.
    """
    real, fake = _centred(real, fake)
    reach, fake_reach = _radii(real, nearest, "real"), _radii(fake, nearest, "fake")
    precise, recalled = np.zeros(len(fake), bool), np.zeros(len(real), bool)
    for part, squared in squared_distances(real, fake):
        precise |= (squared <= reach[part, None]).any(axis=0)
        recalled[part] = (squared <= fake_reach).any(axis=1)
    return {"precision": float(precise.mean()), "recall": float(recalled.mean())}


def density_coverage(real, fake, nearest=5):
    """Return how densely fake rows fill the balls of the real ones, and how many.

    Naeem et al., 2020, https://arxiv.org/abs/2002.09797.

    Args:
        real: Features of real data, (N, d) or (N, ...).
        fake: Features of samples, (M, d) or (M, ...).
        nearest: The k of the balls, 1 to one less than N.

    Returns:
        dict: `density`, the balls that a fake row is in, on average, over k: 0 or
        more, about 1 when fake is like real; and `coverage`, the share of real rows
        with a fake row in their ball, at most 1.

    Raises:
        ValueError: Too few rows, NaN or infinity, rows of different sizes, or
            `nearest` out of range.
    """
    real, fake = _centred(real, fake)
    reach = _radii(real, nearest, "real")
    inside, covered = 0, 0
    for part, squared in squared_distances(real, fake):
        held = np.count_nonzero(squared <= reach[part, None], axis=1)
        inside += held.sum()
        covered += np.count_nonzero(held)
    return {
        "density": float(inside / (nearest * len(fake))),
        "coverage": float(covered / len(real)),
    }


def _centred(real, fake):
    real, fake = features(1, real=real, fake=fake)
    centre = real.mean(axis=0)
    return real - centre, fake - centre


def _radii(rows, nearest, name):
    """Return the squared radius of the ball of each row of (N, d)."""
    whole = isinstance(nearest, int | np.integer) and not isinstance(nearest, bool)
    if not whole or not 1 <= nearest < len(rows):
        raise ValueError(
            f"nearest is a whole number of 1 or more and below the {len(rows)} rows of "
            f"{name}, not {nearest!r}."
        )
    radii = np.empty(len(rows))
    for part, squared in squared_distances(rows, rows):
        own = np.arange(len(rows))[part]
        squared[own - own[0], own] = np.inf
        squared.partition(nearest - 1, axis=1)
        radii[part] = squared[:, nearest - 1]
    # A row on the edge is inside: rounding shall not push it out.
    return radii + 1e-11 * (radii + square(rows))
