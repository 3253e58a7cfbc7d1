"""gdlab: a laboratory for gradient-descent optimizers in JAX.

An optimizer is a pure function of arrays, so a descent, a thousand descents and a scan of hyperparameters are each one
transformed, compiled program. `gdlab.plots` is imported when it is first used.
"""

import importlib
from types import ModuleType

from gdlab import functions, gradients, numerics, optimizers, schedules
from gdlab.descent import Descent, descend
from gdlab.functions import FUNCTIONS, Function, evaluate_grid
from gdlab.gradients import GradientReport, autodiff, check_gradient, finite_difference
from gdlab.optimizers import OPTIMIZERS
from gdlab.types import Grid

__version__ = "0.1.0"

__all__ = [
    "FUNCTIONS",
    "OPTIMIZERS",
    "Descent",
    "Function",
    "GradientReport",
    "Grid",
    "autodiff",
    "check_gradient",
    "descend",
    "evaluate_grid",
    "finite_difference",
    "functions",
    "gradients",
    "numerics",
    "optimizers",
    "schedules",
]


def __getattr__(name: str) -> ModuleType:
    if name == "plots":
        return importlib.import_module("gdlab.plots")
    raise AttributeError(f"module 'gdlab' has no attribute {name!r}")
