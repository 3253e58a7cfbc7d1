"""Winograd's minimal filtering (Lavin & Gray 2016, https://arxiv.org/abs/1509.09308), with any stride.

A tile of the result is computed from transformed pixels and taps with fewer products: for a 3x3 kernel, 4x4 results
take 36 products instead of 144. Each of the 36 is a matrix product over channels and tiles. In float32 the largest
error is about 3e-6 of the largest result.

With a stride s, pixels are first sorted by phase: pixel s m + f becomes the channels f of pixel m. The same is done
with the taps, and what remains is a convolution of stride 1 with fewer taps and more channels: 2x2 taps for a 3x3
kernel of stride 2, and 5x5 taps for a 9x9 kernel.

The transformed pixels take more memory than the images, so a large batch goes through in portions that fit in a cache.
"""

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gdlab.compute.calls import stored_call
from gdlab.models.geometry import Geometry, ceil, pad
from gdlab.models.portions import map_portions, sum_portions

TILES = {2: 4, 3: 4, 5: 2}
"""The side of a tile of the result, by the number of taps at stride 1. Pixels and points: one less than their sum."""

POINTS = (Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2))
"""The points, besides infinity, at which polynomials are evaluated; short filters use the first ones only.

The usual points 0, 1, -1, 2, -2 lead to errors four times as large.
"""


class Transforms(NamedTuple):
    """Matrices such that output^T ((kernel w) * (image d)) correlates pixels d with taps w."""

    image: np.ndarray
    kernel: np.ndarray
    output: np.ndarray


@functools.cache
def transforms(taps: int) -> Transforms:
    """Return the matrices for this number of taps.

    The formula is the transpose of Cook-Toom multiplication of polynomials: `kernel` evaluates one factor at the points
    and divides by the Lagrange denominators, output^T evaluates the other factor, and `image` holds the coefficients of
    the numerators.
    """
    points = POINTS[: taps + TILES[taps] - 2]

    def times_root(coefficients: list[Fraction], root: Fraction) -> list[Fraction]:
        return [a - root * b for a, b in zip([Fraction(0), *coefficients], [*coefficients, Fraction(0)], strict=True)]

    def product(roots: Sequence[Fraction]) -> list[Fraction]:
        return functools.reduce(times_root, roots, [Fraction(1)])

    def powers(count: int) -> np.ndarray:
        """Return the powers of the points, and for infinity the leading coefficient."""
        return _floats([[point**power for power in range(count)] for point in points] + [[0] * (count - 1) + [1]])

    others = [[other for other in points if other != point] for point in points]
    denominators = [
        math.prod((point - other for other in rest), start=Fraction(1))
        for point, rest in zip(points, others, strict=True)
    ]
    image = _floats([[*product(rest), Fraction(0)] for rest in others] + [product(points)])
    return Transforms(image, powers(taps) / _floats([[*denominators, 1]]).T, powers(TILES[taps]))


def _floats(rows: Sequence[Sequence[Fraction | int]]) -> np.ndarray:
    return np.array([[float(number) for number in row] for row in rows])


class Phases(NamedTuple):
    """The convolution of stride 1 that remains once pixels and taps are sorted by phase.

    Attributes:
      stride: the stride before.
      lead: zeros in front of the kernel, so that the padding is a whole number of sorted pixels.
      taps: rows, and columns, of the sorted kernel.
      padding: sorted pixels of zeros in front of the image.
      image: height and width of the sorted image.
    """

    stride: int
    lead: int
    taps: int
    padding: int
    image: tuple[int, int]

    @classmethod
    def of(cls, geometry: Geometry) -> "Phases":
        """Return the phases of a convolution with a square kernel."""
        stride, lead = geometry.stride, -geometry.padding % geometry.stride
        height, width = (ceil(n, stride) for n in geometry.image)
        taps, padding = ceil(geometry.kernel[0] + lead, stride), (geometry.padding + lead) // stride
        return cls(stride, lead, taps, padding, (height, width))

    def sort_taps(self, kernel: Array) -> Array:
        """Return the kernel in shape (phases of the rows, taps, taps, phases of the columns and inputs, outputs)."""
        behind = self.taps * self.stride - self.lead - kernel.shape[0]
        whole = jnp.pad(kernel, ((self.lead, behind), (self.lead, behind), (0, 0), (0, 0)))
        split = whole.reshape(self.taps, self.stride, self.taps, -1, kernel.shape[3])
        return jnp.moveaxis(split, 1, 0)

    def unsort_taps(self, kernel: Array, size: int) -> Array:
        """Undo `sort_taps`, for a kernel with `size` rows and columns."""
        side = self.taps * self.stride
        whole = jnp.moveaxis(kernel, 0, 1).reshape(side, side, -1, kernel.shape[4])
        return whole[self.lead : self.lead + size, self.lead : self.lead + size]


def takes_winograd(geometry: Geometry) -> bool:
    """Whether this algorithm supports the geometry; with more padding, the input gradient would crop g."""
    phases = Phases.of(geometry)
    square = geometry.kernel[0] == geometry.kernel[1] > geometry.stride
    return square and phases.taps in TILES and phases.padding < phases.taps


def fills_tiles(geometry: Geometry) -> bool:
    """Whether the tiles are at least half full, and with a stride at least four per image.

    A stride makes for more channels, and a single tile per image does not make up for transforming their kernel.
    """
    tile = TILES[Phases.of(geometry).taps]
    tiles = math.prod(ceil(n, tile) for n in geometry.outputs)
    return tiles * tile**2 <= 2 * math.prod(geometry.outputs) and (geometry.stride == 1 or tiles >= 4)


