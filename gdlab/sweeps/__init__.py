"""Sweeps of many starts over grids of hyperparameters, functions and optimizers in compiled programs, and races.

Races within a budget of function evaluations compare optimizers with the strategies of `gdlab.strategies`, which need
no gradient, and with SciPy's own methods.
"""

from gdlab.sweeps.budgets import count_evaluations, evaluations_in, steps_within, tune_and_judge_within
from gdlab.sweeps.driver import sweep
from gdlab.sweeps.matrix_races import tune_and_judge_matrices
from gdlab.sweeps.races import (
    BOXES,
    COMPARABLE,
    FOR_MATRICES,
    FOR_VECTORS,
    NOT_FOR_VECTORS,
    Race,
    RaceOptions,
    changed_arguments,
    comparable,
    comparable_function,
    tune_and_judge,
)
from gdlab.sweeps.scipy_methods import SCIPY_METHODS, sweep_scipy

__all__ = [
    "BOXES",
    "COMPARABLE",
    "FOR_MATRICES",
    "FOR_VECTORS",
    "NOT_FOR_VECTORS",
    "SCIPY_METHODS",
    "Race",
    "RaceOptions",
    "changed_arguments",
    "comparable",
    "comparable_function",
    "count_evaluations",
    "evaluations_in",
    "steps_within",
    "sweep",
    "sweep_scipy",
    "tune_and_judge",
    "tune_and_judge_matrices",
    "tune_and_judge_within",
]
