"""Accurate elementary functions with derivatives that stay finite and right where the textbook form loses them.

Each works on arrays of any shape, in float32, float64 and their complex counterparts (for complex steps), under jit,
vmap, grad and hessian.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from gdlab.types import Number


def safe_sqrt(x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """sqrt(x) whose derivative at x = 0 is 0 instead of infinity.

    The derivative of `sqrt(sum(x**2))` at the origin is then 0, a subgradient, where plain automatic differentiation
    multiplies infinity by zero and returns NaN.
    """
    zero = x == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, x)))


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
    """sin(pi x), with x reduced to the nearest integer before pi is multiplied in: exactly 0 at integers."""
    turns = jax.lax.stop_gradient(jnp.round(jnp.real(x)))
    return jnp.where(turns % 2 == 0, 1.0, -1.0).astype(x.dtype) * jnp.sin(jnp.pi * (x - turns))


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
