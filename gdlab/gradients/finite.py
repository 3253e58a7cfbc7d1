"""Finite-difference schemes and the gradient functions that they define, and automatic differentiation."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from gdlab.arguments import (
    describe,
    require_callable,
    require_choice,
    require_count,
    require_number,
    require_scalar_function,
)
from gdlab.types import NameTable, Number

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
      ValueError: if there is not one weight per offset, if the weights do not sum to 0, or if their first moment is
        not 1.
    """
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
      levels: the number of steps, at least 2. Default 3.

    Returns:
      The `Scheme`.

    References:
      Richardson, 1911.
    """
    require_count("levels", levels, low=2)

    def quotient(line: Line, h: Any) -> Any:
        steps = h * jnp.asarray(0.5 ** np.arange(levels), h.dtype)
        values = jax.vmap(line)(jnp.concatenate([steps, -steps]))
        row = [(values[i] - values[levels + i]) / (2 * steps[i]) for i in range(levels)]
        for j in range(1, levels):
            row = [fine + (fine - coarse) / (4**j - 1) for coarse, fine in itertools.pairwise(row)]
        return row[0]

    return Scheme("richardson", 2 * levels, quotient, _balanced_step(2 * levels, factor=2.0 ** (levels - 1)))


def _complex_quotient(line: Line, h: Any) -> Any:
    value = line(1j * h)
    if not jnp.iscomplexobj(value):
        raise TypeError(
            "complex step: expected a function that returns complex values for complex points, got a real value"
        )
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


def as_scheme(scheme: str | Scheme) -> Scheme:
    """Return the scheme itself, or the scheme with that name."""
    if isinstance(scheme, Scheme):
        return scheme
    if not isinstance(scheme, str):
        raise TypeError(f"scheme: expected a name or a Scheme, got {describe(scheme)}")
    return SCHEMES[scheme]


def require_floating_leaves(x: PyTree) -> None:
    """Raise TypeError, naming the leaf, unless every leaf of `x` is floating-point."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(x):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            where = f"x{jax.tree_util.keystr(path)}"
            raise TypeError(f"{where}: expected floating-point numbers, got dtype {jnp.result_type(leaf)}")


def finite_difference(
    fn: Callable[[Any], Any],
    scheme: str | Scheme = "central",
    step: Number | None = None,
) -> Callable[[Any], Any]:
    """Return a function that estimates the gradient of `fn` by finite differences; it works under jit and vmap.

    Args:
      fn: a function of an array or a pytree of floating-point arrays that returns a scalar.
      scheme: a name in `SCHEMES` (forward, backward, central, central4, central6, central8, complex, richardson) or a
        `Scheme` of your own. Default "central".
      step: h in the units of x, used unchanged for every coordinate; may be traced. None chooses for each coordinate
        the h that balances truncation and rounding in its dtype, eps^(1/(order+1)) max(1, |x_i|).

    Returns:
      The function `gradient(x)`, whose result has the structure, shapes and dtypes of x. It raises TypeError if a leaf
      is not floating-point, and TypeError or ValueError if the value of `fn` is not a real scalar.

    Raises:
      TypeError: if `fn` is not callable.
      ValueError: if the step is not positive.
      KeyError: if there is no scheme with that name.
    """
    require_callable("fn", fn)
    chosen = as_scheme(scheme)
    if step is not None:
        require_number("step", step, 0.0, open_low=True)

    def gradient(x: PyTree[Shaped[Array, "..."]]) -> PyTree[Shaped[Array, "..."]]:
        require_floating_leaves(x)
        require_scalar_function("fn", fn, x)
        leaves, structure = jax.tree.flatten(x)
        leaves = [jnp.asarray(leaf) for leaf in leaves]

        def leaf_gradient(number: int) -> Array:
            leaf = leaves[number]
            if leaf.size == 0:
                return leaf
            flat = leaf.ravel()

            def derivative(index: Array) -> Array:
                h = chosen.default_step(flat[index]) if step is None else jnp.asarray(step, leaf.dtype)
                unit = jnp.zeros_like(flat).at[index].set(1)
                line = along(fn, structure, leaves, number, unit)
                return chosen.quotient(line, h).astype(leaf.dtype)

            return by_blocks(derivative, jnp.arange(flat.size), 8 * flat.size).reshape(leaf.shape).astype(leaf.dtype)

        return jax.tree.unflatten(structure, [leaf_gradient(k) for k in range(len(leaves))])

    return gradient


def along(
    fn: Callable[[Any], Any],
    structure: Any,
    leaves: Sequence[Array],
    number: int,
    direction: Array,
) -> Line:
    """Return `fn` on the line through the point, in the flat `direction` of leaf `number`."""

    def line(t: Any) -> Any:
        moved = (leaves[number].ravel() + t * direction).reshape(leaves[number].shape)
        return fn(jax.tree.unflatten(structure, [*leaves[:number], moved, *leaves[number + 1 :]]))

    return line


def by_blocks(f: Callable[[Array], Any], indices: Array, size: int) -> Any:
    """Apply `f` to all indices, vectorized in blocks of at most 256 indices and 2^22 numbers (`size` per index)."""
    block = max(1, min(256, 2**22 // max(size, 1)))
    if indices.size <= block:
        return jax.vmap(f)(indices)
    return jax.lax.map(f, indices, batch_size=block)


def autodiff(fn: Callable[[Any], Any], mode: str = "reverse") -> Callable[[Any], Any]:
    """Return the gradient function of `fn` by automatic differentiation.

    Args:
      fn: a function of an array or a pytree of arrays that returns a scalar.
      mode: "reverse" makes one backward pass, "forward" one pass per coordinate. Default "reverse".

    Returns:
      The gradient function.
    """
    require_callable("fn", fn)
    require_choice("mode", mode, ("reverse", "forward"))
    return jax.grad(fn) if mode == "reverse" else jax.jacfwd(fn)


def error_curve(
    fn: Callable[[Any], Any],
    x: Float[Array, " dim"],
    scheme: str | Scheme,
    steps: Float[Any, " steps"],
    reference: Float[Any, " dim"] | None = None,
) -> Float[np.ndarray, " steps"]:
    """Compute the relative error of a scheme per step: max_i |estimate_i - reference_i| / max_i |reference_i|.

    Args:
      fn: a function of one point that returns a scalar.
      x: the point.
      scheme: a name in `SCHEMES`, or a `Scheme`.
      steps: the absolute steps. Powers of two are added to x without rounding.
      reference: the true gradient. The default is reverse-mode autodiff in x's own dtype; to judge float32, pass a
        gradient computed in float64.

    Returns:
      The errors, one per step.
    """
    require_callable("fn", fn)
    truth = np.asarray(autodiff(fn)(x) if reference is None else reference, float)
    steps = jnp.asarray(steps, x.dtype)
    estimates = jax.jit(jax.vmap(lambda h: finite_difference(fn, scheme, h)(x)))(steps)
    error = np.abs(np.asarray(estimates, float) - truth).max(axis=-1)
    return error / np.abs(truth).max()
