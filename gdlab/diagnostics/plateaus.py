"""Plateaus: regions where the slope is smaller by orders of magnitude than the distance to go asks for."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gdlab.diagnostics.problem import DIM, apart, define, distance

OUTSIDE = 2.0
"""The distance of the starts of `plateau` from the solution, per coordinate."""


def _beside(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    return target + OUTSIDE * jnp.sign(start), {"target": target, "sharpness": level / (OUTSIDE**2 - 1)}


def _well(x: Array, data: Any, step: Any) -> Array:
    square = jnp.mean((x - data["target"]) ** 2)
    return jax.nn.sigmoid(data["sharpness"] * (square - 1))


def _stairs_begin(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    return target + 3 * jnp.sign(start) + 0.3 * start, {"target": target, "flatness": level}


def _stairs(x: Array, data: Any, step: Any) -> Array:
    # The slope is that of a bowl times 1 + flatness cos(2 pi away), so it is flat half-way between two integers.
    away = x - data["target"]
    waves = jnp.cos(2 * jnp.pi * away) / (2 * jnp.pi) ** 2 + away * jnp.sin(2 * jnp.pi * away) / (2 * jnp.pi)
    return jnp.sum(away**2 / 2 + data["flatness"] * (waves - 1 / (2 * jnp.pi) ** 2))


def _power(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    return target + jnp.sign(start), {"target": target, "half": level}


def _powers(x: Array, data: Any, step: Any) -> Array:
    # The square is kept from 0, where the derivative of a power that is no constant is not finite.
    square = (x - data["target"]) ** 2 + 1e-12
    return jnp.sum(square ** data["half"])


def _different(key: Any, level: Any) -> tuple[Array, Any]:
    start, data = _power(key, level)
    return start, data | {"half": 1 + (level - 1) * jnp.linspace(0.0, 1.0, DIM)}


COMMON: dict[str, Any] = {"family": "plateau", "error": distance}

define(
    "plateau",
    measures="does it leave a plateau whose slope falls exponentially with the distance from the well?",
    difficulty="negative logarithm of the slope at the start",
    levels=(2.0, 5.0, 9.0, 13.0),
    begin=_beside,
    loss=_well,
    goal=0.1,
    references=("adam", "signum"),
    **COMMON,
)
define(
    "staircase",
    measures="does it keep going over steps with a flat part on each?",
    difficulty="part of the slope that is missing on the flat parts",
    levels=(0.5, 0.9, 0.99, 0.999),
    begin=_stairs_begin,
    loss=_stairs,
    goal=0.05,
    references=("adam", "momentum"),
    **COMMON,
)
define(
    "vanishing_curvature",
    measures="does it approach a minimum at which slope and curvature vanish to high order?",
    difficulty="half the power of the distance",
    levels=(1.0, 2.0, 3.0, 4.0),
    begin=_power,
    loss=_powers,
    goal=0.1,
    references=("adam", "signum"),
    **COMMON,
)
define(
    "different_powers",
    measures="does it approach a minimum that is of another order along each coordinate?",
    difficulty="half the largest power of the distance",
    levels=(1.5, 2.0, 3.0, 4.0),
    begin=_different,
    loss=_powers,
    goal=0.1,
    references=("adam", "signum"),
    **COMMON,
)
