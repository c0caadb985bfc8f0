"""Share of right answers."""

import numpy as np


def accuracy(probabilities, labels):
    """Return the share of rows whose most probable class is the label.

    Args:
        probabilities: (N, classes), or any scores that rise with them.
        labels: (N,) whole numbers.
    """
    return float(np.mean(np.argmax(probabilities, axis=1) == np.asarray(labels)))
