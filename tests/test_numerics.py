import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from gdlab import numerics


def test_safe_sqrt():
    x = jnp.array([0.0, 1e-300, 0.25, 9.0])
    np.testing.assert_array_equal(numerics.safe_sqrt(x), np.sqrt(x))
    slopes = jax.vmap(jax.grad(numerics.safe_sqrt))(x)
    np.testing.assert_allclose(slopes[1:], 0.5 / np.sqrt(x[1:]), rtol=1e-14)
    assert slopes[0] == 0
    assert jnp.isnan(jax.grad(lambda x: jnp.sqrt(x**2))(0.0))  # the case that it exists for
    assert jax.grad(lambda x: numerics.safe_sqrt(x**2))(0.0) == 0


def test_absolute():
    x = jnp.array([-2.0, 0.0, 3.0])
    np.testing.assert_array_equal(numerics.absolute(x), [2, 0, 3])
    np.testing.assert_array_equal(jax.vmap(jax.grad(numerics.absolute))(x), [-1, 0, 1])
    assert numerics.absolute(jnp.array(-2.0 + 1e-20j)) == 2 - 1e-20j  # the continuation, not the modulus


@pytest.mark.thorough
def test_cos_sqrt_and_its_derivatives_by_the_series():
    # d^k/du^k cos sqrt u at 0 is (-1)^k k! / (2k)!
    derivative = numerics.cos_sqrt
    for k in range(5):
        expected = (-1) ** k * math.factorial(k) / math.factorial(2 * k)
        assert float(derivative(jnp.array(0.0))) == pytest.approx(expected, rel=1e-13)
        derivative = jax.grad(derivative)
    u = jnp.array([1e-12, 9.9e-3, 1.01e-2, 2.0, 50.0])  # on both sides of the switch
    np.testing.assert_allclose(numerics.cos_sqrt(u), np.cos(np.sqrt(u)), rtol=1e-14)
    slopes = jax.vmap(jax.grad(numerics.cos_sqrt))(u)
    np.testing.assert_allclose(slopes[1:], -np.sin(np.sqrt(u[1:])) / (2 * np.sqrt(u[1:])), rtol=1e-12)


def test_sinpi_is_exact_at_integers_and_accurate_in_float32():
    integers = jnp.arange(-40.0, 41.0)
    np.testing.assert_array_equal(numerics.sinpi(integers), 0)
    np.testing.assert_array_equal(numerics.sinpi(integers + 0.5), np.where(np.arange(-40, 41) % 2 == 0, 1, -1))
    x = jnp.linspace(-33, 33, 10001).astype(jnp.float32)
    truth = np.sin(np.pi * np.asarray(x, np.float64))
    ours = np.abs(np.asarray(numerics.sinpi(x)) - truth).max()
    naive = np.abs(np.asarray(jnp.sin(jnp.float32(np.pi) * x)) - truth).max()
    assert ours < 2e-7 < 1e-6 < naive
    np.testing.assert_allclose(
        jax.vmap(jax.grad(numerics.sinpi))(x.astype(jnp.float64)),
        np.pi * np.cos(np.pi * np.asarray(x, float)),
        atol=1e-12,
    )


def test_one_minus_power():
    for decay in (0.0, 0.5, 0.9, 0.999, 0.99999):
        for count in (1, 2, 10, 1000, 10**6):
            exact = -math.expm1(count * math.log(decay)) if decay else 1.0
            assert float(numerics.one_minus_power(decay, jnp.array(count))) == pytest.approx(exact, rel=1e-11)
    # d(1 - b^t)/db = -t b^(t-1), at 0 too
    for decay in (0.0, 0.3, 0.9):
        for count in (1, 2, 7):
            slope = jax.grad(numerics.one_minus_power)(decay, jnp.array(count))
            assert float(slope) == pytest.approx(-count * decay ** (count - 1), rel=1e-12)
    with jax.enable_x64(False):  # 1 - 0.999 = 0.001, to the last digits of float32
        assert float(numerics.one_minus_power(0.999, jnp.array(1))) == pytest.approx(0.001, rel=2e-7)


def random_spd(n, seed=0):
    factor = np.random.default_rng(seed).normal(size=(n, n))
    return factor @ factor.T + 0.1 * np.eye(n)


@pytest.mark.parametrize("exponent", [-0.25, -0.5, 0.5, -1.0, 1.0])
def test_symmetric_power_equals_scipys(exponent):
    matrix = random_spd(4)
    ours = numerics.symmetric_power(jnp.asarray(matrix), exponent)
    np.testing.assert_allclose(ours, linalg.fractional_matrix_power(matrix, exponent), rtol=1e-10)


def test_symmetric_power_has_the_derivative_of_the_matrix_function():
    change = jnp.asarray(random_spd(3, 1) - np.eye(3))
    for matrix in (random_spd(3), np.eye(3) * 2.0, np.diag([1.0, 1.0 + 1e-9, 5.0])):

        def along(t, matrix=matrix):
            return numerics.symmetric_power(matrix + t * change, -0.25)

        h = 1e-4
        quotient = (along(h) - along(-h)) / (2 * h)
        np.testing.assert_allclose(jax.jacfwd(along)(0.0), quotient, rtol=1e-6, atol=1e-7)
    slope = jax.grad(lambda p: numerics.symmetric_power(jnp.diag(jnp.array([2.0, 3.0])), p)[0, 0])(0.5)
    assert float(slope) == pytest.approx(np.sqrt(2) * np.log(2), rel=1e-12)


