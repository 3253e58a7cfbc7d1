"""Races: optimizers on the same functions from the same starts, each tuned with the same budget before it is judged."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from gdlab.analysis.arrivals import best_settings
from gdlab.arguments import (
    as_numbers,
    require_callable,
    require_count,
    require_instance,
    require_names,
    require_number,
)
from gdlab.functions import FUNCTIONS, Function, off_origin
from gdlab.hyperparameters.factories import by_name, factories_by_name, given
from gdlab.optimizers import OPTIMIZERS
from gdlab.sweeps.driver import sweep
from gdlab.sweeps.labels import hyperparameters_in
from gdlab.sweeps.space import lay_points, make_space
from gdlab.types import Factory

COMPARABLE: Mapping[str, Any] = MappingProxyType(
    {
        # Weight decay moves the minimum, which a race does not measure.
        "weight_decay": 0.0,
        # Muon orthogonalizes the updates of matrices; its AdamW updates vectors, at this multiple of the learning rate.
        "adam_ratio": 1.0,
        # A second factor of LARS's learning rate; its default of 0.001 is meant for the layers of networks.
        "trust_coefficient": 1.0,
        # Without it, SOAP is plain Adam on vectors.
        "precondition_1d": True,
    }
)
"""Arguments that differ from their defaults, so that optimizers are comparable on functions of a vector."""

_ADAMW = ("muon", "moonlight", "normuon", "adamuon", "muonh", "adamh", "soap_muon", "kl_soap", "dion", "mars")

NOT_FOR_VECTORS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(_ADAMW, "it updates matrices; on vectors it is AdamW"),
        "adam_mini": "it divides matrices into blocks; on vectors it is Adam",
        "splus": "it updates matrices; on vectors it is the sign of the momentum",
        **dict.fromkeys(("galore", "apollo"), "it projects matrices; on vectors it is AdamW"),
        "gauss_newton": "it needs residuals",
    }
)
"""Optimizers that become another method on functions of a vector, and why. A race omits them unless they are named."""

FOR_VECTORS = tuple(name for name in OPTIMIZERS if name not in NOT_FOR_VECTORS)
"""The names of the other optimizers, which a race is between by default."""

FOR_MATRICES = (
    *(name for name in NOT_FOR_VECTORS if name != "gauss_newton"),
    *("shampoo", "soap", "psgd_kron", "scion", "adafactor", "lamb"),
    *("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "nadamw", "adan", "lion", "prodigy"),
    "schedule_free_adamw",
)
"""The names of the optimizers that a race on matrices is between by default: those that treat a matrix as one, and
those that they are usually compared with."""

BOXES: Mapping[str, tuple[float, float]] = MappingProxyType({"ackley": (-5.0, 5.0), "griewank": (-10.0, 10.0)})
"""Boxes to draw starts from, for functions whose usual domain is far wider than the region where optimizers differ."""


@dataclasses.dataclass(frozen=True)
class RaceOptions:
    """The functions and optimizers of a race, and the budget, which is the same for all optimizers.

    It is a base class for the configuration of an experiment, whose fields `tyro` turns into flags.

    Raises:
      TypeError: if a value is not of the expected type.
      ValueError: if a value is out of range or a name is unknown.
    """

    functions: tuple[str, ...]
    """Names in FUNCTIONS; each function has two variables and known minimizers."""
    optimizers: tuple[str, ...] = ()
    """Names in OPTIMIZERS. Empty, the default: all except those in NOT_FOR_VECTORS."""
    starts: int = 256
    """Number of starts per function from which the chosen setting is judged."""
    tuning_starts: int = 128
    """Number of other starts per function, from which the setting is chosen."""
    lowest_rate: float = 1e-5
    """Lowest learning rate that is tried."""
    highest_rate: float = 1e2
    steps: int = 1000
    """Number of steps per descent."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("starts", "tuning_starts", "steps"):
            require_count(name, getattr(self, name))
        require_count("seed", self.seed, low=0)
        require_number("lowest_rate", self.lowest_rate, 0.0, open_low=True)
        require_number("highest_rate", self.highest_rate, self.lowest_rate, open_low=True)
        require_names("functions", self.functions, FUNCTIONS)
        require_names("optimizers", self.optimizers, OPTIMIZERS, empty=True)
        self.contest()

    def contest(self) -> dict[str, Function]:
        """Return the functions by name, each as `comparable_function` makes it."""
        return {name: comparable_function(FUNCTIONS[name]) for name in self.functions}

    def contenders(self) -> dict[str, Factory]:
        """Return the optimizers' factories by name, each as `comparable` makes it."""
        return {name: comparable(OPTIMIZERS[name], self.steps) for name in self.optimizers or FOR_VECTORS}


