"""gdlab: a laboratory for gradient-descent optimizers in JAX.

An optimizer is a pure function of arrays, so a descent, a thousand descents and a scan of hyperparameters are each one
transformed, compiled program. What needs Flax, matplotlib or xarray (`gdlab.models`, `gdlab.plots`, `gdlab.sweeps`
and more) is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from gdlab import functions, gradients, numerics, optimizers, schedules
from gdlab.descent import Descent, descend
from gdlab.functions import FUNCTIONS, Function, evaluate_grid
from gdlab.gradients import GradientReport, autodiff, check_gradient, finite_difference
from gdlab.optimizers import OPTIMIZERS
from gdlab.records.environment import VERSION
from gdlab.types import Grid

if TYPE_CHECKING:
    from gdlab.hyperparameters import given, linear_range, log_range, sample_hyperparameters
    from gdlab.sweeps import sweep
    from gdlab.training import train, train_many

__version__ = VERSION

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
    "given",
    "gradients",
    "linear_range",
    "log_range",
    "numerics",
    "optimizers",
    "sample_hyperparameters",
    "schedules",
    "sweep",
    "train",
    "train_many",
]

_LATE = {
    **dict.fromkeys(("given", "linear_range", "log_range", "sample_hyperparameters"), "hyperparameters"),
    "sweep": "sweeps",
    **dict.fromkeys(("train", "train_many"), "training"),
}
"""Names, and the packages that bring xarray or Flax with them: loaded when first used."""

_MODULES = (
    "analysis",
    "comparison",
    "data",
    "hyperparameters",
    "losses",
    "models",
    "plots",
    "records",
    "sweeps",
    "tasks",
    "training",
)
"""Loaded when first used, as an attribute."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"gdlab.{name}")
    if name in _LATE:
        return getattr(importlib.import_module(f"gdlab.{_LATE[name]}"), name)
    raise AttributeError(f"module 'gdlab' has no attribute {name!r}")
