"""Hyperparameters as labelled axes: what a caller may write for them, checked against the factories that take them."""

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from gdlab.arguments import describe

Factory = Callable[..., Any]


def lay_out(
    given: Any, optimizers: list[str] | None, functions: list[str], reserved: Sequence[str]
) -> tuple[dict[str, xr.DataArray], dict[str, int]]:
    """Of each argument its values, as an array over "optimizer", "function" or axes; and the axes with their lengths.

    given: a mapping from arguments to a number, a 1-D array or an `xarray.DataArray`; or a list of mappings, the points
    of a search, whose axis is "trial"; or such lists by optimizer. optimizers: their names, None where there is one
    without a name. reserved: names that an argument cannot have. Raises TypeError and ValueError, in one line.
    """
    if isinstance(given, Mapping) and optimizers and given and all(isinstance(v, list) for v in given.values()):
        lists = list(given.values())
        if all(entry and isinstance(entry[0], Mapping) for entry in lists):
            return _trials_by_optimizer(given, optimizers, reserved)
    if isinstance(given, (list, tuple)):
        table = _trials(given, reserved)
        arrays = {name: xr.DataArray(column, dims=("trial",)) for name, column in table.items()}
        return arrays, {"trial": len(given)}
    if not isinstance(given, Mapping):
        raise TypeError(
            f"hyperparameters: wanted a mapping from arguments to values, or a list of such, got {describe(given)}"
        )
    arrays, axes = {}, {}
    lengths = {"optimizer": len(optimizers) if optimizers else 1, "function": len(functions)}
    labels: dict[str, xr.DataArray] = {}
    for name, values in given.items():
        array = _aligned(
            str(name), _values(str(name), values, reserved), {"optimizer": optimizers, "function": functions}
        )
        for dimension in map(str, array.dims):
            if dimension in array.coords and dimension not in ("optimizer", "function"):
                known_labels = labels.setdefault(dimension, array.coords[dimension])
                if not known_labels.equals(array.coords[dimension]):
                    raise ValueError(
                        f"hyperparameters[{name!r}]: wanted the coordinates of {dimension!r} that the other arguments "
                        f"have, {known_labels.values.tolist()}, got {array.coords[dimension].values.tolist()}"
                    )
        for dimension, length in zip(map(str, array.dims), array.shape, strict=True):
            known = lengths.setdefault(dimension, length)
            if known != length:
                raise ValueError(f"hyperparameters[{name!r}]: wanted {known} values along {dimension!r}, got {length}")
            if dimension not in ("optimizer", "function"):
                axes[dimension] = length
        arrays[str(name)] = array
    for axis in axes:
        if axis in arrays and arrays[axis].dims != (axis,):
            raise ValueError(f"hyperparameters: {axis!r} is the name of an axis and of another argument")
    return arrays, axes


def coordinates(numbers: Mapping[str, xr.DataArray], axes: Mapping[str, int], dropped: Sequence[str]) -> dict[str, Any]:
    """The coordinates of a result: an index for each axis without values, and each argument's values along its own.

    dropped: dimensions that the result does not have; values along them are those of the first entry.
    """
    found: dict[str, Any] = {
        axis: np.arange(length, dtype=np.int32) for axis, length in axes.items() if axis not in numbers
    }
    for name, array in numbers.items():
        found |= {str(k): v for k, v in array.coords.items() if str(k) in axes}
        kept = array.isel({dimension: 0 for dimension in dropped if dimension in array.dims})
        found[name] = (kept.dims, kept.values)
    return found


def _aligned(name: str, array: xr.DataArray, names: Mapping[str, list[str] | None]) -> xr.DataArray:
    """The array with its optimizers and functions in the order of ours, by their labels where it has them."""
    for dimension, ours in names.items():
        if dimension in array.dims and dimension in array.coords:
            theirs = [str(label) for label in array.coords[dimension].values]
            if ours is None or sorted(theirs) != sorted(ours):
                wanted = ours or "a mapping, which was not given"
                raise ValueError(
                    f"hyperparameters[{name!r}]: wanted values for each {dimension} of {wanted}, got {theirs}"
                )
            array = array.isel({dimension: [theirs.index(label) for label in ours]})
    return array