class Race(NamedTuple):
    """The two sweeps of `tune_and_judge`, each with the dimensions "optimizer" and "function".

    Attributes:
      tuning: every setting, run from the tuning starts.
      judged: the chosen setting, run from the other starts, along the dimension "trial" of length 1.
    """

    tuning: xr.Dataset
    judged: xr.Dataset


def comparable(factory: Factory, total_steps: int) -> Factory:
    """Fix the arguments of `COMPARABLE` and the number of steps, as far as the factory has them.

    Args:
      factory: a function that returns an optimizer.
      total_steps: the number of steps of each descent, for optimizers that need to know it.

    Returns:
      The factory with these arguments fixed.
    """
    require_count("total_steps", total_steps)
    return given(factory, **COMPARABLE, total_steps=total_steps)


def changed_arguments(names: Sequence[str]) -> str:
    """Describe in one or two sentences, for a report, what a race changes.

    Args:
      names: the optimizers of the race.

    Returns:
      The arguments that `comparable` changes from their defaults, and the optimizers that the race leaves out.
    """
    require_names("names", names, OPTIMIZERS, empty=True)
    changed = []
    for name in names:
        parameters = inspect.signature(OPTIMIZERS[name]).parameters
        own = [
            f"{argument}={value}"
            for argument, value in COMPARABLE.items()
            if argument in parameters and parameters[argument].default != value
        ]
        if own:
            changed.append(f"{name}({', '.join(own)})")
    left_out = [f"{name} ({why})" for name, why in NOT_FOR_VECTORS.items() if name not in names]
    words = f"Arguments that differ from the defaults: {', '.join(changed) or 'none'}."
    return words + (f" Left out: {'; '.join(left_out)}." if left_out else "")


def comparable_function(function: Function) -> Function:
    """Restrict a function of two variables to a box for its starts, and move both if a minimizer lies at the origin.

    Weight decay, and steps in proportion to |x|, would find the origin without a gradient; see
    `gdlab.functions.off_origin`.

    Args:
      function: a function of two variables with known minimizers. Its box is its domain, or that of `BOXES`.

    Returns:
      The function on the box, moved where needed.

    Raises:
      ValueError: if the function does not have two variables, or its minimizers are not known.
    """
    require_instance("function", function, Function, "a Function of gdlab.functions")
    if function.dim not in (None, 2) or len(function.minimizers(2)) == 0:
        raise ValueError(f"function: expected a function of two variables with known minimizers, got {function.name!r}")
    low, high = (np.broadcast_to(corner, 2) for corner in BOXES.get(function.name, function.bounds(2)))
    return off_origin(function, low, high)


