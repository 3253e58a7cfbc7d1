"""The three passes of a convolution as matrix products, for CPUs; NHWC images, HWIO kernels.

Which algorithm a pass takes is `choose`: a rule of the shape alone.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


class Geometry(NamedTuple):
    """What fixes a convolution but batch and channels; image is the unpadded size."""

    image: tuple[int, int]
    kernel: tuple[int, int]
    stride: int
    padding: int

    @property
    def outputs(self) -> tuple[int, int]:
        """Height and width of the result."""
        height, width = (
            (n + 2 * self.padding - k) // self.stride + 1 for n, k in zip(self.image, self.kernel, strict=True)
        )
        return height, width


def choose(geometry: Geometry) -> str:
    """Which algorithm."""
    if math.prod(geometry.image) * math.prod(geometry.outputs) <= 16:
        return "dense"
    return "patches"


def forward(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """The convolution of x with kernel."""
    dtype = x.dtype
    x, kernel = _wide(x), _wide(kernel)
    return FORWARD[choose(geometry)](x, kernel, geometry).astype(dtype)


def input_gradient(g: Array, kernel: Array, geometry: Geometry) -> Array:
    """The cotangent of x where g is that of the result."""
    dtype = g.dtype
    g, kernel = _wide(g), _wide(kernel)
    return INPUT_GRADIENT[choose(geometry)](g, kernel, geometry).astype(dtype)


def kernel_gradient(x: Array, g: Array, geometry: Geometry) -> Array:
    """The cotangent of the kernel where g is that of the result."""
    dtype = x.dtype
    x, g = _wide(x), _wide(g)
    return KERNEL_GRADIENT[choose(geometry)](x, g, geometry).astype(dtype)


def _wide(x: Array) -> Array:
    """In float32 at least: processors without 16-bit arithmetic would convert every product."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


Pads = tuple[tuple[int, int], tuple[int, int]]


