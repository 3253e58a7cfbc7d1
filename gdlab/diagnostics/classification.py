"""Classification: classes and features whose frequencies and sizes differ, and weights that have to grow.

Where classes differ in frequency, the mean over classes is judged, not the loss, in which rare ones hardly count.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gdlab.diagnostics.problem import DIM, define, spectrum

EXAMPLES = 32


def _zipf_begin(key: Any, level: Any) -> tuple[Any, Any]:
    frequencies = jnp.arange(1.0, DIM + 1) ** -level
    start = 0.1 * jax.random.normal(key, (DIM, DIM))
    return {"kernel": start}, {"frequencies": frequencies / jnp.sum(frequencies)}


def _entropies(params: Any) -> Array:
    """Return the cross-entropy of each class; the input i, of which there is one for each class, has the label i."""
    return -jnp.diagonal(jax.nn.log_softmax(params["kernel"]))


def _zipf(params: Any, data: Any, step: Any) -> Array:
    return jnp.sum(data["frequencies"] * _entropies(params))


def _mean_of_classes(params: Any, data: Any, step: Any) -> Array:
    return jnp.mean(_entropies(params))


def _imbalance_begin(key: Any, level: Any) -> tuple[Array, Any]:
    labels = jnp.where(jnp.arange(EXAMPLES) % 2 == 0, 1.0, -1.0)
    clusters = jax.random.normal(key, (EXAMPLES, 8)) * 0.5 + labels[:, None] * spectrum(8, 10.0)
    x = jnp.concatenate([clusters, jnp.ones((EXAMPLES, 1))], axis=1)
    weights = jnp.where(labels > 0, level, 1.0)
    return jnp.zeros(9), {"x": x, "labels": labels, "weights": weights / jnp.mean(weights)}


def _logistic(w: Array, data: Any, step: Any) -> Array:
    return jnp.mean(data["weights"] * jax.nn.softplus(-data["labels"] * (data["x"] @ w)))


def _balanced(w: Array, data: Any, step: Any) -> Array:
    return jnp.mean(jax.nn.softplus(-data["labels"] * (data["x"] @ w)))


def _separable_begin(key: Any, level: Any) -> tuple[Array, Any]:
    keys = jax.random.split(key, 3)
    direction = jax.random.normal(keys[0], (DIM,))
    direction /= jnp.linalg.norm(direction)
    labels = jax.random.rademacher(keys[1], (EXAMPLES,), jnp.float32)
    x = jax.random.normal(keys[2], (EXAMPLES, DIM))
    x += jnp.outer(level * labels - x @ direction, direction)  # each example has the same margin
    return jnp.zeros(DIM), {"x": x, "labels": labels, "weights": jnp.ones(EXAMPLES)}


def _features_begin(key: Any, level: Any) -> tuple[Array, Any]:
    keys = jax.random.split(key)
    x = jax.random.normal(keys[0], (DIM, DIM)) * spectrum(DIM, level)
    labels = jax.random.rademacher(keys[1], (DIM,), jnp.float32)
    return jnp.zeros(DIM), {"x": x, "labels": labels, "weights": jnp.ones(DIM)}


COMMON: dict[str, Any] = {"family": "classification"}

define(
    "zipf_classes",
    measures="does it learn rare classes, when frequencies fall by Zipf's law?",
    difficulty="exponent of the frequencies",
    levels=(0.5, 1.0, 2.0, 3.0),
    begin=_zipf_begin,
    loss=_zipf,
    error=_mean_of_classes,
    goal=0.1,
    references=("adam", "signum"),
    **COMMON,
)
define(
    "class_imbalance",
    measures="does it learn the rarer of two classes?",
    difficulty="ratio of the numbers of examples",
    levels=(1.0, 10.0, 100.0, 1000.0),
    begin=_imbalance_begin,
    loss=_logistic,
    error=_balanced,
    goal=0.2,
    references=("adam", "signum"),
    **COMMON,
)
define(
    "growing_weights",
    measures="does it separate classes with a small margin, for which the weights must grow without end?",
    difficulty="margin",
    levels=(0.5, 0.2, 0.1, 0.03),
    begin=_separable_begin,
    loss=_balanced,
    error=_balanced,
    goal=0.1,
    references=("adam", "momentum"),
    **COMMON,
)
define(
    "feature_sizes",
    measures="does it learn from features of different sizes, all of which count?",
    difficulty="ratio of the largest size of a feature to the smallest",
    levels=(1.0, 10.0, 100.0, 1000.0),
    begin=_features_begin,
    loss=_balanced,
    error=_balanced,
    goal=0.1,
    references=("adam", "signum"),
    **COMMON,
)
