"""Parameters drawn all at once: one vector of random numbers for a whole network, cut into its arrays.

A key for every array makes a program that takes a CPU 12 to 28 s to compile for a ResNet18; one draw that is cut takes
one or two. So the initializers below draw nothing: each hands out an array of nothings that carries its distribution,
and `fill` puts the numbers in.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, PyTree

Initializer = Callable[..., Any]
"""`initializer(key, shape, dtype)`, as Flax calls it; gives an `Undrawn`, which a module sees as the array."""


class Distribution(NamedTuple):
    """location + scale u, where u is standard "normal", "uniform" in (-1, 1), or nothing ("constant")."""

    kind: str
    location: float = 0.0
    scale: float = 0.0


class Undrawn(struct.PyTreeNode, nn.meta.AxisMetadata[Any]):
    """An array yet to be drawn and its distribution, as it travels through Flax's `init`."""

    value: Any
    distribution: Distribution = struct.field(pytree_node=False)

    def unbox(self) -> Any:
        """The array; Flax calls this where a module uses its parameter."""
        return self.value

    def replace_boxed(self, val: Any) -> "Undrawn":
        """The same distribution around another array."""
        return self.replace(value=val)

    def add_axis(self, index: int, params: dict[Any, Any]) -> "Undrawn":
        """Unchanged: the distribution is of single elements."""
        del index, params
        return self

    def remove_axis(self, index: int, params: dict[Any, Any]) -> "Undrawn":
        """Unchanged: the distribution is of single elements."""
        del index, params
        return self


def normal(std: float) -> Initializer:
    """N(0, std^2)."""
    return _undrawn(Distribution("normal", 0.0, std))


def uniform(limit: float) -> Initializer:
    """U(-limit, limit)."""
    return _undrawn(Distribution("uniform", 0.0, limit))


def constant(value: float) -> Initializer:
    """Every element is `value`."""
    return _undrawn(Distribution("constant", value))


def _undrawn(distribution: Distribution) -> Initializer:
    def initializer(key: Any, shape: tuple[int, ...], dtype: Any) -> Undrawn:
        del key
        return Undrawn(jnp.zeros(shape, dtype), distribution)

    return initializer


def fill(init: Callable[[], PyTree], key: Array) -> PyTree:
    """What `init()` gives, with the arrays that carry a distribution drawn from it; others must be zeros.

    init is only evaluated abstractly. Numbers are handed out in the order of the tree, so that adding an array changes
    those behind it.
    """
    shapes = jax.eval_shape(init)
    leaves, structure = jax.tree.flatten(shapes, is_leaf=lambda leaf: isinstance(leaf, Undrawn))
    wanted = [leaf for leaf in leaves if isinstance(leaf, Undrawn)]
    dtype = jnp.result_type(*(leaf.value.dtype for leaf in wanted)) if wanted else jnp.float32
    total = {
        kind: sum(math.prod(leaf.value.shape) for leaf in wanted if leaf.distribution.kind == kind)
        for kind in ("normal", "uniform")
    }
    for_normal, for_uniform = jax.random.split(key)
    numbers = {
        "normal": jax.random.normal(for_normal, (total["normal"],), dtype),
        "uniform": jax.random.uniform(for_uniform, (total["uniform"],), dtype, -1, 1),
    }
    taken = dict.fromkeys(total, 0)

    def draw(leaf: Any) -> Array:
        if not isinstance(leaf, Undrawn):
            return jnp.zeros(leaf.shape, leaf.dtype)
        (kind, location, scale), shape = leaf.distribution, leaf.value.shape
        if kind == "constant":
            return jnp.full(shape, location, leaf.value.dtype)
        begin = taken[kind]
        taken[kind] = begin + math.prod(shape)
        return (location + scale * numbers[kind][begin : taken[kind]]).reshape(shape).astype(leaf.value.dtype)

    return jax.tree.unflatten(structure, [draw(leaf) for leaf in leaves])
