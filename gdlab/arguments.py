"""Argument checks that raise one line saying what was expected and what was given. Traced values are not inspected."""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
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


def first_line(error: BaseException) -> str:
    """Return the type of an error and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def restated(error: Exception, name: str, expected: str, *, before: str = "", after: str = "") -> Exception:
    """Return an error of the user's code as one line, `name: expected X, got` and its first line; raise it from that.

    It is a TypeError for an error of that kind, which includes reading a traced value, or else a ValueError. The texts
    `before` and `after` stand around the first line.
    """
    kind = TypeError if isinstance(error, (TypeError, AttributeError)) else ValueError
    return kind(f"{name}: expected {expected}, got {before}{first_line(error)}{after}")


def require_instance(name: str, value: object, kinds: type | tuple[type, ...], expected: str) -> None:
    """Raise TypeError unless `value` is of one of these types; `expected` names them in the message."""
    if not isinstance(value, kinds):
        raise TypeError(f"{name}: expected {expected}, got {describe(value)}")


def require_flag(name: str, value: object) -> None:
    """Raise TypeError unless `value` is True or False."""
    require_instance(name, value, bool, "True or False")


def require_text(name: str, value: object, *, empty: bool = False) -> None:
    """Raise unless `value` is a string, which may be empty only if `empty` is set."""
    require_instance(name, value, str, "text")
    if not value and not empty:
        raise ValueError(f"{name}: expected text, got an empty string")


def require_sequence(name: str, value: Any, expected: str, *, least: int = 0) -> None:
    """Raise unless `value` is a list, a tuple or another sequence (not text) of at least `least` items."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, (Sequence, np.ndarray)):
        raise TypeError(f"{name}: expected {expected}, got {describe(value)}")
    if len(value) < least:
        raise ValueError(f"{name}: expected at least {least} of {expected}, got {len(value)}")


def require_strings(
    name: str, values: Any, count: int | None = None, expected: str = "texts", *, empty: bool = True
) -> None:
    """Raise unless `values` is a sequence of texts, of this length if `count` is given, which may be empty or not."""
    require_sequence(name, values, expected)
    if count is not None and len(values) != count:
        raise ValueError(f"{name}: expected {expected}, got {len(values)}")
    for text in values:
        require_text(name, text, empty=empty)


def require_mapping(name: str, value: Any, expected: str, *, least: int = 0) -> None:
    """Raise unless `value` is a mapping of at least `least` entries; `expected` says from what to what."""
    require_instance(name, value, Mapping, f"a mapping {expected}")
    if len(value) < least:
        raise ValueError(f"{name}: expected a mapping {expected} with at least {least} entry, got {len(value)}")


def as_flags(name: str, value: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Convert to an array of True and False, of this shape; None: a vector of at least one."""
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.zeros(0)
    fits = array.ndim == 1 and array.size > 0 if shape is None else array.shape == shape
    if array.dtype != bool or not fits:
        where = "for each entry of a vector" if shape is None else f"for each of {shape[0]}"
        raise TypeError(f"{name}: expected True or False {where}, got {describe(value)}")
    return array


def as_path(name: str, value: Any) -> Path:
    """Convert a string or a path-like object to a path, with `~` replaced by the home directory."""
    require_instance(name, value, (str, os.PathLike), "a path")
    text = os.fspath(value)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"{name}: expected a path, got {text!r}")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"{name}: expected a path, got {text!r}, whose home directory is unknown") from None


def as_chunk(chunk: Any) -> int | None:
    """Return the number of lanes per call as an integer; None if it is "auto"."""
    if isinstance(chunk, str) and chunk == "auto":
        return None
    require_count("chunk", chunk)
    return int(chunk)


def require_key(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is one random key, of `jax.random.key` or `jax.random.PRNGKey`; may be traced."""
    if not _is_key(value):
        raise TypeError(f"{name}: expected a random key, such as jax.random.key(0), got {describe(value)}")


def _is_key(value: Any) -> bool:
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    new = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    return bool(new or (dtype == np.uint32 and shape is not None and len(shape) == 1))


def is_optimizer(value: Any) -> bool:
    """Return whether `value` has the functions `init` and `update` of an optax transformation."""
    return all(callable(getattr(value, part, None)) for part in ("init", "update"))


def needs_gradient(optimizer: Any) -> bool:
    """Return whether an optimizer uses the gradient: all do, except for those of `gdlab.strategies`."""
    return bool(getattr(optimizer, "needs_gradient", True))


def require_no_tolerance(optimizer: Any, tolerance: Any) -> None:
    """Raise ValueError if there is a tolerance for an optimizer whose steps may be 0 on the way."""
    if tolerance is not None and not needs_gradient(optimizer):
        raise ValueError(
            "tolerance: expected None for a strategy, whose step is 0 where a round finds nothing better, got "
            f"{describe(tolerance)}"
        )


def require_optimizer(name: str, value: Any) -> None:
    """Raise TypeError unless `value` is an optax transformation."""
    if not is_optimizer(value):
        raise TypeError(
            f"{name}: expected an optax transformation, such as gdlab.optimizers.adam(1e-3), got {describe(value)}"
        )


def require_floating(name: str, dtype: Any) -> None:
    """Raise TypeError unless `dtype` is a floating-point type, or the name of one."""
    try:
        found = None if dtype is None or isinstance(dtype, (jax.Array, np.ndarray)) else jnp.dtype(dtype)
    except (TypeError, ValueError):
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating):
        raise TypeError(f"{name}: expected a floating-point type, got {describe(dtype) if found is None else found}")


