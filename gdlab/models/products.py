"""The three passes of a convolution as matrix products, for CPUs, with NHWC images and HWIO kernels.

`choose` selects the algorithm, which depends on the shape only. All algorithms compute in float32 or a wider dtype.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gdlab.compute.calls import stored_call
from gdlab.models import winograd
from gdlab.models.geometry import Geometry, ceil, pad
from gdlab.models.winograd import fills_tiles, takes_winograd


def choose(geometry: Geometry, inputs: int, outputs: int) -> str:
    """Return the algorithm for all three passes, given the numbers of input and output channels.

    "dense" is for images of a few pixels, where the numbers of pixels before and after have a product of at most 16:
    a single product with the matrix of the whole map, which leaves out the taps that see only padding. "winograd" is
    for square kernels with 2, 3 or 5 taps per phase of the stride, if its tiles are at least half full and there are
    enough channels to make up for the cost of its transforms. "patches" is for everything else.
    """
    if math.prod(geometry.image) * math.prod(geometry.outputs) <= 16:
        return "dense"
    if takes_winograd(geometry) and fills_tiles(geometry) and min(inputs, outputs) >= 16:
        return "winograd"
    return "patches"


def forward(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """Return the convolution of x with the kernel."""
    algorithm = ALGORITHMS[choose(geometry, x.shape[3], kernel.shape[3])]
    return algorithm.forward(_wide(x), _wide(kernel), geometry).astype(x.dtype)


def input_gradient(g: Array, kernel: Array, geometry: Geometry) -> Array:
    """Return the cotangent of x, given the cotangent g of the result."""
    algorithm = ALGORITHMS[choose(geometry, kernel.shape[2], g.shape[3])]
    return algorithm.input_gradient(_wide(g), _wide(kernel), geometry).astype(g.dtype)


def kernel_gradient(x: Array, g: Array, geometry: Geometry) -> Array:
    """Return the cotangent of the kernel, given the cotangent g of the result."""
    algorithm = ALGORITHMS[choose(geometry, x.shape[3], g.shape[3])]
    return algorithm.kernel_gradient(_wide(x), _wide(g), geometry).astype(x.dtype)


def _wide(x: Array) -> Array:
    """Convert x to float32 or a wider dtype; CPUs without 16-bit arithmetic would convert for every product."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


# Patches


def _patches(x: Array, size: Sequence[int], stride: int) -> Array:
    """Return every window as a row, in shape (batch, rows, columns, size[0] * size[1] * channels)."""

    def neighbours(x: Array, axis: int) -> Array:
        count = (x.shape[axis] - size[axis - 1]) // stride + 1
        taps = [
            jax.lax.slice_in_dim(x, tap, tap + (count - 1) * stride + 1, stride, axis) for tap in range(size[axis - 1])
        ]
        return taps[0] if len(taps) == 1 else stored_call(lambda taps: jnp.concatenate(taps, 3), taps)

    return neighbours(neighbours(x, 2), 1)


