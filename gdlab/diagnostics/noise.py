"""Noise: gradients that are right on average, or nearly never, on bowls that are otherwise easy.

The optimizer receives the gradient with noise; the distance from the solution is judged, averaged over the last tenth
of the steps. All noise has mean 0, except that a delayed gradient is one of the past.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gdlab.diagnostics.problem import DIM, STEPS, apart, bowl, define, distance, replaced, spectrum, tilted

CONDITION = 10.0
LONGEST = 64
"""The longest delay."""


def _begin(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    return start, {"target": target, "curvatures": spectrum(DIM, CONDITION), "level": level}


def _slope(x: Array, data: Any) -> Array:
    return data["curvatures"] * (x - data["target"])


def _noisy(draw: Callable[[Any, Any, Any], Array]) -> Callable[..., Array]:
    """Return the sampled loss whose gradient has the noise `draw(key, data, gradient)` added to it."""

    def sampled(x: Array, data: Any, memory: Any, key: Any, step: Any) -> Array:
        return tilted(bowl(x, data, step), x, draw(key, data, _slope(x, data)))

    return sampled


def _normal(key: Any) -> Array:
    return jax.random.normal(key, (DIM,))


def _gaussian(key: Any, data: Any, slope: Array) -> Array:
    return data["level"] * _normal(key)


def _multiplicative(key: Any, data: Any, slope: Array) -> Array:
    return data["level"] * slope * _normal(key)


def _heavy_tailed(key: Any, data: Any, slope: Array) -> Array:
    """Symmetric Pareto noise: P(|noise| > 0.1 s) = (1 + s)^-a, whose variance is infinite for a <= 2."""
    sides = jax.random.uniform(key, (DIM,), minval=-1.0, maxval=1.0)
    sizes = jnp.maximum(1 - jnp.abs(sides), 1e-7) ** (-1 / data["level"]) - 1
    return 0.1 * jnp.sign(sides) * sizes


def _asymmetric(key: Any, data: Any, slope: Array) -> Array:
    return data["level"] * (jax.random.exponential(key, (DIM,)) - 1)


def _masked(key: Any, data: Any, slope: Array) -> Array:
    seen = jax.random.uniform(key, (DIM,)) < 1 / data["level"]
    return slope * (seen * data["level"] - 1)


def _outliers(key: Any, data: Any, slope: Array) -> Array:
    keys = jax.random.split(key)
    struck = jax.random.uniform(keys[0]) < 0.01
    return jnp.where(struck, data["level"], 0.05) * _normal(keys[1])


def _embedding(x: Array, data: Any, memory: Any, key: Any, step: Any) -> Array:
    """The loss of those coordinates that occur in this batch, the i-th with probability i^-level."""
    present = jax.random.uniform(key, (DIM,)) < jnp.arange(1.0, DIM + 1) ** -data["level"]
    return jnp.sum(present * (x - data["target"]) ** 2) / 2


def _expected_embedding(x: Array, data: Any, step: Any) -> Array:
    return jnp.sum(jnp.arange(1.0, DIM + 1) ** -data["level"] * (x - data["target"]) ** 2) / 2


def _correlated(x: Array, data: Any, memory: Any, key: Any, step: Any) -> Array:
    return tilted(bowl(x, data, step), x, 0.3 * memory["noise"])


def _carry_noise(memory: Any, x: Array, key: Any, step: Any) -> Any:
    """Return the next noise of an autoregressive process of variance 1."""
    old = memory["correlation"]
    return memory | {"noise": old * memory["noise"] + jnp.sqrt(1 - old**2) * _normal(key)}


def _no_noise(x: Array, data: Any) -> Any:
    return {"noise": jnp.zeros(DIM), "correlation": data["level"]}


def _delayed(x: Array, data: Any, memory: Any, key: Any, step: Any) -> Array:
    past = memory[(step - data["level"].astype(jnp.int32)) % (LONGEST + 1)]
    return replaced(bowl(x, data, step), x, _slope(past, data))


def _at_start(x: Array, data: Any) -> Array:
    return jnp.broadcast_to(x, (LONGEST + 1, DIM))


def _carry_points(memory: Array, x: Array, key: Any, step: Any) -> Array:
    return memory.at[step % (LONGEST + 1)].set(x)


def _model_begin(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    return target + jnp.sign(start), {
        "target": target,
        "curvatures": 1 / jnp.arange(1.0, DIM + 1),
        "level": level,
    }


def _model_noise(key: Any, data: Any, slope: Array) -> Array:
    """Noise of a batch of `level` examples, whose covariance is the Hessian divided by the size of the batch."""
    return jnp.sqrt(data["curvatures"] / data["level"]) * _normal(key)


COMMON: dict[str, Any] = {"family": "noise", "error": distance, "goal": 0.15, "steps": STEPS}
PLAIN: dict[str, Any] = COMMON | {"begin": _begin, "loss": bowl}

define(
    "gaussian_noise",
    measures="does it average noise of constant size?",
    difficulty="standard deviation of the noise",
    levels=(0.1, 0.3, 0.6, 1.0),
    sampled=_noisy(_gaussian),
    references=("sgd", "momentum", "schedule_free_sgd", "adam"),
    **PLAIN,
)
define(
    "multiplicative_noise",
    measures="does it stand noise in proportion to the gradient, which vanishes at the solution?",
    difficulty="standard deviation relative to the gradient",
    levels=(0.3, 1.0, 3.0, 10.0),
    sampled=_noisy(_multiplicative),
    references=("sgd", "momentum", "adam"),
    **PLAIN,
)
define(
    "heavy_tailed_noise",
    measures="does it survive noise of infinite variance, and at last of nearly infinite mean size?",
    difficulty="exponent of the tail",
    levels=(4.0, 2.0, 1.5, 1.1),
    sampled=_noisy(_heavy_tailed),
    references=("signum", "adam", "sgd"),
    **PLAIN,
)
define(
    "asymmetric_noise",
    measures="does it follow the mean of the gradients, rather than their most frequent sign?",
    difficulty="standard deviation of exponential noise",
    levels=(0.1, 0.3, 0.6, 1.0),
    sampled=_noisy(_asymmetric),
    references=("sgd", "momentum", "schedule_free_sgd"),
    **PLAIN,
)
define(
    "sparse_gradients",
    measures="does it cope with coordinates that are seldom seen, and then with a large gradient?",
    difficulty="mean number of steps between two gradients of a coordinate",
    levels=(2.0, 8.0, 16.0, 32.0),
    sampled=_noisy(_masked),
    references=("sgd", "adam", "adagrad"),
    **PLAIN,
)
define(
    "outliers",
    measures="does one bad batch in a hundred throw it off?",
    difficulty="size of the gradient of a bad batch",
    levels=(1.0, 10.0, 30.0, 100.0),
    sampled=_noisy(_outliers),
    references=("signum", "adam", "sgd"),
    **PLAIN,
)
define(
    "zipf_coordinates",
    measures="does it learn coordinates that occur seldom, as rare words do, as well as frequent ones?",
    difficulty="exponent of the frequencies",
    levels=(0.5, 1.0, 1.5, 2.0),
    begin=_begin,
    loss=_expected_embedding,
    sampled=_embedding,
    references=("adam", "sgd"),
    **COMMON,
)
define(
    "correlated_noise",
    measures="does it average noise that is correlated in time?",
    difficulty="correlation of the noise of consecutive steps",
    levels=(0.0, 0.5, 0.7, 0.8),
    sampled=_correlated,
    recall=_no_noise,
    remember=_carry_noise,
    references=("sgd", "momentum", "schedule_free_sgd"),
    **PLAIN,
)
define(
    "delayed_gradients",
    measures="how does it stand gradients of past points, as of slow workers?",
    difficulty="delay in steps",
    levels=(1.0, 4.0, 16.0, 64.0),
    sampled=_delayed,
    recall=_at_start,
    remember=_carry_points,
    references=("sgd", "adam"),
    **PLAIN,
)
define(
    "noisy_quadratic_model",
    measures="how small may batches be: does it average noise whose covariance is the curvature?",
    difficulty="number of examples in a batch",
    levels=(64.0, 16.0, 4.0, 2.0),
    begin=_model_begin,
    loss=bowl,
    sampled=_noisy(_model_noise),
    references=("sgd", "momentum", "schedule_free_sgd"),
    **COMMON,
)