def as_numbers(
    name: str, value: Any, *, shape: tuple[int | None, ...] | None = None, finite: bool = True, least: int = 0
) -> np.ndarray:
    """Convert to a NumPy array of real numbers, of float64 unless it is of another numeric dtype.

    Args:
      name: the name of the argument, for the error message.
      value: a number, a nested sequence or an array; not traced.
      shape: the expected shape, in which None stands for any length. None, the default: any shape.
      finite: whether NaN and infinite values are refused. Default True.
      least: the smallest length of each axis. Default 0.

    Raises:
      TypeError: if the values are not real numbers.
      ValueError: if the shape is another one, or a value is not finite.
    """
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name}: expected concrete numbers, got a traced value")
    try:
        array = np.asarray(value)
        array = array if array.dtype != object else np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected numbers, got {describe(value)}") from None
    if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        empty = array.size == 0 and array.dtype.kind not in "OSU"
        if not empty:
            raise TypeError(f"{name}: expected numbers, got {describe(value)}")
    fits = shape is None or (
        array.ndim == len(shape) and all(b is None or a == b for a, b in zip(array.shape, shape, strict=True))
    )
    if not fits:
        raise ValueError(f"{name}: expected numbers of shape {_shown(shape or ())}, got shape {array.shape}")
    if min(array.shape, default=least) < least:
        raise ValueError(f"{name}: expected at least {least} along each axis, got shape {array.shape}")
    if finite and not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got {array[~np.isfinite(array)].flat[0]}")
    return array


def as_array(
    name: str, value: Any, kinds: tuple[Any, ...] = (jnp.floating,), *, ndim: int | None = None, least: int = 0
) -> Array:
    """Convert to a JAX array, which may be traced.

    Args:
      name: the name of the argument, for the error message.
      value: a number, a nested sequence or an array.
      kinds: the kinds of dtypes, such as `jnp.floating` and `jnp.integer`. Default: floating-point.
      ndim: the number of axes. None, the default: any number.
      least: the least number of axes. Default 0.

    Raises:
      TypeError: if the value is no array, or its dtype is of another kind.
      ValueError: if it has another number of axes.
    """
    expected = " or ".join("numbers" if kind is jnp.number else f"{kind.__name__} numbers" for kind in kinds)
    try:
        array = jnp.asarray(value if value is not None else "nothing")
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name}: expected an array of {expected}, got {describe(value)}") from None
    if not any(jnp.issubdtype(array.dtype, kind) for kind in kinds):
        raise TypeError(f"{name}: expected an array of {expected}, got dtype {array.dtype}")
    if array.ndim < least or (ndim is not None and array.ndim != ndim):
        axes = f"{ndim} axes" if ndim is not None else f"at least {least} axes"
        raise ValueError(f"{name}: expected an array with {axes}, got shape {array.shape}")
    return array


def require_tree(name: str, tree: Any) -> None:
    """Raise TypeError unless every leaf of the tree is an array or a number; leaves may be traced."""
    leaves = jax.tree.leaves(tree)
    for leaf in leaves:
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, int, float, complex)) or isinstance(leaf, bool):
            raise TypeError(f"{name}: expected a tree of arrays, got the leaf {describe(leaf)}")
    if tree is None:
        raise TypeError(f"{name}: expected a tree of arrays, got None")


