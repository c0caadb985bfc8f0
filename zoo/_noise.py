"""Where noise comes from: a generator of NumPy, the same wherever samples are made."""

import reprlib

import numpy as np


def philox(seed, stream=0):
    """Return the NumPy generator that all noise of samples comes from.

    Args:
        seed: A whole number of 0 or more; None for fresh noise.
        stream: Of several kinds of noise, which: their numbers are independent.
    """
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if seed is not None and not (whole and seed >= 0):
        raise ValueError(
            f"seed is a whole number of 0 or more, or None, not {reprlib.repr(seed)}."
        )
    return np.random.Generator(np.random.Philox(seed).jumped(stream))