def _values(name: str, values: Any, reserved: Sequence[str]) -> xr.DataArray:
    if name in reserved:
        raise ValueError(f"hyperparameters: {name!r} is a name of the result's own; rename the factory's argument")
    if not isinstance(values, xr.DataArray):
        array = _numeric(name, values)
        if array.ndim > 1:
            raise ValueError(
                f"hyperparameters[{name!r}]: wanted a number or a 1-D array of values (or an xarray.DataArray that "
                f"names its dimensions), got shape {array.shape}"
            )
        values = xr.DataArray(array, dims=(name,)[: array.ndim], coords={name: array} if array.ndim else None)
    else:
        values = values.copy(data=_numeric(name, values.values))
        bad = [str(d) for d in values.dims if d in reserved and d not in ("optimizer", "function", "trial")]
        if bad:
            raise ValueError(f"hyperparameters[{name!r}]: {bad[0]!r} is a dimension of the result's own")
    if values.size == 0:
        raise ValueError(f"hyperparameters[{name!r}]: wanted at least one value, got none")
    return values


def _numeric(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        what = (
            f"it cannot be traced; make one sweep for each of {np.unique(array).tolist()} and join the datasets, or "
            f"fix it with functools.partial(factory, {name}=...)"
        )
        if array.dtype.kind not in "bUS":
            what = "wanted numbers"
        raise TypeError(f"hyperparameters[{name!r}]: {what}; got values of dtype {array.dtype}")
    return array.astype(np.float64)


def _trials(points: Sequence[Any], reserved: Sequence[str]) -> dict[str, np.ndarray]:
    if not points:
        raise ValueError("hyperparameters: wanted at least one point, got an empty list")
    for point in points:
        if not isinstance(point, Mapping) or set(point) != set(points[0]):
            raise ValueError(
                f"hyperparameters: wanted mappings that all have the arguments {list(points[0])}, got {point!r}"
                if isinstance(points[0], Mapping)
                else f"hyperparameters: wanted a list of mappings from arguments to numbers, got {points[0]!r}"
            )
    return {str(name): _values(str(name), [point[name] for point in points], reserved).values for name in points[0]}


def _trials_by_optimizer(
    given: Mapping[Hashable, Any], optimizers: list[str], reserved: Sequence[str]
) -> tuple[dict[str, xr.DataArray], dict[str, int]]:
    if sorted(map(str, given)) != sorted(optimizers):
        raise ValueError(f"hyperparameters: wanted points for each of {optimizers}, got those of {list(given)}")
    tables = [_trials(given[name], reserved) for name in optimizers]
    for name, table in zip(optimizers, tables, strict=True):
        if set(table) != set(tables[0]) or len(given[name]) != len(given[optimizers[0]]):
            raise ValueError(
                f"hyperparameters[{name!r}]: wanted {len(given[optimizers[0]])} points with the arguments "
                f"{list(tables[0])}, as for {optimizers[0]!r}, got {len(given[name])} with {list(table)}"
            )
    arrays = {
        name: xr.DataArray(np.stack([table[name] for table in tables]), dims=("optimizer", "trial"))
        for name in tables[0]
    }
    return arrays, {"trial": len(given[optimizers[0]])}


def require_arguments(factories: Mapping[str, Factory], numbers: Mapping[str, Any]) -> None:
    """Raise unless every factory takes these arguments as traced numbers, and needs no others."""
    for label, factory in factories.items():
        try:
            parameters = inspect.signature(factory).parameters
        except (TypeError, ValueError):  # some callables have none
            continue
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue
        takes = [name for name, p in parameters.items() if p.kind is not p.VAR_POSITIONAL]
        for name in numbers:
            if name not in takes:
                raise ValueError(f"hyperparameters: {label} takes {', '.join(takes)}; got {name!r}")
            static = isinstance(parameters[name].default, (bool, str)) or _annotation(parameters[name]) in _STATIC
            if static:
                raise TypeError(
                    f"hyperparameters: {name!r} of {label} shapes the program and cannot be traced; make one sweep for "
                    f"each of its values, with functools.partial({label}, {name}=...), and join the datasets"
                )
        missing = [
            name
            for name, p in parameters.items()
            if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name not in numbers
        ]
        if missing:
            raise ValueError(
                f"hyperparameters: {label} needs {', '.join(missing)} too; got {', '.join(numbers) or 'none'}"
            )


_STATIC = ("int", "bool", "str")


def _annotation(parameter: inspect.Parameter) -> str:
    note = parameter.annotation
    return note.__name__ if isinstance(note, type) else str(note)