def _shown(shape: Iterable[int | None]) -> str:
    sizes = ["any" if size is None else str(size) for size in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def abstract_result(name: str, function: Callable[..., Any], *arguments: Any, takes: str) -> Any:
    """Return the shapes and dtypes of `function(*arguments)`, found without computing anything.

    Args:
      name: the name of the argument that the caller gave as `function`, for the error message.
      function: a function of the user.
      *arguments: arrays, or the shapes and dtypes of arrays.
      takes: what the function is expected to take, such as "one point of shape (2,)".

    Raises:
      TypeError: if the function raises an error of this kind, which includes reading a traced value.
      ValueError: if the function raises any other error.
    """
    require_callable(name, function)
    try:
        # JAX keeps what it traced by the identity of the function, even if what the function reads has changed since.
        return jax.eval_shape(lambda *given: function(*given), *arguments)
    except Exception as error:  # the user's function may raise anything
        raise restated(error, name, f"a function that JAX can trace for {takes}") from error


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
    require_sequence(name, values, "names")
    if len(values) == 0 and not empty:
        raise ValueError(f"{name}: expected at least one name, got none")
    for value in values:
        try:
            table[value]
        except KeyError as error:
            raise ValueError(f"{name}: {error}") from None


def as_floating(name: str, value: Any, expected: str = "floating-point numbers") -> Array:
    """Convert a list, a NumPy array or a JAX array to a floating-point array; `expected` is for what is no array."""
    try:
        array = jnp.asarray(value if value is not None else "nothing")
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected {expected}, got {describe(value)}") from None
    if not jnp.issubdtype(array.dtype, jnp.floating):
        hint = "; write [-2.0, -2.0], not [-2, -2]" if jnp.issubdtype(array.dtype, jnp.integer) else ""
        raise TypeError(f"{name}: expected floating-point numbers, got dtype {array.dtype}{hint}")
    return array


def as_point(name: str, value: Any) -> Array:
    """Convert a list, a NumPy array or a JAX array to one floating-point vector of shape (dim,)."""
    point = as_floating(name, value, "a vector of floating-point numbers")
    if point.ndim != 1:
        hint = "; for many points at once use jax.vmap" if point.ndim > 1 else ""
        raise ValueError(f"{name}: expected one point of shape (dim,), got shape {point.shape}{hint}")
    return point


def require_scalar_function(name: str, fn: Callable, x: Any, *given: Any) -> None:
    """Raise unless `fn(x, *given)` is one real scalar, as determined by abstract evaluation."""
    result = abstract_result(name, fn, x, *given, takes=_point_shown(x, *given))
    shape = getattr(result, "shape", None)
    if shape != ():
        got = f"shape {shape}" if shape is not None else f"a {type(result).__name__}"
        raise ValueError(f"{name}: expected a function that returns a scalar of shape (), got {got}")
    if not jnp.issubdtype(result.dtype, jnp.floating):
        raise TypeError(
            f"{name}: expected a function that returns a real floating-point scalar, got dtype {result.dtype}"
        )


def require_gradient(name: str, gradient: Any, x: Any, *given: Any) -> None:
    """Raise unless `gradient(x, *given)` has arrays of x's tree and shapes, as determined by abstract evaluation."""
    got = abstract_result(name, gradient, x, *given, takes=_point_shown(x, *given))
    if not hasattr(x, "shape"):
        expected, came = _shapes_by_place(x), _shapes_by_place(got)
        if came != expected:
            raise ValueError(
                f"{name}: expected a function that returns arrays like the start's, {expected}, got {came}"
            )
    elif getattr(got, "shape", None) != x.shape:
        came = f"shape {got.shape}" if hasattr(got, "shape") else f"a {type(got).__name__}"
        raise ValueError(f"{name}: expected a function that returns the start's shape {x.shape}, got {came}")


def _shapes_by_place(tree: Any) -> str:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return ", ".join(f"{jax.tree_util.keystr(where)} of shape {tuple(leaf.shape)}".strip() for where, leaf in leaves)


def _point_shown(x: Any, *given: Any) -> str:
    shape = getattr(x, "shape", None)
    point = "x" if shape is None else f"one point of shape {tuple(shape)}"
    if not given:
        return point
    return f"{point} and " + ("data" if not _is_key(given[0]) else "a key" if len(given) == 1 else "a key and data")
