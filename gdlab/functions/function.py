"""The record of a test function, the decorator that registers one, and what is derived from a function."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from gdlab.arguments import (
    as_numbers,
    describe,
    require_callable,
    require_count,
    require_instance,
    require_scalar_function,
    require_text,
)
from gdlab.types import Grid

Vector = Inexact[Array, " dim"]
Pair = Inexact[Array, "2"]
Scalar = Inexact[Array, ""]


def _unknown_minimizers(dim: int | None = None) -> Float[np.ndarray, "count dim"]:
    return np.empty((0, dim or 0))


def _unknown_minimum(dim: int | None = None) -> float:
    return math.nan


class Function(NamedTuple):
    """What is known about a test function. `fn` is the function; the record itself is not callable.

    Attributes:
      name: the name in snake_case.
      fn: the function, which is pure; `fn(x)` maps one point of shape (dim,) to a scalar.
      dim: the number of coordinates, or None if the function takes any number.
      lower: the lower end of the customary domain, one number for all coordinates or an array of shape (dim,).
      upper: the upper end of the customary domain, likewise.
      minimizers: `minimizers(dim)` returns all global minimizers in the domain, of shape (count, dim), in float64.
        `dim` may be left out if it is fixed. By default the minimizers are unknown and none are returned.
      minimum: `minimum(dim)` returns the value at the minimizers, with `dim` as above. NaN by default.
      source: the publication that introduced the function.
      kinks: where the function is not differentiable, in words; "" if it is differentiable everywhere.
    """

    name: str
    fn: Callable[[Any], Any]
    dim: int | None
    lower: Any
    upper: Any
    minimizers: Callable[..., Float[np.ndarray, "count dim"]] = _unknown_minimizers
    minimum: Callable[..., float] = _unknown_minimum
    source: str = ""
    kinks: str = ""

    def bounds(self, dim: int | None = None) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, " dim"]]:
        """Return the lower and upper corners of the domain.

        Args:
          dim: the number of coordinates; may be left out if it is fixed.

        Returns:
          Two arrays of shape (dim,).

        Raises:
          ValueError: if `dim` is missing or is not the function's.
        """
        size = self.dim if dim is None else dim
        if size is None:
            raise ValueError(f"{self.name}: expected a dimension, because the function has no fixed one, got None")
        require_count("dim", size)
        if self.dim is not None and size != self.dim:
            raise ValueError(f"{self.name}: expected dimension {self.dim}, got {size}")
        return np.broadcast_to(self.lower, size).astype(float), np.broadcast_to(self.upper, size).astype(float)


def require_function(name: str, function: Any, dim: int | None = None) -> None:
    """Raise unless `function` is a `Function` whose fields fit together.

    Args:
      name: the name of the argument, for error messages.
      function: the value to check.
      dim: the dimension in which it is used. None, the default: any.
    """
    require_instance(name, function, Function, 'a Function, such as gdlab.FUNCTIONS["sphere"]')
    require_text(f"{name}.name", function.name)
    for field in ("fn", "minimizers", "minimum"):
        require_callable(f"{name}.{field}", getattr(function, field))
    for field in ("source", "kinks"):
        require_text(f"{name}.{field}", getattr(function, field), empty=True)
    if function.dim is not None:
        require_count(f"{name}.dim", function.dim)
    size = function.dim or dim
    if dim is not None and size != dim:
        raise ValueError(f"{name}: expected a function of dimension {dim}, got {function.name} of dimension {size}")
    low, high = (as_corner(f"{name}.{field}", getattr(function, field), size) for field in ("lower", "upper"))
    if not np.all(low < high):
        raise ValueError(f"{name}: expected a domain with lower < upper, got {low} and {high}")


def as_corner(name: str, value: Any, size: int | None) -> Float[np.ndarray, " dim"]:
    """Convert one number or one per coordinate to the corner of a box of `size` dimensions; None: any size."""
    corner = as_numbers(name, value).astype(float)
    if corner.ndim > 1 or (corner.ndim == 1 and size is not None and corner.size != size):
        raise ValueError(f"{name}: expected one number or {size} numbers, got shape {corner.shape}")
    return corner if size is None else np.broadcast_to(corner, size)


ENTRIES: dict[str, Function] = {}
"""The functions that `define` has registered, by name."""


def define(
    lower: float | Sequence[float],
    upper: float | Sequence[float],
    minimizers: Callable[[int], Any] | Sequence[Sequence[float]],
    minimum: Callable[[int], float] | float = 0.0,
    *,
    source: str,
    dim: int | None = None,
    smallest: int = 1,
    multiple: int = 1,
    kinks: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that registers a formula, with a check of its argument's shape and dtype in front.

    Args:
      lower: the lower end of the domain, for all coordinates or for each.
      upper: the upper end of the domain, likewise.
      minimizers: all global minimizers, or a function of the dimension that returns them.
      minimum: the value at the minimizers, or a function of the dimension that returns it.
      source: the publication that introduced the function.
      dim: the number of coordinates, if it is fixed.
      smallest: the smallest dimension allowed.
      multiple: the dimension must be a multiple of this number.
      kinks: where the function is not differentiable, in words.
    """

    def checked_dim(name: str, size: int | None) -> int:
        size = dim if size is None else size
        expected = f"{dim}" if dim else f"at least {smallest}" if multiple == 1 else f"divisible by {multiple}"
        if size is not None:
            require_count("dim", size)
        if size is None or (dim and size != dim) or size < smallest or size % multiple:
            raise ValueError(f"{name}: expected dimension {expected}, got {size}")
        return size

    def enter(formula: Callable[..., Any]) -> Callable[..., Any]:
        name = formula.__name__

        @functools.wraps(formula)
        def fn(x: Any, **settings: float) -> Any:
            try:
                x = jnp.asarray(x if x is not None else "nothing")
            except (TypeError, ValueError):
                raise TypeError(f"{name}: expected a point of floating-point numbers, got {describe(x)}") from None
            if not jnp.issubdtype(x.dtype, jnp.inexact):
                raise TypeError(f"{name}: expected a point of floating-point numbers, got dtype {x.dtype}")
            if x.ndim != 1:
                hint = "; for many points at once use jax.vmap" if x.ndim > 1 else ""
                raise ValueError(f"{name}: expected one point of shape ({dim or 'dim'},), got shape {x.shape}{hint}")
            checked_dim(name, x.shape[0])
            return formula(x, **settings)

        def all_minimizers(size: int | None = None) -> Float[np.ndarray, "count dim"]:
            size = checked_dim(name, size)
            return np.atleast_2d(np.asarray(minimizers(size) if callable(minimizers) else minimizers, float))

        def least_value(size: int | None = None) -> float:
            size = checked_dim(name, size)
            return float(minimum(size) if callable(minimum) else minimum)

        box = np.asarray(lower, float), np.asarray(upper, float)
        ENTRIES[name] = Function(name, fn, dim, *box, all_minimizers, least_value, source, kinks)
        return fn

    return enter


