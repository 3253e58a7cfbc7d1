"""Cliffs: places where the gradient is suddenly larger by orders of magnitude, or where the loss ends."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gdlab.diagnostics.problem import apart, define, distance


def _cliff_begin(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    return target + 3 * jnp.sign(start) + 0.3 * start, {"target": target, "height": level}


def _cliff(x: Array, data: Any, step: Any) -> Array:
    """A bowl with a wall around the solution, a unit away from it on both sides of each coordinate."""
    away = x - data["target"]
    wall = jax.nn.sigmoid(8 * (away - 1)) + jax.nn.sigmoid(-8 * (away + 1)) - 2 * jax.nn.sigmoid(-8.0)
    return jnp.sum(away**2 / 2 + data["height"] / 8 * wall)


def _exploding_begin(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    return target + 2 * jnp.sign(start) + 0.1 * start, {"target": target, "rate": level / 2}


def _exploding(x: Array, data: Any, step: Any) -> Array:
    return jnp.mean(jnp.cosh(data["rate"] * (x - data["target"])) - 1)


def _barrier_begin(key: Any, level: Any) -> tuple[Array, Any]:
    factors = 1 + jax.random.uniform(key, (16,))
    return 10.0**-level * factors, {"target": jnp.ones(16)}


def _barrier(x: Array, data: Any, step: Any) -> Array:
    """Its minimum is at 1; it is NaN where a coordinate is negative, and a run that goes there is lost."""
    return jnp.sum(x - jnp.log(x))


COMMON: dict[str, Any] = {"family": "cliff", "error": distance}

define(
    "cliff",
    measures="does a wall with a huge slope, on the way to the solution, throw it far away?",
    difficulty="largest slope of the wall",
    levels=(3.0, 30.0, 300.0, 3000.0),
    begin=_cliff_begin,
    loss=_cliff,
    goal=0.05,
    references=("signum", "adam"),
    **COMMON,
)
define(
    "exploding_gradient",
    measures="does it survive a gradient that is larger by many orders of magnitude at the start than later?",
    difficulty="logarithm of the size of the first gradient",
    levels=(4.0, 10.0, 20.0, 40.0),
    begin=_exploding_begin,
    loss=_exploding,
    goal=0.1,
    references=("signum", "adam"),
    **COMMON,
)
define(
    "log_barrier",
    measures="does it stay where the loss exists, when it starts beside the edge?",
    difficulty="negative power of ten of the distance from the edge",
    levels=(1.0, 2.0, 3.0, 4.0),
    begin=_barrier_begin,
    loss=_barrier,
    goal=0.05,
    references=("adam", "signum", "sgd"),
    **COMMON,
)
