"""Drift: solutions, axes and losses that change while they are being learned, so that old gradients mislead.

The distance from the solution of the moment is judged, averaged over the last tenth of the steps.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gdlab.diagnostics.problem import DIM, apart, define, distance, spectrum, tilted

NOISE = 0.3
"""The standard deviation of the gradients' noise, because of which a step to the newest solution is no answer."""


def _moving_begin(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    heading = jax.random.normal(jax.random.fold_in(key, 1), (DIM,))
    return target + 3 * jnp.sign(start), {"origin": target, "velocity": level * heading}


def _moving(data: Any, step: Any) -> Array:
    return data["origin"] + data["velocity"] * step


def _jumping_begin(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    return target + 3 * jnp.sign(start), {"target": target, "other": -target, "period": level}


def _jumping(data: Any, step: Any) -> Array:
    return jnp.where(jnp.floor(step / data["period"]) % 2 == 0, data["target"], data["other"])


def _follow(place: Any) -> dict[str, Any]:
    """Return the functions of a bowl around a solution that moves, with noise."""

    def loss(x: Array, data: Any, step: Any) -> Array:
        return jnp.sum((x - place(data, step)) ** 2) / 2

    def error(x: Array, data: Any, step: Any) -> Array:
        return distance(x, {"target": place(data, step)}, step)

    def sampled(x: Array, data: Any, memory: Any, key: Any, step: Any) -> Array:
        return tilted(loss(x, data, step), x, NOISE * jax.random.normal(key, (DIM,)))

    return {"loss": loss, "error": error, "sampled": sampled}


def _turning_begin(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    return start, {"target": target, "speed": level, "curvatures": spectrum(DIM // 2, 3.0)}


def _turning(x: Array, data: Any, step: Any) -> Array:
    """Bowls of condition 100 in planes, whose steep axis turns by `speed` radians in each step."""
    away = (x - data["target"]).reshape(-1, 2)
    angle = data["speed"] * step
    along = jnp.cos(angle) * away[:, 0] + jnp.sin(angle) * away[:, 1]
    return jnp.sum(data["curvatures"] * (0.99 * along**2 + 0.01 * jnp.sum(away**2, axis=1))) / 2


def _pushed_begin(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    return start, {"target": target, "period": level, "curvatures": spectrum(DIM, 10.0)}


def _pushed(x: Array, data: Any, step: Any) -> Array:
    return jnp.sum(data["curvatures"] * (x - data["target"]) ** 2) / 2


def _push(x: Array, data: Any, memory: Any, key: Any, step: Any) -> Array:
    push = jnp.sin(2 * jnp.pi * step / data["period"]) * jnp.ones(DIM)
    return tilted(_pushed(x, data, step), x, push)


COMMON: dict[str, Any] = {"family": "drift"}

define(
    "moving_solution",
    measures="does it track a solution that moves steadily, without amplifying noise?",
    difficulty="speed per step",
    levels=(1e-4, 1e-3, 1e-2, 3e-2),
    begin=_moving_begin,
    goal=0.1,
    references=("sgd", "momentum", "adam"),
    **_follow(_moving),
    **COMMON,
)
define(
    "jumping_solution",
    measures="how soon does it forget, when the solution jumps back and forth?",
    difficulty="steps between two jumps",
    levels=(500.0, 100.0, 70.0, 50.0),
    begin=_jumping_begin,
    goal=0.25,
    references=("sgd", "adam"),
    **_follow(_jumping),
    **COMMON,
)
define(
    "turning_axes",
    measures="does it stand curvatures that turn from one coordinate to the other and back?",
    difficulty="radians per step",
    levels=(0.001, 0.01, 0.1, 1.0),
    begin=_turning_begin,
    loss=_turning,
    error=distance,
    goal=0.02,
    references=("sgd", "momentum", "adam"),
    **COMMON,
)
define(
    "periodic_push",
    measures="does a push that alternates average out?",
    difficulty="steps from one push to the next in the same direction",
    levels=(4.0, 20.0, 40.0, 80.0),
    begin=_pushed_begin,
    loss=_pushed,
    error=distance,
    goal=0.15,
    sampled=_push,
    references=("sgd", "momentum", "adam"),
    **COMMON,
)
