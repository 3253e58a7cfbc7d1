"""Parts of a batch, one after another, so that what an algorithm stores in between stays in the processor's cache."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

ROWS = 256
"""Rows of a portion's matrix products: with fewer, each product is slower than the cache makes up for."""


def count_portions(batch: int, rows: int) -> int:
    """Return the number of portions of equal size, given the rows that one image adds to the matrix products."""
    sizes = (size for size in range(1, batch + 1) if batch % size == 0 and size * rows >= ROWS)
    return batch // next(sizes, max(batch, 1))


def map_portions(fn: Callable[[Array], Array], x: Array, rows: int) -> Array:
    """Return `fn(x)`, where `fn` treats each image, or entry of the first axis, on its own."""
    count = count_portions(x.shape[0], rows)
    if count <= 1:
        return fn(x)
    y = jax.lax.map(fn, _split(x, count))
    return y.reshape(-1, *y.shape[2:])


def sum_portions(fn: Callable[[Array, Array], PyTree], x: Array, g: Array, rows: int) -> PyTree:
    """Return `fn(x, g)`, where `fn` returns sums over images, the first axes of x and g."""
    count = count_portions(x.shape[0], rows)
    if count <= 1:
        return fn(x, g)
    portions = _split(x, count), _split(g, count)
    shapes = jax.eval_shape(fn, *(part[0] for part in portions))
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    return jax.lax.scan(lambda total, parts: (jax.tree.map(jnp.add, total, fn(*parts)), None), zeros, portions)[0]


def _split(x: Array, count: int) -> Array:
    return x.reshape(count, -1, *x.shape[1:])
