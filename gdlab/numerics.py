"""Accurate elementary functions with derivatives that stay finite and right where the textbook form loses them.

Each works on arrays of any shape, in float32, float64 and their complex counterparts (for complex steps), under jit,
vmap, grad and hessian.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from gdlab.compute.calls import stored
from gdlab.types import Number


@jax.custom_jvp
def safe_sqrt(x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """sqrt(x) whose derivative at x = 0 is 0 instead of infinity.

    The derivative of `sqrt(sum(x**2))` at the origin is then 0, a subgradient, where plain automatic differentiation
    multiplies infinity by zero and returns NaN.
    """
    return jnp.sqrt(x)


@safe_sqrt.defjvp
def _safe_sqrt_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    root = safe_sqrt(*primals)
    zero = primals[0] == 0
    return root, tangents[0] * jnp.where(zero, 0.0, 0.5 / jnp.where(zero, 1.0, root))


def absolute(x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """|x| whose derivative at x = 0 is 0, the middle of the subgradients; JAX's own gives 1.

    Complex arguments are continued analytically from the real axis (x or -x by the sign of the real part), as a complex
    step needs, not mapped to their modulus.
    """
    return x * jax.lax.stop_gradient(jnp.sign(jnp.real(x)))


def cos_sqrt(u: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """cos(sqrt(u)) for u >= 0, an entire function of u: all its derivatives at u = 0 are finite and exact.

    Below u = 0.01 the Taylor series sum (-u)^k / (2k)! up to k = 6 is summed; what it leaves out is under 2e-25.
    """
    small = jnp.real(u) < 1e-2
    v = jnp.where(small, u, 0.0)
    series = 1 - v / 2 * (1 - v / 12 * (1 - v / 30 * (1 - v / 56 * (1 - v / 90 * (1 - v / 132)))))
    return jnp.where(small, series, jnp.cos(jnp.sqrt(jnp.where(small, 1.0, u))))


def sinpi(x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """sin(pi x), with x reduced to the nearest integer before pi is multiplied in: exactly 0 at integers.

    In float32 within 2e-7 of the truth for every x, and cheaper than `jnp.sin` on a CPU.
    """
    return _sincospi(x)[0]


def cospi(x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """cos(pi x), reduced as `sinpi` is: exactly 0 half-way between integers. `cospi(2 * x)` is the cosine in turns."""
    return _sincospi(x)[1]


@jax.custom_jvp
def _sincospi(x: Array) -> tuple[Array, Array]:
    """Both at once: they share the reduction, and each is the other's derivative."""
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
"""Weighted least squares, reweighted to the least largest relative error: 5e-9 for the sine, 1e-9 for the cosine."""


@stored
def _sincospi_float32(x: Array) -> tuple[Array, Array]:
    """The half turn's sine and cosine, times the sign of the integer taken off. No select and no table."""
    turns = jnp.round(x)
    s, c = _half_turn(x - turns)
    sign = 1 - 2 * jnp.abs(turns - 2 * jnp.round(0.5 * turns))
    return sign * s, sign * c


def _half_turn(r: Array) -> tuple[Array, Array]:
    """sin(pi r) = r P(r^2) and cos(pi r) = (1/4 - r^2) Q(r^2) for |r| <= 1/2.

    The factors in front make both relatively accurate at their zeros.
    """
    u = r * r
    return r * _horner(_SIN, u), (0.25 - u) * _horner(_COS, u)


