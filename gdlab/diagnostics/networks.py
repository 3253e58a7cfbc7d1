"""Networks of one hidden layer: symmetries that have to be broken, units that are dead, functions that are not smooth.

All examples are in every batch, so that nothing is random but the start.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gdlab.diagnostics.problem import define, spectrum

BITS = 5
UNITS = 16
INPUTS = 4


def _all_bits(count: int) -> Array:
    """Return all vectors of `count` entries 1 and -1, as rows."""
    return 1.0 - 2.0 * ((jnp.arange(2**count)[:, None] >> jnp.arange(count)) % 2)


def _layers(key: Any, inputs: int, size: Any) -> dict[str, Array]:
    keys = jax.random.split(key, 3)
    return {
        "hidden": size * jax.random.normal(keys[0], (inputs, UNITS)) / jnp.sqrt(inputs),
        "bias": size * jax.random.normal(keys[1], (UNITS,)),
        "output": size * jax.random.normal(keys[2], (UNITS,)) / jnp.sqrt(UNITS),
    }


def _xor_begin(key: Any, level: Any) -> tuple[Any, Any]:
    x = _all_bits(2)
    return _layers(key, 2, level), {"x": x, "labels": x[:, 0] * x[:, 1]}


def _parity_begin(key: Any, level: Any) -> tuple[Any, Any]:
    x = _all_bits(BITS)
    labels = jnp.prod(jnp.where(jnp.arange(BITS) < level, x, 1.0), axis=1)
    return _layers(key, BITS, 1.0), {"x": x, "labels": labels}


def _logistic(params: Any, data: Any, step: Any) -> Array:
    guess = jnp.tanh(data["x"] @ params["hidden"] + params["bias"]) @ params["output"]
    return jnp.mean(jax.nn.softplus(-data["labels"] * guess))


def _rectified(params: Any, x: Array) -> Array:
    return jax.nn.relu(x @ params["hidden"] + params["bias"]) @ params["output"]


def _student_begin(key: Any, condition: Any, bias: Any) -> tuple[Any, Any]:
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (24, INPUTS)) * spectrum(INPUTS, condition)
    teacher = _layers(keys[1], INPUTS, 1.0)
    few = {"hidden": teacher["hidden"][:, :2], "bias": teacher["bias"][:2], "output": jnp.array([1.0, -1.0])}
    start = _layers(keys[2], INPUTS, 1.0)
    y = _rectified(few, x / spectrum(INPUTS, condition))
    return start | {"bias": start["bias"] * 0.1 - bias}, {"x": x, "y": y - jnp.mean(y)}


def _square(params: Any, data: Any, step: Any) -> Array:
    guess = _rectified(params, data["x"])
    return jnp.mean((guess - jnp.mean(guess) - data["y"]) ** 2)


COMMON: dict[str, Any] = {"family": "network"}
LOGISTIC: dict[str, Any] = COMMON | {"loss": _logistic, "error": _logistic, "goal": 0.1, "references": ("adam", "muon")}
SQUARE: dict[str, Any] = COMMON | {"loss": _square, "error": _square, "goal": 0.05, "references": ("adam", "momentum")}

define(
    "xor",
    measures="does it break the symmetry of a small network that has to learn an exclusive or?",
    difficulty="size of the weights at the start",
    levels=(1.0, 0.3, 0.1, 0.01),
    begin=_xor_begin,
    **LOGISTIC,
)
define(
    "parity",
    measures="does it learn the parity of some bits of five, of which no subset says anything?",
    difficulty="number of bits that count",
    levels=(2.0, 3.0, 4.0, 5.0),
    begin=_parity_begin,
    **LOGISTIC,
)
define(
    "teacher_and_student",
    measures="does it learn what another network computes, from inputs of different sizes?",
    difficulty="ratio of the largest size of an input to the smallest",
    levels=(1.0, 3.0, 10.0, 30.0),
    begin=lambda key, level: _student_begin(key, level, 0.0),
    **SQUARE,
)
define(
    "dead_units",
    measures="does it use the few units that are alive, and wake others?",
    difficulty="how far the biases are below 0",
    levels=(0.0, 0.5, 1.0, 1.5),
    begin=lambda key, level: _student_begin(key, 1.0, level),
    **SQUARE,
)
