"""The layers of the networks here, as PyTorch defines them; Flax's own differ in details that change results."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from gdlab.arguments import describe
from gdlab.models.convolution import convolve
from gdlab.models.initialization import Initializer, constant, normal, uniform


def param_dtype(dtype: Any) -> Any:
    """float64 for float64, else float32: parameters and statistics are kept so while layers compute in `dtype`."""
    return jnp.float64 if jnp.dtype(dtype) == jnp.float64 else jnp.float32


class Convolution(nn.Module):
    """A convolution with a square kernel; He initialization over the outputs, N(0, 2 / (size^2 outputs)).

    That is `torch.nn.init.kaiming_normal_(mode="fan_out", nonlinearity="relu")`. bias: its initializer; None: the
    convolution has no bias.
    """

    outputs: int
    size: int
    stride: int = 1
    padding: int = 0
    dtype: Any = jnp.float32
    initializer: Initializer | None = None
    bias: Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width inputs"]) -> Float[Array, "batch rows columns outputs"]:
        """The convolved images."""
        initializer = self.initializer or normal(math.sqrt(2 / (self.size**2 * self.outputs)))
        shape = (self.size, self.size, x.shape[-1], self.outputs)
        kernel = self.param("kernel", initializer, shape, param_dtype(self.dtype))
        y = convolve(x, kernel.astype(self.dtype), self.stride, self.padding)
        if self.bias is None:
            return y
        return y + self.param("bias", self.bias, (self.outputs,), param_dtype(self.dtype)).astype(self.dtype)


class Linear(nn.Module):
    """x W + b; initializer and bias default to `torch.nn.Linear`'s U(-1/sqrt(inputs), 1/sqrt(inputs))."""

    outputs: int
    dtype: Any = jnp.float32
    initializer: Initializer | None = None
    bias: Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        """The outputs, for any leading axes."""
        limit = 1 / math.sqrt(x.shape[-1])
        kernel, bias = self.initializer or uniform(limit), self.bias or uniform(limit)
        kernel = self.param("kernel", kernel, (x.shape[-1], self.outputs), param_dtype(self.dtype))
        bias = self.param("bias", bias, (self.outputs,), param_dtype(self.dtype))
        return x @ kernel.astype(self.dtype) + bias.astype(self.dtype)


class BatchNorm(nn.Module):
    """Each channel normalized to mean 0 and variance 1, then scaled and shifted (Ioffe & Szegedy 2015), as in PyTorch.

    Training normalizes by the batch's mean and biased variance, and moves the running statistics by the fraction
    `momentum` towards the batch's mean and unbiased variance. Flax's layer uses the biased variance there, and its
    momentum is 1 minus this one. train may be traced. Statistics are kept and computed in float32 at least.
    """

    momentum: float = 0.1
    eps: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch channels"], train: bool | Bool[Array, ""]
    ) -> Float[Array, "*batch channels"]:
        """The normalized values; every axis but the last is averaged over."""
        channels, wide = x.shape[-1:], param_dtype(self.dtype)
        scale = self.param("scale", constant(1.0), channels, wide)
        bias = self.param("bias", constant(0.0), channels, wide)
        running_mean = self.variable("batch_stats", "mean", constant(0.0), None, channels, wide)
        running_var = self.variable("batch_stats", "var", constant(1.0), None, channels, wide)
        mean, var = running_mean.value, running_var.value
        if train is not False:
            axes, count = tuple(range(x.ndim - 1)), math.prod(x.shape[:-1])
            if train is True and count == 1:
                raise ValueError(f"batch normalization: wanted at least 2 values a channel, got shape {x.shape}")
            batch_mean = jnp.mean(x, axes, wide)
            batch_var = jnp.mean(jnp.square(x.astype(wide) - batch_mean), axes)
            unbiased = batch_var * (count / max(count - 1, 1))
            if not self.is_initializing():
                for running, batch in ((running_mean, batch_mean), (running_var, unbiased)):
                    moved = running.value + self.momentum * (jax.lax.stop_gradient(batch) - running.value)
                    running.value = jnp.where(train, moved, running.value)
            mean, var = jnp.where(train, batch_mean, mean), jnp.where(train, batch_var, var)
        factor = scale * jax.lax.rsqrt(var + self.eps)
        return ((x.astype(wide) - mean) * factor + bias).astype(self.dtype)


