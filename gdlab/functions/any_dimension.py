"""Test functions of any dimension; some of them require a minimum dimension."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdlab.arguments import require_number
from gdlab.functions.function import Scalar, Vector, define
from gdlab.numerics import absolute, expm1, safe_sqrt, sinpi_squared


def indices(x: Vector) -> Float[Array, " dim"]:
    """Return 1, 2, ..., dim in the real dtype of x."""
    return jnp.arange(1, x.shape[0] + 1, dtype=x.real.dtype)


@define(-5.12, 5.12, lambda d: np.zeros(d), source="De Jong 1975, PhD thesis, F1")
def sphere(x: Vector) -> Scalar:
    """sum x_i^2

    The domain is [-5.12, 5.12] in each coordinate. The minimizer is the origin, where the value is 0.

    References:
      De Jong, PhD thesis, 1975, function F1.
    """
    return jnp.sum(x**2)


@define(
    -32.768,
    32.768,
    lambda d: np.zeros(d),
    source="Ackley 1987, A Connectionist Machine for Genetic Hillclimbing; any dimension: Back & Schwefel 1993",
    kinks="at the origin, which is the tip of a cone of slope 4 / sqrt(dim)",
)
def ackley(x: Vector) -> Scalar:
    """-20 exp(-0.2 sqrt(mean x_i^2)) - exp(mean cos 2 pi x_i) + 20 + e

    The domain is [-32.768, 32.768] in each coordinate. The minimizer is the origin, where the value is 0. The origin
    is also the tip of a cone of slope 4 / sqrt(dim); the gradient, which does not exist there, is given as 0.

    The function is computed with expm1 and sin^2, so that it is exactly 0 at the origin and loses no digits near it.

    References:
      Ackley, "A Connectionist Machine for Genetic Hillclimbing", 1987.
      Back and Schwefel, 1993 (for any dimension).
    """
    cone = -20 * expm1(-0.2 * safe_sqrt(jnp.mean(x**2)))
    ripples = -math.e * expm1(-2 * jnp.mean(sinpi_squared(x)))
    return cone + ripples


@define(-2.048, 2.048, lambda d: np.ones(d), smallest=2, source="Rosenbrock 1960, Computer Journal 3(3)")
def rosenbrock(x: Vector) -> Scalar:
    """sum_{i<d} 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2

    The domain is [-2.048, 2.048] in each coordinate, for dimension 2 or higher. The minimizer is (1, ..., 1), where
    the value is 0.

    References:
      Rosenbrock, Computer Journal 3(3), 1960.
    """
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@define(-5.12, 5.12, lambda d: np.zeros(d), source="Rastrigin 1974; any dimension: Muhlenbein et al. 1991")
def rastrigin(x: Vector) -> Scalar:
    """10 d + sum(x_i^2 - 10 cos 2 pi x_i), written as sum(x_i^2 + 20 sin^2 pi x_i)

    The domain is [-5.12, 5.12] in each coordinate. The minimizer is the origin, where the value is 0.

    References:
      Rastrigin, 1974.
      Muhlenbein et al., 1991 (for any dimension).
    """
    return jnp.sum(x**2 + 20 * sinpi_squared(x))


@define(-600, 600, lambda d: np.zeros(d), source="Griewank 1981, J. Optim. Theory Appl. 34(1)")
def griewank(x: Vector) -> Scalar:
    """1 + sum x_i^2 / 4000 - prod cos(x_i / sqrt i)

    The domain is [-600, 600] in each coordinate. The minimizer is the origin, where the value is 0.

    References:
      Griewank, Journal of Optimization Theory and Applications 34(1), 1981.
    """
    return 1 + jnp.sum(x**2) / 4000 - jnp.prod(jnp.cos(x / jnp.sqrt(indices(x))))


@define(-10, 10, lambda d: np.ones(d), source="Levy & Montalvo 1985, SIAM J. Sci. Stat. Comput. 6(1)")
def levy(x: Vector) -> Scalar:
    """sin^2 pi w_1 + sum_{i<d} (w_i - 1)^2 (1 + 10 sin^2(pi w_i + 1)) + (w_d - 1)^2 (1 + sin^2 2 pi w_d), w = 1 + (x - 1) / 4

    The domain is [-10, 10] in each coordinate. The minimizer is (1, ..., 1), where the value is 0.

    References:
      Levy and Montalvo, SIAM Journal on Scientific and Statistical Computing 6(1), 1985.
    """
    v = (x - 1) / 4  # v = w - 1, so sin^2 pi w = sin^2 pi v and sin^2(pi w + 1) = sin^2 pi(v + 1 / pi), of period 1
    fraction = v[:-1] - jax.lax.stop_gradient(jnp.round(jnp.real(v[:-1])))
    middle = jnp.sum(v[:-1] ** 2 * (1 + 10 * sinpi_squared(fraction + 1 / math.pi)))
    return sinpi_squared(v[0]) + middle + v[-1] ** 2 * (1 + sinpi_squared(2 * v[-1]))


@define(
    -500,
    500,
    lambda d: np.full(d, 420.96874635998203),
    source="Schwefel 1981, Numerical Optimization of Computer Models",
)
def schwefel(x: Vector) -> Scalar:
    """418.982887272433706 d - sum x_i sin sqrt|x_i|

    The domain is [-500, 500] in each coordinate. The minimizer is x_i = 420.96874635998203 for all i, with value 0.

    References:
      Schwefel, "Numerical Optimization of Computer Models", 1981.
    """
    return jnp.sum(418.982887272433706 - x * jnp.sin(safe_sqrt(absolute(x))))


@define(
    -5,
    5,
    lambda d: np.full(d, -2.903534027771177),
    lambda d: -39.166165703771415 * d,
    source="Styblinski & Tang 1990, Neural Networks 3(4)",
)
def styblinski_tang(x: Vector) -> Scalar:
    """sum(x_i^4 - 16 x_i^2 + 5 x_i) / 2

    The domain is [-5, 5] in each coordinate. The minimizer is x_i = -2.903534027771177 for all i, with value
    -39.166165703771415 d.

    References:
      Styblinski and Tang, Neural Networks 3(4), 1990.
    """
    return jnp.sum(x**4 - 16 * x**2 + 5 * x) / 2


def _michalewicz_minimizer(dim: int) -> Float[np.ndarray, " dim"]:
    """Find the lowest valley of each coordinate, where the slope is 0, by bisection; the function is separable.

    The floor of valley k of coordinate i is near u = i x^2 / pi = (k + 1/2) pi, and the lowest valley is the one with
    the largest sin x. There, cot x + (40 i x / pi) cot u changes its sign within a quarter of a period of u.
    """
    i = np.arange(1, dim + 1, dtype=float)
    floors = [np.pi * np.sqrt((np.arange(n) + 0.5) / n) for n in range(1, dim + 1)]
    turn = np.array([np.argmax(np.sin(floor)) for floor in floors])
    left, right = np.pi * np.sqrt((turn + 0.25) / i), np.pi * np.sqrt((turn + 0.75) / i)
    for _ in range(60):
        x = (left + right) / 2
        rising = 1 / np.tan(x) + 40 * i * x / np.pi / np.tan(i * x**2 / np.pi) > 0
        left, right = np.where(rising, x, left), np.where(rising, right, x)
    return (left + right) / 2


def _michalewicz_minimum(dim: int) -> float:
    x, i = _michalewicz_minimizer(dim), np.arange(1, dim + 1)
    return float(-np.sum(np.sin(x) * np.sin(i * x**2 / np.pi) ** 20))


@define(
    0,
    math.pi,
    _michalewicz_minimizer,
    _michalewicz_minimum,
    source="Michalewicz 1992, Genetic Algorithms + Data Structures = Evolution Programs",
)
def michalewicz(x: Vector) -> Scalar:
    """-sum sin x_i sin^20(i x_i^2 / pi)

    The domain is [0, pi] in each coordinate. The function is separable, and its minimizer is computed for each
    coordinate; in two dimensions it is (2.202905520, 1.570796327), where the value is -1.801303410098554.

    References:
      Michalewicz, "Genetic Algorithms + Data Structures = Evolution Programs", 1992.
    """
    return -jnp.sum(jnp.sin(x) * jnp.sin(indices(x) * x**2 / jnp.pi) ** 20)


def _dixon_price_minimizers(dim: int) -> Float[np.ndarray, "count dim"]:
    """x_i = 2^(-(2^i - 2) / 2^i), with either sign in the last coordinate, which enters only through its square."""
    i = np.arange(1, dim + 1, dtype=float)
    point = 2.0 ** -(1 - 2.0 ** (1 - i))
    return point[None] if dim == 1 else np.stack([point, point * np.where(i == dim, -1, 1)])


@define(-10, 10, _dixon_price_minimizers, source="Dixon & Price 1989, J. Optim. Theory Appl. 60(2)")
def dixon_price(x: Vector) -> Scalar:
    """(x_1 - 1)^2 + sum_{i>=2} i (2 x_i^2 - x_{i-1})^2

    The domain is [-10, 10] in each coordinate. The minimizers are x_i = 2^(-(2^i - 2) / 2^i), from dimension 2 on
    with either sign in the last coordinate; the value there is 0.

    References:
      Dixon and Price, Journal of Optimization Theory and Applications 60(2), 1989.
    """
    return (x[0] - 1) ** 2 + jnp.sum(indices(x)[1:] * (2 * x[1:] ** 2 - x[:-1]) ** 2)


@define(-5, 10, lambda d: np.zeros(d), source="Zakharov 1975; Jamil & Yang 2013, no. 173")
def zakharov(x: Vector) -> Scalar:
    """sum x_i^2 + s^2 + s^4, s = sum i x_i / 2

    The domain is [-5, 10] in each coordinate. The minimizer is the origin, where the value is 0.

    References:
      Zakharov, 1975.
      Jamil and Yang, 2013, no. 173 (https://arxiv.org/abs/1308.4008).
    """
    s = jnp.sum(indices(x) * x) / 2
    return jnp.sum(x**2) + s**2 + s**4


@define(
    -4,
    5,
    lambda d: np.zeros(d),
    smallest=4,
    multiple=4,
    source="Powell 1962, Computer Journal 5(2), the singular function",
)
def powell(x: Vector) -> Scalar:
    """Sum over blocks (a, b, c, d) of (a + 10 b)^2 + 5 (c - d)^2 + (b - 2 c)^4 + 10 (a - d)^4

    The blocks are consecutive groups of four coordinates, so the dimension is a multiple of 4. The domain is [-4, 5]
    in each coordinate. The minimizer is the origin, where the value is 0.

    References:
      Powell, Computer Journal 5(2), 1962, the singular function.
    """
    a, b, c, d = x.reshape(-1, 4).T
    return jnp.sum((a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4)


@define(-1, 1, lambda d: np.zeros(d), source="Polyak 1964, USSR Comput. Math. Math. Phys. 4(5), section 3")
def quadratic(x: Vector, *, condition: float = 100.0) -> Scalar:
    """sum lam_i x_i^2 / 2, lam_i = condition^((i-1)/(d-1))

    The curvatures lam_i run from 1 to `condition`, evenly spaced in logarithm. Gradient descent converges fastest
    with learning rate 2 / (1 + condition). The domain is [-1, 1] in each coordinate. The minimizer is the origin,
    where the value is 0.

    Args:
      x: one point of shape (dim,).
      condition: the ratio of the largest to the smallest curvature, >= 1. Default 100.

    References:
      Polyak, USSR Computational Mathematics and Mathematical Physics 4(5), 1964, section 3.
    """
    require_number("condition", condition, 1.0)
    exponents = (indices(x) - 1) / max(x.shape[0] - 1, 1)
    return jnp.sum(condition**exponents * x**2) / 2
