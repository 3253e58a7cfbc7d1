"""Selecting leaves of the parameters by their names and shapes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from gdlab.arguments import describe, require_callable

Select = Callable[[str, Array], bool]
"""`select(name, leaf)` tells whether a leaf is selected; its name is its path in the tree, such as "layer/kernel"."""


def has_two_axes(name: str, leaf: Array) -> bool:
    """Select the matrices: leaves with at least two axes."""
    del name
    return jnp.ndim(leaf) >= 2


def require_select(select: Any) -> None:
    """Raise TypeError unless `select` is None or a function."""
    if select is not None:
        require_callable("select", select)


def choose(select: Select, params: optax.Params) -> PyTree:
    """Return a tree of True and False in place of the leaves of the parameters."""

    def chosen(path: tuple[Any, ...], leaf: Array) -> bool:
        found = select(name_of(path), leaf)
        if not isinstance(found, bool):
            raise TypeError(f"select: expected a function that returns True or False, got {describe(found)}")
        return found

    return jax.tree_util.tree_map_with_path(chosen, params)


def name_of(path: tuple[Any, ...]) -> str:
    """Return the path of a leaf in words, such as "layer/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")
