"""Losses and scores of networks, one number per example; the training loop takes the means.

Shapes and dtypes are always checked, and labels that are not traced are checked against the number of classes. A traced
label that is none of the classes gives the loss NaN, never that of another class.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gdlab.arguments import describe, require_number


def cross_entropy(logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """-log softmax(logits)[label], in nats.

    Computed in float32 or wider, whatever the dtype of the logits. Equal to
    `torch.nn.functional.cross_entropy(..., reduction="none")`.

    Args:
      logits: unnormalized log-probabilities of the classes, which are the last axis.
      labels: the true classes, counted from 0.

    Returns:
      The loss of each example; NaN where a traced label is none of the classes.

    Raises:
      TypeError: if `logits` are not real floating-point numbers, or `labels` are not integers.
      ValueError: if the shapes do not fit, or a label that is not traced is none of the classes.
    """
    logits = _as_scores("logits", logits)
    labels = _as_labels(labels, logits, "logits")
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    log_probabilities = jax.nn.log_softmax(wide, axis=-1)
    # A sum over one term, because the gradient of indexing is a scatter into an array of zeros, which is not fused.
    labels = labels.astype(jnp.promote_types(labels.dtype, jnp.int32))
    is_label = labels[..., None] == jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    chosen = jnp.sum(jnp.where(is_label, log_probabilities, 0), axis=-1)
    return jnp.where((labels >= 0) & (labels < logits.shape[-1]), -chosen, jnp.nan)


def is_hit(logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]) -> Bool[Array, "*batch"]:
    """Return whether the label has the largest logit; if several logits are equally large, the first one counts.

    Args:
      logits: unnormalized log-probabilities of the classes, which are the last axis.
      labels: the true classes, counted from 0.

    Returns:
      True for each example that is classified correctly.

    Raises:
      TypeError: if `logits` are not real floating-point numbers, or `labels` are not integers.
      ValueError: if the shapes do not fit, or a label that is not traced is none of the classes.
    """
    logits = _as_scores("logits", logits)
    labels = _as_labels(labels, logits, "logits")
    return jnp.argmax(logits, axis=-1).astype(jnp.int32) == labels


def bernoulli_error(
    logits: Float[Array, "*batch pixels"], targets: Float[Array, "*batch pixels"]
) -> Float[Array, "*batch"]:
    """-log p(targets) for independent Bernoulli pixels, summed over the pixels, in nats.

    Computed as log(1 + exp(logit)) - target logit, which does not overflow. Equal to the sum over pixels of
    `torch.nn.functional.binary_cross_entropy_with_logits`.

    Args:
      logits: log-odds of the pixels, which are the last axis.
      targets: pixels in [0, 1].

    Returns:
      The loss of each example.

    Raises:
      TypeError: if an argument is not an array of real floating-point numbers.
      ValueError: if the shapes differ, or a target that is not traced is outside [0, 1].
    """
    logits, targets = _as_scores("logits", logits), _as_scores("targets", targets)
    _require_shape("targets", targets, logits.shape, "that of logits")
    if not isinstance(targets, jax.core.Tracer) and targets.size and not ((targets >= 0) & (targets <= 1)).all():
        raise ValueError(f"targets: expected pixels in [0, 1], got {targets.min()} to {targets.max()}")
    return jnp.sum(jax.nn.softplus(logits) - targets * logits, axis=-1)


def gaussian_divergence(
    mean: Float[Array, "*batch latent"], log_variance: Float[Array, "*batch latent"]
) -> Float[Array, "*batch"]:
    """KL(N(mean, exp(log_variance)) || N(0, 1)), summed over the coordinates, in nats.

    Args:
      mean: the mean of each latent coordinate; the coordinates are the last axis.
      log_variance: the logarithm of the variance of each latent coordinate.

    Returns:
      The divergence of each example.

    Raises:
      TypeError: if an argument is not an array of real floating-point numbers.
      ValueError: if the shapes differ.

    References:
      Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, appendix B (https://arxiv.org/abs/1312.6114).
    """
    mean, log_variance = _as_scores("mean", mean), _as_scores("log_variance", log_variance)
    _require_shape("log_variance", log_variance, mean.shape, "that of mean")
    return 0.5 * jnp.sum(jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance, axis=-1)


def margin_loss(
    lengths: Float[Array, "*batch classes"],
    labels: Int[Array, "*batch"],
    *,
    positive: float = 0.9,
    negative: float = 0.1,
    down_weight: float = 0.5,
) -> Float[Array, "*batch"]:
    """The sum over classes of T max(0, positive - l)^2 + down_weight (1 - T) max(0, l - negative)^2.

    Here T is 1 for the true class and 0 for the others, and l is the length of the class's capsule.

    Args:
      lengths: lengths of the capsules, with the classes on the last axis.
      labels: the true classes, counted from 0.
      positive: the length above which the true class adds no loss. Default 0.9.
      negative: the length below which another class adds no loss. Default 0.1.
      down_weight: the weight of the other classes. Default 0.5.

    Returns:
      The loss of each example; NaN where a traced label is none of the classes.

    Raises:
      TypeError: if `lengths` are not real floating-point numbers, `labels` are not integers, or another argument is not
        a number.
      ValueError: if the shapes do not fit, or a label that is not traced is none of the classes.

    References:
      Sabour, Frosst and Hinton, "Dynamic Routing Between Capsules", 2017, eq. 4 (https://arxiv.org/abs/1710.09829).
    """
    lengths = _as_scores("lengths", lengths)
    labels = _as_labels(labels, lengths, "lengths")
    require_number("positive", positive)
    require_number("negative", negative)
    require_number("down_weight", down_weight, 0.0)
    present = jax.nn.one_hot(labels, lengths.shape[-1], dtype=lengths.dtype)
    missed = jnp.square(jnp.maximum(0, positive - lengths))
    claimed = jnp.square(jnp.maximum(0, lengths - negative))
    loss = jnp.sum(present * missed + down_weight * (1 - present) * claimed, axis=-1)
    return jnp.where((labels >= 0) & (labels < lengths.shape[-1]), loss, jnp.nan)


def _as_scores(name: str, value: Any) -> Array:
    """Return an array of real floating-point numbers with at least one axis, or raise an error."""
    found = _as_array(name, value)
    if not jnp.issubdtype(found.dtype, jnp.floating):
        raise TypeError(f"{name}: expected real floating-point numbers, got {describe(value)}")
    if found.ndim == 0:
        raise ValueError(f"{name}: expected an array with at least one axis, got {describe(value)}")
    return found


def _as_labels(value: Any, scores: Array, name: str) -> Array:
    """Return the labels as int32, or raise an error unless they are classes of the scores, one for each example."""
    labels = _as_array("labels", value)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: expected integers, the classes counted from 0, got {describe(value)}")
    _require_shape("labels", labels, scores.shape[:-1], f"one for each row of {name}")
    classes = scores.shape[-1]
    if not isinstance(labels, jax.core.Tracer):
        concrete = np.asarray(labels)
        if concrete.size and not (concrete.min() >= 0 and concrete.max() < classes):
            raise ValueError(
                f"labels: expected classes from 0 to {classes - 1}, got {concrete.min()} to {concrete.max()}"
            )
    return labels.astype(jnp.int32)


def _as_array(name: str, value: Any) -> Array:
    try:
        return jnp.asarray("nothing" if value is None else value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected an array of numbers, got {describe(value)}") from None


def _require_shape(name: str, array: Array, shape: tuple[int, ...], why: str) -> None:
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {tuple(shape)}, {why}, got {tuple(array.shape)}")
