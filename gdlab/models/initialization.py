"""Joint initialization of all parameters: one vector of random numbers per kind of distribution, split into arrays.

With one key per array, the program that initializes a ResNet18 takes 12 to 28 s to compile on a CPU; with a single
draw that is split afterwards, it takes 1 to 2 s. Therefore the initializers below draw nothing: each returns zeros that
carry their distribution, and `fill` replaces them by random numbers.
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
"""`initializer(key, shape, dtype)`, as Flax calls it, returns an `Undrawn`, which modules see as an array."""

Sampler = Callable[..., Array]
"""`sampler(key, shape, dtype)` returns independent random numbers from one standard distribution."""


def symmetric_uniform(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Draw from the uniform distribution on [-1, 1)."""
    return jax.random.uniform(key, shape, dtype, -1, 1)


SAMPLERS: tuple[Sampler, ...] = (jax.random.normal, symmetric_uniform)
"""The samplers that a `Distribution` may have; `fill` splits its key among them in this order."""


class Distribution(NamedTuple):
    """The distribution of `location + scale * u`, with u drawn by `sampler`.

    Attributes:
      location: the shift.
      scale: the factor.
      sampler: one of SAMPLERS; None means that every element is `location`.
    """

    location: float
    scale: float = 0.0
    sampler: Sampler | None = None


class Undrawn(struct.PyTreeNode, nn.meta.AxisMetadata[Any]):
    """An array that has not been drawn yet, with its distribution; it passes through the `init` of Flax modules."""

    value: Any
    distribution: Distribution = struct.field(pytree_node=False)

    def unbox(self) -> Any:
        """Return the array; Flax calls this when a module uses its parameter."""
        return self.value

    def replace_boxed(self, val: Any) -> "Undrawn":
        """Return the same distribution with another array."""
        return self.replace(value=val)

    def add_axis(self, index: int, params: dict[Any, Any]) -> "Undrawn":
        """Return self, because the distribution is that of a single element."""
        del index, params
        return self

    def remove_axis(self, index: int, params: dict[Any, Any]) -> "Undrawn":
        """Return self, because the distribution is that of a single element."""
        del index, params
        return self


def normal(std: float) -> Initializer:
    """Return an initializer for N(0, std^2)."""
    return _undrawn(Distribution(0.0, std, jax.random.normal))


def uniform(limit: float) -> Initializer:
    """Return an initializer for U(-limit, limit)."""
    return _undrawn(Distribution(0.0, limit, symmetric_uniform))


def constant(value: float) -> Initializer:
    """Return an initializer that sets every element to `value`."""
    return _undrawn(Distribution(value))


def _undrawn(distribution: Distribution) -> Initializer:
    def initializer(key: Any, shape: tuple[int, ...], dtype: Any) -> Undrawn:
        del key
        return Undrawn(jnp.zeros(shape, dtype), distribution)

    return initializer


def fill(init: Callable[[], PyTree], key: Array) -> PyTree:
    """Return the result of `init()`, with every `Undrawn` array drawn from its distribution.

    `init` is only evaluated abstractly, so all other arrays must be zeros. Random numbers are assigned in the order of
    the tree, so an additional array changes the values of the arrays after it.
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
