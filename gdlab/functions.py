"""Test functions for optimizers: each a pure `fn(x)` on one point, beside its domain, its minimizers and its source.

`FUNCTIONS` maps names to `Function` records; the functions themselves are attributes of this module too. A function of
your own needs no entry anywhere: everything in gdlab takes a plain `fn`. Batches are `jax.vmap(fn)`; all functions work in float32 and float64, under jit, grad and
hessian. Surveys used beside the original sources: Jamil & Yang 2013 (arXiv:1308.4008), Surjanovic & Bingham 2013
(Virtual Library of Simulation Experiments).
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from gdlab.arguments import require_count, require_number, require_scalar_function
from gdlab.numerics import absolute, cos_sqrt, expm1, safe_sqrt, sinpi_squared
from gdlab.types import Grid, NameTable

Vector = Inexact[Array, " dim"]
Pair = Inexact[Array, "2"]
Scalar = Inexact[Array, ""]


def _unknown_minimizers(dim: int | None = None) -> Float[np.ndarray, "count dim"]:
    return np.empty((0, dim or 0))


def _unknown_minimum(dim: int | None = None) -> float:
    return math.nan


class Function(NamedTuple):
    """What is known about a test function. `fn` is the function; the record itself is not callable.

    name: snake_case name.
    fn: `fn(x)`, one point of shape (dim,) in, a scalar out; pure.
    dim: the number of coordinates; None where any will do.
    lower, upper: the customary domain, one number for all coordinates or an array of shape (dim,).
    minimizers: `minimizers(dim)` gives all global minimizers in the domain, shape (count, dim), float64.
    minimum: `minimum(dim)` gives the value there. Both may be called without `dim` where it is fixed.
    source: who published it, where.
    kinks: where it is not differentiable, in words; "" if it is differentiable everywhere.
    """

    name: str
    fn: Callable[[Any], Any]
    dim: int | None
    lower: Any
    upper: Any
    minimizers: Callable[..., Float[np.ndarray, "count dim"]] = _unknown_minimizers
    minimum: Callable[..., float] = _unknown_minimum
    source: str = ""
    kinks: str = ""

    def bounds(self, dim: int | None = None) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, " dim"]]:
        """The domain's lower and upper corners, each of shape (dim,)."""
        size = self.dim if dim is None else dim
        if size is None:
            raise ValueError(f"{self.name}: wanted a dimension, since the function takes any; got None")
        require_count("dim", size)
        if self.dim is not None and size != self.dim:
            raise ValueError(f"{self.name}: wanted dimension {self.dim}, got {size}")
        return np.broadcast_to(self.lower, size).astype(float), np.broadcast_to(self.upper, size).astype(float)


_ENTRIES: dict[str, Function] = {}


