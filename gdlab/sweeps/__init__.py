"""Sweeps: thousands of starts times whole grids of hyperparameters, functions and optimizers, in compiled programs."""

from gdlab.sweeps.driver import sweep
from gdlab.sweeps.races import BOXES, COMPARABLE, Race, RaceOptions, comparable, comparable_function, tune_and_judge

__all__ = ["BOXES", "COMPARABLE", "Race", "RaceOptions", "comparable", "comparable_function", "sweep", "tune_and_judge"]
