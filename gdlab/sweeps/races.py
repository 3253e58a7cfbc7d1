"""Races: optimizers on the same functions from the same starts, each tuned with the same budget before it is judged."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from gdlab.analysis.arrivals import best_settings
from gdlab.arguments import require_count, require_names, require_number
from gdlab.functions import FUNCTIONS, Function, off_origin
from gdlab.hyperparameters.factories import by_name, factories_by_name, given
from gdlab.optimizers import OPTIMIZERS
from gdlab.sweeps.driver import sweep
from gdlab.sweeps.space import RESULT_NAMES
from gdlab.types import Factory

COMPARABLE: Mapping[str, Any] = MappingProxyType(
    {
        "weight_decay": 0.0,  # it moves the minimum, which is not what a race measures
        "adam_ratio": 1.0,  # Muon steps matrices; a vector goes to its AdamW, at this multiple of the learning rate
        "trust_coefficient": 1.0,  # LARS's other factor of the learning rate, at 0.001 for the layers of networks
        "precondition_1d": True,  # without it SOAP is plain Adam on vectors
    }
)
"""Arguments that differ from their defaults so that optimizers are comparable on functions of a vector."""

BOXES: Mapping[str, tuple[float, float]] = MappingProxyType({"ackley": (-5.0, 5.0), "griewank": (-10.0, 10.0)})
"""Where starts are drawn, for functions whose customary domain is far wider than what tells methods apart."""


@dataclasses.dataclass(frozen=True)
class RaceOptions:
    """What a race is between, and the budget, which is the same for all optimizers.

    A base for the configuration of an experiment, whose fields `tyro` turns into flags. Raises ValueError and TypeError
    for values out of range and for unknown names.
    """

    functions: tuple[str, ...]
    """Functions of two variables in FUNCTIONS whose minimizers are known."""
    optimizers: tuple[str, ...] = ()
    """Names in OPTIMIZERS; none: all of them."""
    starts: int = 256
    """Starts that are judged, of each function."""
    tuning_starts: int = 128
    """Other starts, on which the setting is chosen."""
    lowest_rate: float = 1e-5
    """Of the learning rates that are tried."""
    highest_rate: float = 1e2
    steps: int = 1000
    """Of each descent."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("starts", "tuning_starts", "steps"):
            require_count(name, getattr(self, name))
        require_number("lowest_rate", self.lowest_rate, 0.0, open_low=True)
        require_number("highest_rate", self.highest_rate, self.lowest_rate, open_low=True)
        require_names("functions", self.functions, FUNCTIONS)
        require_names("optimizers", self.optimizers, OPTIMIZERS, empty=True)
        self.contest()

    def contest(self) -> dict[str, Function]:
        """The functions by name, each as `comparable_function` makes it."""
        return {name: comparable_function(FUNCTIONS[name]) for name in self.functions}

    def contenders(self) -> dict[str, Factory]:
        """The optimizers' factories by name, each as `comparable` makes it."""
        return {name: comparable(OPTIMIZERS[name], self.steps) for name in self.optimizers or OPTIMIZERS}


class Race(NamedTuple):
    """Two sweeps, each with the dimensions "optimizer" and "function".

    tuning: every setting from the tuning starts. judged: the chosen one from the others, along "trial" of length 1.
    """

    tuning: xr.Dataset
    judged: xr.Dataset


def comparable(factory: Factory, total_steps: int) -> Factory:
    """The factory with the arguments of `COMPARABLE` and the number of steps fixed, as far as it has them."""
    return given(factory, **COMPARABLE, total_steps=total_steps)


def comparable_function(function: Function) -> Function:
    """A function of two variables on the box of its starts, moved with the box where a minimizer is the origin.

    Weight decay, and steps in proportion to |x|, would find the origin without a gradient: see
    `gdlab.functions.off_origin`. The box is the function's domain, or that of `BOXES`. Raises ValueError for a function
    of other than two variables, and where its minimizers are not known.
    """
    if function.dim not in (None, 2) or len(function.minimizers(2)) == 0:
        raise ValueError(f"function: expected two variables and known minimizers, got {function.name!r}")
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

    functions, factories: as in `sweep`; mappings from names, or a single one. hyperparameters: the settings, which are
    the same for all optimizers: a mapping from arguments to 1-D arrays, whose product is tried, or a list of points of
    a search. tuning_starts, judged_starts: as in `sweep`, an array of shape (starts, dim) or one for each function.
    choose(first, values): the number of the best setting, from arrays of shape (optimizers, functions, settings,
    starts), where settings are counted in the order of the axes, the last one fastest; default `best_settings`.
    options: of `sweep`, such as max_steps (required), target and stop_at_target.

    Raises as `sweep` does, and ValueError where the functions' minimizers are not known.
    """
    functions, factories = by_name("functions", functions), factories_by_name(factories)

    def run(settings: Any, starts: Any) -> xr.Dataset:
        return sweep(functions, factories, settings, starts, **options)

    tuning = run(hyperparameters, tuning_starts)
    if "first_reached" not in tuning:
        raise ValueError("functions: expected functions whose minimizers are known, or minimizers=, got neither")
    shape = (tuning.sizes["optimizer"], tuning.sizes["function"], -1, tuning.sizes["start"])
    best = choose(tuning.first_reached.values.reshape(shape), tuning.value.values.reshape(shape))
    each = tuning.first_reached.isel(start=0, drop=True)  # has all axes of the settings
    chosen = {}
    for name in (str(coordinate) for coordinate in tuning.coords if coordinate not in RESULT_NAMES):
        values = tuning[name].broadcast_like(each).transpose(*each.dims).values.reshape(shape[:3])
        # An axis, though of length 1: a number of each lane's own, as when tuning, takes no second compilation.
        values = np.take_along_axis(values, best[..., None], axis=-1)
        chosen[name] = xr.DataArray(values, dims=("optimizer", "function", "trial"))
    return Race(tuning, run(chosen, judged_starts))
