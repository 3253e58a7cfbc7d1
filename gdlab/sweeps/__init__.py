"""Sweeps of many starts over grids of hyperparameters, functions and optimizers in compiled programs, and races."""

from gdlab.sweeps.driver import sweep
from gdlab.sweeps.races import (
    BOXES,
    COMPARABLE,
    FOR_VECTORS,
    NOT_FOR_VECTORS,
    Race,
    RaceOptions,
    changed_arguments,
    comparable,
    comparable_function,
    tune_and_judge,
)

__all__ = [
    "BOXES",
    "COMPARABLE",
    "FOR_VECTORS",
    "NOT_FOR_VECTORS",
    "Race",
    "RaceOptions",
    "changed_arguments",
    "comparable",
    "comparable_function",
    "sweep",
    "tune_and_judge",
]