OFF_ORIGIN = (0.13, -0.07)
"""The distance by which `off_origin` moves a function, in widths of its box: for odd and for even coordinates."""


def off_origin(function: Function, low: Any, high: Any) -> Function:
    """Move `function`, together with its box from `low` to `high`, if one of its minimizers is the origin.

    This makes comparisons fair, because weight decay, and steps proportional to |x|, find the origin without a
    gradient. Other functions are not moved.

    Args:
      function: the function.
      low: the lower corner of the box, of shape (dim,).
      high: the upper corner of the box, of shape (dim,).

    Returns:
      A `Function` of fixed dimension whose domain is the (moved) box.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if the corners do not fit the function or each other.
    """
    low, high = as_numbers("low", low, shape=(None,), least=1), as_numbers("high", high, shape=(None,), least=1)
    if low.shape != high.shape or not np.all(low < high):
        raise ValueError(f"low, high: expected corners of equal shape with low < high, got {low} and {high}")
    low, high = low.astype(float), high.astype(float)
    require_function("function", function, low.size)
    minimizers = as_numbers("function.minimizers", function.minimizers(low.size), shape=(None, low.size))
    at_origin = (minimizers == 0).all(axis=1).any()
    shift = np.resize(OFF_ORIGIN, low.size) * (high - low) if at_origin else np.zeros(low.size)

    def fn(x: Any) -> Any:
        return function.fn(x - jnp.asarray(shift, x.dtype))

    return function._replace(
        fn=fn if at_origin else function.fn,
        dim=low.size,
        lower=low + shift,
        upper=high + shift,
        minimizers=lambda size=None: minimizers + shift,
    )


def evaluate_grid(
    fn: Callable[[Any], Any] | Function,
    lower: Any = None,
    upper: Any = None,
    points: int = 201,
) -> Grid:
    """Evaluate a function of two variables on a grid of `points` x `points` points, in one compiled call.

    Args:
      fn: a function of one point of shape (2,), or a `Function`, which provides its own domain.
      lower: the lower corner of the grid, one number or one per coordinate. Default: that of the `Function`.
      upper: the upper corner of the grid, likewise.
      points: the number of points per axis, at least 2. Default 201.

    Returns:
      A `Grid`.

    Raises:
      ValueError: if the corners are missing, or are not finite with lower < upper.
    """
    if isinstance(fn, Function):
        require_function("fn", fn, 2)
        default_lower, default_upper = fn.bounds(2)
        lower = default_lower if lower is None else lower
        upper = default_upper if upper is None else upper
        fn = fn.fn
    require_count("points", points, low=2)
    require_scalar_function("fn", fn, jnp.zeros(2))
    if lower is None or upper is None:
        raise ValueError("lower, upper: expected the corners of the grid, got None")
    low, high = as_corner("lower", lower, 2), as_corner("upper", upper, 2)
    if not (low < high).all():
        raise ValueError(f"lower, upper: expected finite lower < upper, got {low} and {high}")
    x, y = np.linspace(low[0], high[0], points), np.linspace(low[1], high[1], points)
    mesh = jnp.stack(jnp.meshgrid(jnp.asarray(x), jnp.asarray(y)), axis=-1)
    z = jax.jit(jax.vmap(jax.vmap(fn)))(mesh)
    return Grid(x, y, np.asarray(z, float))
