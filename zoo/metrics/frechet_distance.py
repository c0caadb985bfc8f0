"""Fréchet distance of the Gaussians that fit two sets of features.

Heusel et al., 2017, https://arxiv.org/abs/1706.08500.
"""

import numpy as np

from zoo.metrics._pairs import features


def frechet_distance(first, second):
    """Return |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of means m, covariances S.

    0 or more, lower is nearer, in squared units of the features. Few rows bias it
    upwards: compare values of equal N and M alone.

    Args:
        first: Features, (N, d) or (N, ...), N of 2 or more; fewer rows than d will do.
        second: Features, (M, d) or (M, ...), M of 2 or more.

    Raises:
        ValueError: Too few rows, NaN or infinity, or rows of different sizes.
    """
    first, second = features(2, first=first, second=second)
    means, roots = [], []
    for values in (first, second):
        means.append(values.mean(axis=0))
        values -= means[-1]
        # S = R'R, so tr (S1 S2)^(1/2) is the sum of the singular values of R1 R2'.
        # The root of a singular S by eigenvalues is right to half the digits only.
        roots.append(np.linalg.qr(values, mode="r") / np.sqrt(len(values) - 1))
    between = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    spread = sum(np.sum(root**2) for root in roots) - 2 * between
    return max(0.0, float(np.sum((means[0] - means[1]) ** 2) + spread))
