"""Argument checks that raise one line saying what was expected and what was given. Traced values are not inspected."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def describe(value: object) -> str:
    """Return a short description of an unexpected argument, for an error message."""
    if isinstance(value, (bool, int, float, complex, str, type(None))):
        return repr(value)
    if isinstance(value, (jax.Array, np.ndarray)):
        return f"an array of shape {tuple(value.shape)} and dtype {value.dtype}"
    name = getattr(value, "__name__", None)
    return f"{type(value).__name__} {name}" if name else f"a {type(value).__name__}"


def require_callable(name: str, value: object) -> None:
    """Raise TypeError unless `value` is callable; if it has a callable `fn`, the message suggests passing that."""
    if not callable(value):
        hint = "; pass its .fn" if callable(getattr(value, "fn", None)) else ""
        raise TypeError(f"{name}: expected a function, got {describe(value)}{hint}")


def require_count(name: str, value: object, *, low: int = 1) -> None:
    """Raise unless `value` is a Python or NumPy integer of at least `low`. It fixes a shape, so it cannot be traced."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name}: expected a Python integer (it fixes a shape), got a traced value")
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer, got {describe(value)}")
    if not low <= value < 2**31:
        expected = f"of at least {low}" if value < low else "below 2^31"
        raise ValueError(f"{name}: expected an integer {expected}, got {value}")


def require_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Raise unless `value` is a scalar number within the range. For a traced value only the shape is checked."""
    if isinstance(value, (jax.Array, np.ndarray)) and value.shape != ():
        raise ValueError(
            f"{name}: expected one number, got {describe(value)}; "
            "to try several values at once, use jax.vmap over a function of one value"
        )
    if isinstance(value, jax.core.Tracer):
        return
    numeric = isinstance(value, (int, float, np.generic, np.ndarray, jax.Array))
    if not numeric or isinstance(value, (bool, np.bool_)) or not _is_real(value):
        raise TypeError(f"{name}: expected a number, got {describe(value)}")
    number = float(value)
    if math.isinf(number):
        raise ValueError(f"{name}: expected a finite number, got {number:g}")
    above = number > low if open_low else number >= low
    below = number < high if open_high else number <= high
    if not (above and below):
        left = "(" if open_low or low == -math.inf else "["
        right = ")" if open_high or high == math.inf else "]"
        raise ValueError(f"{name}: expected a number in {left}{low:g}, {high:g}{right}, got {number:g}")


def _is_real(value: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(value), jnp.number)) and not jnp.iscomplexobj(value)


def require_choice(name: str, value: object, choices: Mapping[str, Any] | tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of the names in `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}; got {describe(value)}")


def require_names(name: str, values: Sequence[str], table: Mapping[str, Any], *, empty: bool = False) -> None:
    """Raise ValueError unless all values are names in the table; an empty sequence passes only if `empty` is set."""
    if not values and not empty:
        raise ValueError(f"{name}: expected at least one name, got none")
    for value in values:
        try:
            table[value]
        except KeyError as error:
            raise ValueError(f"{name}: {error}") from None


def as_point(name: str, value: Any) -> Array:
    """Convert a list, a NumPy array or a JAX array to one floating-point vector of shape (dim,)."""
    try:
        point = jnp.asarray(value if value is not None else "nothing")
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a vector of floating-point numbers, got {describe(value)}") from None
    if not jnp.issubdtype(point.dtype, jnp.floating):
        hint = "; write [-2.0, -2.0], not [-2, -2]" if jnp.issubdtype(point.dtype, jnp.integer) else ""
        raise TypeError(f"{name}: expected floating-point numbers, got dtype {point.dtype}{hint}")
    if point.ndim != 1:
        hint = "; for many points at once use jax.vmap" if point.ndim > 1 else ""
        raise ValueError(f"{name}: expected one point of shape (dim,), got shape {point.shape}{hint}")
    return point


def require_scalar_function(name: str, fn: Callable, x: Any) -> None:
    """Raise unless `fn` is callable and returns one real scalar at `x`, as determined by abstract evaluation."""
    require_callable(name, fn)
    result = jax.eval_shape(fn, x)
    shape = getattr(result, "shape", None)
    if shape != ():
        got = f"shape {shape}" if shape is not None else f"a {type(result).__name__}"
        raise ValueError(f"{name}: expected a function that returns a scalar of shape (), got {got}")
    if not jnp.issubdtype(result.dtype, jnp.floating):
        raise TypeError(
            f"{name}: expected a function that returns a real floating-point scalar, got dtype {result.dtype}"
        )


def require_gradient(name: str, gradient: Any, x: Any) -> None:
    """Raise unless `gradient` is callable and returns an array of x's shape, as determined by abstract evaluation."""
    require_callable(name, gradient)
    got = jax.eval_shape(gradient, x)
    if getattr(got, "shape", None) != x.shape:
        came = f"shape {got.shape}" if hasattr(got, "shape") else f"a {type(got).__name__}"
        raise ValueError(f"{name}: expected a function that returns the start's shape {x.shape}, got {came}")
