"""Arithmetic on trees of arrays that several optimizers share: averages, norms, products."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from gdlab.numerics import safe_sqrt
from gdlab.types import Number


def zeros(params: PyTree) -> PyTree:
    """Zeros, shaped like the parameters."""
    return jax.tree.map(jnp.zeros_like, params)


def average(decay: Number, old: PyTree, new: PyTree) -> PyTree:
    """decay old + (1 - decay) new: one step of an exponential moving average."""
    return jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, old, new)


def average_of_squares(decay: Number, old: PyTree, new: PyTree) -> PyTree:
    """decay old + (1 - decay) new^2."""
    return jax.tree.map(lambda a, b: decay * a + (1 - decay) * b**2, old, new)


def norm(x: Float[Array, "..."]) -> Float[Array, ""]:
    """The Euclidean norm of one array, whose derivative at 0 is 0."""
    return safe_sqrt(jnp.sum(x**2))


def inner(a: PyTree, b: PyTree) -> Array:
    """The sum of the products of all elements of two trees."""
    products = jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)
    return sum(jax.tree.leaves(products), jnp.zeros([]))


def divide(a: Array, b: Array) -> Array:
    """a / b, and 0 where b = 0, with finite derivatives there."""
    nothing = b == 0
    return jnp.where(nothing, 0.0, a / jnp.where(nothing, 1.0, b))


def statistic(params: PyTree, value: Number = 0.0) -> Array:
    """A scalar in the dtype for statistics of a whole model: the parameters' widest, float32 at least."""
    dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(params)]
    return jnp.asarray(value, jnp.result_type(jnp.float32, *dtypes))


def begin() -> Array:
    """No steps done yet."""
    return jnp.zeros([], jnp.int32)
