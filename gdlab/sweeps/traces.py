"""A lane as JAX has traced it, which decides both the program of a sweep and the identity of its results."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from gdlab.compute.programs import digest_jaxprs, equations
from gdlab.sweeps.step import LaneSpec, make_lane


class LaneTrace(NamedTuple):
    """A traced lane.

    Attributes:
      begin: takes (start, which, *numbers) and returns the leaves of the state.
      step: takes (*leaves, which, t, *numbers) and returns the leaves of the state.
      look: takes (start, which) and returns the value and whether the point lies at a minimizer; if functions take more
        than a point, it takes (start, which, stop, t, *numbers).
      leaves: the shapes and dtypes of the state's leaves, of which the first is the point.
      numbers: the shapes and dtypes of the numbers: the hyperparameters, and what functions take besides a point.
      digest: a digest of all three functions; None if one calls back into Python.
    """

    begin: core.ClosedJaxpr
    step: core.ClosedJaxpr
    look: core.ClosedJaxpr
    leaves: list[jax.ShapeDtypeStruct]
    numbers: list[jax.ShapeDtypeStruct]
    digest: str | None

    @property
    def dtype(self) -> Any:
        """The dtype of the arithmetic."""
        return self.leaves[0].dtype


def trace_lane(spec: LaneSpec, dim: int, dtype: Any) -> LaneTrace:
    """Trace a lane: what its functions read from outside is what it is now."""
    begin, step, look = make_lane(spec)
    x = jax.ShapeDtypeStruct((dim,), dtype)
    count = jax.ShapeDtypeStruct((), jnp.int32)
    numbers = spec.types(dtype)
    layout: Any = None

    def flat_begin(start: Any, which: Any, *values: Any) -> list[Any]:
        nonlocal layout
        flat, layout = jax.tree.flatten(begin(start, which, values))
        return flat

    begun, leaves = jax.make_jaxpr(flat_begin, return_shape=True)(x, count, *numbers)

    def flat_step(*flat: Any) -> list[Any]:
        before = layout.unflatten(flat[: len(leaves)])
        return jax.tree.leaves(step(before, flat[len(leaves)], flat[len(leaves) + 1], flat[len(leaves) + 2 :]))

    taken = jax.make_jaxpr(flat_step)(*leaves, count, count, *numbers)

    def flat_look(start: Any, which: Any, *more: Any) -> Any:
        return look(start, which, *((*more[:2], more[2:]) if more else ()))

    more = [] if spec.frame is None else [count, count, *numbers]
    looked = jax.make_jaxpr(flat_look)(x, count, *more)
    return LaneTrace(begun, taken, looked, leaves, numbers, digest_jaxprs((begun, taken, looked)))


def largest_array(closed: core.ClosedJaxpr) -> int:
    """Return the size in bytes of the largest array that a traced program computes."""
    return max(
        (var.aval.size * var.aval.dtype.itemsize for eqn in equations(closed.jaxpr) for var in eqn.outvars), default=0
    )
