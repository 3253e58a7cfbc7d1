"""Initial parameters drawn together: one vector of random numbers per kind of distribution, cut into all arrays.

With one key per array, the program that initializes a ResNet18 takes a CPU 12 to 28 s to compile; with one draw that is
cut afterwards it takes one or two. The initializers below therefore draw nothing: each returns zeros that carry their
distribution, and `fill` replaces them by random numbers.
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
"""`initializer(key, shape, dtype)`, as Flax calls it; returns an `Undrawn`, which a module sees as the array."""

Sampler = Callable[..., Array]
"""`sampler(key, shape, dtype)`: independent random numbers from one standard distribution."""


def symmetric_uniform(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Uniform in [-1, 1)."""
    return jax.random.uniform(key, shape, dtype, -1, 1)


SAMPLERS: tuple[Sampler, ...] = (jax.random.normal, symmetric_uniform)
"""The samplers that a `Distribution` may have; `fill` splits its key among them in this order."""


class Distribution(NamedTuple):
    """`location + scale * u` with u from `sampler`, one of SAMPLERS; None: every element is `location`."""

    location: float
    scale: float = 0.0
    sampler: Sampler | None = None


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
        """Unchanged: the distribution is that of a single element."""
        del index, params
        return self

    def remove_axis(self, index: int, params: dict[Any, Any]) -> "Undrawn":
        """Unchanged: the distribution is that of a single element."""
        del index, params
        return self


def normal(std: float) -> Initializer:
    """N(0, std^2)."""
    return _undrawn(Distribution(0.0, std, jax.random.normal))


def uniform(limit: float) -> Initializer:
    """U(-limit, limit)."""
    return _undrawn(Distribution(0.0, limit, symmetric_uniform))


def constant(value: float) -> Initializer:
    """Every element is `value`."""
    return _undrawn(Distribution(value))


def _undrawn(distribution: Distribution) -> Initializer:
    def initializer(key: Any, shape: tuple[int, ...], dtype: Any) -> Undrawn:
        del key
        return Undrawn(jnp.zeros(shape, dtype), distribution)

    return initializer


def fill(init: Callable[[], PyTree], key: Array) -> PyTree:
    """The result of `init()`, with arrays that carry a distribution drawn from it; all others must be zeros.

    `init` is only evaluated abstractly. Random numbers are assigned in the order of the tree, so that an additional
    array changes the values of those after it.
    """
    leaves, structure = jax.tree.flatten(jax.eval_shape(init), is_leaf=lambda leaf: isinstance(leaf, Undrawn))
    undrawn = [leaf for leaf in leaves if isinstance(leaf, Undrawn)]
    dtype = jnp.result_type(*(leaf.value.dtype for leaf in undrawn)) if undrawn else jnp.float32
    keys = dict(zip(SAMPLERS, jax.random.split(key, len(SAMPLERS)), strict=True))
    numbers = {}
    for sampler in SAMPLERS:
        total = sum(math.prod(leaf.value.shape) for leaf in undrawn if leaf.distribution.sampler is sampler)
        numbers[sampler] = sampler(keys[sampler], (total,), dtype)
    taken = dict.fromkeys(SAMPLERS, 0)

    def draw(leaf: Any) -> Array:
        if not isinstance(leaf, Undrawn):
            return jnp.zeros(leaf.shape, leaf.dtype)
        (location, scale, sampler), shape = leaf.distribution, leaf.value.shape
        if sampler is None:
            return jnp.full(shape, location, leaf.value.dtype)
        begin = taken[sampler]
        taken[sampler] = begin + math.prod(shape)
        return (location + scale * numbers[sampler][begin : taken[sampler]]).reshape(shape).astype(leaf.value.dtype)

    return jax.tree.unflatten(structure, [draw(leaf) for leaf in leaves])
