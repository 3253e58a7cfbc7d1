"""Finite-difference schemes: ways to turn function values on a line into a derivative."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdlab.arguments import (
    as_numbers,
    describe,
    first_line,
    require_callable,
    require_count,
    require_flag,
    require_number,
    require_text,
)
from gdlab.types import NameTable, Number, UnknownNameError

Line = Callable[[Any], Any]
"""`line(t)` returns the function value at displacement t along a coordinate or direction; line(0) is at the point."""


class Scheme(NamedTuple):
    """A way to turn function values on a line into a derivative.

    Attributes:
      name: the name in tables and figures.
      order: p, if the truncation error is O(h^p).
      quotient: `quotient(line, h)` estimates d line / dt at t = 0. Any pure formula of your own makes a scheme.
      default_step: `default_step(x)` returns h for a coordinate of value x, in x's dtype.
      subtractive: whether the scheme subtracts nearby values, so that rounding errors grow like 1 / h. Default True.
    """

    name: str
    order: int
    quotient: Callable[[Line, Any], Any]
    default_step: Callable[[Float[Array, ""]], Float[Array, ""]]
    subtractive: bool = True


def _balanced_step(order: int, factor: float = 1.0) -> Callable[[Float[Array, ""]], Float[Array, ""]]:
    """factor * eps^(1 / (order + 1)) * max(1, |x|), where truncation and rounding balance; x + h is exact."""

    def step(x: Float[Array, ""]) -> Float[Array, ""]:
        eps = float(jnp.finfo(x.dtype).eps)
        h = factor * eps ** (1 / (order + 1)) * jnp.maximum(1, jnp.abs(x))
        return (x + h) - x

    return step


def stencil(name: str, offsets: Sequence[float], weights: Sequence[float], order: int) -> Scheme:
    """Return the scheme sum_k weights[k] line(offsets[k] h) / h, for a first-derivative stencil of your own.

    Args:
      name: the name of the scheme.
      offsets: the points of the stencil, in units of h.
      weights: one weight per offset.
      order: the order p of the truncation error O(h^p).

    Returns:
      The `Scheme`.

    Raises:
      TypeError: if the offsets or the weights are not numbers.
      ValueError: if there is not one weight per offset, if the weights do not sum to 0, or if their first moment is
        not 1.
    """
    require_text("name", name)
    as_numbers("offsets", offsets, shape=(None,), least=2)
    as_numbers("weights", weights, shape=(None,))
    require_count("order", order)
    if len(offsets) != len(weights):
        raise ValueError(f"weights: expected {len(offsets)} weights, one per offset, got {len(weights)}")
    if abs(sum(weights)) > 1e-9 or abs(np.dot(offsets, weights) - 1) > 1e-9:
        raise ValueError(
            f"weights: expected sum 0 and first moment 1, got {sum(weights):g} and {np.dot(offsets, weights):g}"
        )

    def quotient(line: Line, h: Any) -> Any:
        values = jax.vmap(line)(jnp.asarray(offsets, h.dtype) * h)
        return jnp.sum(jnp.asarray(weights, values.dtype) * values) / h

    return Scheme(name, order, quotient, _balanced_step(order))


def richardson(levels: int = 3) -> Scheme:
    """Return Richardson's extrapolation of central differences at h, h/2, ..., h/2^(levels-1).

    R[i][j] = R[i][j-1] + (R[i][j-1] - R[i-1][j-1]) / (4^j - 1), the last corner of the table, has order 2 levels.

    Args:
      levels: the number of steps, from 2 to 20. Default 3.

    Returns:
      The `Scheme`.

    References:
      Richardson, 1911.
    """
    require_count("levels", levels, low=2)
    require_number("levels", levels, 2, 20)

    def quotient(line: Line, h: Any) -> Any:
        steps = h * jnp.asarray(0.5 ** np.arange(levels), h.dtype)
        values = jax.vmap(line)(jnp.concatenate([steps, -steps]))
        row = [(values[i] - values[levels + i]) / (2 * steps[i]) for i in range(levels)]
        for j in range(1, levels):
            row = [fine + (fine - coarse) / (4**j - 1) for coarse, fine in itertools.pairwise(row)]
        return row[0]

    return Scheme("richardson", 2 * levels, quotient, _balanced_step(2 * levels, factor=2.0 ** (levels - 1)))


def _complex_quotient(line: Line, h: Any) -> Any:
    expected = 'fn: expected a function of complex values for the scheme "complex"'
    try:
        value = line(1j * h)
    except Exception as error:  # the user's function may raise anything
        raise TypeError(f"{expected}, got {first_line(error)}") from error
    if not jnp.iscomplexobj(value):
        raise TypeError(f"{expected}, which returns complex ones there, got a real value")
    return jnp.imag(value) / h


def _tiny_step(x: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.full_like(x, max(1e-20, float(jnp.finfo(x.dtype).tiny)))


_COMPLEX = Scheme("complex", 2, _complex_quotient, _tiny_step, subtractive=False)

SCHEMES: NameTable[Scheme] = NameTable(
    "finite-difference scheme",
    {
        "forward": stencil("forward", (0, 1), (-1, 1), 1),
        "backward": stencil("backward", (-1, 0), (-1, 1), 1),
        "central": stencil("central", (-1, 1), (-1 / 2, 1 / 2), 2),
        "central4": stencil("central4", (-2, -1, 1, 2), (1 / 12, -2 / 3, 2 / 3, -1 / 12), 4),
        "central6": stencil("central6", (-3, -2, -1, 1, 2, 3), (-1 / 60, 3 / 20, -3 / 4, 3 / 4, -3 / 20, 1 / 60), 6),
        "central8": stencil(
            "central8",
            (-4, -3, -2, -1, 1, 2, 3, 4),
            (1 / 280, -4 / 105, 1 / 5, -4 / 5, 4 / 5, -1 / 5, 4 / 105, -1 / 280),
            8,
        ),
        "complex": _COMPLEX,
        "richardson": richardson(),
    },
)
"""The schemes by name.

