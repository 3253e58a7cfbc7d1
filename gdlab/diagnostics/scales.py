"""Scales: layers, parameters and losses whose sizes differ by orders of magnitude, with nothing else that is hard.

Each layer's error is judged relative to its own size, so that small layers count as much as large ones.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from gdlab.diagnostics.problem import apart, define, distance

LAYERS = ("first", "second", "third", "fourth")
WIDTH = 4


def _layers(key: Any) -> tuple[dict[str, Array], dict[str, Array]]:
    start, target = apart(key)
    rows = [dict(zip(LAYERS, x.reshape(len(LAYERS), WIDTH), strict=True)) for x in (start, target)]
    return rows[0], rows[1]


def _factors(level: Any) -> dict[str, Array]:
    """Return a factor for each layer, from 10^-level to 10^level."""
    exponents = jnp.linspace(-1.0, 1.0, len(LAYERS))
    return {name: 10.0 ** (level * exponent) for name, exponent in zip(LAYERS, exponents, strict=True)}


def _relative(params: Any, data: Any, step: Any) -> Array:
    squares = [jnp.mean(((params[name] - data["target"][name]) / data["sizes"][name]) ** 2) for name in LAYERS]
    return jnp.sqrt(jnp.mean(jnp.stack(squares)))


def _layer_scales(key: Any, level: Any) -> tuple[Any, Any]:
    start, target = _layers(key)
    return start, {"target": target, "curvatures": _factors(level), "sizes": _factors(0.0)}


def _parameter_scales(key: Any, level: Any) -> tuple[Any, Any]:
    start, target = _layers(key)
    sizes = _factors(level)
    start, target = ({name: layer[name] * sizes[name] for name in LAYERS} for layer in (start, target))
    return start, {"target": target, "curvatures": _factors(0.0), "sizes": sizes}


def _bowls(params: Any, data: Any, step: Any) -> Array:
    each = [data["curvatures"][name] * jnp.sum((params[name] - data["target"][name]) ** 2) for name in LAYERS]
    return sum(each[1:], each[0]) / 2


def _small_loss(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    return start, {"target": target, "factor": 10.0**-level}


def _scaled_bowl(x: Array, data: Any, step: Any) -> Array:
    return data["factor"] * jnp.sum((x - data["target"]) ** 2) / 2


def _scale_free(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    far = 10.0 ** (level * jnp.linspace(0.0, 1.0, start.size))
    return target + far * jnp.sign(start), {"target": target}


def _logarithms(x: Array, data: Any, step: Any) -> Array:
    return jnp.mean(jnp.log1p((x - data["target"]) ** 2))


COMMON: dict[str, Any] = {"family": "scales"}

define(
    "layer_scales",
    measures="does it serve layers whose gradients differ by orders of magnitude?",
    difficulty="largest power of ten by which a layer's curvature differs from 1",
    levels=(0.5, 1.0, 2.0, 3.0),
    begin=_layer_scales,
    loss=_bowls,
    error=_relative,
    goal=0.02,
    references=("adam",),
    **COMMON,
)
define(
    "parameter_scales",
    measures="does it serve layers whose parameters differ by orders of magnitude, at equal curvature?",
    difficulty="largest power of ten by which a layer's parameters differ from 1",
    levels=(0.5, 1.0, 2.0, 3.0),
    begin=_parameter_scales,
    loss=_bowls,
    error=_relative,
    goal=0.02,
    references=("sgd",),
    **COMMON,
)
define(
    "small_loss",
    measures="does the unit of the loss matter, through an eps or a range of learning rates?",
    difficulty="power of ten by which the loss is divided",
    levels=(2.0, 4.0, 6.0, 8.0),
    begin=_small_loss,
    loss=_scaled_bowl,
    error=distance,
    goal=0.02,
    references=("adam", "signum", "rprop"),
    **COMMON,
)
define(
    "large_loss",
    measures="does a loss in a tiny unit, with huge gradients, break it?",
    difficulty="power of ten by which the loss is multiplied",
    levels=(2.0, 4.0, 6.0, 8.0),
    begin=lambda key, level: _small_loss(key, -level),
    loss=_scaled_bowl,
    error=distance,
    goal=0.02,
    references=("adam", "signum"),
    **COMMON,
)
define(
    "scale_free",
    measures="does it return from distances of many orders of magnitude, where the slope falls like 1 / distance?",
    difficulty="power of ten of the largest distance",
    levels=(0.5, 1.0, 2.0, 3.0),
    begin=_scale_free,
    loss=_logarithms,
    error=_logarithms,
    goal=0.05,
    references=("adam", "rprop"),
    **COMMON,
)
