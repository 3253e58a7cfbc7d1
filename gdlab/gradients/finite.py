"""Gradient functions by finite differences and by automatic differentiation, and the error of one over its steps."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped

from gdlab.arguments import (
    as_numbers,
    as_point,
    describe,
    require_callable,
    require_choice,
    require_number,
    require_scalar_function,
)
from gdlab.compute.extras import bind
from gdlab.compute.precision import exact_products
from gdlab.compute.trees import OpenTree, open_tree
from gdlab.gradients.schemes import Line, Scheme, as_scheme, quotient, used_step
from gdlab.types import Number


def require_floating_leaves(x: PyTree, name: str = "x") -> None:
    """Raise TypeError, naming the leaf, unless every leaf of `x` is floating-point."""
    if x is None:  # which has no leaves
        raise TypeError(f"{name}: expected floating-point numbers, got None")
    for path, leaf in jax.tree_util.tree_leaves_with_path(x):
        where = f"{name}{jax.tree_util.keystr(path)}"
        try:
            dtype = jnp.result_type(leaf)
        except (TypeError, ValueError):
            raise TypeError(f"{where}: expected floating-point numbers, got {describe(leaf)}") from None
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"{where}: expected floating-point numbers, got dtype {dtype}")


def open_floating(x: PyTree) -> OpenTree:
    """Divide a point into its floating-point leaves, which move, and all others, which stay.

    Raises:
      TypeError: if no leaf is floating-point, or one is complex; the message names the leaf.
    """
    opened = open_tree(x)
    if not jax.tree.leaves(opened.params):
        require_floating_leaves(x)
    for path, leaf in jax.tree_util.tree_leaves_with_path(x) if opened.close else ():
        if isinstance(leaf, complex) or jnp.issubdtype(getattr(leaf, "dtype", bool), jnp.complexfloating):
            name = f"x{jax.tree_util.keystr(path)}"
            raise TypeError(f"{name}: expected floating-point numbers, got dtype {jnp.result_type(leaf)}")
    return opened


def finite_difference(
    fn: Callable[..., Any],
    scheme: str | Scheme = "central",
    step: Number | None = None,
) -> Callable[[Any], Any]:
    """Return a function that estimates the gradient of `fn` by finite differences; it works under jit and vmap.

    Args:
      fn: a function of an array or a pytree that returns a scalar. It may take more arguments, such as a random key and
        data, which are the same for all its values.
      scheme: a name in `SCHEMES` (forward, backward, central, central4, central6, central8, complex, richardson) or a
        `Scheme` of your own. Default "central".
      step: h in the units of x, used unchanged for every coordinate; may be traced. None chooses for each coordinate
        the h that balances truncation and rounding in its dtype, eps^(1/(order+1)) max(1, |x_i|).

    Returns:
      The function `gradient(x, *others)`, whose result has the structure, shapes and dtypes of x, with None in place of
      leaves that are not floating-point, which stay what they are. It raises TypeError if no leaf is floating-point or
      one is complex, and TypeError or ValueError if the value of `fn` is not a real scalar.

    Raises:
      TypeError: if `fn` is not callable.
      ValueError: if the step is not positive.
      KeyError: if there is no scheme with that name.
    """
    require_callable("fn", fn)
    chosen = as_scheme(scheme)
    if step is not None:
        require_number("step", step, 0.0, open_low=True)

    @exact_products
    def gradient(x: PyTree[Shaped[Any, "..."]], *others: Any) -> PyTree[Shaped[Array, "..."]]:
        opened = open_floating(x)
        require_scalar_function("fn", opened.on(fn), opened.params, *others)
        at_point = bind(opened.on(fn), others)
        leaves, structure = jax.tree.flatten(opened.params)
        leaves = [jnp.asarray(leaf) for leaf in leaves]

        def leaf_gradient(number: int) -> Array:
            leaf = leaves[number]
            if leaf.size == 0:
                return leaf
            flat = leaf.ravel()

            def derivative(index: Array) -> Array:
                unit = jnp.zeros_like(flat).at[index].set(1)
                line = along(at_point, structure, leaves, number, unit)
                return quotient(chosen, line, used_step(chosen, flat[index], step)).astype(leaf.dtype)

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


def autodiff(fn: Callable[..., Any], mode: str = "reverse") -> Callable[..., Any]:
    """Return the gradient function of `fn` by automatic differentiation.

    Args:
      fn: a function of an array or a pytree that returns a scalar. It may take more arguments, such as a random key and
        data.
      mode: "reverse" makes one backward pass, "forward" one pass per coordinate. Default "reverse".

    Returns:
      The function `gradient(x, *others)`, whose result has the structure, shapes and dtypes of x, with None in place of
      leaves that are not floating-point, which stay what they are. It raises TypeError if no leaf is floating-point or
      one is complex, and TypeError or ValueError if the value of `fn` is not a real scalar.

    Raises:
      TypeError: if `fn` is not callable.
      ValueError: if there is no such mode.
    """
    require_callable("fn", fn)
    require_choice("mode", mode, ("reverse", "forward"))
    derivative = jax.grad if mode == "reverse" else jax.jacfwd

    @functools.wraps(fn)
    def gradient(x: Any, *others: Any) -> Any:
        opened = open_floating(x)
        if mode == "forward":  # which would return the Jacobian of a vector
            require_scalar_function("fn", opened.on(fn), opened.params, *others)
        try:
            return derivative(opened.on(fn))(opened.params, *others)
        except Exception:  # says in one line what is wrong with fn, if that is it
            require_scalar_function("fn", opened.on(fn), opened.params, *others)
            raise

    return gradient


@exact_products
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

    Raises:
      TypeError: if `fn` is not callable, or if `x`, the steps or the reference are not numbers.
      ValueError: if a step is not positive, if a shape does not fit, or if the true gradient is zero.
      KeyError: if there is no scheme with that name.
    """
    point = as_point("x", x)
    as_numbers("x", x, shape=(None,), least=1)
    chosen = as_scheme(scheme)
    sizes = as_numbers("steps", steps, shape=(None,), least=1)
    if not (sizes > 0).all():
        raise ValueError(f"steps: expected positive numbers, got {sizes[~(sizes > 0)][0]:g}")
    require_scalar_function("fn", fn, point)
    if reference is None:
        truth, name = np.asarray(autodiff(fn)(point), float), "x"
    else:
        truth, name = as_numbers("reference", reference, shape=point.shape).astype(float), "reference"
    if not truth.any():
        raise ValueError(f"{name}: expected a gradient that is not zero, since errors are relative to it, got zeros")
    steps = jnp.asarray(sizes, point.dtype)
    estimates = jax.jit(jax.vmap(lambda h: finite_difference(fn, chosen, h)(point)))(steps)
    error = np.abs(np.asarray(estimates, float) - truth).max(axis=-1)
    return error / np.abs(truth).max()
