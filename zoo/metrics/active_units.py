"""Latent variables that say something about the data.

Burda et al., 2016, Section 5.2, https://arxiv.org/abs/1509.00519.
"""

import numpy as np


def active_units(codes, threshold=0.01):
    """Return how many latent variables have a posterior mean that varies.

    Args:
        codes: Posterior means, (N, latent).
        threshold: Variance over the data above which a variable is active.
    """
    return int(np.sum(np.var(codes, axis=0) > threshold))
