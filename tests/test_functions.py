import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from gdlab.functions import FUNCTIONS, Function, evaluate_grid, off_origin
from tests.oracles import numpy_functions
from tests.selection import some_of

ANY = [name for name, function in FUNCTIONS.items() if function.dim is None]
SOME = ("ackley", "rosenbrock", "rastrigin", "beale", "himmelblau", "schwefel")
PLAIN = [(name, function.dim or 4) for name, function in FUNCTIONS.items()]
LARGER = [pytest.param(name, 8, marks=pytest.mark.thorough) for name in ANY]
DIMS = [*PLAIN, *LARGER]
DERIVED = [*some_of(PLAIN, [place for place in PLAIN if place[0] in SOME]), *LARGER]
"""Derivatives of some functions are checked by default, those of the others by slow tests."""
KINKED = {"ackley", "eggholder", "bukin_6", "cross_in_tray"}


def random_points(function, dim, count=200, seed=0):
    lower, upper = function.bounds(dim)
    if function.name == "easom":  # a needle in a flat field: elsewhere its values underflow
        lower, upper = np.full(2, np.pi - 3), np.full(2, np.pi + 3)
    return np.random.default_rng(seed).uniform(lower, upper, (count, dim))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_an_oracle_a_formula_and_a_source(name):
    assert hasattr(numpy_functions, name), f"{name}: write its formula in tests/oracles/numpy_functions.py"
    assert FUNCTIONS[name].source, f"{name}: say who published it, in source="
    assert FUNCTIONS[name].fn.__doc__, f"{name}: give the formula in the docstring"


def test_functions_that_are_not_differentiable_say_where():
    found = {name for name, function in FUNCTIONS.items() if function.kinks}
    assert found == KINKED, f"KINKED in this file and kinks= of the functions differ in {found ^ KINKED}"


@pytest.mark.parametrize(("name", "dim"), DIMS)
def test_values_equal_the_textbook_formula(name, dim):
    # Oracle: tests/oracles/numpy_functions.py, written independently from the formulas.
    function = FUNCTIONS[name]
    points = random_points(function, dim)
    ours = np.asarray(jax.jit(jax.vmap(function.fn))(jnp.asarray(points)))
    theirs = np.array([getattr(numpy_functions, name)(point.tolist()) for point in points])
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


OPFUNU = {
    "ackley": "Ackley01", "beale": "Beale", "himmelblau": "Himmelblau", "booth": "Booth", "matyas": "Matyas",
    "griewank": "Griewank", "goldstein_price": "GoldsteinPrice", "easom": "Easom", "three_hump_camel": "CamelThreeHump",
    "six_hump_camel": "CamelSixHump", "branin": "Branin01", "mccormick": "McCormick", "eggholder": "EggHolder",
    "bukin_6": "Bukin06", "cross_in_tray": "CrossInTray", "drop_wave": "DropWave", "dixon_price": "DixonPrice",
    "zakharov": "Zacharov", "michalewicz": "Michalewicz",
}  # fmt: skip
BENCHMARK_FUNCTIONS = {
    "sphere": "Hypersphere", "ackley": "Ackley", "rosenbrock": "Rosenbrock", "rastrigin": "Rastrigin",
    "styblinski_tang": "StyblinskiTang", "griewank": "Griewank", "michalewicz": "Michalewicz",
    "himmelblau": "Himmelblau", "goldstein_price": "GoldsteinAndPrice", "easom": "Easom", "mccormick": "McCormick",
    "eggholder": "EggHolder",
}  # fmt: skip


def compare_with_package(name, dim, evaluate):
    function = FUNCTIONS[name]
    points = random_points(function, dim, count=50, seed=1)
    ours = np.array([float(function.fn(jnp.asarray(point))) for point in points])
    theirs = np.array([float(evaluate(point)) for point in points])
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.oracle
@pytest.mark.parametrize("name", OPFUNU)
def test_values_equal_opfunu(name):
    based = pytest.importorskip("opfunu", reason="the oracle extra is not installed").name_based
    dim = FUNCTIONS[name].dim or (2 if name == "michalewicz" else 4)
    compare_with_package(name, dim, getattr(based, OPFUNU[name])(ndim=dim).evaluate)


