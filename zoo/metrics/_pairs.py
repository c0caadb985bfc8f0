"""What the metrics on all pairs of rows share: checks, and distances in blocks."""

import numpy as np

ENTRIES = 10_000_000  # In a block of a matrix of pairs: 80 MB, 1,000 rows of 10,000.


def features(least, **arrays):
    """Return arrays as float64 (N, d) copies, all beyond the first axis flattened.

    Args:
        least: Rows that each must have.
        **arrays: The arrays by the names that errors call them.

    Raises:
        ValueError: An array has too few rows, no columns, NaN or infinity, or rows of
            another size than the first array's.
    """
    found = []
    for name, values in arrays.items():
        values = np.array(values, "float64")
        if values.ndim < 2 or len(values) < least or not values.size:
            raise ValueError(
                f"{name} has the shape (N, d) or (N, ...) with N of {least} or more, "
                f"not {values.shape}."
            )
        values = values.reshape(len(values), -1)
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"{name} holds finite numbers; row {np.argmin(finite)} has NaN or "
                "infinity."
            )
        found.append(values)
    widths = {name: values.shape[1] for name, values in zip(arrays, found)}
    if len(set(widths.values())) > 1:
        raise ValueError(
            f"Rows of {', '.join(widths)} have one size, not "
            f"{', '.join(map(str, widths.values()))}."
        )
    return found


def blocks(rows, columns):
    """List slices that cut a matrix of rows x columns into blocks of ENTRIES."""
    step = max(1, ENTRIES // columns)
    return [slice(start, start + step) for start in range(0, rows, step)]


def square(rows):
    """Return the squared length of each row of (N, d)."""
    return np.einsum("nd,nd->n", rows, rows)


def squared_distances(first, second):
    """Yield (slice of N, squared distances (block, M)) for (N, d) and (M, d).

    Right to about 1e-15 of the squared lengths of the rows: centre them first.
    """
    lengths = square(second)
    for part in blocks(len(first), len(second)):
        squared = (-2 * first[part]) @ second.T
        squared += square(first[part])[:, None]
        squared += lengths
        yield part, np.maximum(squared, 0, out=squared)
