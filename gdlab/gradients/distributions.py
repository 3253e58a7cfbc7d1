"""The normal and the categorical distribution: what the gradients of expectations need of them, and no more."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from gdlab.arguments import as_array, require_key

REAL = (jnp.floating, jnp.integer)


class Normal:
    """Independent normal distributions: log p(x) = -((x - mean) / scale)^2 / 2 - log(scale) - log(2 pi) / 2.

    A sample is mean + scale z with z standard normal, so that gradients flow through it to both parameters.

    Args:
      mean: the means; any shape, and may be traced.
      scale: the standard deviations, positive; of a shape that broadcasts with that of `mean`. Default 1.

    Raises:
      TypeError: if an argument is not made of real numbers.
      ValueError: if the shapes do not broadcast, or if a scale that is not traced is not positive.
    """

    def __init__(self, mean: Shaped[Any, "..."] | float, scale: Shaped[Any, "..."] | float = 1.0):
        centre, width = as_array("mean", mean, REAL), as_array("scale", scale, REAL)
        if not isinstance(width, jax.core.Tracer) and not (np.asarray(width) > 0).all():
            raise ValueError(f"scale: expected positive numbers, got {np.asarray(width).min()}")
        try:
            shape = jnp.broadcast_shapes(centre.shape, width.shape)
        except ValueError:
            raise ValueError(
                f"scale: expected a shape that broadcasts with the mean's {centre.shape}, got shape {width.shape}"
            ) from None
        dtype = jnp.result_type(centre, width, jnp.zeros(()))
        self.mean, self.scale = (jnp.broadcast_to(part, shape).astype(dtype) for part in (centre, width))

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Draw samples.

        Args:
          key: the random key.
          shape: the shape of the samples, which precedes that of the parameters. Default (): one sample.
        """
        require_key("key", key)
        return self.mean + self.scale * jax.random.normal(key, (*shape, *self.mean.shape), self.mean.dtype)

    def log_prob(self, x: Shaped[Any, "..."]) -> Float[Array, "..."]:
        """Return the logarithm of the density of each number of `x`, whose shape ends in that of the parameters."""
        z = (jnp.asarray(x) - self.mean) / self.scale
        return -0.5 * z**2 - jnp.log(self.scale) - 0.5 * np.log(2 * np.pi)


class Categorical:
    """Independent choices among k categories: log p(i) = logits_i - log sum exp(logits).

    Args:
      logits: of shape (..., k), one row per choice; adding a constant to a row changes nothing. May be traced.

    Raises:
      TypeError: if the logits are not floating-point numbers.
      ValueError: if there is no axis of categories.
    """

    def __init__(self, logits: Float[Any, "*batch categories"]):
        self.logits = as_array("logits", logits)
        if self.logits.ndim == 0 or self.logits.shape[-1] == 0:
            raise ValueError(f"logits: expected at least one category along the last axis, got {self.logits.shape}")

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Int[Array, "..."]:
        """Draw samples, the indices of categories.

        Args:
          key: the random key.
          shape: the shape of the samples, which precedes that of the rows. Default (): one sample.
        """
        require_key("key", key)
        return jax.random.categorical(key, self.logits, shape=(*shape, *self.logits.shape[:-1]))

    def log_prob(self, x: Int[Any, "..."]) -> Float[Array, "..."]:
        """Return the logarithm of the probability of each category of `x`, whose shape ends in that of the rows."""
        index = jnp.asarray(x)
        rows = jnp.broadcast_to(jax.nn.log_softmax(self.logits), (*index.shape, self.logits.shape[-1]))
        return jnp.take_along_axis(rows, index[..., None], axis=-1)[..., 0]
