"""The three passes of a convolution as matrix products, for CPUs, with NHWC images and HWIO kernels.

`choose` selects the algorithm, which depends on the shape only. All algorithms compute in float32 or a wider dtype.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gdlab.compute.calls import stored_call

Pads = tuple[tuple[int, int], tuple[int, int]]


class Geometry(NamedTuple):
    """The parameters of a convolution, except for the batch size and the channels.

    Attributes:
      image: height and width of the image without padding.
      kernel: rows and columns of the kernel.
      stride: the stride in pixels, the same for both axes.
      padding: the number of zeros on each side of the image.
    """

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


def choose(geometry: Geometry, inputs: int, outputs: int) -> str:
    """Return the algorithm for all three passes, given the numbers of input and output channels.

    "dense" is for images of a few pixels, where the numbers of pixels before and after have a product of at most 16:
    a single product with the matrix of the whole map, which leaves out the taps that see only padding. "winograd" is
    for 3x3 kernels of stride 1, if its 4x4 tiles are at least half full and there are enough channels to make up for
    the cost of its transforms. "patches" is for everything else.
    """
    if math.prod(geometry.image) * math.prod(geometry.outputs) <= 16:
        return "dense"
    tiled = math.prod(TILE * _ceil(n, TILE) for n in geometry.outputs)
    full = tiled <= 2 * math.prod(geometry.outputs)
    if takes_winograd(geometry) and full and min(inputs, outputs) >= 16:
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


def _pad(x: Array, pads: Pads) -> Array:
    """Return x with zeros around the image; negative numbers of zeros crop it."""
    if pads == ((0, 0), (0, 0)):
        return x
    config = [(0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, 0, 0)]
    return stored_call(lambda x: jax.lax.pad(x, jnp.zeros((), x.dtype), config), x)


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)


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
    padded = _pad(x, ((geometry.padding,) * 2,) * 2)
    return _patches(padded, geometry.kernel, geometry.stride) @ kernel.reshape(-1, kernel.shape[3])


def _patches_input_gradient(g: Array, kernel: Array, geometry: Geometry) -> Array:
    """For each phase of the stride, convolve g with the taps of the mirrored kernel in that phase.

    Pixel i receives g[o] W[t] if stride o + t = i + padding. With i = stride m + f and t = r + stride u, where r is
    (f + padding) mod stride, this means o = m + (f + padding) // stride - u.
    """
    stride, padding, inputs = geometry.stride, geometry.padding, kernel.shape[2]
    counts = [_ceil(n, stride) for n in geometry.image]

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
        return _patches(_pad(g, (rows, columns)), size, 1) @ matrix

    if stride == 1:
        return phase(0, 0)
    phases = jnp.stack([jnp.stack([phase(i, j) for j in range(stride)], 3) for i in range(stride)], 2)
    whole = phases.reshape(g.shape[0], counts[0] * stride, counts[1] * stride, inputs)
    return whole[:, : geometry.image[0], : geometry.image[1]]


def _patches_kernel_gradient(x: Array, g: Array, geometry: Geometry) -> Array:
    """Multiply the transposed windows with g."""
    windows = _patches(_pad(x, ((geometry.padding,) * 2,) * 2), geometry.kernel, geometry.stride)
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


# Winograd

TILE = 4
TAPS = 3
POINTS = (Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2))
"""The points, besides infinity, at which polynomials are evaluated.

The usual points 0, 1, -1, 2, -2 lead to errors four times as large.
"""


def _transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (image, kernel, output) so that output^T ((kernel w) * (image d)) correlates pixels d with taps w.

    There are six pixels and three taps. The formula is the transpose of Cook-Toom multiplication of polynomials:
    `kernel` evaluates one factor at the points and divides by the Lagrange denominators, output^T evaluates the other
    factor, and `image` holds the coefficients of the numerators.
    """

    def times_root(coefficients: list[Fraction], root: Fraction) -> list[Fraction]:
        return [a - root * b for a, b in zip([Fraction(0), *coefficients], [*coefficients, Fraction(0)], strict=True)]

    def product(roots: Sequence[Fraction]) -> list[Fraction]:
        coefficients = [Fraction(1)]
        for root in roots:
            coefficients = times_root(coefficients, root)
        return coefficients

    def powers(count: int) -> np.ndarray:
        """Return the powers of the points, and for infinity the leading coefficient."""
        return _floats([[point**power for power in range(count)] for point in POINTS] + [[0] * (count - 1) + [1]])

    others = [[other for other in POINTS if other != point] for point in POINTS]
    denominators = [
        math.prod((point - other for other in rest), start=Fraction(1))
        for point, rest in zip(POINTS, others, strict=True)
    ]
    image = _floats([[*product(rest), Fraction(0)] for rest in others] + [product(POINTS)])
    return image, powers(TAPS) / _floats([[*denominators, 1]]).T, powers(TILE)


def _floats(rows: Sequence[Sequence[Fraction | int]]) -> np.ndarray:
    return np.array([[float(number) for number in row] for row in rows])


IMAGE, KERNEL, OUTPUT = _transforms()


