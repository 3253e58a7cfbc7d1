"""What a sweep covers: functions, optimizers, hyperparameters and starts, checked and laid out as labelled axes."""

from collections.abc import Iterator, Mapping
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
from gdlab.sweeps.axes import Factory, lay_out, require_arguments
from gdlab.types import GradientFunction, ScalarFunction

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
    functions = by_name("fn", fn)
    factories = by_name("factory", factory)
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
        given = by_name("gradient", gradient)
        if isinstance(gradient, Mapping) != named_functions or (named_functions and list(given) != list(plain)):
            raise ValueError(f"gradient: wanted one for each of fn's {list(plain)}, got {list(given)}")
        for slope in given.values():
            require_gradient("gradient", slope, one)
        gradients = tuple(given.values())
    optimizers = list(factories) if named_factories else None
    numbers, axes = lay_out(hyperparameters, optimizers, list(plain), RESERVED)
    require_arguments(factories, numbers)
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


def by_name(name: str, given: Any) -> dict[str, Any]:
    """A mapping as it is, anything else under a name of its own; ValueError for an empty one."""
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