def test_symmetric_power_raises_eigenvalues_to_the_floor():
    with jax.enable_x64(False):
        direction = jnp.array([300.0, 400.0], jnp.float32)
        matrix = jnp.outer(direction, direction) + 1e-6 * jnp.eye(2)
        root = numerics.symmetric_power(matrix, -0.5, floor=1e-6)
        assert jnp.abs(root).max() <= 1001.0  # 1 / sqrt(1e-6), where rounding alone would give 1e19
    assert numerics.symmetric_power(jnp.eye(2, dtype=jnp.bfloat16), -0.5).dtype == jnp.bfloat16


def test_half_turns_in_float32_are_accurate_everywhere():
    near, far = np.linspace(-33, 33, 200_001), np.linspace(-1e4, 1e4, 200_001)
    x = np.concatenate([near, far]).astype(np.float32)
    wide = x.astype(np.float64)
    reduced = wide - np.round(wide)  # exact
    sign = np.where(np.round(wide) % 2 == 0, 1.0, -1.0)
    sine, cosine = sign * np.sin(np.pi * reduced), sign * np.cos(np.pi * reduced)
    for fn, truth, bound in (
        (numerics.sinpi, sine, 2e-7),
        (numerics.cospi, cosine, 2e-7),
        (numerics.sinpi_squared, sine**2, 4e-7),
        (lambda v: numerics.cospi(2 * v), cosine**2 - sine**2, 2e-7),
    ):
        found = np.asarray(jax.jit(fn)(x))
        assert found.dtype == np.float32
        assert np.abs(found - truth).max() < bound
    # The textbook form is more than fifty times worse on [-33, 33].
    plain = np.cos(np.float32(2 * np.pi) * x[: near.size])
    assert np.abs(plain - (cosine**2 - sine**2)[: near.size]).max() > 50 * 2e-7


@pytest.mark.parametrize("dtype", [pytest.param(jnp.float32, marks=pytest.mark.thorough), jnp.float64])
def test_half_turns_at_special_points_and_their_derivatives(dtype):
    halves = jnp.arange(-4.0, 4.5, 0.5, dtype=dtype)
    np.testing.assert_array_equal(numerics.sinpi(halves[::2]), 0)
    np.testing.assert_array_equal(numerics.cospi(halves[1::2]), 0)
    np.testing.assert_array_equal(numerics.cospi(jnp.array([0.0, 1.0, 2.0, -3.0], dtype)), [1, -1, 1, -1])
    np.testing.assert_array_equal(numerics.sinpi_squared(jnp.array([2.0, 0.5, 1e30], dtype)), [0, 1, 0])
    assert jnp.isnan(numerics.sinpi(jnp.array(jnp.inf, dtype)))
    x = jnp.linspace(-1.3, 2.1, 23, dtype=dtype)
    angle = np.pi * np.asarray(x, np.float64)
    tolerance = {"rtol": 1e-6, "atol": 2e-5} if dtype == jnp.float32 else {"rtol": 1e-12, "atol": 1e-12}
    for fn, derivatives in (
        (numerics.sinpi, (np.pi * np.cos(angle), -(np.pi**2) * np.sin(angle), -(np.pi**3) * np.cos(angle))),
        (numerics.cospi, (-np.pi * np.sin(angle), -(np.pi**2) * np.cos(angle), np.pi**3 * np.sin(angle))),
        (
            numerics.sinpi_squared,
            (np.pi * np.sin(2 * angle), 2 * np.pi**2 * np.cos(2 * angle), -4 * np.pi**3 * np.sin(2 * angle)),
        ),
    ):
        for expected in derivatives:
            fn = jax.grad(fn)
            np.testing.assert_allclose(jax.vmap(fn)(x), expected, **tolerance)
    complex_step = numerics.sinpi_squared(x.astype(jnp.float64) + 1e-20j).imag / 1e-20
    np.testing.assert_allclose(complex_step, np.pi * np.sin(2 * angle), rtol=1e-6, atol=1e-6)


def test_expm1_in_float32():
    x = np.concatenate([np.linspace(-100, 88.7, 400_001), np.geomspace(1e-30, 1, 1001), -np.geomspace(1e-30, 1, 1001)])
    x = x.astype(np.float32)
    truth = np.expm1(x.astype(np.float64))
    found = np.asarray(jax.jit(numerics.expm1)(x))
    assert (np.abs(found - truth) <= 1.5e-7 * np.abs(truth)).all()
    special = numerics.expm1(jnp.array([0.0, -jnp.inf, jnp.inf, 89.0, jnp.nan], jnp.float32))
    np.testing.assert_array_equal(special, [0.0, -1.0, np.inf, np.inf, np.nan])
    assert jax.grad(numerics.expm1)(jnp.float32(0.5)) == pytest.approx(math.exp(0.5), rel=2e-7)
    y = jnp.linspace(-3.0, 3.0, 7)
    np.testing.assert_array_equal(numerics.expm1(y), jnp.expm1(y))  # float64 is JAX's
    np.testing.assert_allclose(jax.vmap(jax.grad(jax.grad(numerics.expm1)))(y), np.exp(y), rtol=1e-14)
