"""Losses and scores of networks, one number per example; the training loop takes the means."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def cross_entropy(logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """-log softmax(logits)[label], in nats.

    Computed in float32 or wider, whatever the dtype of the logits. Equal to
    `torch.nn.functional.cross_entropy(..., reduction="none")`.

    Args:
      logits: unnormalized log-probabilities of the classes, which are the last axis.
      labels: the true classes, counted from 0.

    Returns:
      The loss of each example.
    """
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    log_probabilities = jax.nn.log_softmax(wide, axis=-1)
    return -jnp.take_along_axis(log_probabilities, labels[..., None].astype(jnp.int32), axis=-1)[..., 0]


def is_hit(logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]) -> Bool[Array, "*batch"]:
    """Return whether the label has the largest logit; if several logits are equally large, the first one counts.

    Args:
      logits: unnormalized log-probabilities of the classes, which are the last axis.
      labels: the true classes, counted from 0.

    Returns:
      True for each example that is classified correctly.
    """
    return jnp.argmax(logits, axis=-1) == labels


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
    """
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

    References:
      Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, appendix B (https://arxiv.org/abs/1312.6114).
    """
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
      The loss of each example.

    References:
      Sabour, Frosst and Hinton, "Dynamic Routing Between Capsules", 2017, eq. 4 (https://arxiv.org/abs/1710.09829).
    """
    present = jax.nn.one_hot(labels, lengths.shape[-1], dtype=lengths.dtype)
    missed = jnp.square(jnp.maximum(0, positive - lengths))
    claimed = jnp.square(jnp.maximum(0, lengths - negative))
    return jnp.sum(present * missed + down_weight * (1 - present) * claimed, axis=-1)
