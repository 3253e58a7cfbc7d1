"""Hyperparameters as labelled axes: the forms in which a caller may pass them, checked and converted to arrays."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from jaxtyping import Int

from gdlab.arguments import describe
from gdlab.hyperparameters.ranges import Range


class Layout(NamedTuple):
    """Settings of hyperparameters as labelled axes, and the lanes that they define.

    A lane is one run of a batch. A category is the dimension "optimizer" or "function". For each optimizer and
    function, the lanes are numbered along the axes, and within a setting along its repeats (starts or seeds), which
    vary fastest.

    Attributes:
      numbers: for each argument, its values as an array over categories and axes.
      axes: the length of each axis.
      categories: for each category, its names; None for a category with a single entry that has no name.
      repeats: the number of lanes per setting.
    """

    numbers: dict[str, xr.DataArray]
    axes: dict[str, int]
    categories: dict[str, list[str] | None]
    repeats: int

    @property
    def lanes(self) -> int:
        """The number of lanes per optimizer and function."""
        return int(np.prod(list(self.axes.values()), dtype=np.int64)) * self.repeats

    def differing(self) -> list[bool]:
        """Return, for each argument, whether it has an axis.

        Without one, its value is the same in all lanes of an optimizer on a function.
        """
        return [any(str(d) in self.axes for d in values.dims) for values in self.numbers.values()]

    def repeat(self, lanes: Int[np.ndarray, " lanes"] | range) -> Int[np.ndarray, " lanes"]:
        """Return the index of the start or seed of each of these lanes."""
        every = np.arange(lanes.start, lanes.stop, lanes.step) if isinstance(lanes, range) else np.asarray(lanes)
        return every % self.repeats

    def values(self, name: str, lanes: Int[np.ndarray, " lanes"] | range | None, **category: int) -> np.ndarray:
        """Return the argument's values at these lanes; with None, the one value that all lanes share.

        Args:
          name: the argument.
          lanes: the numbers of the lanes, a range of them, or None.
          **category: the index in each category, such as optimizer=0, function=2.
        """
        array = self.numbers[name]
        here = array.values[tuple(category.get(str(d), slice(None)) for d in array.dims)]
        dims = [str(d) for d in array.dims if d not in category]
        if lanes is None:
            return np.asarray(here.reshape(-1)[0])
        if isinstance(lanes, range):  # the lanes of a setting are consecutive
            settings = np.arange(lanes.start // self.repeats, -(-lanes.stop // self.repeats))
            ends = np.minimum((settings + 1) * self.repeats, lanes.stop)
            counts = ends - np.maximum(settings * self.repeats, lanes.start)
        else:
            settings, counts = lanes // self.repeats, None
        places = np.unravel_index(settings, tuple(self.axes.values())) if self.axes else ()
        along = dict(zip(self.axes, places, strict=True))
        found = np.broadcast_to(here[tuple(along[d] for d in dims)], len(settings))
        return found if counts is None else np.repeat(found, counts)

    def padded_values(self, lanes: Any, length: int, dtype: Any, **category: int) -> list[np.ndarray]:
        """Return the values of each argument: one shared value, or those of `lanes`, padded to `length`.

        The padding repeats the last value.
        """
        found = []
        for name, differs in zip(self.numbers, self.differing(), strict=True):
            values = self.values(name, lanes if differs else None, **category).astype(dtype)
            found.append(np.pad(values, (0, length - len(lanes)), mode="edge") if differs else values)
        return found

    def coordinates(self, dropped: Sequence[str]) -> dict[str, Any]:
        """Return the coordinates of a result.

        They are an index for each axis that has no values, and the values of each argument along its own
        dimensions.

        Args:
          dropped: dimensions that the result does not have; the values along them are those of the first entry.
        """
        found: dict[str, Any] = {
            axis: np.arange(length, dtype=np.int32) for axis, length in self.axes.items() if axis not in self.numbers
        }
        for name, array in self.numbers.items():
            found |= {str(k): v for k, v in array.coords.items() if str(k) in self.axes}
            kept = tuple(0 if dimension in dropped else slice(None) for dimension in array.dims)
            found[name] = ([dimension for dimension in array.dims if dimension not in dropped], array.values[kept])
        return found


class Form(NamedTuple):
    """What a caller may pass as hyperparameters, and what error messages call it.

    Attributes:
      reserved: names that a hyperparameter cannot have.
      argument: the argument that the hyperparameters are passed as.
      owner: what has arguments of these names.
      remedy: what to do about values that cannot be traced, with {name} and {values} in place of these.
      keeps_integers: whether integers stay integers; otherwise every number becomes floating-point.
    """

    reserved: Sequence[str]
    argument: str = "hyperparameters"
    owner: str = "factory"
    remedy: str = (
        "run one sweep for each of {values} and join the datasets, or fix the argument with "
        "functools.partial(factory, {name}=...)"
    )
    keeps_integers: bool = False

    def at(self, name: Any) -> str:
        """Return how messages name one entry."""
        return f"{self.argument}[{name!r}]"


def lay_out(given: Any, categories: Mapping[str, list[str] | None], form: Form, repeats: int) -> Layout:
    """Return the layout of hyperparameters in any of the forms that a caller may pass.

    Args:
      given: a mapping from arguments to a number, a 1-D array, a range with a count or an `xarray.DataArray`; or a
        list of mappings, the points of a search, along the axis "trial"; or a mapping from optimizers to such lists.
      categories: as in `Layout`.
      form: what is accepted.
      repeats: as in `Layout`.

    Raises:
      TypeError: if a value has a type that cannot be an axis of numbers.
      ValueError: if names, shapes or coordinates do not fit.
    """
    categories = dict(categories)
    optimizers = categories.get("optimizer")
    if isinstance(given, Mapping) and optimizers and given and all(isinstance(v, list) for v in given.values()):
        lists = list(given.values())
        if all(entry and isinstance(entry[0], Mapping) for entry in lists):
            return Layout(*_trials_by_optimizer(given, optimizers, form), categories, repeats)
    if isinstance(given, (list, tuple)):
        table = _trials(given, form)
        arrays = {name: xr.DataArray(column, dims=("trial",)) for name, column in table.items()}
        return Layout(arrays, {"trial": len(given)}, categories, repeats)
    if not isinstance(given, Mapping):
        raise TypeError(
            f"{form.argument}: expected a mapping from arguments to values, or a list of such mappings, got "
            f"{describe(given)}"
        )
    arrays = {
        str(name): _aligned(str(name), _values(str(name), v, categories, form), categories, form)
        for name, v in given.items()
    }
    axes = _axes(arrays, categories, form)
    return Layout(arrays, axes, categories, repeats)


def _axes(arrays: Mapping[str, xr.DataArray], categories: Mapping[str, list[str] | None], form: Form) -> dict[str, int]:
    """Return the axes of all arrays with their lengths; raise ValueError if the arrays disagree."""
    axes: dict[str, int] = {}
    lengths = {dimension: len(names) if names else 1 for dimension, names in categories.items()}
    labels: dict[str, xr.DataArray] = {}
    for name, array in arrays.items():
        for dimension, length in zip(map(str, array.dims), array.shape, strict=True):
            if dimension not in categories:
                if dimension in array.coords:
                    known_labels = labels.setdefault(dimension, array.coords[dimension])
                    if not known_labels.equals(array.coords[dimension]):
                        raise ValueError(
                            f"{form.at(name)}: expected the same coordinates of {dimension!r} as in the "
                            f"other arguments, {known_labels.values.tolist()}, got "
                            f"{array.coords[dimension].values.tolist()}"
                        )
                axes[dimension] = length
            known = lengths.setdefault(dimension, length)
            if known != length:
                raise ValueError(f"{form.at(name)}: expected {known} values along {dimension!r}, got {length}")
    for axis in axes:
        if axis in arrays and arrays[axis].dims != (axis,):
            raise ValueError(f"{form.argument}: expected different names for axes and arguments, got {axis!r} for both")
    return axes


def _aligned(name: str, array: xr.DataArray, names: Mapping[str, list[str] | None], form: Form) -> xr.DataArray:
    """Return the array with its optimizers and functions in the order of `names`, matched by label if it has labels."""
    for dimension, ours in names.items():
        if dimension in array.dims and dimension in array.coords:
            theirs = [str(label) for label in array.coords[dimension].values]
            if ours is None or sorted(theirs) != sorted(ours):
                expected = ours or "a mapping, and none was passed"
                raise ValueError(f"{form.at(name)}: expected a value for each {dimension} in {expected}, got {theirs}")
            array = array.isel({dimension: [theirs.index(label) for label in ours]})
    return array


def _values(name: str, values: Any, categories: Mapping[str, Any], form: Form, *, axis: bool = True) -> xr.DataArray:
    """Return an argument's values as an array; `axis` says whether a 1-D array is an axis of its own."""
    if name in form.reserved:
        raise ValueError(
            f"{form.argument}: expected a name that is not reserved for the result, got {name!r}; rename the "
            f"{form.owner}'s argument"
        )
    if isinstance(values, Range):
        values = _spaced(name, values, form)
    if not isinstance(values, xr.DataArray):
        array = _numeric(name, values, form)
        if array.ndim > 1:
            raise ValueError(
                f"{form.at(name)}: expected a number or a 1-D array of values (or an xarray.DataArray that "
                f"names its dimensions), got shape {array.shape}"
            )
        if axis:
            _require_distinct(name, array, form)
        values = xr.DataArray(array, dims=(name,)[: array.ndim], coords={name: array} if array.ndim else None)
    else:
        values = values.copy(data=_numeric(name, values.values, form))
        bad = [str(d) for d in values.dims if d in form.reserved and d not in (*categories, "trial")]
        if bad:
            raise ValueError(
                f"{form.at(name)}: expected dimensions that are not reserved for the result, got {bad[0]!r}"
            )
        for dimension in map(str, values.dims):
            if dimension in values.coords:
                _require_distinct(name, values.coords[dimension].values, form)
    if values.size == 0:
        raise ValueError(f"{form.at(name)}: expected at least one value, got none")
    return values