def dropout(x: Float[Array, "*shape"], rate: float, train: bool | Bool[Array, ""], key: Any) -> Float[Array, "*shape"]:
    """In training, x with each value set to 0 with probability `rate` and the others scaled by 1 / (1 - rate).

    train may be traced. Raises ValueError where a key is needed and is None.
    """
    if rate == 0 or train is False:
        return x
    if key is None:
        raise ValueError("key: wanted one for dropout in training, got None")
    kept = jax.random.bernoulli(key, jnp.float32(1 - rate), x.shape)
    return jnp.where(jnp.logical_not(train), x, jnp.where(kept, x / (1 - rate), 0))


def max_pool(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns channels"]:
    """The maximum of every 3x3 window, stride 2, over an image with a border of one pixel of minus infinity.

    The gradient goes to the first of several equal values in reading order, as in PyTorch. XLA's own gradient of a
    windowed reduction is a scatter, which is slow on CPUs. This takes the maximum of three columns, then of three rows,
    from slices of even and of odd pixels.
    """
    return _pool_axis(_pool_axis(x, 2), 1)


def max_pool_pairs(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns channels"]:
    """The maximum of every 2x2 window, stride 2; an odd last row or column is left out.

    The gradient goes to the first of several equal values in reading order, as in PyTorch.
    """
    for axis in (2, 1):
        count = x.shape[axis] // 2
        pairs = jax.lax.slice_in_dim(x, 0, 2 * count, axis=axis)
        pairs = pairs.reshape(*x.shape[:axis], count, 2, *x.shape[axis + 1 :])
        first, later = (jax.lax.index_in_dim(pairs, phase, axis + 1, keepdims=False) for phase in (0, 1))
        x = _later_if_greater(first, later)
    return x


def require_images(images: Any, channels: int, *, least: int = 1) -> None:
    """Raise ValueError unless these are floating-point NHWC images of `channels` channels and `least` pixels a side."""
    shape = getattr(images, "shape", ())
    if len(shape) != 4 or tuple(shape)[-1:] != (channels,) or not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"inputs: wanted floating-point images (batch, height, width, {channels}), got {describe(images)}"
        )
    if min(shape[1:3]) < least:
        raise ValueError(f"inputs: wanted images of at least {least} x {least} pixels, got {describe(images)}")


def require_dtype(dtype: Any) -> None:
    """Raise TypeError or ValueError unless a network can compute in `dtype`."""
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype: wanted a floating-point type, got {jnp.dtype(dtype)}")
    if jnp.dtype(dtype) == jnp.float64 and not jax.config.read("jax_enable_x64"):
        raise ValueError("dtype: wanted jax_enable_x64 to be set for float64, got it unset")


def _pool_axis(x: Array, axis: int) -> Array:
    size = x.shape[axis]
    count = (size - 1) // 2 + 1
    pads = [(0, 0)] * x.ndim
    pads[axis] = (1, 2 * count + 1 - size)  # the border, and up to a whole number of pairs
    pairs = jnp.pad(x, pads, constant_values=-jnp.inf)
    pairs = pairs.reshape(*x.shape[:axis], count + 1, 2, *x.shape[axis + 1 :])
    even, odd = (jax.lax.index_in_dim(pairs, phase, axis + 1, keepdims=False) for phase in (0, 1))
    first, last = (jax.lax.slice_in_dim(even, begin, begin + count, axis=axis) for begin in (0, 1))
    return _later_if_greater(_later_if_greater(first, jax.lax.slice_in_dim(odd, 0, count, axis=axis)), last)


def _later_if_greater(one: Array, later: Array) -> Array:
    """The maximum; of equal values the first gets the gradient, where `jnp.maximum` would share it. NaN propagates."""
    return jnp.where((later > one) | jnp.isnan(later), later, one)
