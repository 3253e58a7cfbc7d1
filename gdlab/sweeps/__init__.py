"""Sweeps: thousands of starts times whole grids of hyperparameters, functions and optimizers, in compiled programs."""

from gdlab.sweeps.search import Range, linear_range, log_range, sample_hyperparameters
from gdlab.sweeps.sweeping import sweep

__all__ = ["Range", "linear_range", "log_range", "sample_hyperparameters", "sweep"]
