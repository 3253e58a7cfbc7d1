"""Trees of arrays: what their leaves are, and points that are trees.

A point may be parameters by name, matrices, or a module of Equinox or Flax NNX. Only floating-point arrays move.
Whatever else a tree holds, such as the activation function of a module, integers or random keys, stays as it is.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from numbers import Number
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gdlab.arguments import as_floating, describe


class OpenTree(NamedTuple):
    """A tree, divided into what moves and what stays.

    Attributes:
      params: the tree with None in place of everything that stays.
      close: takes such a tree, and returns it with everything in its place; None if nothing stays.
    """

    params: Any
    close: Callable[[Any], Any] | None = None

    def on(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return `fn`, a function of the whole tree (and of what `gdlab.compute.extras` lists), as one of `params`."""
        close = self.close
        if close is None or not callable(fn):
            return fn
        return functools.wraps(fn)(lambda params, *given: fn(close(params), *given))


def open_point(name: str, value: Any) -> OpenTree:
    """Divide a point, which is an array, a list of numbers, or a tree that holds floating-point arrays.

    Raises:
      TypeError: if nothing in it is floating-point.
    """
    if is_array_like(value):
        return OpenTree(as_floating(name, value))
    opened = open_tree(value)
    if not jax.tree.leaves(opened.params):
        raise TypeError(f"{name}: expected floating-point numbers, got none in {describe(value)}")
    return opened._replace(params=jax.tree.map(jnp.asarray, opened.params))


def open_tree(value: Any) -> OpenTree:
    """Divide a tree, whose leaves stay what they are; perhaps none of them moves."""
    leaves, structure = jax.tree.flatten(value)
    moves, stays = divide(leaves)
    if len(moves) == len(leaves):
        return OpenTree(value)
    params = join(structure, moves, stays, whole=False)
    return OpenTree(params, lambda params: join(structure, jax.tree.leaves(params), stays, whole=True))


def divide(leaves: Sequence[Any]) -> tuple[list[Any], tuple[Any, ...]]:
    """Return the leaves that move, and for each leaf what it is if it does not move, or None."""
    return [leaf for leaf in leaves if is_floating(leaf)], tuple(None if is_floating(leaf) else leaf for leaf in leaves)


def join(structure: Any, moves: Iterable[Any], stays: Sequence[Any], *, whole: bool) -> Any:
    """Return the tree of these leaves; where a leaf stays, it holds that leaf if `whole`, else None."""
    moving = iter(moves)
    return jax.tree.unflatten(structure, [next(moving) if leaf is None else leaf if whole else None for leaf in stays])


def is_array_like(value: Any) -> bool:
    """Return whether this is one array, a number, or nested lists of numbers; None and strings count as one leaf."""
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return all(isinstance(leaf, Number) or getattr(leaf, "ndim", None) == 0 for leaf in jax.tree.leaves(value))
    return value is None or jax.tree_util.treedef_is_leaf(jax.tree.structure(value))


def is_floating(leaf: Any) -> bool:
    """Return whether this is a floating-point array or number."""
    return isinstance(leaf, float) or (hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jnp.floating)))


def is_key(leaf: Any) -> bool:
    """Return whether a leaf is a typed random key, which NumPy cannot hold."""
    return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def without_key(leaf: Any) -> Any:
    """Return the data of a random key, and any other leaf as it is."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


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
