"""Batch normalization as in PyTorch, whose derivative takes few passes over the maps.

With y = (x - mean) root scale + bias and root = 1 / sqrt(variance + eps), where mean and variance are those of the
batch, the derivative along dx is (dx - mean(dx) - z mean(z dx)) root scale with z = (x - mean) root. Its transpose has
the same form, so the gradient needs two sums over the maps, which are also the gradients of scale and bias.
Differentiating the forward pass step by step needs twice as many, and on a GPU one of them is slow.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from gdlab.models.initialization import constant
from gdlab.models.layers import param_dtype, to_rank


class BatchNorm(nn.Module):
    """Batch normalization as in PyTorch (Ioffe & Szegedy 2015).

    Each channel is normalized to mean 0 and variance 1, then scaled and shifted. Training uses the mean and the biased
    variance of the batch, and moves the running statistics by the fraction `momentum` towards the mean and the unbiased
    variance of the batch. The layer of Flax uses the biased variance there, and its momentum is 1 minus this one.
    `train` may be traced. Statistics are computed and stored in float32 or float64.
    """

    momentum: float = 0.1
    eps: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch channels"], train: bool | Bool[Array, ""]
    ) -> Float[Array, "*batch channels"]:
        """Return the normalized values; statistics are taken over all axes but the last."""
        if not self.is_initializing() and not self.has_variable("batch_stats", "mean"):
            raise ValueError(f"state: expected the running statistics that init(key) returns, got none of {self.name}")
        channels, wide = x.shape[-1:], param_dtype(self.dtype)
        scale = self.param("scale", constant(1.0), channels, wide)
        bias = self.param("bias", constant(0.0), channels, wide)
        running_mean = self.variable("batch_stats", "mean", constant(0.0), None, channels, wide)
        running_var = self.variable("batch_stats", "var", constant(1.0), None, channels, wide)
        given = running_mean.value, running_var.value
        if train is False:
            return _scaled(x, scale, bias, *given, self.eps).astype(self.dtype)
        count = math.prod(x.shape[:-1])
        if train is True and count == 1:
            raise ValueError(f"batch normalization: expected at least 2 values per channel, got shape {x.shape}")
        if not self.is_initializing():
            # XLA merges these sums with the equal ones of `_normalized`.
            mean, var = _moments(jax.lax.stop_gradient(x).astype(wide))
            unbiased = var * (count / max(count - 1, 1))
            for running, batch in ((running_mean, mean), (running_var, unbiased)):
                moved = running.value + self.momentum * (batch - running.value)
                running.value = jnp.where(train, moved, running.value)
        return _normalized(train is True, self.eps, x, scale, bias, *given, jnp.asarray(train)).astype(self.dtype)


WIDE, SHORT, LEAST = 1024, 2**12, 2**17
"""On a GPU, maps of at most `SHORT` rows and at least `LEAST` values are summed as matrices of `WIDE` columns."""


def _folded(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return the shape (rows, together, channels) by which maps of this shape are summed on a GPU.

    XLA sums 32 columns in one block of threads, so few channels would leave most of a GPU idle. Therefore `together`
    rows in turn are summed as one, and then their parts are added. XLA itself divides longer columns.
    """
    count, channels = math.prod(shape[:-1]), shape[-1]
    fold = count <= SHORT and count * channels >= LEAST
    together = math.gcd(count, max(1, WIDE // channels)) if fold else 1
    return count // together, together, channels


def _mean(x: Float[Array, "*batch channels"]) -> Float[Array, " channels"]:
    """Return the mean of each channel."""
    rows, together, channels = _folded(x.shape)

    def at_once(x: Array) -> Array:
        return jnp.mean(x, tuple(range(x.ndim - 1)))

    def in_parts(x: Array) -> Array:
        parts = jnp.sum(x.reshape(rows, together * channels), 0)
        return jnp.sum(parts.reshape(together, channels), 0) / (rows * together)

    if together == 1:
        return at_once(x)
    return jax.lax.platform_dependent(x, cpu=at_once, default=in_parts)


def _spread(part: Float[Array, " channels"], shape: Sequence[int]) -> Float[Array, "*batch channels"]:
    """Return maps of this shape whose channels have these values; the transpose is a sum as in `_mean`."""
    rows, together, channels = _folded(shape)

    def at_once(part: Array) -> Array:
        return jnp.broadcast_to(to_rank(part, len(shape)), shape)

    def in_parts(part: Array) -> Array:
        several = jnp.broadcast_to(to_rank(part, 2), (together, channels)).reshape(1, together * channels)
        return jnp.broadcast_to(several, (rows, together * channels)).reshape(shape)

    if together == 1:
        return at_once(part)
    return jax.lax.platform_dependent(part, cpu=at_once, default=in_parts)


def _moments(x: Float[Array, "*batch channels"]) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """Return the mean and the biased variance of each channel.

    On a CPU these are two passes. Elsewhere they are one, over the differences from each channel's first value, so that
    the difference of two squares loses few digits.
    """

    def two_passes(x: Array) -> tuple[Array, Array]:
        mean = _mean(x)
        return mean, _mean(jnp.square(x - to_rank(mean, x.ndim)))

    def one_pass(x: Array) -> tuple[Array, Array]:
        near = jax.lax.stop_gradient(x[(0,) * (x.ndim - 1)])
        apart = x - to_rank(near, x.ndim)
        mean, square = _mean(apart), _mean(jnp.square(apart))
        return near + mean, jnp.maximum(square - jnp.square(mean), 0)

    return jax.lax.platform_dependent(x, cpu=two_passes, default=one_pass)


def _scaled(x: Array, scale: Array, bias: Array, mean: Array, var: Array, eps: float) -> Array:
    mean, factor, bias = (to_rank(part, x.ndim) for part in (mean, scale * jax.lax.rsqrt(var + eps), bias))
    return (x.astype(factor.dtype) - mean) * factor + bias


def _chosen(always: bool, x: Array, running: tuple[Array, Array], train: Array) -> tuple[Array, Array]:
    """Return the mean and the variance by which x is normalized."""
    mean, var = _moments(x.astype(running[0].dtype))
    return (mean, var) if always else (jnp.where(train, mean, running[0]), jnp.where(train, var, running[1]))


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _normalized(
    always: bool, eps: float, x: Array, scale: Array, bias: Array, running_mean: Array, running_var: Array, train: Array
) -> Array:
    """Return x normalized by the moments of the batch if `train`, which is not used if `always`, else by the others."""
    mean, var = _chosen(always, x, (running_mean, running_var), train)
    return _scaled(x, scale, bias, mean, var, eps)


@_normalized.defjvp
def _normalized_jvp(always: bool, eps: float, primals: Any, tangents: Any) -> tuple[Array, Array]:
    x, scale, _, *running, train = primals
    dx, dscale, dbias, dmean, dvar, _ = tangents
    mean, var = _chosen(always, x, tuple(running), train)
    root = jax.lax.rsqrt(var + eps)
    z = (x.astype(root.dtype) - to_rank(mean, x.ndim)) * to_rank(root, x.ndim)
    dx = dx.astype(root.dtype)
    shift, slope = _mean(dx), _mean(z * dx)
    if not always:
        shift, slope = jnp.where(train, shift, dmean), jnp.where(train, slope, 0.5 * root * dvar)
    # The factor is applied to the sums, not within them: then their transposes are sums for `scale` and `bias` as well.
    factor = scale * root
    along, constant_part = (_spread(part, x.shape) for part in (dscale - factor * slope, dbias - factor * shift))
    return _normalized(always, eps, *primals), to_rank(factor, x.ndim) * dx + z * along + constant_part
