"""Budgets of function evaluations, under which gradient methods and strategies race side by side.

A step of a gradient method costs one gradient, two for SAM, each of which counts as `gradient_cost` evaluations; a
round of a strategy costs its population. What a line search evaluates is not counted: its number is not known before,
and the states of `lbfgs` and `ssbroyden` hold it. Reverse-mode differentiation takes at most some four to five times
the operations of the function, in practice two to four times its time, the function's value included; 3 is the middle.
Since a population can be evaluated at once, sequential rounds stand beside evaluations.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
import xarray as xr

from gdlab.arguments import (
    as_numbers,
    needs_gradient,
    require_count,
    require_instance,
    require_mapping,
    require_number,
    require_optimizer,
)
from gdlab.hyperparameters.factories import by_name, factories_by_name, optimizer_from, require_arguments
from gdlab.optimizers.protocol import extra_gradients
from gdlab.sweeps.labels import dimension_of_points, hyperparameters_in
from gdlab.sweeps.races import Race, tune_and_judge
from gdlab.sweeps.space import lay_points
from gdlab.types import Factory


def evaluations_in(
    steps: Any, optimizer: optax.GradientTransformation, dim: int, *, gradient_cost: float = 3.0
) -> np.ndarray:
    """Return how many function evaluations a number of steps costs: first + each * steps.

    Args:
      steps: numbers of steps (rounds, for a strategy), of any shape.
      optimizer: an optimizer, or a strategy of `gdlab.strategies`, whose first evaluation is that of the start.
      dim: the number of coordinates of a point, on which populations may depend.
      gradient_cost: the number of evaluations that one gradient counts as. Default 3.

    Returns:
      Numbers of the shape of `steps`.
    """
    first, each = _costs(optimizer, dim, gradient_cost)
    return np.asarray(first + each * as_numbers("steps", steps).astype(float))


def steps_within(budget: int, optimizer: optax.GradientTransformation, dim: int, *, gradient_cost: float = 3.0) -> int:
    """Return how many steps a budget of function evaluations pays for.

    Args:
      budget: the number of function evaluations.
      optimizer: an optimizer, or a strategy of `gdlab.strategies`.
      dim: the number of coordinates of a point.
      gradient_cost: the number of evaluations that one gradient counts as. Default 3.

    Returns:
      The number of steps, at least 1.

    Raises:
      ValueError: if the budget does not pay for one step: for the start and one population.
    """
    require_count("budget", budget)
    first, each = _costs(optimizer, dim, gradient_cost)
    steps = math.floor((budget - first) / each)
    if steps < 1:
        what = "one gradient" if needs_gradient(optimizer) else f"the start and one population of {each:g}"
        raise ValueError(f"budget: expected at least {first + each:g} evaluations, for {what}, got {budget}")
    return steps


def _costs(optimizer: Any, dim: int, gradient_cost: float) -> tuple[float, float]:
    """Return the evaluations before the first step, and those of each step."""
    require_optimizer("optimizer", optimizer)
    require_count("dim", dim)
    require_number("gradient_cost", gradient_cost, 0.0, open_low=True)
    if needs_gradient(optimizer):
        return 0.0, float(gradient_cost) * (1 + _asked_for(optimizer, dim))
    return float(optimizer.first_evaluations), float(optimizer.evaluations(dim))


def _asked_for(optimizer: optax.GradientTransformation, dim: int) -> int:
    try:
        return extra_gradients(optimizer, jax.ShapeDtypeStruct((dim,), np.float32))
    except Exception:  # whatever an optimizer raises that was made for one tree only, such as optax.multi_transform
        return 0


def count_evaluations(runs: xr.Dataset, factory: Any, *, gradient_cost: float = 3.0) -> xr.Dataset:
    """Add the function evaluations and the sequential rounds of a sweep's lanes (one run each) to its dataset.

    Points may be vectors, matrices or trees: what counts is how many numbers one holds.

    Args:
      runs: the dataset of `sweep`.
      factory: the factory of the sweep, or its mapping from names to factories.
      gradient_cost: the number of evaluations that one gradient counts as. Default 3. An optimizer that cannot step
        from a vector, such as one made for a tree of these names only, counts one gradient per step.

    Returns:
      The dataset with the variables `evaluations` and `rounds` (of all steps taken) and, where minimizers are known,
      `evaluations_to_target` and `rounds_to_target` (inf where the target is never reached). A round is one step, since
      a population can be evaluated at once.

    Raises:
      TypeError: if `runs` is not a dataset, or a factory is none.
      ValueError: if the dataset has other optimizers than the mapping.
    """
    require_instance("runs", runs, xr.Dataset, "a dataset, as from gdlab.sweep")
    missing = "steps" if "steps" not in runs else "start_point" if not dimension_of_points(runs) else None
    if missing is not None:
        raise ValueError(f"runs: expected the dataset of a sweep, with {missing}, got {', '.join(map(str, runs))}")
    require_number("gradient_cost", gradient_cost, 0.0, open_low=True)
    factories = factories_by_name(factory)
    names = [str(name) for name in runs.optimizer.values] if "optimizer" in runs.dims else list(factories)
    if names != list(factories):
        raise ValueError(f"factory: expected a factory for each of {names}, got {list(factories)}")
    dim = dimension_of_points(runs)

    along = "optimizer" in runs.dims
    made = [_first(runs.sel(optimizer=name) if along else runs, name, make) for name, make in factories.items()]
    costs = np.array([_costs(optimizer, dim, gradient_cost) for optimizer in made])
    first, each = (xr.DataArray(column, dims="optimizer") if along else column[0] for column in costs.T)

    def counted(steps: xr.DataArray) -> xr.DataArray:
        return (first + each * steps.astype(float)).transpose(*steps.dims)

    more = {"evaluations": counted(runs.steps), "rounds": runs.steps.astype(float)}
    if "first_reached" in runs:
        never = runs.first_reached < 0
        more["evaluations_to_target"] = counted(runs.first_reached).where(~never, np.inf)
        more["rounds_to_target"] = runs.first_reached.astype(float).where(~never, np.inf)
    return runs.assign(more).assign_attrs(gradient_cost=float(gradient_cost))


def _first(runs: xr.Dataset, name: str, factory: Factory) -> optax.GradientTransformation:
    """Return the optimizer at the first setting of the hyperparameters; none changes the number of evaluations."""
    numbers = {str(key): float(runs[key].values.flat[0]) for key in hyperparameters_in(runs)}
    return optimizer_from(name, factory, {key: value for key, value in numbers.items() if not np.isnan(value)})


def tune_and_judge_within(
    budget: int,
    functions: Any,
    factories: Mapping[str, Factory],
    hyperparameters: Mapping[str, Sequence[Mapping[str, float]]],
    tuning_starts: Any,
    judged_starts: Any,
    *,
    gradient_cost: float = 3.0,
    **options: Any,
) -> Race:
    """Tune and judge optimizers and strategies as `tune_and_judge` does, within one budget of function evaluations.

    Each contender has hyperparameters of its own, as many settings as the others, and the steps that the budget pays
    for.

    Args:
      budget: the number of function evaluations of each descent.
      functions: a function or a mapping from names to functions, as in `sweep`.
      factories: a mapping from names to factories of optimizers or strategies.
      hyperparameters: the settings of each contender by its name: equally long lists of the points of a search.
      tuning_starts: the starts from which the setting is chosen, as in `tune_and_judge`.
      judged_starts: the starts from which the chosen setting is judged.
      gradient_cost: the number of evaluations that one gradient counts as. Default 3.
      **options: arguments of `tune_and_judge`, except for `max_steps`.

    Returns:
      The `Race`, whose sweeps have the variables of `count_evaluations`. A hyperparameter is NaN for contenders without
      it.

    Raises:
      TypeError: as in `tune_and_judge`.
      ValueError: as in `tune_and_judge`, if a budget does not pay for one step, or the lists differ in length.
    """
    require_count("budget", budget)
    require_number("gradient_cost", gradient_cost, 0.0, open_low=True)
    require_mapping("factories", factories, "from names to factories", least=1)
    factories = factories_by_name(factories, "factories")
    settings = _settings(hyperparameters, list(factories))
    functions = by_name("functions", functions)
    dim = lay_points("judged_starts", judged_starts, list(functions), True)[0].shape[2]
    if "max_steps" in options:
        raise TypeError("options: expected no max_steps, because the budget decides, got one")
    for name, factory in factories.items():
        require_arguments({name: factory}, settings[name][0])
    made = {name: optimizer_from(name, factory, settings[name][0]) for name, factory in factories.items()}
    steps = {name: steps_within(budget, one, dim, gradient_cost=gradient_cost) for name, one in made.items()}
    races = []
    for name, factory in factories.items():
        race = tune_and_judge(
            functions, {name: factory}, settings[name], tuning_starts, judged_starts, max_steps=steps[name], **options
        )
        races.append([count_evaluations(runs, {name: factory}, gradient_cost=gradient_cost) for runs in race])
    return Race(*(_joined(list(runs), budget) for runs in zip(*races, strict=True)))


def _settings(given: Any, names: list[str]) -> dict[str, list[Mapping[str, float]]]:
    require_mapping("hyperparameters", given, "from names to lists of settings", least=1)
    settings = {str(name): points for name, points in given.items()}
    if sorted(settings) != sorted(names):
        raise ValueError(f"hyperparameters: expected settings for each of {names}, got settings for {list(settings)}")
    for name, points in settings.items():
        if not isinstance(points, list) or not points or not all(isinstance(point, Mapping) for point in points):
            raise TypeError(f"hyperparameters[{name!r}]: expected a list of settings, got {points!r}")
    if len({len(points) for points in settings.values()}) > 1:
        lengths = {name: len(points) for name, points in settings.items()}
        raise ValueError(f"hyperparameters: expected equally many settings for all, got {lengths}")
    return settings


def _joined(runs: list[xr.Dataset], budget: int) -> xr.Dataset:
    """Join the datasets of several contenders; a hyperparameter that one does not have is NaN there."""
    names = list(dict.fromkeys(name for one in runs for name in hyperparameters_in(one)))
    parts = []
    for one in runs:
        own = hyperparameters_in(one)
        shape = one.steps.isel(start=0, drop=True)
        wide = {name: one[name].broadcast_like(shape).transpose(*shape.dims).variable for name in own}
        wide |= {name: xr.full_like(shape, np.nan, float).variable for name in names if name not in own}
        parts.append(one.drop_vars(own).assign(wide))
    joined = xr.concat(parts, "optimizer", combine_attrs="drop", data_vars="all", coords="different", compat="equals")
    sums = {key: sum(one.attrs[key] for one in runs) for key in ("lanes", "point_steps", "seconds", "compile_seconds")}
    kept = {key: value for key, value in runs[0].attrs.items() if key not in ("max_steps", "factory")}
    return joined.set_coords(names).assign_attrs(kept | sums | {"budget": budget})
