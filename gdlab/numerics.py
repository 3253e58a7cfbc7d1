"""Accurate elementary functions whose derivatives stay finite and correct where the textbook form loses them.

Each function works on arrays of any shape, in float32, float64 and their complex counterparts (for complex steps),
under jit, vmap, grad and hessian.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from gdlab.arguments import as_array, require_number
from gdlab.compute.calls import stored
from gdlab.compute.precision import exact_products
from gdlab.types import Number


def safe_sqrt(x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """sqrt(x), with derivative 0 instead of infinity at x = 0.

    The derivative of `sqrt(sum(x**2))` at the origin is then 0, which is a subgradient. Plain automatic
    differentiation multiplies infinity by zero and returns NaN there.

    Args:
      x: real values >= 0, or complex ones.
    """
    return _safe_sqrt(as_array("x", x, (jnp.inexact,)))


@jax.custom_jvp
def _safe_sqrt(x: Array) -> Array:
    return jnp.sqrt(x)


@_safe_sqrt.defjvp
def _safe_sqrt_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    root = _safe_sqrt(*primals)
    zero = primals[0] == 0
    return root, tangents[0] * jnp.where(zero, 0.0, 0.5 / jnp.where(zero, 1.0, root))


def absolute(x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """|x|, with derivative 0 at x = 0, the middle of the subgradients; JAX's own derivative there is 1.

    Complex arguments are not mapped to their modulus. The function is continued analytically from the real axis (x or
    -x, by the sign of the real part), as a complex step requires.

    Args:
      x: real or complex values.
    """
    x = as_array("x", x, (jnp.inexact,))
    return x * jax.lax.stop_gradient(jnp.sign(jnp.real(x)))


def cos_sqrt(u: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """cos(sqrt(u)) for u >= 0, with derivatives at u = 0 that are finite and exact.

    As a function of u it is entire. Below u = 0.01 it is computed by the Taylor series sum (-u)^k / (2k)! up to k = 6,
    whose truncation error is below 2e-25.

    Args:
      u: real values >= 0, or complex ones.
    """
    u = as_array("u", u, (jnp.inexact,))
    small = jnp.real(u) < 1e-2
    v = jnp.where(small, u, 0.0)
    series = 1 - v / 2 * (1 - v / 12 * (1 - v / 30 * (1 - v / 56 * (1 - v / 90 * (1 - v / 132)))))
    return jnp.where(small, series, jnp.cos(jnp.sqrt(jnp.where(small, 1.0, u))))


def sinpi(x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """sin(pi x), exactly 0 at integers.

    x is reduced to the nearest integer before the multiplication by pi. In float32 the error is within 2e-7 for every
    x, and the function is cheaper than `jnp.sin` on a CPU.

    Args:
      x: the angle, in half turns.
    """
    return _sincospi(as_array("x", x, (jnp.inexact,)))[0]


def cospi(x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """cos(pi x), exactly 0 half-way between integers.

    The argument is reduced as in `sinpi`. `cospi(2 * x)` is the cosine of an angle of x turns.

    Args:
      x: the angle, in half turns.
    """
    return _sincospi(as_array("x", x, (jnp.inexact,)))[1]


@jax.custom_jvp
def _sincospi(x: Array) -> tuple[Array, Array]:
    """Compute sine and cosine together: they share the reduction, and each gives the derivative of the other."""
    if x.dtype == jnp.float32:
        return _sincospi_float32(x)
    turns = jax.lax.stop_gradient(jnp.round(jnp.real(x)))
    sign = jnp.where(turns % 2 == 0, 1.0, -1.0).astype(x.dtype)
    r = x - turns
    right = jnp.where(jnp.real(r) < 0, -1.0, 1.0).astype(x.dtype)
    return sign * jnp.sin(jnp.pi * r), sign * jnp.sin(jnp.pi * (0.5 - right * r))


@_sincospi.defjvp
def _sincospi_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    s, c = _sincospi(*primals)
    slope = jnp.pi * tangents[0]
    return (s, c), (slope * c, -slope * s)


_SIN = (3.14159264, -5.16770968, 2.55006973, -0.598242126, 0.077560386)
_COS = (4.0, -3.73920798, 1.27798821, -0.228727294, 0.0241290797)
"""Coefficients of a least-squares fit, reweighted to minimize the largest relative error: sine 5e-9, cosine 1e-9."""


@stored
def _sincospi_float32(x: Array) -> tuple[Array, Array]:
    """Evaluate both at the reduced argument and multiply by (-1)^integer, without select or table."""
    turns = jnp.round(x)
    s, c = _half_turn(x - turns)
    sign = 1 - 2 * jnp.abs(turns - 2 * jnp.round(0.5 * turns))
    return sign * s, sign * c


def _half_turn(r: Array) -> tuple[Array, Array]:
    """sin(pi r) = r P(r^2) and cos(pi r) = (1/4 - r^2) Q(r^2) for |r| <= 1/2.

    The leading factors keep the relative error of both small at their zeros.
    """
    u = r * r
    return r * _horner(_SIN, u), (0.25 - u) * _horner(_COS, u)


def sinpi_squared(x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """sin(pi x)^2 = (1 - cos(2 pi x)) / 2: a ripple of period 1, exactly 0 at integers and accurate near them.

    Its derivative is pi sin(2 pi x). In float32 the error is within 4e-7, and the function is cheaper than
    `sinpi(x)**2`, which computes a sign that the square discards.

    Args:
      x: the angle, in half turns.
    """
    return _ripple(as_array("x", x, (jnp.inexact,)))[0]


@jax.custom_jvp
def _ripple(x: Array) -> tuple[Array, Array]:
    """s^2 and s c, where s = sin(pi x) and c = cos(pi x); the derivative of each is a function of the other."""
    if x.dtype == jnp.float32:
        return _ripple_float32(x)
    s, c = _sincospi(x)
    return s * s, s * c


@_ripple.defjvp
def _ripple_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    square, product = _ripple(*primals)
    slope = jnp.pi * tangents[0]
    return (square, product), (2 * slope * product, slope * (1 - 2 * square))


@stored
def _ripple_float32(x: Array) -> tuple[Array, Array]:
    s, c = _half_turn(x - jnp.round(x))
    return s * s, s * c


def _horner(coefficients: tuple[float, ...], u: Array) -> Array:
    total = jnp.full_like(u, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * u + coefficient
    return total


def expm1(x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """exp(x) - 1 without cancellation; in float32 within 1.5e-7 relative, and cheaper than `jnp.expm1`.

    Args:
      x: the exponents.
    """
    return _expm1(as_array("x", x, (jnp.inexact,)))


@jax.custom_jvp
def _expm1(x: Array) -> Array:
    return _expm1_float32(x) if x.dtype == jnp.float32 else jnp.expm1(x)


@_expm1.defjvp
def _expm1_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    y = _expm1(*primals)
    return y, (y + 1) * tangents[0]


@stored
def _expm1_float32(x: Array) -> Array:
    """(2^n - 1) + 2^n (exp(r) - 1), x = n ln 2 + r, |r| <= ln(2) / 2, with the Taylor polynomial of degree 7.

    ln 2 is split into two parts, the first with few bits, so that its product with n is exact. 2^(n - 1) is assembled
    from its bits (adding 1.5 x 2^23 shifts the integer into the lowest ones) and is doubled last, to avoid an early
    overflow.
    """
    x = jnp.clip(x, -87.0, 88.8)  # exp underflows or overflows beyond these
    n = jnp.round(x * 1.44269504)
    r = (x - n * 0.693359375) - n * -2.12194440e-4
    small = r + r * r * _horner((1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040), r)
    bits = jax.lax.bitcast_convert_type(n + (12582912.0 + 126), jnp.int32)
    half = jax.lax.bitcast_convert_type(jax.lax.shift_left(bits, jnp.int32(23)), jnp.float32)
    return 2 * (small * half + (half - 0.5))


def one_minus_power(decay: Number, count: Array) -> Array:
    """1 - decay^count, without the cancellation of the plain form.

    Adam divides by it. In float32 the plain form of 1 - 0.999^1 has a relative error of 7e-6, and so has Adam's first
    step. For a decay below 1/2 nothing cancels and the plain form is used, since its derivative at 0 is correct too.

    Args:
      decay: the base, 0 <= decay < 1.
      count: the exponent, >= 1.
    """
    for name, value in (("decay", decay), ("count", count)):
        as_array(name, value, (jnp.floating, jnp.integer))
    small = jnp.asarray(decay) < 0.5
    plain = 1 - jnp.where(small, decay, 0.5) ** count
    return jnp.where(small, plain, -jnp.expm1(count * jnp.log1p(-jnp.where(small, 0.5, 1 - decay))))


def symmetric_power(matrix: Inexact[Array, "n n"], exponent: Number, floor: Number = 0.0) -> Inexact[Array, "n n"]:
    """A^exponent for a symmetric positive definite matrix A, computed from its eigenvalues in float32 or wider.

    The derivative is that of the matrix function itself (Daleckii and Krein 1965), which is finite where eigenvalues
    coincide. Plain differentiation goes through the derivative of the eigenvectors, which is infinite there.

    Args:
      matrix: A, of shape (n, n).
      exponent: the power; may be traced.
      floor: a known lower bound of the eigenvalues. Eigenvalues that rounding pushes below it are raised to it, and
        at least to the smallest positive normal number of the dtype. Derivatives treat it as a constant. Default 0.

    Returns:
      The power of A, in the dtype of A.

    References:
      Daleckii and Krein, "Integration and differentiation of functions of Hermitian operators and applications to the
        theory of perturbations", 1965.
    """
    matrix = as_array("matrix", matrix, ndim=2)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"matrix: expected a square matrix, got shape {matrix.shape}")
    require_number("exponent", exponent)
    require_number("floor", floor)
    wide = matrix.astype(jnp.promote_types(matrix.dtype, jnp.float32))
    least = jnp.maximum(jnp.asarray(floor, wide.dtype), jnp.finfo(wide.dtype).tiny)
    power = _symmetric_power(wide, jnp.asarray(exponent, wide.dtype), jax.lax.stop_gradient(least))
    return power.astype(matrix.dtype)


@jax.custom_jvp
@exact_products
def _symmetric_power(matrix: Array, exponent: Array, least: Array) -> Array:
    values, vectors = _spectrum(matrix, least)
    return (vectors * values**exponent) @ vectors.T


@_symmetric_power.defjvp
@exact_products
def _symmetric_power_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]
) -> tuple[Array, Array]:
    (matrix, exponent, least), (change, exponent_change, _) = primals, tangents
    values, vectors = _spectrum(matrix, least)
    powers = values**exponent
    middle = (values[:, None] + values[None, :]) / 2
    gap = values[:, None] - values[None, :]
    # For close eigenvalues the quotient would cancel. The slope at their mean, used instead, is off by 1e-9 at most.
    close = jnp.abs(gap) <= 1e-4 * middle
    quotient = (powers[:, None] - powers[None, :]) / jnp.where(close, 1.0, gap)
    slopes = jnp.where(close, exponent * middle ** (exponent - 1), quotient)
    inside = slopes * (vectors.T @ change @ vectors) + jnp.diag(powers * jnp.log(values) * exponent_change)
    return (vectors * powers) @ vectors.T, vectors @ inside @ vectors.T


def _spectrum(matrix: Array, least: Array) -> tuple[Array, Array]:
    values, vectors = jnp.linalg.eigh(matrix)
    return jnp.maximum(values, least), vectors
