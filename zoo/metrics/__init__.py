"""Numbers about models: NumPy in, a number or a few out, one file each."""

from zoo.metrics.accuracy import accuracy
from zoo.metrics.active_units import active_units
from zoo.metrics.auroc import auroc
from zoo.metrics.class_histogram import class_histogram, histogram_kl, modes_found
from zoo.metrics.frechet_distance import frechet_distance
from zoo.metrics.harmony import parallel_fifths, unknown_chords, voice_overlaps
from zoo.metrics.kernel_distance import kernel_distance
from zoo.metrics.manifolds import density_coverage, precision_recall
from zoo.metrics.mean_squared_error import mean_squared_error
from zoo.metrics.memorization import memorization, nearest

__all__ = [
    "accuracy",
    "active_units",
    "auroc",
    "class_histogram",
    "density_coverage",
    "frechet_distance",
    "histogram_kl",
    "kernel_distance",
    "mean_squared_error",
    "memorization",
    "modes_found",
    "nearest",
    "parallel_fifths",
    "precision_recall",
    "unknown_chords",
    "voice_overlaps",
]
