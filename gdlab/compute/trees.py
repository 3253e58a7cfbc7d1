"""Points that are trees of arrays: parameters by name, matrices, modules of Equinox or Flax NNX.

Only floating-point arrays move. Whatever else a tree holds, such as the activation function of a module, integers or
random keys, stays as it is.
"""

import functools
from collections.abc import Callable
from numbers import Number
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gdlab.arguments import describe


class OpenTree(NamedTuple):
    """A tree, divided into what moves and what stays.

    Attributes:
      params: the tree with None in place of everything that stays.
      close: takes such a tree, and returns it with everything in its place; None if nothing stays.
    """

    params: Any
    close: Callable[[Any], Any] | None = None

    def on(self, fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return `fn`, a function of the whole tree, as a function of `params`."""
        close = self.close
        return fn if close is None or not callable(fn) else lambda params: fn(close(params))


def open_point(name: str, value: Any) -> OpenTree:
    """Divide a point, which is an array, a list of numbers, or a tree that holds floating-point arrays.

    Raises:
      TypeError: if nothing in it is floating-point.
    """
    if is_array_like(value):
        return OpenTree(_as_floating(name, value))
    leaves, structure = jax.tree.flatten(value)
    moves = [is_floating(leaf) for leaf in leaves]
    if not any(moves):
        raise TypeError(f"{name}: expected floating-point numbers, got none in {describe(value)}")
    params = jax.tree.unflatten(
        structure, [jnp.asarray(leaf) if go else None for leaf, go in zip(leaves, moves, strict=True)]
    )
    if all(moves):
        return OpenTree(params)

    def close(params: Any) -> Any:
        mine = iter(jax.tree.leaves(params))
        return jax.tree.unflatten(
            structure, [next(mine) if go else leaf for leaf, go in zip(leaves, moves, strict=True)]
        )

    return OpenTree(params, close)


def is_array_like(value: Any) -> bool:
    """Return whether this is one array, a number, or nested lists of numbers; None and strings count as one leaf."""
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return all(isinstance(leaf, Number) or getattr(leaf, "ndim", None) == 0 for leaf in jax.tree.leaves(value))
    return value is None or jax.tree_util.treedef_is_leaf(jax.tree.structure(value))


def _as_floating(name: str, value: Any) -> jax.Array:
    try:
        array = jnp.asarray(value if value is not None else "nothing")
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected floating-point numbers, got {describe(value)}") from None
    if not jnp.issubdtype(array.dtype, jnp.floating):
        hint = "; write [-2.0, -2.0], not [-2, -2]" if jnp.issubdtype(array.dtype, jnp.integer) else ""
        raise TypeError(f"{name}: expected floating-point numbers, got dtype {array.dtype}{hint}")
    return array


def is_floating(leaf: Any) -> bool:
    """Return whether this is a floating-point array or number."""
    return isinstance(leaf, float) or (hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jnp.floating)))


def all_finite(tree: Any) -> jax.Array:
    """Return whether every number of a tree is finite."""
    found = jnp.array(True)
    for leaf in jax.tree.leaves(tree):
        found &= jnp.all(jnp.isfinite(leaf))
    return found


def distance(tree: Any, other: Any) -> jax.Array:
    """Return the sum of the absolute differences of two trees."""
    apart = jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum(jnp.abs(a - b)), tree, other))
    return functools.reduce(jnp.add, apart)
