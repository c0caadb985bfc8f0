"""Area under the curve of true against false alarms."""

import numpy as np


def auroc(usual, unusual):
    """Return the probability that an unusual row scores lower than a usual one.

    The statistic of Mann and Whitney; equal scores count one half.

    Args:
        usual: Scores of usual rows, (N,), higher is more usual.
        unusual: Scores of unusual rows, (M,).
    """
    usual, unusual = np.sort(np.asarray(usual)), np.asarray(unusual)
    below = len(usual) - np.searchsorted(usual, unusual, side="right")
    ties = np.searchsorted(usual, unusual, side="right") - np.searchsorted(
        usual, unusual, side="left"
    )
    return float(np.mean(below + 0.5 * ties) / len(usual))