def _function(
    lower: float | Sequence[float],
    upper: float | Sequence[float],
    minimizers: Callable[[int], Any] | Sequence[Sequence[float]],
    minimum: Callable[[int], float] | float = 0.0,
    *,
    source: str,
    dim: int | None = None,
    smallest: int = 1,
    multiple: int = 1,
    kinks: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a formula in the table, behind a check of its argument's shape and dtype."""

    def checked_dim(name: str, size: int | None) -> int:
        size = dim if size is None else size
        wanted = f"{dim}" if dim else f"at least {smallest}" if multiple == 1 else f"a multiple of {multiple}"
        if size is not None:
            require_count("dim", size)
        if size is None or (dim and size != dim) or size < smallest or size % multiple:
            raise ValueError(f"{name}: wanted dimension {wanted}, got {size}")
        return size

    def enter(formula: Callable[..., Any]) -> Callable[..., Any]:
        name = formula.__name__

        @functools.wraps(formula)
        def fn(x: Any, **settings: float) -> Any:
            x = jnp.asarray(x)
            if not jnp.issubdtype(x.dtype, jnp.inexact):
                raise TypeError(f"{name}: wanted a point of floating-point numbers, got dtype {x.dtype}")
            if x.ndim != 1:
                hint = "; for many points at once use jax.vmap" if x.ndim > 1 else ""
                raise ValueError(f"{name}: wanted one point of shape ({dim or 'dim'},), got shape {x.shape}{hint}")
            checked_dim(name, x.shape[0])
            return formula(x, **settings)

        def all_minimizers(size: int | None = None) -> Float[np.ndarray, "count dim"]:
            size = checked_dim(name, size)
            return np.atleast_2d(np.asarray(minimizers(size) if callable(minimizers) else minimizers, float))

        def least_value(size: int | None = None) -> float:
            size = checked_dim(name, size)
            return float(minimum(size) if callable(minimum) else minimum)

        box = np.asarray(lower, float), np.asarray(upper, float)
        _ENTRIES[name] = Function(name, fn, dim, *box, all_minimizers, least_value, source, kinks)
        return fn

    return enter


def _indices(x: Vector) -> Float[Array, " dim"]:
    """1, 2, ..., dim in the real dtype of x."""
    return jnp.arange(1, x.shape[0] + 1, dtype=x.real.dtype)


OFF_ORIGIN = (0.13, -0.07)
"""How far `off_origin` moves a function, in widths of its box: the first and the second coordinate, and so on in turn."""


def off_origin(function: Function, low: Any, high: Any) -> Function:
    """`function` on the box from low to high, each of shape (dim,), moved with it where a minimizer is the origin.

    For fair comparisons: weight decay, and steps in proportion to |x|, find the origin without a gradient. Other
    functions stay where they are.
    """
    low, high = np.asarray(low, float), np.asarray(high, float)
    minimizers = function.minimizers(low.size)
    at_origin = (minimizers == 0).all(axis=1).any()
    shift = np.resize(OFF_ORIGIN, low.size) * (high - low) if at_origin else np.zeros(low.size)

    def fn(x: Any) -> Any:
        return function.fn(x - jnp.asarray(shift, x.dtype))

    return function._replace(
        fn=fn if at_origin else function.fn,
        dim=low.size,
        lower=low + shift,
        upper=high + shift,
        minimizers=lambda size=None: minimizers + shift,
    )


def evaluate_grid(
    fn: Callable[[Any], Any] | Function,
    lower: Any = None,
    upper: Any = None,
    points: int = 201,
) -> Grid:
    """Values of a function of two variables on a `points` x `points` grid over [lower, upper], in one compiled call.

    fn: a function, or a `Function`, which brings its own domain. lower, upper: one number, or one per coordinate.
    """
    if isinstance(fn, Function):
        default_lower, default_upper = fn.bounds(2)
        lower = default_lower if lower is None else lower
        upper = default_upper if upper is None else upper
        fn = fn.fn
    require_count("points", points, low=2)
    require_scalar_function("fn", fn, jnp.zeros(2))
    if lower is None or upper is None:
        raise ValueError("lower, upper: wanted the corners of the grid, got None")
    low, high = np.broadcast_to(lower, 2).astype(float), np.broadcast_to(upper, 2).astype(float)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise ValueError(f"lower, upper: wanted finite lower < upper, got {low} and {high}")
    x, y = np.linspace(low[0], high[0], points), np.linspace(low[1], high[1], points)
    mesh = jnp.stack(jnp.meshgrid(jnp.asarray(x), jnp.asarray(y)), axis=-1)
    z = jax.jit(jax.vmap(jax.vmap(fn)))(mesh)
    return Grid(x, y, np.asarray(z, float))


# Functions of any dimension ------------------------------------------------------------------------------------------


@_function(-5.12, 5.12, lambda d: np.zeros(d), source="De Jong 1975, PhD thesis, F1")
def sphere(x: Vector) -> Scalar:
    """sum x_i^2"""
    return jnp.sum(x**2)


@_function(
    -32.768,
    32.768,
    lambda d: np.zeros(d),
    source="Ackley 1987, A Connectionist Machine for Genetic Hillclimbing; any dimension: Back & Schwefel 1993",
    kinks="at the origin, which is the tip of a cone of slope 4 / sqrt(dim)",
)
def ackley(x: Vector) -> Scalar:
    """-20 exp(-0.2 sqrt(mean x_i^2)) - exp(mean cos 2 pi x_i) + 20 + e

    Written with expm1 and sin^2, so that it is exactly 0 at the origin and loses no digits near it. Its gradient at the
    origin, where it has none, is given as 0.
    """
    cone = -20 * expm1(-0.2 * safe_sqrt(jnp.mean(x**2)))
    ripples = -math.e * expm1(-2 * jnp.mean(sinpi_squared(x)))
    return cone + ripples


@_function(-2.048, 2.048, lambda d: np.ones(d), smallest=2, source="Rosenbrock 1960, Computer Journal 3(3)")
def rosenbrock(x: Vector) -> Scalar:
    """sum_{i<d} 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2"""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@_function(-5.12, 5.12, lambda d: np.zeros(d), source="Rastrigin 1974; any dimension: Muhlenbein et al. 1991")
def rastrigin(x: Vector) -> Scalar:
    """10 d + sum(x_i^2 - 10 cos 2 pi x_i), written as sum(x_i^2 + 20 sin^2 pi x_i)"""
    return jnp.sum(x**2 + 20 * sinpi_squared(x))


@_function(-600, 600, lambda d: np.zeros(d), source="Griewank 1981, J. Optim. Theory Appl. 34(1)")
def griewank(x: Vector) -> Scalar:
    """1 + sum x_i^2 / 4000 - prod cos(x_i / sqrt i)"""
    return 1 + jnp.sum(x**2) / 4000 - jnp.prod(jnp.cos(x / jnp.sqrt(_indices(x))))


@_function(-10, 10, lambda d: np.ones(d), source="Levy & Montalvo 1985, SIAM J. Sci. Stat. Comput. 6(1)")
def levy(x: Vector) -> Scalar:
    """sin^2 pi w_1 + sum_{i<d} (w_i - 1)^2 (1 + 10 sin^2(pi w_i + 1)) + (w_d - 1)^2 (1 + sin^2 2 pi w_d), w = 1 + (x - 1) / 4"""
    v = (x - 1) / 4  # w - 1; sin^2 pi w = sin^2 pi v and sin^2(pi w + 1) = sin^2 pi(v + 1 / pi), of period 1
    fraction = v[:-1] - jax.lax.stop_gradient(jnp.round(jnp.real(v[:-1])))
    middle = jnp.sum(v[:-1] ** 2 * (1 + 10 * sinpi_squared(fraction + 1 / math.pi)))
    return sinpi_squared(v[0]) + middle + v[-1] ** 2 * (1 + sinpi_squared(2 * v[-1]))


@_function(
    -500,
    500,
    lambda d: np.full(d, 420.96874635998203),
    source="Schwefel 1981, Numerical Optimization of Computer Models",
)
def schwefel(x: Vector) -> Scalar:
    """418.982887272433706 d - sum x_i sin sqrt|x_i|"""
    return jnp.sum(418.982887272433706 - x * jnp.sin(safe_sqrt(absolute(x))))


@_function(
    -5,
    5,
    lambda d: np.full(d, -2.903534027771177),
    lambda d: -39.166165703771415 * d,
    source="Styblinski & Tang 1990, Neural Networks 3(4)",
)
def styblinski_tang(x: Vector) -> Scalar:
    """sum(x_i^4 - 16 x_i^2 + 5 x_i) / 2"""
    return jnp.sum(x**4 - 16 * x**2 + 5 * x) / 2


def _michalewicz_minimizer(dim: int) -> Float[np.ndarray, " dim"]:
    """The function is separable: the lowest of each coordinate's valleys, where its slope is 0, found by bisection.

    Valley k of coordinate i has its floor near u = i x^2 / pi = (k + 1/2) pi, and the one with the largest sin x is the
    lowest. There cot x + (40 i x / pi) cot u changes its sign, within a quarter of a period of u.
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


@_function(
    0,
    math.pi,
    _michalewicz_minimizer,
    _michalewicz_minimum,
    source="Michalewicz 1992, Genetic Algorithms + Data Structures = Evolution Programs",
)
def michalewicz(x: Vector) -> Scalar:
    """-sum sin x_i sin^20(i x_i^2 / pi)"""
    return -jnp.sum(jnp.sin(x) * jnp.sin(_indices(x) * x**2 / jnp.pi) ** 20)


def _dixon_price_minimizers(dim: int) -> Float[np.ndarray, "count dim"]:
    """x_i = 2^(-(2^i - 2) / 2^i); the last coordinate enters only through its square, so its sign is free."""
    i = np.arange(1, dim + 1, dtype=float)
    point = 2.0 ** -(1 - 2.0 ** (1 - i))
    return point[None] if dim == 1 else np.stack([point, point * np.where(i == dim, -1, 1)])


@_function(-10, 10, _dixon_price_minimizers, source="Dixon & Price 1989, J. Optim. Theory Appl. 60(2)")
def dixon_price(x: Vector) -> Scalar:
    """(x_1 - 1)^2 + sum_{i>=2} i (2 x_i^2 - x_{i-1})^2"""
    return (x[0] - 1) ** 2 + jnp.sum(_indices(x)[1:] * (2 * x[1:] ** 2 - x[:-1]) ** 2)


@_function(-5, 10, lambda d: np.zeros(d), source="Zakharov 1975; Jamil & Yang 2013, no. 173")
def zakharov(x: Vector) -> Scalar:
    """sum x_i^2 + s^2 + s^4, s = sum i x_i / 2"""
    s = jnp.sum(_indices(x) * x) / 2
    return jnp.sum(x**2) + s**2 + s**4


@_function(
    -4,
    5,
    lambda d: np.zeros(d),
    smallest=4,
    multiple=4,
    source="Powell 1962, Computer Journal 5(2), the singular function",
)
def powell(x: Vector) -> Scalar:
    """Sum over blocks (a, b, c, d) of (a + 10 b)^2 + 5 (c - d)^2 + (b - 2 c)^4 + 10 (a - d)^4"""
    a, b, c, d = x.reshape(-1, 4).T
    return jnp.sum((a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4)


@_function(-1, 1, lambda d: np.zeros(d), source="Polyak 1964, USSR Comput. Math. Math. Phys. 4(5), section 3")
def quadratic(x: Vector, *, condition: float = 100.0) -> Scalar:
    """sum lam_i x_i^2 / 2 with lam_i from 1 to `condition`, evenly spaced in logarithm: lam_i = condition^((i-1)/(d-1))

    Gradient descent is fastest at learning rate 2 / (1 + condition).
    """
    require_number("condition", condition, 1.0)
    exponents = (_indices(x) - 1) / max(x.shape[0] - 1, 1)
    return jnp.sum(condition**exponents * x**2) / 2


# Functions of two variables ------------------------------------------------------------------------------------------


@_function(-4.5, 4.5, [[3, 0.5]], dim=2, source="Beale 1958, On an iterative method for finding a local minimum")
def beale(x: Pair) -> Scalar:
    """(1.5 - a + a b)^2 + (2.25 - a + a b^2)^2 + (2.625 - a + a b^3)^2"""
    a, b = x
    return (1.5 - a + a * b) ** 2 + (2.25 - a + a * b**2) ** 2 + (2.625 - a + a * b**3) ** 2


@_function(
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


@_function(-10, 10, [[1, 3]], dim=2, source="Jamil & Yang 2013, no. 17")
def booth(x: Pair) -> Scalar:
    """(a + 2 b - 7)^2 + (2 a + b - 5)^2"""
    a, b = x
    return (a + 2 * b - 7) ** 2 + (2 * a + b - 5) ** 2


@_function(-10, 10, [[0, 0]], dim=2, source="Matyas 1965, Automation and Remote Control 26")
def matyas(x: Pair) -> Scalar:
    """0.26 (a^2 + b^2) - 0.48 a b"""
    a, b = x
    return 0.26 * (a**2 + b**2) - 0.48 * a * b


@_function(-2, 2, [[0, -1]], 3.0, dim=2, source="Goldstein & Price 1971, Mathematics of Computation 25(115)")
def goldstein_price(x: Pair) -> Scalar:
    """[1 + (a + b + 1)^2 (19 - 14 a + 3 a^2 - 14 b + 6 a b + 3 b^2)] [30 + (2 a - 3 b)^2 (18 - 32 a + 12 a^2 + 48 b - 36 a b + 27 b^2)]"""
    a, b = x
    left = 1 + (a + b + 1) ** 2 * (19 - 14 * a + 3 * a**2 - 14 * b + 6 * a * b + 3 * b**2)
    right = 30 + (2 * a - 3 * b) ** 2 * (18 - 32 * a + 12 * a**2 + 48 * b - 36 * a * b + 27 * b**2)
    return left * right


@_function(-100, 100, [[math.pi, math.pi]], -1.0, dim=2, source="Easom 1990, MEng thesis, University of Louisville")
def easom(x: Pair) -> Scalar:
    """-cos a cos b exp(-(a - pi)^2 - (b - pi)^2)"""
    a, b = x
    return -jnp.cos(a) * jnp.cos(b) * jnp.exp(-((a - jnp.pi) ** 2) - (b - jnp.pi) ** 2)


@_function(-5, 5, [[0, 0]], dim=2, source="Dixon & Szego 1975, Towards Global Optimisation")
def three_hump_camel(x: Pair) -> Scalar:
    """2 a^2 - 1.05 a^4 + a^6 / 6 + a b + b^2"""
    a, b = x
    return 2 * a**2 - 1.05 * a**4 + a**6 / 6 + a * b + b**2


@_function(
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


@_function(
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


@_function(
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


@_function(
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


@_function(
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


@_function(
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


@_function(-5.12, 5.12, [[0, 0]], -1.0, dim=2, source="Surjanovic & Bingham 2013, drop-wave function")
def drop_wave(x: Pair) -> Scalar:
    """-(1 + cos(12 r)) / (r^2 / 2 + 2), r^2 = a^2 + b^2; smooth at the origin, and so are its derivatives here"""
    square = jnp.sum(x**2)
    return -(1 + cos_sqrt(144 * square)) / (square / 2 + 2)


FUNCTIONS: NameTable[Function] = NameTable("function", _ENTRIES)
