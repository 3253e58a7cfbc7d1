"""Convolutions compared with a loop over windows in float64 NumPy, and with XLA's convolution and derivatives."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdlab.models import convolution, portions, products
from gdlab.models.convolution import convolve
from gdlab.models.geometry import Geometry
from gdlab.models.products import ALGORITHMS, choose
from gdlab.models.winograd import takes_winograd
from tests.selection import some_of

# Image, kernel, stride, padding: odd and even sizes, strides that leave pixels over, paddings wider than the kernel.
GEOMETRIES = [
    Geometry((7, 5), (3, 3), 1, 1),
    Geometry((4, 6), (3, 3), 1, 2),
    Geometry((8, 8), (3, 3), 2, 1),
    Geometry((7, 8), (1, 1), 2, 0),
    Geometry((4, 4), (1, 1), 1, 1),
    Geometry((11, 12), (7, 7), 2, 3),
    Geometry((6, 7), (2, 2), 3, 1),
    Geometry((6, 5), (5, 3), 2, 4),
    Geometry((1, 1), (3, 3), 1, 1),
    Geometry((2, 2), (3, 3), 2, 1),
]


def numpy_passes(x, kernel, g, geometry):
    """Return the result and the gradients of its inner product with g, window by window."""
    stride, padding = geometry.stride, geometry.padding
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    y, dx, dkernel = np.zeros(g.shape), np.zeros(padded.shape), np.zeros(kernel.shape)
    for i in range(g.shape[1]):
        for j in range(g.shape[2]):
            at = np.s_[:, i * stride : i * stride + kernel.shape[0], j * stride : j * stride + kernel.shape[1]]
            y[:, i, j] = np.tensordot(padded[at], kernel, 3)
            dx[at] += np.tensordot(g[:, i, j], kernel, (1, 3))
            dkernel += np.tensordot(padded[at], g[:, i, j], (0, 0))
    height, width = geometry.image
    return y, dx[:, padding : padding + height, padding : padding + width], dkernel


def operands(geometry, dtype, inputs=3, outputs=4, batch=2):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (
        (batch, *geometry.image, inputs),
        (*geometry.kernel, inputs, outputs),
        (batch, *geometry.outputs, outputs),
    )
    return [jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True)]


def assert_near(got, expected, relative):
    """Require agreement to within `relative` times the largest expected value."""
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=relative * np.abs(expected).max())


def takes(name, geometry):
    """Return whether the algorithm applies, and with a matrix that does not take long to compile."""
    small = math.prod(geometry.image) * math.prod(geometry.outputs) <= 1000
    return {"winograd": takes_winograd(geometry), "dense": small}.get(name, True)


PAIRS = [(name, geometry) for name in ALGORITHMS for geometry in GEOMETRIES if takes(name, geometry)]
PAIRS += [("winograd", Geometry((11, 12), (9, 9), 2, 0))]  # five taps per phase
QUICK = {next(place for place in PAIRS if place[0] == name and place[1].kernel == (3, 3)) for name in ALGORITHMS}


@pytest.mark.parametrize(("name", "geometry"), some_of(PAIRS, QUICK), ids=str)
def test_every_algorithm_is_the_convolution_and_its_gradients(name, geometry):
    x, kernel, g = operands(geometry, jnp.float64)

    @jax.jit
    def passes(x, kernel, g):
        algorithm = ALGORITHMS[name]
        return (
            algorithm.forward(x, kernel, geometry),
            algorithm.input_gradient(g, kernel, geometry),
            algorithm.kernel_gradient(x, g, geometry),
        )

    for got, expected in zip(
        passes(x, kernel, g), numpy_passes(*map(np.asarray, (x, kernel, g)), geometry), strict=True
    ):
        assert_near(got, expected, 1e-13)


@pytest.mark.parametrize("size", [4, 8])
def test_winograd_in_float32_is_within_1e_5_of_the_largest_value(size):
    geometry = Geometry((size, size), (3, 3), 1, 1)
    assert choose(geometry, 128, 32) == "winograd"
    x, kernel, g = operands(geometry, jnp.float32, 128, 32, 2)
    x = jnp.maximum(x, 0)
    expected = numpy_passes(*(np.asarray(value, np.float64) for value in (x, kernel, g)), geometry)
    passes = (
        (products.forward, (x, kernel)),
        (products.input_gradient, (g, kernel)),
        (products.kernel_gradient, (x, g)),
    )
    for (ours, arguments), value in zip(passes, expected, strict=True):
        got = jax.jit(ours, static_argnums=2)(*arguments, geometry)
        assert got.dtype == jnp.float32
        assert_near(got, value, 1e-5)


def test_the_algorithm_is_chosen_by_the_shapes():
    for (image, kernel, stride, padding), channels, algorithm in (
        ((2, 2, 3, 1), (256, 256), "dense"),
        ((4, 3, 2, 1), (64, 64), "patches"),
        ((8, 3, 1, 1), (64, 64), "winograd"),
        ((8, 3, 1, 1), (3, 64), "patches"),
        ((5, 3, 1, 1), (64, 64), "patches"),  # fills 25 of the 64 pixels of the tiles
        ((6, 3, 1, 1), (64, 64), "winograd"),
        ((32, 7, 2, 3), (64, 64), "patches"),
    ):
        assert choose(Geometry((image,) * 2, (kernel,) * 2, stride, padding), *channels) == algorithm


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("geometry", "channels"),
    [
        pytest.param(Geometry((5, 6), (3, 3), 2, 1), 3, id="patches", marks=pytest.mark.thorough),
        pytest.param(Geometry((4, 4), (3, 3), 1, 1), 16, id="winograd", marks=pytest.mark.thorough),
        pytest.param(Geometry((2, 2), (3, 3), 1, 1), 3, id="dense"),
    ],
)
def test_derivatives_of_every_kind_and_mapped_axes(geometry, channels):
    x, kernel, _ = operands(geometry, jnp.float64, channels, channels + 1)

    def value(convolution):
        return lambda x, kernel: jnp.sum(jnp.sin(convolution(x, kernel)))

    ours = value(lambda x, kernel: convolve(x, kernel, geometry.stride, geometry.padding))
    xla = value(lambda x, kernel: convolution._xla_forward(x, kernel, geometry))

    def curvature(f):  # forward over reverse
        return lambda *at: jax.jvp(jax.grad(f, (0, 1)), at, tuple(jnp.cos(value) for value in at))

    def again(f):  # reverse over reverse
        return jax.grad(lambda *at: sum(jnp.sum(jnp.sin(part)) for part in jax.grad(f, (0, 1))(*at)), (0, 1))

    def every(f):
        return jax.jit(lambda *at: (curvature(f)(*at), again(f)(*at)))

    for got, expected in zip(*(jax.tree.leaves(every(f)(x, kernel)) for f in (ours, xla)), strict=True):
        assert_near(got, np.asarray(expected), 1e-11)

    # vmap over both arguments, over one, and nested, compared with one lane after another.
    gradient = jax.jit(jax.grad(ours, (0, 1)))
    scales = jnp.array([1.0, 0.5, -2.0])
    xs, kernels = (jnp.stack([scale * value for scale in scales], 1) for value in (x, kernel))
    for axes, arguments in (((1, 1), (xs, kernels)), ((1, None), (xs, kernel)), ((None, 1), (x, kernels))):
        mapped = jax.jit(jax.vmap(jax.grad(ours, (0, 1)), axes))(*arguments)
        for lane in range(3):
            one = [value if axis is None else value[:, lane] for axis, value in zip(axes, arguments, strict=True)]
            for got, expected in zip(mapped, gradient(*one), strict=True):
                assert_near(got[lane], np.asarray(expected), 1e-11)
    for inner, outer in (((1, None), (None, 1)), ((1, 1), (1, None))):
        arguments = (xs if outer[0] is None else jnp.stack([xs, 3 * xs], 1), kernels)
        nested = jax.jit(jax.vmap(jax.vmap(jax.grad(ours, (0, 1)), (1, inner[1])), outer))(*arguments)
        for first in range(2):
            for second in range(3):
                if outer[0] is None:
                    one = (xs[:, second], kernels[:, first])
                else:
                    one = (arguments[0][:, first, second], kernels[:, second])
                for got, expected in zip(nested, gradient(*one), strict=True):
                    assert_near(got[first, second], np.asarray(expected), 1e-11)


def test_lanes_become_products_and_never_grouped_convolutions():
    x, kernel, _ = operands(Geometry((4, 4), (3, 3), 1, 1), jnp.float32, 16, 16)
    gradient = jax.vmap(jax.grad(lambda x, kernel: jnp.sum(convolve(x, kernel, 1, 1) ** 2), (0, 1)))
    text = jax.jit(gradient).lower(jnp.stack([x] * 3), jnp.stack([kernel] * 3)).as_text()
    if jax.default_backend() == "cpu":
        assert "stablehlo.convolution" not in text
        assert "stablehlo.dot_general" in text


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_narrow_types_sum_in_float32(dtype):
    # 2304 products of 1 sum to 2304, which bfloat16 rounds to 2304; a running sum in bfloat16 would stop at 256.
    x, kernel = jnp.ones((1, 3, 3, 256), dtype), jnp.ones((3, 3, 256, 1), dtype)
    y = convolve(x, kernel)
    assert y.dtype == dtype
    assert float(y[0, 0, 0, 0]) == 2304


def test_bad_input_raises_an_error_of_one_line():
    x, kernel = jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 3, 5))
    for arguments, answer in (
        ((x[0], kernel), r"x: expected a floating-point array .* got an array of shape \(4, 4, 3\)"),
        ((x, kernel[:, :, :2]), r"kernel: expected 3 inputs, the channels of x, got shape \(3, 3, 2, 5\)"),
        ((x, kernel, 0), "stride: expected an integer of at least 1, got 0"),
        ((x[:, :2], kernel), r"kernel: expected a size that fits .* got \(3, 3\) for images \(1, 2, 4, 3\)"),
    ):
        with pytest.raises(ValueError, match=answer) as caught:
            convolve(*arguments)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("batch", [1, 7, 12, 64])
def test_portions_of_a_batch_have_enough_rows_and_add_up(batch):
    count = portions.count_portions(batch, 100)
    assert batch % count == 0
    assert count == {1: 1, 7: 1, 12: 4, 64: 16}[batch]  # at least three images, or all of a batch without such a part
    x = np.random.default_rng(0).normal(size=(batch, 2))
    squares = portions.map_portions(lambda x: x[:, 0] ** 2, jnp.asarray(x), 100)
    np.testing.assert_allclose(squares, x[:, 0] ** 2, rtol=1e-15)
    total = portions.sum_portions(lambda x, g: x.T @ g, jnp.asarray(x), jnp.asarray(x), 100)
    np.testing.assert_allclose(total, x.T @ x, rtol=1e-12)
