"""The layers of the networks, as PyTorch defines them; those of Flax differ in details that change results."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from gdlab.arguments import describe, first_line, require_count, require_floating, require_sequence
from gdlab.models.convolution import convolve
from gdlab.models.initialization import Initializer, normal, uniform


def param_dtype(dtype: Any) -> Any:
    """Return the dtype of the parameters and statistics of layers that compute in `dtype`: float32 or float64."""
    return jnp.float64 if jnp.dtype(dtype) == jnp.float64 else jnp.float32


def to_rank(x: Array, ndim: int) -> Array:
    """Put axes of length 1 in front, as broadcasting does unless `jax_numpy_rank_promotion` forbids it."""
    return jax.lax.expand_dims(x, range(ndim - x.ndim))


def multiply(x: Float[Array, "*batch inputs"], kernel: Array) -> Float[Array, "*batch outputs"]:
    """Return x W as a product of two matrices, for any number of leading axes.

    With several leading axes XLA copies both operands of the gradient of W into another order, which takes up to as
    long as the product.
    """
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[1])


def affine(x: Float[Array, "*batch inputs"], kernel: Array, bias: Array) -> Float[Array, "*batch outputs"]:
    """Return x W + b."""
    return multiply(x, kernel) + to_rank(bias, x.ndim)


class Convolution(nn.Module):
    """A convolution with a square kernel.

    The default initialization is N(0, 2 / (size^2 outputs)), that of He et al. over the outputs:
    `torch.nn.init.kaiming_normal_(mode="fan_out", nonlinearity="relu")`.

    Attributes:
      outputs: the number of output channels.
      size: the side of the kernel in pixels.
      stride: the stride in pixels.
      padding: the number of zeros on each side of the image.
      dtype: the dtype in which the layer computes.
      initializer: the initializer of the kernel; None means the default.
      bias: the initializer of the bias; None means that there is no bias.
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
        """Return the convolved images."""
        initializer = self.initializer or normal(math.sqrt(2 / (self.size**2 * self.outputs)))
        shape = (self.size, self.size, x.shape[-1], self.outputs)
        kernel = self.param("kernel", initializer, shape, param_dtype(self.dtype))
        y = convolve(x, kernel.astype(self.dtype), self.stride, self.padding)
        if self.bias is None:
            return y
        bias = self.param("bias", self.bias, (self.outputs,), param_dtype(self.dtype)).astype(self.dtype)
        return y + to_rank(bias, y.ndim)


class Linear(nn.Module):
    """x W + b.

    Attributes:
      outputs: the number of outputs.
      dtype: the dtype in which the layer computes.
      initializer: the initializer of W; None means U(-1/sqrt(inputs), 1/sqrt(inputs)), as in `torch.nn.Linear`.
      bias: the initializer of b; None means the same distribution.
    """

    outputs: int
    dtype: Any = jnp.float32
    initializer: Initializer | None = None
    bias: Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        """Return the outputs, for any number of leading axes."""
        limit = 1 / math.sqrt(x.shape[-1])
        kernel, bias = self.initializer or uniform(limit), self.bias or uniform(limit)
        kernel = self.param("kernel", kernel, (x.shape[-1], self.outputs), param_dtype(self.dtype))
        bias = self.param("bias", bias, (self.outputs,), param_dtype(self.dtype))
        return affine(x, kernel.astype(self.dtype), bias.astype(self.dtype))


def dropout(x: Float[Array, "*shape"], rate: float, train: bool | Bool[Array, ""], key: Any) -> Float[Array, "*shape"]:
    """In training, set each value of x to 0 with probability `rate`, and scale the others by 1 / (1 - rate).

    `train` may be traced. Raises ValueError if a key is needed but is None.
    """
    if rate == 0 or train is False:
        return x
    if key is None:
        raise ValueError("key: expected a random key for dropout in training, got None")
    kept = jax.random.bernoulli(key, jnp.float32(1 - rate), x.shape)
    return jnp.where(jnp.logical_not(train), x, jnp.where(kept, x / (1 - rate), 0))