`complex` (Squire and Trapp, "Using complex variables to estimate derivatives of real functions", 1998) is exact up to
rounding, but needs an analytic function: no abs, max, comparison, conj or norm of a complex argument. In float32 the
relative error of the subtractive schemes cannot fall below about 2e-5.
"""


def as_scheme(scheme: str | Scheme, argument: str = "scheme") -> Scheme:
    """Return the scheme itself, or the scheme with that name; `argument` is named if that fails."""
    if isinstance(scheme, str):
        try:
            return SCHEMES[scheme]
        except UnknownNameError as error:
            raise UnknownNameError(f"{argument}: {error}") from None
    if not isinstance(scheme, Scheme):
        raise TypeError(f"{argument}: expected a name or a Scheme, got {describe(scheme)}")
    require_text(f"{argument}.name", scheme.name)
    require_count(f"{argument}.order", scheme.order, low=0)
    require_callable(f"{argument}.quotient", scheme.quotient)
    require_callable(f"{argument}.default_step", scheme.default_step)
    require_flag(f"{argument}.subtractive", scheme.subtractive)
    return scheme


def used_step(scheme: Scheme, size: Array, step: Number | None) -> Array:
    """Return `step`, or the default step of the scheme for a coordinate of this size, in the coordinate's dtype."""
    h = jnp.asarray(scheme.default_step(size) if step is None else step, size.dtype)
    if h.shape != ():
        raise ValueError(f"scheme: expected a default_step that returns one number, got shape {h.shape}")
    return h


def quotient(scheme: Scheme, line: Line, h: Array) -> Array:
    """Return the quotient of a scheme at the step h; raise unless it is one real number."""
    estimate = jnp.asarray(scheme.quotient(line, h))
    if estimate.shape != () or not jnp.issubdtype(estimate.dtype, jnp.floating):
        got = f"shape {estimate.shape} and dtype {estimate.dtype}"
        raise ValueError(f"scheme: expected a quotient that returns one real number, got {got}")
    return estimate
