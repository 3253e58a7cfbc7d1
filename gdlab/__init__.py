"""gdlab: a laboratory for gradient-descent optimizers in JAX.

An optimizer is a pure function of arrays, so a descent, a thousand descents and a scan of hyperparameters are each one
transformed, compiled program. Every name below is imported when it is first used, so importing gdlab takes
milliseconds, and Flax, matplotlib and xarray are loaded only if they are needed.

Importing gdlab also asks XLA for faster programs on CPUs, by a flag that has an effect if no program has used a device
yet; see `gdlab.compute.fusion`.

A process keeps the programs that it has compiled. With JAX's own cache the next process has them, too, which cuts
most of a first call's time: `JAX_COMPILATION_CACHE_DIR=~/.cache/jax JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0`
before the command, or `jax.config.update` with the same names in lower case.
"""

import importlib
from typing import TYPE_CHECKING, Any

from gdlab.compute import fusion as _fusion
from gdlab.version import VERSION

if TYPE_CHECKING:
    from gdlab import functions, gradients, numerics, optimizers, schedules
    from gdlab.descent import Descent, descend
    from gdlab.functions import FUNCTIONS, Function, evaluate_grid
    from gdlab.gradients import GradientReport, autodiff, check_gradient, finite_difference
    from gdlab.hyperparameters import given, linear_range, log_range, sample_hyperparameters
    from gdlab.optimizers import OPTIMIZERS
    from gdlab.scans import scan
    from gdlab.sweeps import sweep
    from gdlab.training import train, train_many
    from gdlab.types import Grid

_fusion.request()

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
    "scan",
    "schedules",
    "sweep",
    "train",
    "train_many",
]

_PLACES = {
    **dict.fromkeys(("Descent", "descend"), "descent"),
    **dict.fromkeys(("FUNCTIONS", "Function", "evaluate_grid"), "functions"),
    **dict.fromkeys(("GradientReport", "autodiff", "check_gradient", "finite_difference"), "gradients"),
    **dict.fromkeys(("given", "linear_range", "log_range", "sample_hyperparameters"), "hyperparameters"),
    "OPTIMIZERS": "optimizers",
    "scan": "scans",
    "sweep": "sweeps",
    **dict.fromkeys(("train", "train_many"), "training"),
    "Grid": "types",
}
"""Maps names to the modules that they are imported from when they are first used."""

_MODULES = (
    "analysis",
    "comparison",
    "compute",
    "data",
    "diagnostics",
    "functions",
    "gradients",
    "hyperparameters",
    "judging",
    "losses",
    "models",
    "numerics",
    "optimizers",
    "plots",
    "records",
    "reporting",
    "scans",
    "schedules",
    "strategies",
    "sweeps",
    "tasks",
    "training",
)
"""Packages and modules that are imported when they are first used as attributes."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"gdlab.{name}")
    if name in _PLACES:
        return getattr(importlib.import_module(f"gdlab.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'gdlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