@pytest.mark.oracle
@pytest.mark.parametrize("name", BENCHMARK_FUNCTIONS)
def test_values_equal_benchmark_functions(name):
    package = pytest.importorskip("benchmark_functions", reason="the oracle extra is not installed")
    dim = FUNCTIONS[name].dim or 2
    oracle = getattr(package, BENCHMARK_FUNCTIONS[name])
    compare_with_package(name, dim, oracle(n_dimensions=dim) if FUNCTIONS[name].dim is None else oracle())


def test_rosenbrock_equals_scipy():
    compare_with_package("rosenbrock", 5, optimize.rosen)


@pytest.mark.parametrize(("name", "dim"), DIMS)
def test_minimizers_are_minima(name, dim):
    function = FUNCTIONS[name]
    minimizers = function.minimizers(dim)
    lower, upper = function.bounds(dim)
    assert minimizers.shape[1] == dim
    assert (minimizers >= lower).all()
    assert (minimizers <= upper).all()
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(function.fn)))(jnp.asarray(minimizers))
    np.testing.assert_allclose(values, function.minimum(dim), rtol=0, atol=1e-9)
    if name != "eggholder":  # its minimizer lies on the border
        np.testing.assert_allclose(gradients, 0, atol=1e-9)
    # Nothing in the domain is lower, neither near the minimizers nor at random points.
    noise = np.random.default_rng(2).normal(0, 1e-3, (200, 1, dim)) * (upper - lower)
    near = np.clip(minimizers + noise, lower, upper).reshape(-1, dim)
    others = jnp.asarray(np.concatenate([near, random_points(function, dim, 5000)]))
    assert float(jax.jit(jax.vmap(function.fn))(others).min()) >= function.minimum(dim) - 1e-9


# With a needle or kinks, a local search does not find the minima from random starts.
SEARCHED = {name for name, f in FUNCTIONS.items() if f.dim == 2} - {"eggholder", "bukin_6", "easom", "drop_wave"}


@pytest.mark.parametrize("name", some_of(sorted(SEARCHED), SOME))
def test_no_global_minimizer_is_missing(name):
    # Oracle: L-BFGS-B of SciPy from 100 starts, on the textbook formula with numerical gradients.
    function = FUNCTIONS[name]
    lower, upper = function.bounds()
    formula = getattr(numpy_functions, name)
    for start in random_points(function, 2, 100, seed=3):
        found = optimize.minimize(formula, start, method="L-BFGS-B", bounds=list(zip(lower, upper, strict=True)))
        assert found.fun >= function.minimum() - 1e-9
        if found.fun < function.minimum() + 1e-8:
            assert np.abs(function.minimizers() - found.x).max(axis=1).min() < 1e-2


def test_known_minima_of_the_literature():
    # Michalewicz: the values usually quoted for d = 2, 5, 10.
    michalewicz = FUNCTIONS["michalewicz"]
    assert michalewicz.minimum(2) == pytest.approx(-1.801303410098554, abs=1e-12)
    assert michalewicz.minimum(5) == pytest.approx(-4.687658179, abs=1e-9)
    assert michalewicz.minimum(10) == pytest.approx(-9.660151716, abs=1e-9)
    np.testing.assert_allclose(michalewicz.minimizers(2)[0], [2.202905520, 1.570796327], atol=1e-9)
    assert len(FUNCTIONS["dixon_price"].minimizers(4)) == 2  # the last coordinate's sign is free
    assert len(FUNCTIONS["himmelblau"].minimizers()) == 4


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.thorough)])
@pytest.mark.parametrize(("name", "dim"), DERIVED)
def test_gradients_and_hessians_are_finite(name, dim, dtype):
    function = FUNCTIONS[name]
    lower, upper = function.bounds(dim)
    special = [
        *function.minimizers(dim),
        np.zeros(dim),
        lower,
        upper,
        (lower + upper) / 2,
        np.ones(dim),
        np.pi * np.ones(dim),
    ]
    points = jnp.asarray(np.concatenate([random_points(function, dim, 50), special]), dtype)
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(function.fn)))(points)
    smooth = points if name not in ("schwefel", "eggholder") else points[:50]  # their second derivatives have poles
    hessians = jax.jit(jax.vmap(jax.hessian(function.fn)))(smooth)
    assert values.dtype == gradients.dtype == hessians.dtype == dtype
    chex.assert_tree_all_finite((values, gradients, hessians))


