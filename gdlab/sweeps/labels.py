"""The arrays of a sweep as a labelled dataset."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from gdlab.sweeps.space import RESULT_NAMES, Space

ORDER = ("value", "point", "steps", "converged", "diverged", "reached", "first_reached")


def label(
    space: Space, arrays: Mapping[str, np.ndarray], steps: int | None, reduced: bool, attributes: Mapping[str, Any]
) -> xr.Dataset:
    """Return the dataset of arrays whose shapes begin with (optimizers, functions, lanes).

    Args:
      space: the dimensions and their labels.
      arrays: the arrays by variable.
      steps: the number of steps of a recorded path, or None.
      reduced: whether a function of the caller made some of the arrays.
      attributes: the dataset's attributes.
    """
    sizes = _sizes(space)
    variables: dict[str, Any] = {}
    for name in (*(n for n in ORDER if n in arrays), *(n for n in arrays if n not in ORDER)):
        tail = arrays[name].shape[3:]
        dims = [*sizes, *_tail(name, len(tail), steps, reduced)]
        values = arrays[name].reshape(*sizes.values(), *tail)
        variables |= _per_leaf(space, name, dims, values) if dims[-1] == "coordinate" else {name: (dims, values)}
    coordinates = xr.Coordinates(_coordinates(space, None if reduced else steps))  # xarray would index a dict twice
    return xr.Dataset(variables, coords=coordinates, attrs=dict(attributes))


def _sizes(space: Space) -> dict[str, int]:
    """Return the dimensions that all variables have, with their lengths."""
    sizes = {"optimizer": len(space.factories)} if space.named_factories else {}
    sizes |= {"function": len(space.functions)} if space.named_functions else {}
    return sizes | space.layout.axes | {"start": space.starts.shape[1]}


def _tail(name: str, count: int, steps: int | None, reduced: bool) -> list[str]:
    if not reduced and name in ("value", "point"):
        along = [] if steps is None else ["step"]
        return [*along, "coordinate"] if name == "point" else along
    return [f"{name}_{i}" for i in range(count)]


def _per_leaf(space: Space, name: str, dims: Sequence[str], values: np.ndarray) -> dict[str, Any]:
    """Return points as one variable, or as one for each leaf of their tree, called "name/leaf"."""
    if space.tree is None:
        return {name: (tuple(dims), values)}
    found = {}
    for leaf, shape, part in space.tree.parts():
        along = [f"{leaf or 'coordinate'}_{axis}" for axis in range(len(shape))]
        found["/".join(filter(None, (name, leaf)))] = (
            (*dims[:-1], *along),
            values[..., part].reshape(*values.shape[:-1], *shape),
        )
    return found


def _coordinates(space: Space, steps: int | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "start": np.arange(space.starts.shape[1], dtype=np.int32),
    }
    if space.tree is None:
        found["coordinate"] = np.arange(space.dim, dtype=np.int32)
    if space.named_factories:
        found["optimizer"] = list(space.factories)
    if space.named_functions:
        found["function"] = list(space.functions)
        found |= _per_leaf(space, "start_point", ("function", "start", "coordinate"), np.array(space.starts))
    else:
        found |= _per_leaf(space, "start_point", ("start", "coordinate"), np.array(space.starts[0]))
    if steps is not None:
        found["step"] = np.arange(steps + 1, dtype=np.int32)
    named = {"optimizer": space.named_factories, "function": space.named_functions}
    dropped = [dimension for dimension, keep in named.items() if not keep]
    return found | space.layout.coordinates(dropped)


def hyperparameters_in(runs: xr.Dataset) -> list[str]:
    """Return the names of the hyperparameters of a sweep's dataset."""
    return [name for name in map(str, runs.coords) if name not in RESULT_NAMES and not _is_start(name)]


def dimension_of_points(runs: xr.Dataset) -> int:
    """Return how many numbers a point of a sweep's dataset holds, in one array or in all arrays of its tree."""
    starts = [runs[name] for name in map(str, runs.variables) if _is_start(name)]
    return sum(math.prod(start.sizes[d] for d in start.dims if d not in ("function", "start")) for start in starts)


def _is_start(name: str) -> bool:
    return name == "start_point" or name.startswith("start_point/")
