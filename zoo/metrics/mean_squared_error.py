"""Mean squared difference."""

import numpy as np


def mean_squared_error(first, second):
    """Return the mean of the squared differences of two arrays of one shape."""
    difference = np.asarray(first, "float64") - np.asarray(second, "float64")
    return float(np.mean(difference**2))