def sinpi_squared(x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """sin(pi x)^2 = (1 - cos(2 pi x)) / 2: a ripple of period 1, exactly 0 at integers and accurate beside them.

    Its derivative is pi sin(2 pi x). In float32 within 4e-7 of the truth, and cheaper than `sinpi(x)**2`, whose sign
    would be worked out in vain.
    """
    return _ripple(x)[0]


@jax.custom_jvp
def _ripple(x: Array) -> tuple[Array, Array]:
    """s^2 and s c with s = sin(pi x), c = cos(pi x), each of which is a function of the other's derivative."""
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


@jax.custom_jvp
def expm1(x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """exp(x) - 1 without cancellation; in float32 within 1.5e-7 relative, and cheaper than `jnp.expm1`."""
    return _expm1_float32(x) if x.dtype == jnp.float32 else jnp.expm1(x)


@expm1.defjvp
def _expm1_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    y = expm1(*primals)
    return y, (y + 1) * tangents[0]


@stored
def _expm1_float32(x: Array) -> Array:
    """(2^n - 1) + 2^n (exp(r) - 1), x = n ln 2 + r, |r| <= ln(2) / 2, with Taylor's polynomial of degree 7.

    ln 2 comes in two parts, the first of few bits, so that n times it is exact. 2^(n - 1) is put together from its bits
    (adding 1.5 x 2^23 shifts the integer into the lowest ones), and doubled last, so that nothing overflows too early.
    """
    x = jnp.clip(x, -87.0, 88.8)  # exp underflows and overflows there
    n = jnp.round(x * 1.44269504)
    r = (x - n * 0.693359375) - n * -2.12194440e-4
    small = r + r * r * _horner((1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040), r)
    bits = jax.lax.bitcast_convert_type(n + (12582912.0 + 126), jnp.int32)
    half = jax.lax.bitcast_convert_type(jax.lax.shift_left(bits, jnp.int32(23)), jnp.float32)
    return 2 * (small * half + (half - 0.5))


def one_minus_power(decay: Number, count: Array) -> Array:
    """1 - decay^count for 0 <= decay < 1 and count >= 1, without the cancellation of the plain form.

    Adam divides by it. In float32 the plain form of 1 - 0.999^1 is wrong by 7e-6 relative, and so is Adam's first step.
    Below 1/2 nothing cancels and the plain form stands, whose derivative is right at 0 too.
    """
    small = jnp.asarray(decay) < 0.5
    plain = 1 - jnp.where(small, decay, 0.5) ** count
    return jnp.where(small, plain, -jnp.expm1(count * jnp.log1p(-jnp.where(small, 0.5, 1 - decay))))


def symmetric_power(matrix: Inexact[Array, "n n"], exponent: Number, floor: Number = 0.0) -> Inexact[Array, "n n"]:
    """A^exponent for a symmetric positive definite A, through its eigenvalues; in float32 at least.

    floor: what the eigenvalues are known not to be below; those that rounding puts there are raised to it (at least to
    the smallest positive number of the dtype). A constant for derivatives.

    The derivative is that of the matrix function itself (Daleckii & Krein 1965), finite where eigenvalues coincide; the
    derivative of the eigenvectors, which plain differentiation goes through, is infinite there.
    """
    wide = matrix.astype(jnp.promote_types(matrix.dtype, jnp.float32))
    least = jnp.maximum(jnp.asarray(floor, wide.dtype), jnp.finfo(wide.dtype).tiny)
    power = _symmetric_power(wide, jnp.asarray(exponent, wide.dtype), jax.lax.stop_gradient(least))
    return power.astype(matrix.dtype)


@jax.custom_jvp
def _symmetric_power(matrix: Array, exponent: Array, least: Array) -> Array:
    values, vectors = _spectrum(matrix, least)
    return (vectors * values**exponent) @ vectors.T


@_symmetric_power.defjvp
def _symmetric_power_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]
) -> tuple[Array, Array]:
    (matrix, exponent, least), (change, exponent_change, _) = primals, tangents
    values, vectors = _spectrum(matrix, least)
    powers = values**exponent
    middle = (values[:, None] + values[None, :]) / 2
    gap = values[:, None] - values[None, :]
    close = jnp.abs(gap) <= 1e-4 * middle  # the quotient would cancel; the slope at the middle is off by 1e-9 at most
    quotient = (powers[:, None] - powers[None, :]) / jnp.where(close, 1.0, gap)
    slopes = jnp.where(close, exponent * middle ** (exponent - 1), quotient)
    inside = slopes * (vectors.T @ change @ vectors) + jnp.diag(powers * jnp.log(values) * exponent_change)
    return (vectors * powers) @ vectors.T, vectors @ inside @ vectors.T


def _spectrum(matrix: Array, least: Array) -> tuple[Array, Array]:
    values, vectors = jnp.linalg.eigh(matrix)
    return jnp.maximum(values, least), vectors
