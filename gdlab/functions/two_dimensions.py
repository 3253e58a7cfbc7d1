"""Test functions of two variables; the formulas call the coordinates of a point x = (a, b)."""

import math

import jax.numpy as jnp

from gdlab.functions.function import Pair, Scalar, define
from gdlab.numerics import absolute, cos_sqrt, safe_sqrt


@define(-4.5, 4.5, [[3, 0.5]], dim=2, source="Beale 1958, On an iterative method for finding a local minimum")
def beale(x: Pair) -> Scalar:
    """(1.5 - a + a b)^2 + (2.25 - a + a b^2)^2 + (2.625 - a + a b^3)^2

    Here x = (a, b). The domain is [-4.5, 4.5]^2. The minimizer is (3, 0.5), where the value is 0.

    References:
      Beale, "On an iterative method for finding a local minimum", 1958.
    """
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
    """(a^2 + b - 11)^2 + (a + b^2 - 7)^2

    Here x = (a, b). The domain is [-5, 5]^2. The four minimizers are (3, 2) and, rounded, (-2.8051, 3.1313),
    (-3.7793, -3.2832) and (3.5844, -1.8481); the value there is 0.

    References:
      Himmelblau, "Applied Nonlinear Programming", 1972.
    """
    a, b = x
    return (a**2 + b - 11) ** 2 + (a + b**2 - 7) ** 2


@define(-10, 10, [[1, 3]], dim=2, source="Jamil & Yang 2013, no. 17")
def booth(x: Pair) -> Scalar:
    """(a + 2 b - 7)^2 + (2 a + b - 5)^2

    Here x = (a, b). The domain is [-10, 10]^2. The minimizer is (1, 3), where the value is 0.

    References:
      Jamil and Yang, 2013, no. 17 (https://arxiv.org/abs/1308.4008).
    """
    a, b = x
    return (a + 2 * b - 7) ** 2 + (2 * a + b - 5) ** 2


@define(-10, 10, [[0, 0]], dim=2, source="Matyas 1965, Automation and Remote Control 26")
def matyas(x: Pair) -> Scalar:
    """0.26 (a^2 + b^2) - 0.48 a b

    Here x = (a, b). The domain is [-10, 10]^2. The minimizer is the origin, where the value is 0.

    References:
      Matyas, Automation and Remote Control 26, 1965.
    """
    a, b = x
    return 0.26 * (a**2 + b**2) - 0.48 * a * b


@define(-2, 2, [[0, -1]], 3.0, dim=2, source="Goldstein & Price 1971, Mathematics of Computation 25(115)")
def goldstein_price(x: Pair) -> Scalar:
    """[1 + (a + b + 1)^2 (19 - 14 a + 3 a^2 - 14 b + 6 a b + 3 b^2)] [30 + (2 a - 3 b)^2 (18 - 32 a + 12 a^2 + 48 b - 36 a b + 27 b^2)]

    Here x = (a, b). The domain is [-2, 2]^2. The minimizer is (0, -1), where the value is 3.

    References:
      Goldstein and Price, Mathematics of Computation 25(115), 1971.
    """
    a, b = x
    left = 1 + (a + b + 1) ** 2 * (19 - 14 * a + 3 * a**2 - 14 * b + 6 * a * b + 3 * b**2)
    right = 30 + (2 * a - 3 * b) ** 2 * (18 - 32 * a + 12 * a**2 + 48 * b - 36 * a * b + 27 * b**2)
    return left * right


@define(-100, 100, [[math.pi, math.pi]], -1.0, dim=2, source="Easom 1990, MEng thesis, University of Louisville")
def easom(x: Pair) -> Scalar:
    """-cos a cos b exp(-(a - pi)^2 - (b - pi)^2)

    Here x = (a, b). The domain is [-100, 100]^2. The minimizer is (pi, pi), where the value is -1.

    References:
      Easom, MEng thesis, University of Louisville, 1990.
    """
    a, b = x
    return -jnp.cos(a) * jnp.cos(b) * jnp.exp(-((a - jnp.pi) ** 2) - (b - jnp.pi) ** 2)


