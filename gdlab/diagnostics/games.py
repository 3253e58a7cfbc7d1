"""Games: fields of gradients that turn, which belong to no loss, as where two players descend at once."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gdlab.diagnostics.problem import DIM, apart, bowl, define, distance, replaced, rotation

HALF = DIM // 2


def _begin(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    return start, {"target": target, "level": level, "basis": rotation(jax.random.fold_in(key, 1), HALF)}


def _curl(x: Array, data: Any, memory: Any, key: Any, step: Any) -> Array:
    """The slope of the bowl, and across it a field that is `level` times as large."""
    away = x - data["target"]
    first, second = away.reshape(2, -1)
    across = jnp.concatenate([second, -first])
    return replaced(bowl(x, data, step), x, away + data["level"] * across)


def _players(x: Array, data: Any, memory: Any, key: Any, step: Any) -> Array:
    """Two players of v' A w + level (v^2 - w^2) / 2 with a rotation A: the first descends, the second climbs."""
    first, second = (x - data["target"]).reshape(2, -1)
    mine = data["basis"] @ second + data["level"] * first
    yours = -data["basis"].T @ first + data["level"] * second
    return replaced(bowl(x, data, step), x, jnp.concatenate([mine, yours]))


COMMON: dict[str, Any] = {"family": "game", "begin": _begin, "loss": bowl, "error": distance, "goal": 0.05}

define(
    "curl",
    measures="does it stand a field that turns around the solution, where momentum spirals out?",
    difficulty="size of the field across the slope, relative to the slope",
    levels=(0.5, 2.0, 5.0, 10.0),
    sampled=_curl,
    references=("sgd", "adam"),
    **COMMON,
)
define(
    "two_players",
    measures="does it find the saddle point of a game, when the players' interests are nearly opposed?",
    difficulty="strength of convexity, relative to the interaction",
    levels=(1.0, 0.5, 0.2, 0.1),
    sampled=_players,
    references=("sgd", "adam"),
    **COMMON,
)
