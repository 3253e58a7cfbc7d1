"""What a sweep covers: functions, optimizers, hyperparameters and starts, checked and laid out as labelled axes."""

import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from gdlab.arguments import (
    describe,
    require_callable,
    require_gradient,
    require_scalar_function,
)
from gdlab.functions import Function
from gdlab.types import GradientFunction, ScalarFunction

Factory = Callable[..., Any]
RESERVED = (
    "optimizer",
    "function",
    "trial",
    "start",
    "step",
    "coordinate",
    "start_point",
    "value",
    "point",
    "steps",
    "converged",
    "diverged",
    "reached",
    "first_reached",
)
"""Names of a sweep's own dimensions and variables."""


class Space(NamedTuple):
    """All lanes of a sweep. Lanes of one optimizer and function are counted along the axes, starts fastest.

    named_functions, named_factories: whether several were asked for, and the result has the dimension. numbers: of each
    argument, its values as an array whose dimensions are "optimizer", "function" or axes. axes: name and length of
    those. minimizers: of each function, repeated to equal counts; None where those of any are unknown.
    """

    functions: dict[str, ScalarFunction]
    gradients: tuple[GradientFunction, ...] | None
    factories: dict[str, Factory]
    named_functions: bool
    named_factories: bool
    numbers: dict[str, xr.DataArray]
    axes: dict[str, int]
    starts: Float[np.ndarray, "functions starts dim"]
    minimizers: Float[np.ndarray, "functions count dim"] | None

    @property
    def dim(self) -> int:
        """Coordinates of a point."""
        return self.starts.shape[2]

    @property
    def lanes(self) -> int:
        """Lanes of one optimizer on one function."""
        return int(np.prod(list(self.axes.values()), dtype=np.int64)) * self.starts.shape[1]

    def differing(self) -> list[bool]:
        """Of each argument, whether lanes of one optimizer and function may differ in it: whether it has an axis."""
        return [any(str(d) in self.axes for d in values.dims) for values in self.numbers.values()]

    def values(
        self, name: str, factory: int, function: int, lanes: Int[np.ndarray, " lanes"] | range | None
    ) -> np.ndarray:
        """The argument's values at these lanes, or, with None, the one that all share."""
        array = self.numbers[name]
        here = array.isel({d: i for d, i in (("optimizer", factory), ("function", function)) if d in array.dims})
        if lanes is None:
            return np.asarray(here.values.reshape(-1)[0])
        starts = self.starts.shape[1]
        if isinstance(lanes, range):  # a setting's lanes lie side by side
            settings = np.arange(lanes.start // starts, -(-lanes.stop // starts))
            counts = np.minimum((settings + 1) * starts, lanes.stop) - np.maximum(settings * starts, lanes.start)
        else:
            settings, counts = lanes // starts, None
        along = dict(zip(self.axes, np.unravel_index(settings, tuple(self.axes.values())), strict=True))
        found = here.values[tuple(along[str(d)] for d in here.dims)]
        return found if counts is None else np.repeat(found, counts)

    def padded_values(self, factory: int, function: int, lanes: Any, length: int) -> list[np.ndarray]:
        """Of each argument its values in the starts' dtype: the one that all share, or the lanes', filled up."""
        found = []
        for name, differs in zip(self.numbers, self.differing(), strict=True):
            values = self.values(name, factory, function, lanes if differs else None).astype(self.starts.dtype)
            found.append(np.pad(values, (0, length - len(lanes)), mode="edge") if differs else values)
        return found


def make_space(
    fn: Any, factory: Any, hyperparameters: Any, starts: Any, gradient: Any, minimizers: Any, dtype: Any = None
) -> Space:
    """Check everything that a sweep is asked to cover; an error is one line: what was wanted, and what came."""
    named_functions, named_factories = isinstance(fn, Mapping), isinstance(factory, Mapping)
    functions = _by_name("fn", fn)
    factories = _by_name("factory", factory)
    for name, entry in factories.items():
        if not callable(entry):
            raise TypeError(
                f"factory: wanted a function that returns an optimizer, such as gdlab.optimizers.adam, got "
                f"{describe(entry)} for {name!r}"
            )
    plain = {}
    for name, entry in functions.items():
        found = entry.fn if isinstance(entry, Function) else entry
        require_callable("fn", found)
        plain[name] = found
    points = _starts(starts, list(plain), named_functions)
    one = jax.ShapeDtypeStruct(points.shape[2:], points.dtype)
    for found in plain.values():
        require_scalar_function("fn", found, one)
    gradients = None
    if gradient is not None:
        given = _by_name("gradient", gradient)
        if isinstance(gradient, Mapping) != named_functions or (named_functions and list(given) != list(plain)):
            raise ValueError(f"gradient: wanted one for each of fn's {list(plain)}, got {list(given)}")
        for slope in given.values():
            require_gradient("gradient", slope, one)
        gradients = tuple(given.values())
    numbers, axes = _numbers(hyperparameters, list(factories) if named_factories else None, list(plain))
    _check_arguments(factories, numbers)
    return Space(
        plain,
        gradients,
        factories,
        named_functions,
        named_factories,
        numbers,
        axes,
        points,
        _minimizers(functions, minimizers, named_functions, points.shape[2]),
    )


def _by_name(name: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        label = given.name if isinstance(given, Function) else getattr(given, "__name__", type(given).__name__)
        return {str(label): given}
    if not given:
        raise ValueError(f"{name}: wanted at least one entry, got an empty mapping")
    return {str(key): value for key, value in given.items()}


def _starts(starts: Any, names: list[str], named: bool) -> np.ndarray:
    if isinstance(starts, Mapping):
        starts = {str(name): points for name, points in starts.items()}
        if not named or sorted(map(str, starts)) != sorted(names):
            raise ValueError(f"starts: wanted an array, or one for each of {names}, got those of {list(starts)}")
        arrays = [_points(starts[name]) for name in names]
        if len({array.shape for array in arrays}) > 1:
            raise ValueError(f"starts: wanted equal shapes for all functions, got {[a.shape for a in arrays]}")
        return np.stack(arrays)
    return np.broadcast_to(_points(starts), (len(names), *_points(starts).shape))


def _points(value: Any) -> np.ndarray:
    try:
        array = np.asarray(jnp.asarray(value))
    except (TypeError, ValueError):
        raise TypeError(f"starts: wanted points of shape (starts, dim), got {describe(value)}") from None
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"starts: wanted floating-point numbers, got dtype {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        hint = "; one start is [[-2.0, -2.0]]" if array.ndim == 1 else ""
        raise ValueError(f"starts: wanted points of shape (starts, dim), got shape {array.shape}{hint}")
    return array


def _numbers(
    given: Any, optimizers: list[str] | None, functions: list[str]
) -> tuple[dict[str, xr.DataArray], dict[str, int]]:
    if isinstance(given, Mapping) and optimizers and given and all(isinstance(v, list) for v in given.values()):
        lists = list(given.values())
        if all(entry and isinstance(entry[0], Mapping) for entry in lists):
            return _trials_by_optimizer(given, optimizers)
    if isinstance(given, (list, tuple)):
        table = _trials(given)
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
        array = _aligned(str(name), _values(str(name), values), {"optimizer": optimizers, "function": functions})
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


def _values(name: str, values: Any) -> xr.DataArray:
    if name in RESERVED:
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
        bad = [str(d) for d in values.dims if d in RESERVED and d not in ("optimizer", "function", "trial")]
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


def _trials(points: Sequence[Any]) -> dict[str, np.ndarray]:
    if not points:
        raise ValueError("hyperparameters: wanted at least one point, got an empty list")
    for point in points:
        if not isinstance(point, Mapping) or set(point) != set(points[0]):
            raise ValueError(
                f"hyperparameters: wanted mappings that all have the arguments {list(points[0])}, got {point!r}"
                if isinstance(points[0], Mapping)
                else f"hyperparameters: wanted a list of mappings from arguments to numbers, got {points[0]!r}"
            )
    return {str(name): _values(str(name), [point[name] for point in points]).values for name in points[0]}


def _trials_by_optimizer(
    given: Mapping[Hashable, Any], optimizers: list[str]
) -> tuple[dict[str, xr.DataArray], dict[str, int]]:
    if sorted(map(str, given)) != sorted(optimizers):
        raise ValueError(f"hyperparameters: wanted points for each of {optimizers}, got those of {list(given)}")
    tables = [_trials(given[name]) for name in optimizers]
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


def _check_arguments(factories: Mapping[str, Factory], numbers: Mapping[str, xr.DataArray]) -> None:
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


def _minimizers(functions: Mapping[str, Any], given: Any, named: bool, dim: int) -> np.ndarray | None:
    found = []
    if given is not None and isinstance(given, Mapping) != named:
        raise ValueError("minimizers: wanted an array for one function, a mapping for a mapping of functions")
    if isinstance(given, Mapping):
        given = {str(name): points for name, points in given.items()}
    for name, entry in functions.items():
        if given is not None:
            if named and name not in given:
                raise ValueError(f"minimizers: wanted points for each of {list(functions)}, got those of {list(given)}")
            points = np.asarray(given[name] if named else given, dtype=np.float64)
            if points.ndim != 2 or points.shape[1] != dim or len(points) == 0:
                raise ValueError(f"minimizers: wanted points of shape (count, {dim}), got shape {points.shape}")
        elif isinstance(entry, Function):
            points = np.asarray(entry.minimizers(dim))
        else:
            return None
        if len(points) == 0:
            return None
        found.append(points)
    most = max(map(len, found))
    return np.stack([np.resize(points, (most, dim)) for points in found])


def local_devices(devices: Any) -> list[jax.Device]:
    """`devices` as a list; None stands for all of this process's."""
    if devices is None:
        return list(jax.local_devices())
    found = [devices] if isinstance(devices, jax.Device) else list(devices)
    if not found or not all(isinstance(device, jax.Device) for device in found):
        raise TypeError(f"devices: wanted a list of jax devices, such as jax.local_devices(), got {devices!r}")
    if len({device.platform for device in found}) > 1:
        raise ValueError(f"devices: wanted devices of one kind, got {found}")
    return found


@contextmanager
def explained(space: Space, index: int) -> Iterator[None]:
    """An optimizer that reads the value of a traced argument is named, with what to do instead."""
    try:
        yield
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        raise TypeError(
            f"hyperparameters: {list(space.factories)[index]} reads the value of an argument in Python, so it "
            f"cannot be traced; sweep one of {', '.join(space.numbers)} at a time to find it, and make "
            "one sweep for each of its values"
        ) from error