def tune_and_judge(
    functions: Any,
    factories: Any,
    hyperparameters: Any,
    tuning_starts: Any,
    judged_starts: Any,
    *,
    choose: Callable[[np.ndarray, np.ndarray], np.ndarray] = best_settings,
    **options: Any,
) -> Race:
    """Try all settings from some starts, choose one per optimizer and function, and judge it from other starts.

    Args:
      functions: a function or a mapping from names to functions, as in `sweep`. Their minimizers must be known, or
        passed as `minimizers`.
      factories: a factory or a mapping from names to factories, as in `sweep`.
      hyperparameters: the settings, the same for all optimizers: a mapping from arguments to 1-D arrays, whose
        product is tried, or a list of the points of a search.
      tuning_starts: the starts from which the setting is chosen, as in `sweep`: an array of shape (starts, dim), a
        mapping with one for each function, or a tree.
      judged_starts: the starts from which the chosen setting is judged, in the same form.
      choose: `choose(first, values)` returns the index of the best setting for each optimizer and function. The two
        arrays hold the sweep's `first_reached` and `value` and have the shape (optimizers, functions, settings,
        starts). Settings are counted in the order of the axes, the last one fastest. Default
        `gdlab.analysis.arrivals.best_settings`.
      **options: arguments of `sweep`, such as `max_steps` (required), `target` and `stop_at_target`.

    Returns:
      The `Race`: both sweeps.

    Raises:
      TypeError: as in `sweep`, and if `choose` does not return integers.
      ValueError: as in `sweep`, if the functions' minimizers are not known, and if `choose` returns an array of
        another shape, or an index that does not exist.
    """
    functions, factories = by_name("functions", functions), factories_by_name(factories, "factories")
    require_callable("choose", choose)
    _require_options(options)
    for name, starts in (("tuning_starts", tuning_starts), ("judged_starts", judged_starts)):
        lay_points(name, starts, list(functions), True)
    given_by_caller = {name: options.get(name) for name in ("gradient", "minimizers", "key", "data")}
    if make_space(functions, factories, hyperparameters, tuning_starts, **given_by_caller).minimizers is None:
        raise ValueError("functions: expected functions whose minimizers are known, or minimizers=, got neither")

    def run(settings: Any, starts: Any) -> xr.Dataset:
        return sweep(functions, factories, settings, starts, **options)

    tuning = run(hyperparameters, tuning_starts)
    return Race(tuning, run(chosen_settings(tuning, choose), judged_starts))


def chosen_settings(
    tuning: xr.Dataset, choose: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> dict[str, xr.DataArray]:
    """Return the hyperparameters of the settings that `choose` returns, as `tune_and_judge` describes it.

    Each has the dimensions "optimizer", "function" and "trial". The last one, of length 1, gives each lane its own
    number, as in `tuning`, so that nothing is compiled again.
    """
    shape = (tuning.sizes["optimizer"], tuning.sizes["function"], -1, tuning.sizes["start"])
    first = tuning.first_reached.values.reshape(shape)
    best = _chosen(choose(first, tuning.value.values.reshape(shape)), first.shape)
    each = tuning.first_reached.isel(start=0, drop=True)  # this has all axes of the settings
    chosen = {}
    for name in hyperparameters_in(tuning):
        values = tuning[name].broadcast_like(each).transpose(*each.dims).values.reshape(shape[:3])
        values = np.take_along_axis(values, best[..., None], axis=-1)
        chosen[name] = xr.DataArray(values, dims=("optimizer", "function", "trial"))
    return chosen


def _require_options(options: Mapping[str, Any]) -> None:
    """Raise TypeError unless these are arguments of `sweep` that `tune_and_judge` may pass on."""
    known = [name for name, p in inspect.signature(sweep).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise TypeError(f"options: expected arguments of sweep ({', '.join(known)}), got {name!r}")
    if "max_steps" not in options:
        raise TypeError("options: expected max_steps, the number of steps of a descent, got none")


def _chosen(best: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return the indices that `choose` returned as an array of integers, after checking them."""
    found = as_numbers("choose", best, shape=shape[:2])
    if found.dtype.kind not in "iu":
        raise TypeError(f"choose: expected a function that returns integers, got dtype {found.dtype}")
    if not ((found >= 0) & (found < shape[2])).all():
        raise ValueError(f"choose: expected indices from 0 to {shape[2] - 1}, got {found.min()} to {found.max()}")
    return found
