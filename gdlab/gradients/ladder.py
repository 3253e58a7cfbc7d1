"""What `check_gradient` evaluates: the difference quotients of one leaf, along each direction, for a ladder of steps.

The steps are h = 1/2, 1/4, ... down to the last digits of the dtype, times the size of x if that is above 1. They are
powers of two, so that adding them to x does not round.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from gdlab.gradients.finite import along, by_blocks
from gdlab.gradients.schemes import Scheme, as_scheme, quotient, used_step
from gdlab.types import Number


class Seen(NamedTuple):
    """What was evaluated for one leaf.

    All arrays have the directions as their first axis, except `one_sided`, whose first axis is its two sides.

    Attributes:
      exact: the gradient under test along each direction, of shape (directions,).
      forward: the same by forward mode, of shape (directions,).
      ladder: the steps, of shape (directions, steps).
      size: |x| along each direction, of shape (directions,).
      one_sided: the forward and backward quotients, of shape (2, directions, steps).
      found: for each scheme, its quotients of shape (directions, steps), those at the step used, and that step.
    """

    exact: Any
    forward: Any
    ladder: Any
    size: Any
    one_sided: Any
    found: list[Any]


def directions(size: int, coordinates: int, key: Array) -> Array:
    """Return the indices of the coordinates to check; a final -1 means one random direction."""
    if size <= coordinates:
        return jnp.arange(size)
    picked = jax.random.choice(key, size, (coordinates - 1,), replace=False)
    return jnp.append(jnp.sort(picked), -1)


def everywhere(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return the random direction in which every element of a leaf counts, of length 1."""
    return (jax.random.rademacher(key, shape, dtype) / math.sqrt(math.prod(shape))).astype(dtype)


def component_along(component: Array, index: Array, spread: Array) -> Array:
    """Return one component of a flat gradient, or for index -1 its product with the direction `spread`."""
    return jnp.where(index < 0, jnp.vdot(spread, component), component[index])  # 0 * NaN would spread one NaN


def climb(
    fn: Callable[[Any], Any],
    x: PyTree,
    number: int,
    component: Array,
    schemes: Sequence[Scheme],
    step: Number | None,
    coordinates: int,
    key: Array,
    with_forward: bool,
) -> Seen:
    """Evaluate all quotients of one leaf, after widening narrower leaves to float32; works under jit and vmap.

    Args:
      fn: the function.
      x: the point.
      number: which leaf of `x`.
      component: the gradient under test for that leaf.
      schemes: the schemes.
      step: the step that is used, or None for the default of each scheme.
      coordinates: the largest number of directions.
      key: the random key that selects them.
      with_forward: whether to evaluate the forward mode; otherwise `forward` repeats `exact`.
    """
    leaves, structure = jax.tree.flatten(x)
    leaves = [jnp.asarray(leaf, jnp.promote_types(jnp.result_type(leaf), jnp.float32)) for leaf in leaves]
    leaf, tested = leaves[number].ravel(), jnp.ravel(component).astype(leaves[number].dtype)
    relative = 0.5 ** np.arange(1, int(-math.log2(jnp.finfo(leaf.dtype).eps)) - 1)
    spread = everywhere(key, leaf.shape, leaf.dtype)
    sides = [as_scheme("forward"), as_scheme("backward")]

    def along_one(index: Array) -> Seen:
        unit = jnp.where(index < 0, spread, jnp.zeros_like(leaf).at[index].set(1))
        line = along(fn, structure, leaves, number, unit)
        size = jnp.where(index < 0, jnp.abs(leaf).max(), jnp.abs(leaf[index]))
        scale = 2 ** jnp.ceil(jnp.log2(jnp.maximum(1, size)))
        ladder = (jnp.asarray(relative) * scale).astype(leaf.dtype)

        def on_ladder(scheme: Scheme) -> tuple[Any, Any, Any]:
            h = used_step(scheme, size.astype(leaf.dtype), step)
            rungs = jnp.append(ladder, h)
            estimates = by_blocks(lambda k: quotient(scheme, line, rungs[k]), jnp.arange(rungs.size), 8 * leaf.size)
            return estimates[:-1], estimates[-1], h

        exact = component_along(tested, index, spread)
        zero, one = jnp.zeros([], leaf.dtype), jnp.ones([], leaf.dtype)
        forward = jax.jvp(line, (zero,), (one,))[1] if with_forward else exact
        one_sided = jnp.stack([on_ladder(side)[0] for side in sides])
        return Seen(exact, forward, ladder, size, one_sided, [on_ladder(scheme) for scheme in schemes])

    work = 8 * leaf.size * relative.size
    seen = by_blocks(along_one, directions(leaf.size, coordinates, key), work)
    return seen._replace(one_sided=jnp.moveaxis(seen.one_sided, 1, 0))
