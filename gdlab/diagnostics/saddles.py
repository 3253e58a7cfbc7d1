"""Saddle points: starts beside a point where the gradient vanishes, from which the way down begins flat.

All losses are bounded below, and their minimum is known.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gdlab.diagnostics.problem import DIM, define, rotation

NEGATIVE = 2
"""The number of directions of negative curvature."""

DEPTH = 0.2
"""The size of the negative curvatures."""


def _saddle(key: Any, level: Any) -> tuple[Array, Any]:
    keys = jax.random.split(key, 2)
    basis = rotation(keys[0], DIM)
    curvatures = jnp.ones(DIM).at[-NEGATIVE:].set(-DEPTH)
    places = jax.random.normal(keys[1], (DIM,)).at[-NEGATIVE:].multiply(0.0)
    escape = jnp.zeros(DIM).at[-1].set(level)
    center = jnp.linspace(-1.0, 1.0, DIM)
    return center + basis.T @ (0.3 * places + escape), {"basis": basis, "curvatures": curvatures, "center": center}


def _saddle_loss(x: Array, data: Any, step: Any) -> Array:
    seen = data["basis"] @ (x - data["center"])
    square = jnp.sum(seen**2)
    return jnp.sum(data["curvatures"] * seen**2) / 2 + square**2 / 4 + DEPTH**2 / 4


def _monkey_saddle(key: Any, level: Any) -> tuple[Array, Any]:
    # On the slope that leads to the saddle point, and beside the line from which it would be reached.
    angles = jax.random.uniform(key, (DIM // 2,), minval=-0.1, maxval=0.1) + level
    center = jnp.linspace(-1.0, 1.0, DIM)
    return center + 0.3 * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1).ravel(), {"center": center}


def _monkey_loss(x: Array, data: Any, step: Any) -> Array:
    first, second = (x - data["center"]).reshape(-1, 2).T
    return jnp.mean(first**3 - 3 * first * second**2 + (first**2 + second**2) ** 2) + 27 / 256


def _approached(key: Any, level: Any) -> tuple[Array, Any]:
    along = 1 + 0.3 * jax.random.normal(key, (DIM // 2,))
    return jnp.concatenate([along, -along + level]), {}


def _hyperbolas(x: Array, data: Any, step: Any) -> Array:
    first, second = x.reshape(2, -1)
    return jnp.mean((first * second - 1) ** 2) / 2


COMMON: dict[str, Any] = {"family": "saddle", "goal": 0.02}

define(
    "saddle",
    measures="how soon does it leave a saddle point that it starts beside?",
    difficulty="distance from the stable plane at the start",
    levels=(1e-1, 1e-2, 1e-4, 1e-6),
    begin=_saddle,
    loss=_saddle_loss,
    error=_saddle_loss,
    references=("adam", "momentum"),
    **COMMON,
)
define(
    "monkey_saddle",
    measures="does it pass a saddle point at which the curvature vanishes as well?",
    difficulty="angle between the start and the direction that leads into the saddle point, in radians",
    levels=(0.5, 0.3, 0.2, 0.1),
    begin=_monkey_saddle,
    loss=_monkey_loss,
    error=_monkey_loss,
    references=("adam", "momentum"),
    **COMMON,
)
define(
    "saddle_approached",
    measures="does it leave a saddle point to which the gradient leads it first?",
    difficulty="distance of the start from the line that leads into the saddle point",
    levels=(1e-1, 1e-2, 1e-4, 1e-6),
    begin=_approached,
    loss=_hyperbolas,
    error=_hyperbolas,
    references=("adam", "momentum"),
    **COMMON,
)