def _combine(matrix: np.ndarray, parts: Sequence[Array], axis: int) -> Array:
    """Return the sums of matrix[i, a] parts[a] along a new axis, as a single loop, as XLA is slow at stacking parts."""
    shape = [1] * (parts[0].ndim + 1)
    shape[axis] = matrix.shape[0]
    terms = [
        jnp.asarray(column, part.dtype).reshape(shape) * jnp.expand_dims(part, axis)
        for column, part in zip(matrix.T, parts, strict=True)
    ]
    return sum(terms[1:], terms[0])


def _both_axes(matrix: np.ndarray, x: Array, count: Sequence[int]) -> Array:
    """Return transformed tiles of the images: (transformed rows, transformed columns, batch, *count, channels).

    Tile i starts at pixel 4 i and has as many pixels as the matrix has columns.
    """

    def one_axis(x: Array, axis: int, new_axis: int, tiles: int) -> Array:
        reach = TILE * (tiles - 1) + 1
        parts = [jax.lax.slice_in_dim(x, a, a + reach, TILE, axis) for a in range(matrix.shape[1])]
        return _combine(matrix, parts, new_axis)

    rows = stored_call(lambda x: one_axis(x, 1, 0, count[0]), x)
    return stored_call(lambda x: one_axis(x, 3, 1, count[1]), rows)


def _image_tiles(x: Array, padding: int, outputs: Sequence[int]) -> Array:
    """Return transformed tiles that cover the outputs, in shape (36, tiles of the whole batch, channels)."""
    count = [_ceil(n, TILE) for n in outputs]
    rows, columns = (
        (padding, TILE * tiles + TAPS - 1 - padding - n) for tiles, n in zip(count, x.shape[1:3], strict=True)
    )
    tiles = _both_axes(IMAGE, _pad(x, (rows, columns)), count)
    return tiles.reshape(IMAGE.size, -1, x.shape[3])


def takes_winograd(geometry: Geometry) -> bool:
    """Whether "winograd" supports the geometry; with more than 2 pixels of padding, the input gradient would crop g."""
    return geometry.kernel == (TAPS, TAPS) and geometry.stride == 1 and geometry.padding < TAPS


def _winograd_forward(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """Compute 4x4 tiles of the result with 36 products of transformed pixels and taps instead of 144 products.

    This is Winograd's minimal filtering F(4x4, 3x3) (Lavin & Gray 2016, https://arxiv.org/abs/1509.09308). Each of the
    36 products is a matrix product over channels. In float32 the largest error is about 3e-6 of the largest result.
    """
    outputs = geometry.outputs
    count = [_ceil(n, TILE) for n in outputs]

    def taps(kernel: Array) -> Array:
        rows = _combine(KERNEL, list(kernel), 0)
        return _combine(KERNEL, [rows[:, j] for j in range(TAPS)], 1).reshape(-1, *kernel.shape[2:])

    tiles = _image_tiles(x, geometry.padding, outputs)
    products = jax.lax.dot_general(tiles, stored_call(taps, kernel), (((2,), (1,)), ((0,), (0,))))
    products = products.reshape(len(OUTPUT), len(OUTPUT), x.shape[0], *count, kernel.shape[3])
    rows = stored_call(lambda products: _combine(OUTPUT.T, list(products), 3), products)
    y = stored_call(lambda rows: _combine(OUTPUT.T, list(rows), 4), rows)
    y = y.reshape(x.shape[0], TILE * count[0], TILE * count[1], kernel.shape[3])
    return y[:, : outputs[0], : outputs[1]]


def _winograd_input_gradient(g: Array, kernel: Array, geometry: Geometry) -> Array:
    """Convolve g with the mirrored kernel."""
    mirrored = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    return _winograd_forward(g, mirrored, Geometry(geometry.outputs, geometry.kernel, 1, TAPS - 1 - geometry.padding))


def _winograd_kernel_gradient(x: Array, g: Array, geometry: Geometry) -> Array:
    """Apply the transposed transforms of the forward pass, with products over all tiles between them."""
    count = [_ceil(n, TILE) for n in geometry.outputs]
    rows, columns = ((0, TILE * tiles - n) for tiles, n in zip(count, g.shape[1:3], strict=True))
    outputs = _both_axes(OUTPUT, _pad(g, (rows, columns)), count).reshape(IMAGE.size, -1, g.shape[3])
    tiles = _image_tiles(x, geometry.padding, geometry.outputs)
    products = jax.lax.dot_general(tiles, outputs, (((1,), (1,)), ((0,), (0,))))

    def taps(products: Array) -> Array:
        rows = _combine(KERNEL.T, list(products.reshape(len(KERNEL), len(KERNEL), *products.shape[1:])), 0)
        return _combine(KERNEL.T, [rows[:, j] for j in range(len(KERNEL))], 1)

    return stored_call(taps, products)


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
    "winograd": Algorithm(_winograd_forward, _winograd_input_gradient, _winograd_kernel_gradient),
    "patches": Algorithm(_patches_forward, _patches_input_gradient, _patches_kernel_gradient),
}