def forward(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """Return the convolution of x with the kernel."""
    phases = Phases.of(geometry)
    y = _correlate(x, phases.sort_taps(kernel), phases.padding, geometry.outputs)
    return y[:, : geometry.outputs[0], : geometry.outputs[1]]


def input_gradient(g: Array, kernel: Array, geometry: Geometry) -> Array:
    """Convolve g with the mirrored kernel."""
    phases = Phases.of(geometry)
    mirrored = jnp.moveaxis(phases.sort_taps(kernel)[:, ::-1, ::-1], (0, 4), (3, 2))
    mirrored = mirrored.reshape(1, *mirrored.shape[:3], -1)
    padding = phases.taps - 1 - phases.padding
    x = _correlate(g, mirrored, padding, phases.image, stride=phases.stride)
    return x[:, : geometry.image[0], : geometry.image[1]]


def kernel_gradient(x: Array, g: Array, geometry: Geometry) -> Array:
    """Apply the transposed transforms of the forward pass, with products over all tiles between them."""
    phases = Phases.of(geometry)
    matrices, tile = transforms(phases.taps), TILES[phases.taps]
    count = [ceil(n, tile) for n in geometry.outputs]

    def multiplied(x: Array, g: Array) -> list[Array]:
        (outputs,) = _tiles(matrices.output, g, count, tile, 0, 1)
        tiles = _tiles(matrices.image, x, count, tile, phases.padding, phases.stride)
        return [jax.lax.dot_general(part, outputs, (((1,), (1,)), ((0,), (0,)))) for part in tiles]

    products = sum_portions(multiplied, x, g, math.prod(count))
    kernel = jnp.stack([_transform_taps(matrices.kernel.T, part) for part in products])
    return phases.unsort_taps(kernel, geometry.kernel[0])


def _correlate(x: Array, kernel: Array, padding: int, outputs: Sequence[int], *, stride: int = 1) -> Array:
    """Return the correlation with a sorted kernel, from `padding` sorted pixels before the image, in whole tiles.

    The channels of the result are phases for this stride, and become pixels.
    """
    size = kernel.shape[1]
    matrices, tile = transforms(size), TILES[size]
    count = [ceil(n, tile) for n in outputs]
    points = len(matrices.output)

    def pixels(rows: Array) -> Array:
        y = _combine(matrices.output.T, list(rows), 4)  # (images, tiles, rows, tiles, columns, channels)
        y = y.reshape(*y.shape[:5], stride, -1).transpose(0, 1, 2, 5, 3, 4, 6)
        return y.reshape(y.shape[0], tile * count[0] * stride, tile * count[1] * stride, -1)

    def correlated(x: Array) -> Array:
        tiles = _tiles(matrices.image, x, count, tile, padding, len(kernels))
        parts = [
            jax.lax.dot_general(part, taps, (((2,), (1,)), ((0,), (0,))))
            for part, taps in zip(tiles, kernels, strict=True)
        ]
        products = sum(parts[1:], parts[0]).reshape(points, points, x.shape[0], *count, -1)
        return stored_call(pixels, stored_call(lambda y: _combine(matrices.output.T, list(y), 3), products))

    kernels = [_transform_taps(matrices.kernel, part).reshape(points**2, *part.shape[2:]) for part in kernel]
    return map_portions(correlated, x, math.prod(count))


def _transform_taps(matrix: np.ndarray, taps: Array) -> Array:
    """Transform the rows and columns of taps by a matrix, as a product, which is faster than loops over the taps."""
    both = jnp.asarray(np.kron(matrix, matrix), taps.dtype)
    return (both @ taps.reshape(both.shape[1], -1)).reshape(len(matrix), len(matrix), *taps.shape[-2:])


def _tiles(matrix: np.ndarray, x: Array, count: Sequence[int], tile: int, padding: int, stride: int) -> list[Array]:
    """Return transformed tiles of the images, one array for each phase of the rows.

    Each has the shape (transformed rows and columns, tiles of all images, phases of the columns and channels). Tile i
    starts at sorted pixel `tile` i - `padding` and has as many as the matrix has columns.
    """
    sides = [tile * (tiles - 1) + matrix.shape[1] for tiles in count]
    before = stride * padding
    rows, columns = ((before, stride * side - before - n) for side, n in zip(sides, x.shape[1:3], strict=True))
    x = pad(x, (rows, columns)).reshape(x.shape[0], stride * sides[0], sides[1], stride * x.shape[3])

    def transformed(x: Array, first: int, step: int, axis: int, new_axis: int, tiles: int) -> Array:
        reach = step * tile * (tiles - 1) + 1
        starts = range(first, first + step * matrix.shape[1], step)
        parts = [jax.lax.slice_in_dim(x, start, start + reach, step * tile, axis) for start in starts]
        return _combine(matrix, parts, new_axis)

    def phase(first: int) -> Array:
        rows = stored_call(lambda x: transformed(x, first, stride, 1, 0, count[0]), x)
        both = stored_call(lambda x: transformed(x, 0, 1, 3, 1, count[1]), rows)
        return both.reshape(matrix.shape[0] ** 2, -1, x.shape[3])

    return [phase(first) for first in range(stride)]


def _combine(matrix: np.ndarray, parts: Sequence[Array], axis: int) -> Array:
    """Return the sums of matrix[i, a] parts[a] along a new axis, as a single loop, as XLA is slow at stacking parts."""
    shape = [1] * (parts[0].ndim + 1)
    shape[axis] = matrix.shape[0]
    terms = [
        jnp.asarray(column, part.dtype).reshape(shape) * jnp.expand_dims(part, axis)
        for column, part in zip(matrix.T, parts, strict=True)
    ]
    return sum(terms[1:], terms[0])
