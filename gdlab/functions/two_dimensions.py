"""Test functions of two variables."""

import math

import jax.numpy as jnp

from gdlab.functions.function import Pair, Scalar, define
from gdlab.numerics import absolute, cos_sqrt, safe_sqrt


@define(-4.5, 4.5, [[3, 0.5]], dim=2, source="Beale 1958, On an iterative method for finding a local minimum")
def beale(x: Pair) -> Scalar:
    """(1.5 - a + a b)^2 + (2.25 - a + a b^2)^2 + (2.625 - a + a b^3)^2"""
    a, b = x
    return (1.5 - a + a * b) ** 2 + (2.25 - a + a * b**2) ** 2 + (2.625 - a + a * b**3) ** 2


@define(
    -5,
    5,
    [
        [3, 2],
        [-2.8051180869527449, 3.1313125182505730],
        [-3.7793102533777469, -3.2831859912861694],
        [3.5844283403304917, -1.8481265269644036],
    ],
    dim=2,
    source="Himmelblau 1972, Applied Nonlinear Programming",
)
def himmelblau(x: Pair) -> Scalar:
    """(a^2 + b - 11)^2 + (a + b^2 - 7)^2; four minima of equal value"""
    a, b = x
    return (a**2 + b - 11) ** 2 + (a + b**2 - 7) ** 2


@define(-10, 10, [[1, 3]], dim=2, source="Jamil & Yang 2013, no. 17")
def booth(x: Pair) -> Scalar:
    """(a + 2 b - 7)^2 + (2 a + b - 5)^2"""
    a, b = x
    return (a + 2 * b - 7) ** 2 + (2 * a + b - 5) ** 2


@define(-10, 10, [[0, 0]], dim=2, source="Matyas 1965, Automation and Remote Control 26")
def matyas(x: Pair) -> Scalar:
    """0.26 (a^2 + b^2) - 0.48 a b"""
    a, b = x
    return 0.26 * (a**2 + b**2) - 0.48 * a * b


@define(-2, 2, [[0, -1]], 3.0, dim=2, source="Goldstein & Price 1971, Mathematics of Computation 25(115)")
def goldstein_price(x: Pair) -> Scalar:
    """[1 + (a + b + 1)^2 (19 - 14 a + 3 a^2 - 14 b + 6 a b + 3 b^2)] [30 + (2 a - 3 b)^2 (18 - 32 a + 12 a^2 + 48 b - 36 a b + 27 b^2)]"""
    a, b = x
    left = 1 + (a + b + 1) ** 2 * (19 - 14 * a + 3 * a**2 - 14 * b + 6 * a * b + 3 * b**2)
    right = 30 + (2 * a - 3 * b) ** 2 * (18 - 32 * a + 12 * a**2 + 48 * b - 36 * a * b + 27 * b**2)
    return left * right


@define(-100, 100, [[math.pi, math.pi]], -1.0, dim=2, source="Easom 1990, MEng thesis, University of Louisville")
def easom(x: Pair) -> Scalar:
    """-cos a cos b exp(-(a - pi)^2 - (b - pi)^2)"""
    a, b = x
    return -jnp.cos(a) * jnp.cos(b) * jnp.exp(-((a - jnp.pi) ** 2) - (b - jnp.pi) ** 2)


@define(-5, 5, [[0, 0]], dim=2, source="Dixon & Szego 1975, Towards Global Optimisation")
def three_hump_camel(x: Pair) -> Scalar:
    """2 a^2 - 1.05 a^4 + a^6 / 6 + a b + b^2"""
    a, b = x
    return 2 * a**2 - 1.05 * a**4 + a**6 / 6 + a * b + b**2


@define(
    [-3, -2],
    [3, 2],
    [[0.0898420131003180, -0.7126564030207396], [-0.0898420131003180, 0.7126564030207396]],
    -1.0316284534898774,
    dim=2,
    source="Dixon & Szego 1978, Towards Global Optimisation 2",
)
def six_hump_camel(x: Pair) -> Scalar:
    """(4 - 2.1 a^2 + a^4 / 3) a^2 + a b + (4 b^2 - 4) b^2"""
    a, b = x
    return (4 - 2.1 * a**2 + a**4 / 3) * a**2 + a * b + (4 * b**2 - 4) * b**2