def _patches_forward(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """Multiply the windows with the kernel."""
    padded = pad(x, ((geometry.padding,) * 2,) * 2)
    return _patches(padded, geometry.kernel, geometry.stride) @ kernel.reshape(-1, kernel.shape[3])


def _patches_input_gradient(g: Array, kernel: Array, geometry: Geometry) -> Array:
    """For each phase of the stride, convolve g with the taps of the mirrored kernel in that phase.

    Pixel i receives g[o] W[t] if stride o + t = i + padding. With i = stride m + f and t = r + stride u, where r is
    (f + padding) mod stride, this means o = m + (f + padding) // stride - u.
    """
    stride, padding, inputs = geometry.stride, geometry.padding, kernel.shape[2]
    counts = [ceil(n, stride) for n in geometry.image]

    def phase(*firsts: int) -> Array:
        i, j = ((first + padding) % stride for first in firsts)
        taps = kernel[i::stride, j::stride]
        if 0 in taps.shape:
            return jnp.zeros((g.shape[0], *counts, inputs), g.dtype)
        size = taps.shape[:2]
        lows = [k - 1 - (first + padding) // stride for k, first in zip(size, firsts, strict=True)]
        rows, columns = (
            (low, count + k - 1 - low - n) for low, count, k, n in zip(lows, counts, size, g.shape[1:3], strict=True)
        )
        matrix = taps[::-1, ::-1].transpose(0, 1, 3, 2).reshape(-1, inputs)
        return _patches(pad(g, (rows, columns)), size, 1) @ matrix

    if stride == 1:
        return phase(0, 0)
    phases = jnp.stack([jnp.stack([phase(i, j) for j in range(stride)], 3) for i in range(stride)], 2)
    whole = phases.reshape(g.shape[0], counts[0] * stride, counts[1] * stride, inputs)
    return whole[:, : geometry.image[0], : geometry.image[1]]


def _patches_kernel_gradient(x: Array, g: Array, geometry: Geometry) -> Array:
    """Multiply the transposed windows with g."""
    windows = _patches(pad(x, ((geometry.padding,) * 2,) * 2), geometry.kernel, geometry.stride)
    product = jax.lax.dot_general(windows, g, (((0, 1, 2), (0, 1, 2)), ((), ())))
    return product.reshape(*geometry.kernel, x.shape[3], g.shape[3])


# Dense


def _tap_of(geometry: Geometry) -> np.ndarray:
    """Return, for each (pixel, output), the tap of the kernel between them, counted from 1, or 0 if there is none."""
    one_axis = []
    for n, k, outputs in zip(geometry.image, geometry.kernel, geometry.outputs, strict=True):
        tap = np.arange(n)[:, None] + geometry.padding - geometry.stride * np.arange(outputs)
        one_axis.append(np.where((tap >= 0) & (tap < k), tap, -1))
    rows, columns = one_axis[0][:, None, :, None], one_axis[1][None, :, None, :]
    taps = np.where((rows >= 0) & (columns >= 0), rows * geometry.kernel[1] + columns + 1, 0)
    return taps.reshape(math.prod(geometry.image), math.prod(geometry.outputs))


def _dense_matrix(kernel: Array, geometry: Geometry) -> Array:
    """Return the matrix that maps all pixels and channels of an image to those of the result."""
    taps = kernel.reshape(-1, *kernel.shape[2:])
    zero = jnp.zeros(kernel.shape[2:], kernel.dtype)
    rows = [jnp.concatenate([taps[t - 1] if t else zero for t in row], 1) for row in _tap_of(geometry)]
    return jnp.concatenate(rows, 0)


def _dense_forward(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """Multiply with the matrix of the whole map."""
    y = x.reshape(x.shape[0], -1) @ _dense_matrix(kernel, geometry)
    return y.reshape(x.shape[0], *geometry.outputs, kernel.shape[3])


def _dense_input_gradient(g: Array, kernel: Array, geometry: Geometry) -> Array:
    """Multiply with the transposed matrix of the whole map."""
    matrix = _dense_matrix(kernel, geometry)
    x = jax.lax.dot_general(g.reshape(g.shape[0], -1), matrix, (((1,), (1,)), ((), ())))
    return x.reshape(g.shape[0], *geometry.image, kernel.shape[2])


def _dense_kernel_gradient(x: Array, g: Array, geometry: Geometry) -> Array:
    """Sum the gradient of the whole map's matrix over the entries that hold the same tap."""
    tap_of, inputs, outputs = _tap_of(geometry), x.shape[3], g.shape[3]
    matrix = jax.lax.dot_general(x.reshape(x.shape[0], -1), g.reshape(g.shape[0], -1), (((0,), (0,)), ((), ())))
    matrix = matrix.reshape(tap_of.shape[0], inputs, tap_of.shape[1], outputs)

    def tap(number: int) -> Array:
        places = [matrix[i, :, j] for i, j in np.argwhere(tap_of == number)]
        return sum(places[1:], places[0]) if places else jnp.zeros((inputs, outputs), x.dtype)

    kernel = jnp.stack([tap(number + 1) for number in range(math.prod(geometry.kernel))])
    return kernel.reshape(*geometry.kernel, inputs, outputs)


class Algorithm(NamedTuple):
    """The three passes of one algorithm.

    Attributes:
      forward: the pass `forward(x, kernel, geometry)`.
      input_gradient: the pass `input_gradient(g, kernel, geometry)`.
      kernel_gradient: the pass `kernel_gradient(x, g, geometry)`.
    """

    forward: Callable[[Array, Array, Geometry], Array]
    input_gradient: Callable[[Array, Array, Geometry], Array]
    kernel_gradient: Callable[[Array, Array, Geometry], Array]


ALGORITHMS = {
    "dense": Algorithm(_dense_forward, _dense_input_gradient, _dense_kernel_gradient),
    "winograd": Algorithm(winograd.forward, winograd.input_gradient, winograd.kernel_gradient),
    "patches": Algorithm(_patches_forward, _patches_input_gradient, _patches_kernel_gradient),
}