@pytest.mark.parametrize(("name", "dim"), DERIVED)
def test_gradients_equal_the_complex_step(name, dim):
    # Oracle: the complex step, which is exact up to rounding and takes another way through the same code.
    from gdlab.gradients import finite_difference

    function = FUNCTIONS[name]
    points = jnp.asarray(random_points(function, dim, 50))
    ours = jax.jit(jax.vmap(jax.grad(function.fn)))(points)
    theirs = jax.jit(jax.vmap(finite_difference(function.fn, "complex")))(points)
    scale = jnp.maximum(jnp.abs(ours).max(axis=1, keepdims=True), 1e-300)
    assert float(jnp.abs((ours - theirs) / scale).max()) < 1e-11


@pytest.mark.parametrize(("name", "dim"), DERIVED)
def test_hessians_equal_differences_of_gradients(name, dim):
    function = FUNCTIONS[name]
    point = jnp.asarray(random_points(function, dim, 1, seed=4)[0])
    h = 1e-5
    ahead, behind = jax.jit(jax.vmap(jax.grad(function.fn)))(
        jnp.stack([point + h * jnp.eye(dim), point - h * jnp.eye(dim)]).reshape(-1, dim)
    ).reshape(2, dim, dim)
    theirs = (ahead - behind) / (2 * h)
    ours = jax.jit(jax.hessian(function.fn))(point)
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * float(jnp.abs(ours).max()) + 1e-7)


def test_hessian_at_the_smooth_centre_of_drop_wave():
    # f = -(1 + cos 12 r) / (r^2 / 2 + 2), cos 12 r = 1 - 72 r^2 + ..., so f = -1 + (36 + 1/4) r^2 + ...
    np.testing.assert_allclose(jax.hessian(FUNCTIONS["drop_wave"].fn)(jnp.zeros(2)), 72.5 * np.eye(2), rtol=1e-12)


@pytest.mark.parametrize(("name", "dim"), DERIVED)
def test_float32_is_close_to_float64(name, dim):
    function = FUNCTIONS[name]
    points = jnp.asarray(random_points(function, dim, 200), jnp.float32)
    batch = jax.jit(jax.vmap(function.fn))
    ours, truth = batch(points), batch(points.astype(jnp.float64))
    scale = jnp.maximum(jnp.abs(truth), jnp.abs(truth).mean())
    assert float((jnp.abs(ours - truth) / scale).max()) < 5e-6


@pytest.mark.parametrize("name", ["ackley", "rastrigin", "levy"])
def test_ripples_in_float32_are_within_4_ulp_of_the_functions_size(name):
    function = FUNCTIONS[name]
    points = jnp.asarray(random_points(function, 2, 20_000), jnp.float32)
    both = jax.jit(jax.vmap(jax.value_and_grad(function.fn)))
    for ours, truth in zip(both(points), both(points.astype(jnp.float64)), strict=True):
        size = float(jnp.abs(truth).max())
        assert float(jnp.abs(ours - truth).max()) < 4 * float(jnp.finfo(jnp.float32).eps) * size


def test_ackley_keeps_its_digits_near_the_minimum():
    # Near 0 the cone dominates: f = 4 r' + O(r^2), r' = sqrt(mean x^2). The textbook form rounds 1e-9 away entirely.
    x = jnp.array([3e-9, 4e-9])
    assert float(FUNCTIONS["ackley"].fn(x)) == pytest.approx(4 * 5e-9 / math.sqrt(2), rel=1e-7)
    assert float(FUNCTIONS["ackley"].fn(jnp.zeros(3))) == 0.0


