"""Races on functions of matrices, where the optimizers that are made for matrices do what they are made for."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from gdlab.analysis.arrivals import best_settings
from gdlab.arguments import require_callable, require_count, require_instance, require_mapping, require_number
from gdlab.compute.devices import local_devices
from gdlab.compute.threads import Crew, thread_devices
from gdlab.descent import Descent
from gdlab.functions import MatrixFunction
from gdlab.hyperparameters.factories import factories_by_name
from gdlab.sweeps.driver import sweep
from gdlab.sweeps.races import Race, chosen_settings
from gdlab.sweeps.trees import flatten


def tune_and_judge_matrices(
    functions: Mapping[str, MatrixFunction],
    factories: Any,
    hyperparameters: Any,
    tuning_starts: Mapping[str, Any],
    judged_starts: Mapping[str, Any],
    *,
    max_steps: int,
    gap: float = 1e-3,
    choose: Callable[[np.ndarray, np.ndarray], np.ndarray] = best_settings,
) -> Race:
    """Tune and judge optimizers as `tune_and_judge` does, on functions of matrices, each with points of its own kind.

    Such functions have many minimizers, so a descent arrives by its value: when f(x) - minimum has fallen to `gap`
    times that at its start.

    Args:
      functions: functions of `gdlab.functions.MATRIX_FUNCTIONS`, by name.
      factories: a factory or a mapping from names to factories, as in `sweep`.
      hyperparameters: the settings, the same for all optimizers, as in `tune_and_judge`.
      tuning_starts: for each function, the starts from which the setting is chosen, as `MatrixFunction.starts` returns
        them.
      judged_starts: the starts from which the chosen setting is judged, in the same form.
      max_steps: the number of steps of each descent.
      gap: the share of its initial gap at which a descent has arrived. Default 1e-3.
      choose: as in `tune_and_judge`.

    Returns:
      The `Race`, whose sweeps have the variables `value` (the last one), `reached` (whether the gap was ever small
      enough), `first_reached` (since when; -1 if never), `steps`, `converged` and `diverged`.

    Raises:
      TypeError: as in `sweep`, if a function is no `MatrixFunction`, or if `choose` does not return integers.
      ValueError: as in `sweep`, and if starts do not fit their function.
    """
    require_mapping("functions", functions, "from names to functions of matrices", least=1)
    functions = {str(name): function for name, function in functions.items()}
    for name, function in functions.items():
        require_instance(f"functions[{name!r}]", function, MatrixFunction, "a MatrixFunction of gdlab.functions")
    factories = {str(name): make for name, make in factories_by_name(factories, "factories").items()}
    require_count("max_steps", max_steps)
    require_number("gap", gap, 0.0, 1.0, open_low=True, open_high=True)
    require_callable("choose", choose)
    tuning_starts = _starts("tuning_starts", tuning_starts, functions)
    judged_starts = _starts("judged_starts", judged_starts, functions)
    count = min(len(jax.tree.leaves(starts)[0]) for starts in judged_starts.values())  # then both share a program

    def run(settings: Callable[[str], Any], starts: Mapping[str, Any]) -> xr.Dataset:
        def one(name: str, device: jax.Device) -> xr.Dataset:
            function = functions[name]
            arrive = partial(_arrival, function.minimum, float(gap))
            options: Any = {"max_steps": max_steps, "record": "path", "reduce": arrive, "progress": False}
            return sweep(function.fn, factories, settings(name), starts[name], devices=[device], chunk=count, **options)

        crew = Crew(thread_devices(local_devices(None)))
        return _joined(dict(zip(functions, crew.run(one, list(functions)), strict=True)))

    tuning = run(lambda name: hyperparameters, tuning_starts)
    chosen = chosen_settings(tuning, choose)

    def settings(name: str) -> dict[str, xr.DataArray]:
        return {key: values.isel(function=list(functions).index(name)) for key, values in chosen.items()}

    return Race(tuning, run(settings, judged_starts).assign_coords(chosen))


def _arrival(minimum: float, share: float, descent: Descent) -> dict[str, jax.Array]:
    gaps = descent.value - minimum
    there = gaps <= share * gaps[0]
    return {"value": descent.value[-1], "arrival": jnp.where(there.any(), jnp.argmax(there), -1).astype(jnp.int32)}


def _joined(sweeps: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Return the sweeps of all functions along the dimension "function", without their points, which differ in form."""
    bare = []
    for ds in sweeps.values():
        starts = [name for name in ds.coords if str(name).startswith("start_point")]
        ds = ds.drop_vars(starts).rename(arrival="first_reached")
        bare.append(ds.assign(reached=ds.first_reached >= 0))
    how: Any = {"coords": "minimal", "compat": "override", "combine_attrs": "drop"}  # coordinates are those of all
    joined = xr.concat(bare, "function", **how).assign_coords(function=list(sweeps))
    sums = {name: sum(ds.attrs[name] for ds in sweeps.values()) for name in ("point_steps", "lanes")}
    return joined.transpose("optimizer", "function", ..., "start").assign_attrs(sums)


def _starts(name: str, given: Any, functions: Mapping[str, MatrixFunction]) -> dict[str, Any]:
    """Return the starts of each function, after comparing them with its minimizer."""
    require_mapping(name, given, "from functions to starts")
    found = {str(key): starts for key, starts in given.items()}
    if sorted(found) != sorted(functions):
        raise ValueError(f"{name}: expected starts for each of {list(functions)}, got starts for {list(found)}")
    for key, starts in found.items():
        tree = flatten(f"{name}[{key!r}]", starts)[1]
        expected = [np.shape(leaf) for leaf in jax.tree.leaves(functions[key].minimizer)]
        if tree.structure != jax.tree.structure(functions[key].minimizer) or list(tree.shapes) != expected:
            raise ValueError(
                f"{name}[{key!r}]: expected starts of shapes {expected}, as the function's method starts returns them, "
                f"got {list(tree.shapes)}"
            )
    return found