@define(
    [-5, 0],
    [10, 15],
    [[-math.pi, 12.275], [math.pi, 2.275], [3 * math.pi, 2.475]],
    0.39788735772973834,
    dim=2,
    source="Branin 1972, IBM J. Res. Dev. 16(5)",
)
def branin(x: Pair) -> Scalar:
    """(b - 5.1 a^2 / (4 pi^2) + 5 a / pi - 6)^2 + 10 (1 - 1 / (8 pi)) cos a + 10"""
    a, b = x
    bowl = b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6
    return bowl**2 + 10 * (1 - 1 / (8 * math.pi)) * jnp.cos(a) + 10


@define(
    [-1.5, -3],
    [4, 4],
    [[0.5 - math.pi / 3, -0.5 - math.pi / 3]],
    -math.sqrt(3) / 2 - math.pi / 3,
    dim=2,
    source="McCormick 1976, Mathematical Programming 10; Jamil & Yang 2013",
)
def mccormick(x: Pair) -> Scalar:
    """sin(a + b) + (a - b)^2 - 1.5 a + 2.5 b + 1"""
    a, b = x
    return jnp.sin(a + b) + (a - b) ** 2 - 1.5 * a + 2.5 * b + 1


@define(
    -512,
    512,
    [[512, 404.23180511375781]],
    -959.64066272085080,
    dim=2,
    source="Whitley et al. 1996, Artificial Intelligence 85",
    kinks="where a / 2 + b + 47 = 0 or a - b - 47 = 0: the slope is infinite there",
)
def eggholder(x: Pair) -> Scalar:
    """-(b + 47) sin sqrt|a / 2 + b + 47| - a sin sqrt|a - b - 47|

    The minimizer lies on the domain's border; beyond it the function falls further.
    """
    a, b = x
    c = b + 47
    return -c * jnp.sin(safe_sqrt(absolute(a / 2 + c))) - a * jnp.sin(safe_sqrt(absolute(a - c)))


@define(
    [-15, -3],
    [-5, 3],
    [[-10, 1]],
    dim=2,
    source="Bukin 1997, preprint, Budker Institute; Jamil & Yang 2013, function N. 6",
    kinks="along b = a^2 / 100, where the slope is infinite, and at a = -10; the minimizer lies on both",
)
def bukin_6(x: Pair) -> Scalar:
    """100 sqrt|b - 0.01 a^2| + 0.01 |a + 10|; written as 10 sqrt|100 b - a^2|, exact at the minimizer"""
    a, b = x
    return 10 * safe_sqrt(absolute(100 * b - a**2)) + 0.01 * absolute(a + 10)


@define(
    -10,
    10,
    [[s * 1.3494066171539108, t * 1.3494066171539108] for s in (1, -1) for t in (1, -1)],
    -2.0626118708227369,
    dim=2,
    source="Mishra 2006, Munich Personal RePEc Archive 2718",
    kinks="where sin a sin b = 0, but not at the crossings",
)
def cross_in_tray(x: Pair) -> Scalar:
    """-0.0001 (|sin a sin b exp|100 - sqrt(a^2 + b^2) / pi|| + 1)^0.1

    exp(100) overflows float32, so the exponential is taken out of the bracket: (p e^q + 1)^0.1 = e^(q/10) (p + e^-q)^0.1.
    """
    a, b = x
    q = absolute(100 - safe_sqrt(a**2 + b**2) / jnp.pi)
    p = absolute(jnp.sin(a) * jnp.sin(b))
    zero = jnp.real(p) < jnp.finfo(p.dtype).tiny
    bracket = jnp.exp(q / 10) * (jnp.where(zero, 1.0, p) + jnp.exp(-q)) ** 0.1
    return -1e-4 * jnp.where(zero, 1.0, bracket)


@define(-5.12, 5.12, [[0, 0]], -1.0, dim=2, source="Surjanovic & Bingham 2013, drop-wave function")
def drop_wave(x: Pair) -> Scalar:
    """-(1 + cos(12 r)) / (r^2 / 2 + 2), r^2 = a^2 + b^2; smooth at the origin, and so are its derivatives here"""
    square = jnp.sum(x**2)
    return -(1 + cos_sqrt(144 * square)) / (square / 2 + 2)
