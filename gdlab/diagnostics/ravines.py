"""Ravines: narrow valleys whose direction changes, so that no fixed preconditioner fits."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gdlab.diagnostics.problem import DIM, define, distance, rotation

PAIRS = DIM // 2


def _valley_begin(key: Any, level: Any) -> tuple[Array, Any]:
    jitter = 0.1 * jax.random.normal(key, (DIM,))
    start = jnp.concatenate([jnp.full(PAIRS, -0.5), jnp.full(PAIRS, 0.5)]) + jitter
    return start, {"target": jnp.ones(DIM), "basis": jnp.eye(DIM), "steepness": level}


def _rotated_valley_begin(key: Any, level: Any) -> tuple[Array, Any]:
    start, data = _valley_begin(key, level)
    basis = rotation(jax.random.fold_in(key, 1), DIM)
    return basis.T @ start, data | {"target": basis.T @ data["target"], "basis": basis}


def _valleys(x: Array, data: Any, step: Any) -> Array:
    """Rosenbrock's function of eight pairs of coordinates, each of which has a single minimum, at (1, 1)."""
    first, second = (data["basis"] @ x).reshape(2, -1)
    return jnp.mean((1 - first) ** 2 + data["steepness"] * (second - first**2) ** 2)


def _spiral_begin(key: Any, level: Any) -> tuple[Array, Any]:
    keys = jax.random.split(key)
    center = jax.random.normal(keys[0], (PAIRS, 2))
    angles = jax.random.uniform(keys[1], (PAIRS,), maxval=2 * jnp.pi)
    start = center + 3 * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
    return start.ravel(), {"target": center.ravel(), "turns": level}


def _spiral(x: Array, data: Any, step: Any) -> Array:
    """In each plane a valley winds around the minimum: `turns` radians per unit of distance."""
    away = (x - data["target"]).reshape(-1, 2)
    radius = jnp.sqrt(jnp.sum(away**2, axis=1) + 1e-6)
    cosine, sine = jnp.cos(data["turns"] * radius), jnp.sin(data["turns"] * radius)
    along, across = cosine * away[:, 0] + sine * away[:, 1], cosine * away[:, 1] - sine * away[:, 0]
    return jnp.mean(along**2 + 30 * across**2) / 2


def _ridge_begin(key: Any, level: Any) -> tuple[Array, Any]:
    keys = jax.random.split(key, 3)
    basis = rotation(keys[0], DIM)
    target = jax.random.normal(keys[1], (DIM,))
    start = jax.random.normal(keys[2], (DIM,)).at[0].set(4.0)
    return target + basis.T @ start, {"target": target, "basis": basis, "steepness": level}


def _ridge(x: Array, data: Any, step: Any) -> Array:
    seen = data["basis"] @ (x - data["target"])
    return seen[0] ** 2 / 2 + data["steepness"] * jnp.sqrt(jnp.sum(seen[1:] ** 2) + 1e-8)


COMMON: dict[str, Any] = {"family": "ravine", "error": distance}

define(
    "valley",
    measures="does it follow a curved valley (Rosenbrock's), of which each pair of coordinates has one?",
    difficulty="steepness of the walls",
    levels=(1.0, 10.0, 100.0, 300.0),
    begin=_valley_begin,
    loss=_valleys,
    goal=0.05,
    references=("adam", "momentum"),
    **COMMON,
)
define(
    "valley_rotated",
    measures="does it follow the same valleys when they lie at an angle to the coordinates?",
    difficulty="steepness of the walls",
    levels=(1.0, 10.0, 100.0, 300.0),
    begin=_rotated_valley_begin,
    loss=_valleys,
    goal=0.05,
    references=("adam", "momentum"),
    **COMMON,
)
define(
    "spiral",
    measures="does it follow a valley that winds around the minimum, so that momentum points the wrong way?",
    difficulty="radians per unit of distance",
    levels=(0.2, 0.5, 1.0, 1.5),
    begin=_spiral_begin,
    loss=_spiral,
    goal=0.05,
    references=("adam", "momentum"),
    **COMMON,
)
define(
    "sharp_ridge",
    measures="does it move along a ridge whose sides have a kink at the bottom?",
    difficulty="slope of the sides",
    levels=(0.1, 1.0, 10.0, 100.0),
    begin=_ridge_begin,
    loss=_ridge,
    goal=0.05,
    references=("adam", "momentum"),
    **COMMON,
)
