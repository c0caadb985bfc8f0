"""Kernel distance of two sets of features.

Bińkowski et al., 2018, https://arxiv.org/abs/1801.01401.
"""

import numpy as np

from zoo.metrics._pairs import blocks, features, square


def kernel_distance(first, second):
    """Return the unbiased squared MMD under the kernel (x.y / d + 1)^3.

    Its mean over draws is 0 for two sets of one distribution, whatever their sizes,
    so single values may be negative. Lower is nearer.

    Args:
        first: Features, (N, d) or (N, ...), N of 2 or more.
        second: Features, (M, d) or (M, ...), M of 2 or more.

    Raises:
        ValueError: Too few rows, NaN or infinity, or rows of different sizes.
    """
    first, second = features(2, first=first, second=second)
    within = sum(
        (_total(rows, rows) - np.sum((square(rows) / rows.shape[1] + 1) ** 3))
        / (len(rows) * (len(rows) - 1))
        for rows in (first, second)
    )
    across = _total(first, second) / (len(first) * len(second))
    return float(within - 2 * across)


def _total(first, second):
    """Return the sum of the kernel over all pairs."""
    total = 0.0
    for part in blocks(len(first), len(second)):
        kernel = (first[part] / first.shape[1]) @ second.T
        kernel += 1
        total += np.vdot(kernel * kernel, kernel)
    return total