@define(-5, 5, [[0, 0]], dim=2, source="Dixon & Szego 1975, Towards Global Optimisation")
def three_hump_camel(x: Pair) -> Scalar:
    """2 a^2 - 1.05 a^4 + a^6 / 6 + a b + b^2

    Here x = (a, b). The domain is [-5, 5]^2. The minimizer is the origin, where the value is 0.

    References:
      Dixon and Szego, "Towards Global Optimisation", 1975.
    """
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
    """(4 - 2.1 a^2 + a^4 / 3) a^2 + a b + (4 b^2 - 4) b^2

    Here x = (a, b). The domain is [-3, 3] x [-2, 2]. The minimizers are, rounded, (0.0898, -0.7127) and (-0.0898,
    0.7127); the value there is -1.0316284534898774.

    References:
      Dixon and Szego, "Towards Global Optimisation 2", 1978.
    """
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
    """(b - 5.1 a^2 / (4 pi^2) + 5 a / pi - 6)^2 + 10 (1 - 1 / (8 pi)) cos a + 10

    Here x = (a, b). The domain is [-5, 10] x [0, 15]. The minimizers are (-pi, 12.275), (pi, 2.275) and
    (3 pi, 2.475), where the value is 0.39788735772973834.

    References:
      Branin, IBM Journal of Research and Development 16(5), 1972.
    """
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
    """sin(a + b) + (a - b)^2 - 1.5 a + 2.5 b + 1

    Here x = (a, b). The domain is [-1.5, 4] x [-3, 4]. The minimizer is (1/2 - pi/3, -1/2 - pi/3), where the value is
    -sqrt(3)/2 - pi/3.

    References:
      McCormick, Mathematical Programming 10, 1976.
      Jamil and Yang, 2013 (https://arxiv.org/abs/1308.4008).
    """
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

    Here x = (a, b). The domain is [-512, 512]^2. The minimizer is (512, 404.23180511375781), where the value is
    -959.64066272085080. It lies on the border of the domain; beyond the border the function decreases further. The
    slope is infinite where a / 2 + b + 47 = 0 or a - b - 47 = 0.

    References:
      Whitley et al., Artificial Intelligence 85, 1996.
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
    """100 sqrt|b - 0.01 a^2| + 0.01 |a + 10|

    Here x = (a, b). The domain is [-15, -5] x [-3, 3]. The minimizer is (-10, 1), where the value is 0. The first
    term is written as 10 sqrt|100 b - a^2|, which is exact at the minimizer. The function is not differentiable along
    b = a^2 / 100, where its slope is infinite, and at a = -10; the minimizer lies on both curves.

    References:
      Bukin, preprint, Budker Institute, 1997.
      Jamil and Yang, 2013, function N. 6 (https://arxiv.org/abs/1308.4008).
    """
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

    Here x = (a, b). The domain is [-10, 10]^2. The four minimizers are (+-1.3494066171539108, +-1.3494066171539108),
    where the value is -2.0626118708227369. The function is not differentiable where sin a sin b = 0, except at the
    crossings of these lines.

    Since exp(100) overflows float32, the exponential is taken out of the bracket:
    (p e^q + 1)^0.1 = e^(q/10) (p + e^-q)^0.1.

    References:
      Mishra, Munich Personal RePEc Archive 2718, 2006.
    """
    a, b = x
    q = absolute(100 - safe_sqrt(a**2 + b**2) / jnp.pi)
    p = absolute(jnp.sin(a) * jnp.sin(b))
    zero = jnp.real(p) < jnp.finfo(p.dtype).tiny
    bracket = jnp.exp(q / 10) * (jnp.where(zero, 1.0, p) + jnp.exp(-q)) ** 0.1
    return -1e-4 * jnp.where(zero, 1.0, bracket)


@define(-5.12, 5.12, [[0, 0]], -1.0, dim=2, source="Surjanovic & Bingham 2013, drop-wave function")
def drop_wave(x: Pair) -> Scalar:
    """-(1 + cos(12 r)) / (r^2 / 2 + 2), r^2 = a^2 + b^2

    Here x = (a, b). The domain is [-5.12, 5.12]^2. The minimizer is the origin, where the value is -1. The function
    is smooth at the origin, and its derivatives as computed here are exact there.

    References:
      Surjanovic and Bingham, "Virtual Library of Simulation Experiments", 2013, drop-wave function.
    """
    square = jnp.sum(x**2)
    return -(1 + cos_sqrt(144 * square)) / (square / 2 + 2)