def test_functions_are_moved_off_the_origin_with_their_boxes():
    moved = off_origin(FUNCTIONS["rastrigin"], [-5, -5], [5, 5])
    np.testing.assert_allclose(moved.minimizers(2), [[1.3, -0.7]])  # 0.13 and -0.07 of 10
    np.testing.assert_allclose(moved.bounds(2), [[-3.7, -5.7], [6.3, 4.3]])
    x = jnp.array([1.5, 0.25])
    assert float(moved.fn(x)) == pytest.approx(float(FUNCTIONS["rastrigin"].fn(x - jnp.array([1.3, -0.7]))), rel=1e-12)
    stays = off_origin(FUNCTIONS["beale"], [-1, -1], [1, 2])
    assert stays.fn is FUNCTIONS["beale"].fn
    np.testing.assert_array_equal(stays.bounds(2), [[-1, -1], [1, 2]])


def test_a_function_of_your_own_needs_no_registration():
    mine = Function("mine", lambda x: jnp.sum(x**4), 2, -1.0, 1.0)
    assert float(mine.fn(jnp.array([1.0, 2.0]))) == 17
    assert math.isnan(mine.minimum(2))
    assert mine.minimizers(2).shape == (0, 2)
    grid = evaluate_grid(mine, points=5)
    assert grid.z[4, 2] == pytest.approx(1.0)  # x = 0, y = 1
    assert evaluate_grid(lambda x: x[0] - 2 * x[1], -1, 1, points=3).z.tolist() == [[1, 2, 3], [-1, 0, 1], [-3, -2, -1]]


def test_bad_input_raises_an_error_with_the_expected_and_the_given_value():
    with pytest.raises(KeyError, match="no function named 'ackly'; nearest: ackley"):
        FUNCTIONS["ackly"]
    with pytest.raises(KeyError, match="nearest: six_hump_camel"):
        FUNCTIONS["Six-Hump Camel"]
    with pytest.raises(ValueError, match="beale: expected dimension 2, got 3"):
        FUNCTIONS["beale"].fn(jnp.ones(3))
    with pytest.raises(ValueError, match="powell: expected dimension divisible by 4, got 6"):
        FUNCTIONS["powell"].fn(jnp.ones(6))
    with pytest.raises(ValueError, match="rosenbrock: expected dimension at least 2, got 1"):
        FUNCTIONS["rosenbrock"].fn(jnp.ones(1))
    with pytest.raises(
        ValueError, match=r"sphere: expected one point of shape \(dim,\), got shape \(5, 2\); for many points"
    ):
        FUNCTIONS["sphere"].fn(jnp.ones((5, 2)))
    with pytest.raises(TypeError, match="sphere: expected a point of floating-point numbers, got dtype int"):
        FUNCTIONS["sphere"].fn(jnp.array([1, 2]))
    with pytest.raises(ValueError, match="sphere: expected a dimension"):
        FUNCTIONS["sphere"].bounds()
    with pytest.raises(ValueError, match="himmelblau: expected dimension 2, got 3"):
        FUNCTIONS["himmelblau"].minimizers(3)
    with pytest.raises(ValueError, match="beale: expected dimension 2, got 3"):
        FUNCTIONS["beale"].bounds(3)
    with pytest.raises(TypeError, match=r"dim: expected an integer, got 2\.5"):
        FUNCTIONS["sphere"].minimum(2.5)
    with pytest.raises(ValueError, match="fn: expected a function that returns a scalar"):
        evaluate_grid(lambda x: x, 0, 1)
    with pytest.raises(ValueError, match="finite lower < upper"):
        evaluate_grid(lambda x: x[0], 1, -1)
    with pytest.raises(ValueError, match="expected the corners of the grid"):
        evaluate_grid(lambda x: x[0])
