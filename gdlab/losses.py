"""Losses and scores of networks, one number an example: means are the training loop's business."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def cross_entropy(logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """-log softmax(logits)[label], in nats, in float32 at least whatever the logits' dtype.

    Equal to `torch.nn.functional.cross_entropy(..., reduction="none")`. Labels count from 0.
    """
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    log_probabilities = jax.nn.log_softmax(wide, axis=-1)
    return -jnp.take_along_axis(log_probabilities, labels[..., None].astype(jnp.int32), axis=-1)[..., 0]


def is_hit(logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]) -> Bool[Array, "*batch"]:
    """Whether the largest logit (the first of equal ones) is the label's."""
    return jnp.argmax(logits, axis=-1) == labels


def bernoulli_error(
    logits: Float[Array, "*batch pixels"], targets: Float[Array, "*batch pixels"]
) -> Float[Array, "*batch"]:
    """-log p(targets) of independent Bernoulli pixels, summed over pixels, in nats; targets in [0, 1].

    log(1 + exp(logit)) - target logit, which does not overflow; equal to the sum of
    `torch.nn.functional.binary_cross_entropy_with_logits`.
    """
    return jnp.sum(jax.nn.softplus(logits) - targets * logits, axis=-1)


def gaussian_divergence(
    mean: Float[Array, "*batch latent"], log_variance: Float[Array, "*batch latent"]
) -> Float[Array, "*batch"]:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) over all coordinates, in nats (Kingma & Welling 2014, appendix B)."""
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

    Sabour, Frosst & Hinton 2017, eq. 4; T is 1 for the label's class, lengths l are those of its capsules.
    """
    present = jax.nn.one_hot(labels, lengths.shape[-1], dtype=lengths.dtype)
    missed = jnp.square(jnp.maximum(0, positive - lengths))
    claimed = jnp.square(jnp.maximum(0, lengths - negative))
    return jnp.sum(present * missed + down_weight * (1 - present) * claimed, axis=-1)
