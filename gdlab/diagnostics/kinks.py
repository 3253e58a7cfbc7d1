"""Discontinuity: gradients that jump, at the solution or everywhere.

Where the gradient does not vanish at the solution, a constant learning rate leaves a step's distance from it, so that
the learning rate decides between speed and accuracy.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from gdlab.diagnostics.problem import DIM, apart, bowl, define, distance, replaced, spectrum


def _begin(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    return start, {"target": target, "slopes": spectrum(DIM, level), "level": level}


def _absolute(x: Array, data: Any, step: Any) -> Array:
    return jnp.sum(data["slopes"] * jnp.abs(x - data["target"]))


def _largest(x: Array, data: Any, step: Any) -> Array:
    return jnp.max(data["slopes"] * jnp.abs(x - data["target"]))


def _jagged(x: Array, data: Any, memory: Any, key: Any, step: Any) -> Array:
    """The bowl, whose slope jumps by random factors from 1 / level to level, at every hundredth of a unit."""
    away = x - data["target"]
    cells = jnp.floor(100 * away)
    factors = data["level"] ** jnp.sin(12.9898 * cells + jnp.arange(DIM))
    return replaced(bowl(x, data, step), x, factors * away)


COMMON: dict[str, Any] = {"family": "discontinuity", "begin": _begin, "error": distance}

define(
    "absolute_values",
    measures="does it settle at kinks, along coordinates whose slopes differ?",
    difficulty="ratio of the largest slope to the smallest",
    levels=(1.0, 10.0, 100.0, 1000.0),
    loss=_absolute,
    goal=0.02,
    references=("adam", "signum", "rprop"),
    **COMMON,
)
define(
    "largest_coordinate",
    measures="does it make progress when only one coordinate at a time has a gradient?",
    difficulty="ratio of the largest slope to the smallest",
    levels=(1.0, 2.0, 4.0, 8.0),
    loss=_largest,
    goal=0.1,
    references=("sgd", "momentum", "adam"),
    **COMMON,
)
define(
    "jagged_slope",
    measures="does it settle where the size of the gradient jumps from place to place?",
    difficulty="largest factor of the slope",
    levels=(1.0, 3.0, 10.0, 30.0),
    loss=bowl,
    sampled=_jagged,
    goal=0.02,
    references=("adam", "sgd"),
    **COMMON,
)
