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