def _spaced(name: str, values: Range, form: Form) -> np.ndarray:
    """Return the values of a range."""
    values.require(form.at(name))
    if values.length is None:
        kind = "log_range" if values.logarithmic else "linear_range"
        ends = f"{values.low:g}, {values.high:g}"
        raise ValueError(
            f"{form.at(name)}: expected a range with a number of values, such as {kind}({ends}, count=16), got "
            f"{kind}({ends})"
        )
    return values.values()


def _numeric(name: str, values: Any, form: Form) -> np.ndarray:
    where = form.at(name)
    if isinstance(values, jax.core.Tracer) or any(isinstance(v, jax.core.Tracer) for v in _items(values)):
        raise TypeError(f"{where}: expected concrete numbers, got a traced value")
    if callable(values) or any(callable(v) for v in _items(values)):
        raise TypeError(
            f"{where}: expected numbers, got a function; sweep the numbers that a schedule is made of, in a factory "
            "that builds the schedule from them"
        )
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(
            f"{where}: expected a number or a 1-D array of values, got rows of different lengths"
        ) from None
    if array.dtype.kind not in "fiu":
        hint = ""
        if array.dtype.kind in "bUS":
            remedy = form.remedy.format(name=name, values=np.unique(array).tolist())
            hint = f", which cannot be traced; {remedy}"
        raise TypeError(f"{where}: expected numbers, got values of dtype {array.dtype}{hint}")
    if array.dtype.kind in "iu" and form.keeps_integers:
        return _whole(where, array)
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{where}: expected finite numbers, got {array[~np.isfinite(array)].flat[0]}")
    return array


