"""Arithmetic on trees of arrays that several optimizers share: averages, norms and products."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from gdlab.numerics import safe_sqrt
from gdlab.types import Number


def zeros(params: PyTree) -> PyTree:
    """Return zeros with the shapes and dtypes of the parameters."""
    return jax.tree.map(jnp.zeros_like, params)


def average(decay: Number, old: PyTree, new: PyTree) -> PyTree:
    """decay old + (1 - decay) new: one step of an exponential moving average."""
    return jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, old, new)


def average_of_squares(decay: Number, old: PyTree, new: PyTree) -> PyTree:
    """decay old + (1 - decay) new^2: one step of an exponential moving average of squares."""
    return jax.tree.map(lambda a, b: decay * a + (1 - decay) * b**2, old, new)


def norm(x: Float[Array, "..."]) -> Float[Array, ""]:
    """Return the Euclidean norm of one array; its derivative at 0 is 0."""
    return safe_sqrt(jnp.sum(x**2))


def inner(a: PyTree, b: PyTree) -> Array:
    """Return the inner product of two trees, the sum over the products of all their elements."""
    products = jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)
    return sum(jax.tree.leaves(products), jnp.zeros([]))


def divide(a: Array, b: Array) -> Array:
    """Return a / b, or 0 where b = 0, with finite derivatives there."""
    nothing = b == 0
    return jnp.where(nothing, 0.0, a / jnp.where(nothing, 1.0, b))


def statistic(params: PyTree, value: Number = 0.0) -> Array:
    """Return a scalar in the dtype for statistics of a whole model: the parameters' widest dtype, float32 or wider."""
    dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(params)]
    return jnp.asarray(value, jnp.result_type(jnp.float32, *dtypes))


def begin() -> Array:
    """Return a step counter at 0."""
    return jnp.zeros([], jnp.int32)