def _patches(x: Array, size: tuple[int, int], stride: int, pads: Pads) -> Array:
    """Every window of the padded images as a row: (batch, rows, columns, size[0] size[1] channels)."""
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, 0, 0)])
    rows, columns = ((n - k) // stride + 1 for n, k in zip(x.shape[1:3], size, strict=True))
    taps = [
        x[:, i : i + (rows - 1) * stride + 1 : stride, j : j + (columns - 1) * stride + 1 : stride]
        for i in range(size[0])
        for j in range(size[1])
    ]
    return taps[0] if len(taps) == 1 else jnp.concatenate(taps, 3)


def patches_forward(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """One product of the windows with the kernel."""
    pads = ((geometry.padding,) * 2,) * 2
    return _patches(x, geometry.kernel, geometry.stride, pads) @ kernel.reshape(-1, kernel.shape[3])


def patches_input_gradient(g: Array, kernel: Array, geometry: Geometry) -> Array:
    """For each phase of the stride a convolution of g with the mirrored kernel's taps of that phase.

    Pixel i gets g[o] W[t] where stride o + t = i + padding. With i = stride m + f and t = r + stride u, where r is
    (f + padding) mod stride, o is m + (f + padding) // stride - u.
    """
    stride, padding, inputs = geometry.stride, geometry.padding, kernel.shape[2]
    counts = [-(-n // stride) for n in geometry.image]

    def phase(*firsts: int) -> Array:
        i, j = ((first + padding) % stride for first in firsts)
        taps = kernel[i::stride, j::stride]
        if 0 in taps.shape:
            return jnp.zeros((g.shape[0], *counts, inputs), g.dtype)
        lows = [size - 1 - (first + padding) // stride for size, first in zip(taps.shape[:2], firsts, strict=True)]
        rows, columns = (
            (low, count + size - 1 - low - n)
            for low, count, size, n in zip(lows, counts, taps.shape[:2], g.shape[1:3], strict=True)
        )
        matrix = taps[::-1, ::-1].transpose(0, 1, 3, 2).reshape(-1, inputs)
        return _patches(g, taps.shape[:2], 1, (rows, columns)) @ matrix

    if stride == 1:
        return phase(0, 0)
    phases = jnp.stack([jnp.stack([phase(i, j) for j in range(stride)], 3) for i in range(stride)], 2)
    whole = phases.reshape(g.shape[0], counts[0] * stride, counts[1] * stride, inputs)
    return whole[:, : geometry.image[0], : geometry.image[1]]


def patches_kernel_gradient(x: Array, g: Array, geometry: Geometry) -> Array:
    """One product of the transposed windows with g."""
    windows = _patches(x, geometry.kernel, geometry.stride, ((geometry.padding,) * 2,) * 2)
    product = jax.lax.dot_general(windows, g, (((0, 1, 2), (0, 1, 2)), ((), ())))
    return product.reshape(*geometry.kernel, x.shape[3], g.shape[3])


def _tap_of(geometry: Geometry) -> np.ndarray:
    """For (pixel, output) the tap of the kernel between them, counted from 1, or 0 where there is none."""
    one_axis = []
    for n, k, outputs in zip(geometry.image, geometry.kernel, geometry.outputs, strict=True):
        tap = np.arange(n)[:, None] + geometry.padding - geometry.stride * np.arange(outputs)
        one_axis.append(np.where((tap >= 0) & (tap < k), tap, -1))
    rows, columns = one_axis[0][:, None, :, None], one_axis[1][None, :, None, :]
    taps = np.where((rows >= 0) & (columns >= 0), rows * geometry.kernel[1] + columns + 1, 0)
    return taps.reshape(math.prod(geometry.image), math.prod(geometry.outputs))


def _dense_matrix(kernel: Array, geometry: Geometry) -> Array:
    """The matrix from all pixels and channels of an image to all of the result."""
    taps = kernel.reshape(-1, *kernel.shape[2:])
    zero = jnp.zeros(kernel.shape[2:], kernel.dtype)
    rows = [jnp.concatenate([taps[t - 1] if t else zero for t in row], 1) for row in _tap_of(geometry)]
    return jnp.concatenate(rows, 0)


def dense_forward(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """One product with the matrix of the whole map: for images of few pixels, where most taps see only padding."""
    y = x.reshape(x.shape[0], -1) @ _dense_matrix(kernel, geometry)
    return y.reshape(x.shape[0], *geometry.outputs, kernel.shape[3])


def dense_input_gradient(g: Array, kernel: Array, geometry: Geometry) -> Array:
    """The same with the matrix transposed."""
    matrix = _dense_matrix(kernel, geometry)
    x = jax.lax.dot_general(g.reshape(g.shape[0], -1), matrix, (((1,), (1,)), ((), ())))
    return x.reshape(g.shape[0], *geometry.image, kernel.shape[2])


def dense_kernel_gradient(x: Array, g: Array, geometry: Geometry) -> Array:
    """The gradient of the whole map's matrix, summed over the places where each tap stands in it."""
    tap_of, inputs, outputs = _tap_of(geometry), x.shape[3], g.shape[3]
    matrix = jax.lax.dot_general(x.reshape(x.shape[0], -1), g.reshape(g.shape[0], -1), (((0,), (0,)), ((), ())))
    matrix = matrix.reshape(tap_of.shape[0], inputs, tap_of.shape[1], outputs)

    def tap(number: int) -> Array:
        places = [matrix[i, :, j] for i, j in np.argwhere(tap_of == number)]
        return sum(places[1:], places[0]) if places else jnp.zeros((inputs, outputs), x.dtype)

    kernel = jnp.stack([tap(number + 1) for number in range(math.prod(geometry.kernel))])
    return kernel.reshape(*geometry.kernel, inputs, outputs)


FORWARD = {"patches": patches_forward, "dense": dense_forward}
INPUT_GRADIENT = {"patches": patches_input_gradient, "dense": dense_input_gradient}
KERNEL_GRADIENT = {"patches": patches_kernel_gradient, "dense": dense_kernel_gradient}