def _whole(where: str, array: np.ndarray) -> np.ndarray:
    limits = np.iinfo(np.int32)
    outside = (array < limits.min) | (array > limits.max)
    if outside.any():
        raise ValueError(f"{where}: expected integers that int32 can hold, got {array[outside].flat[0]}")
    return array.astype(np.int32)


def _items(values: Any) -> Sequence[Any]:
    return values if isinstance(values, (list, tuple)) else ()


def _require_distinct(name: str, values: np.ndarray, form: Form) -> None:
    """Raise ValueError if a value occurs twice along an axis, because it could not be selected."""
    found, counts = np.unique(values, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{form.at(name)}: expected distinct values, got {found[counts > 1][0]} more than once")


def _trials(points: Sequence[Any], form: Form) -> dict[str, np.ndarray]:
    if not points:
        raise ValueError(f"{form.argument}: expected at least one point, got an empty list")
    for point in points:
        if not isinstance(point, Mapping) or set(point) != set(points[0]):
            raise ValueError(
                f"{form.argument}: expected mappings that all have the arguments {list(points[0])}, got {point!r}"
                if isinstance(points[0], Mapping)
                else f"{form.argument}: expected a list of mappings from arguments to numbers, got {points[0]!r}"
            )
    columns = {str(name): [point[name] for point in points] for name in points[0]}
    return {name: _values(name, column, {}, form, axis=False).values for name, column in columns.items()}


def _trials_by_optimizer(
    given: Mapping[Hashable, Any], optimizers: list[str], form: Form
) -> tuple[dict[str, xr.DataArray], dict[str, int]]:
    if sorted(map(str, given)) != sorted(optimizers):
        raise ValueError(f"{form.argument}: expected points for each of {optimizers}, got points for {list(given)}")
    tables = [_trials(given[name], form) for name in optimizers]
    for name, table in zip(optimizers, tables, strict=True):
        if set(table) != set(tables[0]) or len(given[name]) != len(given[optimizers[0]]):
            raise ValueError(
                f"{form.at(name)}: expected {len(given[optimizers[0]])} points with the arguments "
                f"{list(tables[0])}, as for {optimizers[0]!r}, got {len(given[name])} points with {list(table)}"
            )
    arrays = {
        name: xr.DataArray(np.stack([table[name] for table in tables]), dims=("optimizer", "trial"))
        for name in tables[0]
    }
    return arrays, {"trial": len(given[optimizers[0]])}
