"""Numbers about models: NumPy in, a number out, one file each."""

from zoo.metrics.accuracy import accuracy
from zoo.metrics.active_units import active_units
from zoo.metrics.auroc import auroc
from zoo.metrics.mean_squared_error import mean_squared_error

__all__ = ["accuracy", "active_units", "auroc", "mean_squared_error"]
