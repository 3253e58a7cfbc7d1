"""Hyperparameters: ranges to sample from, axes to sweep over, and the factories that take them."""

from gdlab.hyperparameters.factories import given
from gdlab.hyperparameters.ranges import Range, linear_range, log_range, sample_hyperparameters

__all__ = ["Range", "given", "linear_range", "log_range", "sample_hyperparameters"]