def max_pool(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns channels"]:
    """Return the maximum of every 3x3 window with stride 2; the image is padded with one pixel of minus infinity.

    Of several equal values, the first in row-major order receives the gradient, as in PyTorch. XLA's gradient of a
    windowed reduction is a scatter, which is slow on CPUs; this function takes the maximum of three columns, then of
    three rows, using slices of even and odd pixels.
    """
    return _pool_axis(_pool_axis(x, 2), 1)


def max_pool_pairs(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns channels"]:
    """Return the maximum of every 2x2 window with stride 2; an odd last row or column is left out.

    Of several equal values, the first in row-major order receives the gradient, as in PyTorch.
    """
    for axis in (2, 1):
        count = x.shape[axis] // 2
        pairs = jax.lax.slice_in_dim(x, 0, 2 * count, axis=axis)
        pairs = pairs.reshape(*x.shape[:axis], count, 2, *x.shape[axis + 1 :])
        first, later = (jax.lax.index_in_dim(pairs, phase, axis + 1, keepdims=False) for phase in (0, 1))
        x = _later_if_greater(first, later)
    return x


def shape_of(value: Any) -> tuple[int, ...]:
    """Return the shape of an array, and () for anything else."""
    shape = getattr(value, "shape", ())
    return tuple(shape) if isinstance(shape, Sequence) else ()


def require_images(images: Any, channels: int, *, least: int = 1) -> None:
    """Raise ValueError unless `images` are floating-point NHWC images of at least `least` pixels on each side."""
    shape = shape_of(images)
    if len(shape) != 4 or shape[-1:] != (channels,) or not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"inputs: expected floating-point images (batch, height, width, {channels}), got {describe(images)}"
        )
    if min(shape[1:3]) < least:
        raise ValueError(f"inputs: expected images of at least {least} x {least} pixels, got {describe(images)}")


def apply_layers(name: str, layers: Callable[..., Any], *arguments: Any, ndim: int, expected: str) -> Array:
    """Return `layers(*arguments)` for a function of the user, the argument `name`, that creates layers.

    Raises TypeError with `expected`, which says what the function takes and returns, if it raises an error of its own
    or returns anything but a floating-point array of `ndim` axes.
    """
    try:
        result = layers(*arguments)
    except Exception as error:
        if ": expected " in str(error):
            raise
        raise TypeError(f"{name}: expected {expected}, got {first_line(error)}") from error
    dtype = getattr(result, "dtype", None)
    if dtype is None or len(result.shape) != ndim or not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{name}: expected {expected}, got {describe(result)}")
    return result


def require_sizes(name: str, sizes: Any, expected: str) -> None:
    """Raise TypeError or ValueError unless `sizes` is a sequence of integers of at least 1; `expected` describes it."""
    require_sequence(name, sizes, expected)
    for size in sizes:
        require_count(name, size)


def require_dtype(dtype: Any) -> None:
    """Raise TypeError or ValueError unless a network can compute in `dtype`."""
    require_floating("dtype", dtype)
    if jnp.finfo(dtype).bits < 16:
        raise TypeError(f"dtype: expected a floating-point type of at least 16 bits, got {jnp.dtype(dtype)}")
    if jnp.dtype(dtype) == jnp.float64 and not jax.config.read("jax_enable_x64"):
        raise ValueError("dtype: expected jax_enable_x64 to be set for float64, got jax_enable_x64=False")


def _pool_axis(x: Array, axis: int) -> Array:
    size = x.shape[axis]
    count = (size - 1) // 2 + 1
    pads = [(0, 0)] * x.ndim
    pads[axis] = (1, 2 * count + 1 - size)  # the border, and padding to a whole number of pairs
    pairs = jnp.pad(x, pads, constant_values=-jnp.inf)
    pairs = pairs.reshape(*x.shape[:axis], count + 1, 2, *x.shape[axis + 1 :])
    even, odd = (jax.lax.index_in_dim(pairs, phase, axis + 1, keepdims=False) for phase in (0, 1))
    first, last = (jax.lax.slice_in_dim(even, begin, begin + count, axis=axis) for begin in (0, 1))
    return _later_if_greater(_later_if_greater(first, jax.lax.slice_in_dim(odd, 0, count, axis=axis)), last)


def _later_if_greater(one: Array, later: Array) -> Array:
    """Return the maximum; of equal values the first gets the gradient, unlike in `jnp.maximum`. NaN propagates."""
    return jnp.where((later > one) | jnp.isnan(later), later, one)
