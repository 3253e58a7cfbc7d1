"""Quantization: parameters, numbers and gradients that are rounded."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gdlab.diagnostics.problem import DIM, apart, bowl, define, distance, replaced, spectrum


def _rounded(x: Array, spacing: Any) -> Array:
    """Return x rounded to multiples of the spacing, with the derivative of x (straight through)."""
    return x + jax.lax.stop_gradient(spacing * jnp.round(x / spacing) - x)


def _grid_begin(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    aim = level * jnp.round(target / level)
    return aim + 2 * jnp.sign(start) + 0.5 * start, {"target": aim, "spacing": level, "curvatures": spectrum(DIM, 30.0)}


def _grid_bowl(x: Array, data: Any, step: Any) -> Array:
    return jnp.sum(data["curvatures"] * (_rounded(x, data["spacing"]) - data["target"]) ** 2) / 2


def _grid_error(x: Array, data: Any, step: Any) -> Array:
    return distance(_rounded(x, data["spacing"]), data, step)


def _half_begin(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    aim = (2.0 + target / 2).astype(jnp.bfloat16)
    begun = aim + (jnp.sign(start) + 0.2 * start).astype(jnp.bfloat16)
    return begun, {"target": aim.astype(jnp.float32), "curvatures": spectrum(DIM, level)}


def _half_bowl(x: Array, data: Any, step: Any) -> Array:
    return jnp.sum(data["curvatures"] * (x.astype(jnp.float32) - data["target"]) ** 2) / 2


def _coarse_begin(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    return start, {"target": target, "curvatures": spectrum(DIM, 10.0), "spacing": level}


def _coarse(x: Array, data: Any, memory: Any, key: Any, step: Any) -> Array:
    """The gradient rounded up or down to multiples of the spacing at random, so that its mean stays."""
    slope = data["curvatures"] * (x - data["target"])
    chance = jax.random.uniform(key, (DIM,))
    return replaced(bowl(x, data, step), x, data["spacing"] * jnp.floor(slope / data["spacing"] + chance))


COMMON: dict[str, Any] = {"family": "quantization"}

define(
    "rounded_parameters",
    measures="does it find the right values when the loss sees only rounded parameters?",
    difficulty="distance of neighbouring values",
    levels=(0.03, 0.1, 0.3, 1.0),
    begin=_grid_begin,
    loss=_grid_bowl,
    error=_grid_error,
    goal=0.05,
    references=("adam", "sgd"),
    **COMMON,
)
define(
    "bfloat16_parameters",
    measures="does it arrive although steps that are small relative to a parameter are lost to rounding?",
    difficulty="condition number",
    levels=(3.0, 10.0, 30.0, 100.0),
    begin=_half_begin,
    loss=_half_bowl,
    error=distance,
    goal=0.05,
    references=("sgd", "adam", "momentum"),
    **COMMON,
)
define(
    "rounded_gradients",
    measures="does it average gradients that are rounded at random?",
    difficulty="distance of neighbouring values of the gradient",
    levels=(0.1, 0.3, 1.0, 3.0),
    begin=_coarse_begin,
    loss=bowl,
    error=distance,
    sampled=_coarse,
    goal=0.1,
    references=("sgd", "momentum", "adam"),
    **COMMON,
)
