import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdlab.functions import FUNCTIONS
from gdlab.gradients import (
    SCHEMES,
    Scheme,
    autodiff,
    check_gradient,
    error_curve,
    finite_difference,
    richardson,
    stencil,
)
from gdlab.gradients.report import KINK, NON_FINITE, TOO_SMALL

ORDERS = {
    "forward": 1,
    "backward": 1,
    "central": 2,
    "central4": 4,
    "central6": 6,
    "central8": 8,
    "complex": 2,
    "richardson": 6,
}


def textbook(x):
    """exp(x) / sqrt(sin^3 x + cos^3 x); at 1.5 its derivative is 4.053427893898621 (computed to 30 digits)."""
    return jnp.sum(jnp.exp(x) / jnp.sqrt(jnp.sin(x) ** 3 + jnp.cos(x) ** 3))


POINT, SLOPE = jnp.array([1.5]), 4.053427893898621


def test_the_schemes_have_their_orders():
    assert {name: scheme.order for name, scheme in SCHEMES.items()} == ORDERS


@pytest.mark.parametrize("name", ["forward", "backward", "central", "central4", "central6", "central8", "richardson"])
def test_a_scheme_of_order_p_is_exact_on_polynomials_of_degree_p_and_no_further(name):
    p = ORDERS[name]
    for degree in range(p + 2):
        coefficients = np.arange(1.0, degree + 2)  # sum (k + 1) t^k; its slope at 0 is 2
        line = lambda t, c=coefficients: sum(a * t**k for k, a in enumerate(c))  # noqa: E731
        got = float(SCHEMES[name].quotient(line, jnp.array(0.5)))
        expected = coefficients[1] if degree else 0.0
        if degree <= p:
            assert got == pytest.approx(expected, abs=1e-11), degree
        else:
            assert abs(got - expected) > 1e-4, degree


@pytest.mark.parametrize("name", SCHEMES)
def test_the_observed_order_is_the_theoretical_one(name):
    # On the textbook function, within 0.1; the report extrapolates it from the quotient's own changes.
    report = check_gradient(textbook, POINT, schemes=[name])
    assert report.rows[0].order == pytest.approx(ORDERS[name], abs=0.1)


@pytest.mark.parametrize("name", ["forward", "central", "central4"])
def test_the_error_curve_has_the_theoretical_slope_and_its_left_branch_falls_as_one_over_h(name):
    p = ORDERS[name]
    best = np.finfo(float).eps ** (1 / (p + 1))
    right = best * np.array([30.0, 60.0])
    errors = error_curve(textbook, POINT, name, right, np.array([SLOPE]))
    assert math.log2(errors[1] / errors[0]) == pytest.approx(p, abs=0.1)
    left = 2.0 ** np.arange(-46, -36)
    errors = error_curve(textbook, POINT, name, left, np.array([SLOPE]))
    slope = np.polyfit(np.log(left), np.log(errors), 1)[0]
    assert slope == pytest.approx(-1, abs=0.5)


@pytest.mark.parametrize(
    ("name", "f64", "f32"),
    [("forward", 3e-8, 1e-3), ("central", 1e-10, 1e-4), ("central4", 3e-12, 3e-5), ("central6", 3e-12, 3e-5),
     ("central8", 3e-12, 3e-5), ("richardson", 3e-12, 3e-5), ("complex", 1e-15, 1e-6)],
)  # fmt: skip
def test_default_steps_give_the_accuracy_of_each_dtype(name, f64, f32):
    for dtype, bound in ((jnp.float64, f64), (jnp.float32, f32)):
        got = finite_difference(lambda x: jnp.sum(jnp.exp(jnp.sin(x))), name)(jnp.array([0.4], dtype))
        assert got.dtype == dtype
        assert abs(float(got[0]) / (math.cos(0.4) * math.exp(math.sin(0.4))) - 1) < bound


def test_default_step_scales_with_x_and_is_representable():
    for name in ("forward", "central", "central4"):
        for x in (0.1, 1.0, 1e6, -3e8):
            h = SCHEMES[name].default_step(jnp.array(x))
            expected = np.finfo(float).eps ** (1 / (ORDERS[name] + 1)) * max(1, abs(x))
            assert float(h) == pytest.approx(expected, rel=1e-6)
            assert (x + float(h)) - x == float(h)
    far = finite_difference(lambda x: jnp.sum(x**2))(jnp.array([1e6]))
    assert float(far[0]) == pytest.approx(2e6, rel=1e-9)


def test_an_explicit_step_is_used_unchanged():
    # (x^2 forward with h) has slope 2 x + h exactly in binary arithmetic; central has 2 x.
    square = lambda x: jnp.sum(x**2)  # noqa: E731
    x = jnp.array([1.0, -2.0])
    np.testing.assert_array_equal(finite_difference(square, "forward", 0.25)(x), 2 * x + 0.25)
    np.testing.assert_array_equal(finite_difference(square, "backward", 0.25)(x), 2 * x - 0.25)
    np.testing.assert_array_equal(finite_difference(square, "central", 0.25)(x), 2 * x)
    steps = jnp.array([0.5, 0.25])
    traced = jax.jit(jax.vmap(lambda h: finite_difference(square, "forward", h)(x)))(steps)
    np.testing.assert_array_equal(traced, 2 * x + steps[:, None])


@pytest.mark.thorough
def test_jit_vmap_and_pytrees():
    rosenbrock = FUNCTIONS["rosenbrock"].fn
    points = jnp.asarray(np.random.default_rng(0).normal(size=(7, 3)))
    batch = jax.jit(jax.vmap(finite_difference(rosenbrock, "central4")))(points)
    np.testing.assert_allclose(batch, jax.vmap(jax.grad(rosenbrock))(points), rtol=1e-9, atol=1e-8)

    def fn(tree):
        return jnp.sum(jnp.tanh(tree["w"] @ tree["b"])) + tree["s"] ** 2 * jnp.sum(tree["empty"] + 1) + tree["s"]

    tree = {"w": jnp.ones((2, 3)) / 7, "b": jnp.arange(3.0), "s": jnp.array(0.3), "empty": jnp.zeros((0, 2))}
    ours, theirs = finite_difference(fn, "central4")(tree), jax.grad(fn)(tree)
    chex.assert_trees_all_close(ours, theirs, rtol=1e-7, atol=1e-11)


def test_a_check_multiplies_in_the_precision_of_the_dtype():
    seen = set()

    def watched(x):
        seen.add(jax.config.jax_default_matmul_precision)
        return jnp.sum(x**2)

    jax.eval_shape(finite_difference(watched), jnp.ones(2))
    assert seen == {"highest"}  # by default a GPU takes TF32
    seen.clear()
    with pytest.raises(ValueError, match="schemes"):  # after `fn` was traced
        check_gradient(watched, jnp.ones(2), schemes=())
    assert seen == {"highest"}
    assert jax.config.jax_default_matmul_precision is None


def test_more_coordinates_than_fit_in_a_block():
    x = jnp.linspace(-1, 1, 700)
    np.testing.assert_allclose(finite_difference(lambda x: jnp.sum(jnp.sin(x)))(x), jnp.cos(x), atol=1e-9)


def test_a_scheme_of_your_own():
    half = Scheme("half", 0, lambda line, h: (line(h) - line(-h)) / (4 * h), lambda x: jnp.full_like(x, 1e-4))
    assert float(finite_difference(lambda x: jnp.sum(3 * x), half)(jnp.ones(1))[0]) == pytest.approx(1.5)
    one_sided = stencil("one_sided", (0, 1, 2), (-1.5, 2, -0.5), 2)
    assert check_gradient(textbook, POINT, schemes=[one_sided]).rows[0].order == pytest.approx(2, abs=0.1)
    waves = check_gradient(lambda x: jnp.sum(jnp.exp(jnp.sin(3 * x))), jnp.array([0.4]), schemes=[richardson(4)])
    assert waves.rows[0].order == pytest.approx(8, abs=0.2)
    with pytest.raises(ValueError, match="weights: expected sum 0 and first moment 1"):
        stencil("wrong", (0, 1), (-1, 2), 1)


def test_autodiff_modes_agree():
    x = jnp.array([0.3, -1.2, 2.0])
    levy = FUNCTIONS["levy"].fn
    np.testing.assert_allclose(autodiff(levy, "forward")(x), autodiff(levy)(x), rtol=1e-14)
    with pytest.raises(ValueError, match="mode: expected one of reverse, forward; got 'sideways'"):
        autodiff(levy, "sideways")


SQUARE, PAIR = (lambda x: jnp.sum(x**2)), jnp.array([1.0, 2.0])


def own_scheme(quotient=lambda line, h: line(h), default_step=lambda x: x, name="own", order=1):
    return Scheme(name, order, quotient, default_step)


BAD = {
    "x": [
        *(
            lambda x=x: check_gradient(SQUARE, x)
            for x in ("abc", None, np.array(["a"]), jnp.array([1, 2]), PAIR * 1j, True, object(), {"a": "b"},
                      jnp.array([1.0, math.nan]), [math.inf], jax.random.key(0))
        ),
        lambda: jax.jit(lambda x: check_gradient(SQUARE, x).value)(PAIR),
        *(lambda x=x: finite_difference(SQUARE)(x) for x in ("abc", None, jnp.array([1]))),
        *(lambda m=m, x=x: autodiff(SQUARE, m)(x) for m in ("reverse", "forward") for x in ("abc", jnp.array([1]))),
        *(
            lambda x=x: error_curve(SQUARE, x, "central", [0.1])
            for x in ("abc", [1, 2], jnp.ones((2, 2)), jnp.array([math.nan]), jnp.zeros(0))
        ),
    ],
    "fn": [
        *(
            lambda call=call, fn=fn: call(fn)
            for call in (lambda fn: check_gradient(fn, PAIR), lambda fn: finite_difference(fn)(PAIR),
                         lambda fn: autodiff(fn)(PAIR), lambda fn: autodiff(fn, "forward")(PAIR),
                         lambda fn: error_curve(fn, PAIR, "central", [0.1]))
            for fn in (3, None, lambda x: x, lambda x, y: x, lambda x: x.nonsense, lambda x: None)
        ),
        lambda: check_gradient(lambda x: jnp.sum(jnp.floor(x)), PAIR, schemes="complex"),
        lambda: finite_difference(lambda x: jnp.sum(jnp.real(x)), "complex")(PAIR),
    ],
    "gradient": [
        lambda g=g: check_gradient(SQUARE, PAIR, gradient=g)
        for g in (3, lambda: 1, lambda x: None, lambda x: "abc", lambda x: (x, x), lambda x: [2.0, 4.0],
                  lambda x: x[:1], lambda x: 2 * np.asarray(x)[:1], lambda x: x * 1j, lambda x: x > 0,
                  lambda x: x.astype(int), lambda x: np.array(["a", "b"]), lambda x: 1 / 0)
    ],
    "schemes": [
        lambda s=s: check_gradient(SQUARE, PAIR, schemes=s)
        for s in (None, 3, "centrall", ["centrall"], [3], [], {"central": 1}, [own_scheme(3)], [own_scheme(name=3)],
                  [own_scheme(order="b")], [own_scheme(default_step=3)], [own_scheme(lambda line, h: jnp.ones(2))],
                  [own_scheme(lambda line: 1.0)], [own_scheme(default_step=lambda x: jnp.ones(2))])
    ],
    "scheme": [
        *(lambda s=s: finite_difference(SQUARE, s) for s in (None, 2, "x", own_scheme(3), own_scheme(order=None))),
        lambda: finite_difference(SQUARE, own_scheme(lambda line, h: jnp.ones(2)))(PAIR),
        *(lambda s=s: error_curve(SQUARE, PAIR, s, [0.1]) for s in (None, "centrall")),
    ],
    "step": [
        lambda call=call, s=s: call(s)
        for call in (lambda s: check_gradient(SQUARE, PAIR, step=s), lambda s: finite_difference(SQUARE, step=s))
        for s in ("a", 0, math.nan, [1.0], jnp.ones(2), True)
    ],
    "rtol": [lambda r=r: check_gradient(SQUARE, PAIR, rtol=r) for r in ("a", -1, math.inf, 0)],
    "coordinates": [lambda c=c: check_gradient(SQUARE, PAIR, coordinates=c) for c in (1, 2.0, None)],
    "seed": [lambda s=s: check_gradient(SQUARE, PAIR, seed=s) for s in ("a", -1, None)],
    "mode": [lambda m=m: autodiff(SQUARE, m) for m in (None, 3, "sideways")],
    "levels": [lambda n=n: richardson(n) for n in (1, 2.5, "a", 1000, None)],
    "steps": [
        lambda s=s: error_curve(SQUARE, PAIR, "central", s) for s in (0.1, "a", [0.0], [-1.0], [math.nan], [], None)
    ],
    "reference": [
        lambda r=r: error_curve(SQUARE, PAIR, "central", [0.1], r) for r in ([1.0], "a", [0.0, 0.0], [math.nan, 0.0])
    ],
    "name": [lambda: stencil(3, (0, 1), (-1, 1), 1), lambda: stencil("", (0, 1), (-1, 1), 1)],
    "offsets": [lambda o=o: stencil("a", o, (-1, 1), 1) for o in (None, "ab", (0, math.nan), 5)],
    "weights": [lambda w=w: stencil("a", (0, 1), w, 1) for w in (None, (-1, "a"), (-1, 1, 0), (-1, 2))],
    "order": [lambda p=p: stencil("a", (0, 1), (-1, 1), p) for p in (None, 0, 1.5)],
}  # fmt: skip
"""Calls with one wrong argument, by the name of the argument."""


@pytest.mark.parametrize("name", BAD)
def test_one_line_names_the_argument_that_is_wrong(name):
    for number, call in enumerate(BAD[name]):
        with pytest.raises((TypeError, ValueError, KeyError)) as caught:
            call()
        message = str(caught.value)
        assert message.startswith(name), (number, message)
        assert "\n" not in message, (number, message)
        assert "expected" in message or "no finite-difference scheme named" in message, (number, message)
        assert "gdlab" in str(caught.traceback[-1].path), (number, message)


def test_bad_input_is_refused():
    with pytest.raises(KeyError, match="no finite-difference scheme named 'centrall'; nearest: central"):
        finite_difference(textbook, "centrall")
    with pytest.raises(ValueError, match=r"step: expected a number in \(0, inf\), got -0.001"):
        finite_difference(textbook, step=-1e-3)
    with pytest.raises(ValueError, match=r"step: expected a number in \(0, inf\), got 0"):
        finite_difference(textbook, step=0)
    with pytest.raises(TypeError, match="fn: expected a function, got 3"):
        finite_difference(3)
    with pytest.raises(TypeError, match=r"x\['a'\]: expected floating-point numbers, got dtype int"):
        finite_difference(lambda t: t["a"] * 1.0)({"a": 3})
    with pytest.raises(TypeError, match="scheme: expected a name or a Scheme, got 2"):
        finite_difference(textbook, 2)
    with pytest.raises(
        ValueError, match=r"fn: expected a function that returns a scalar of shape \(\), got shape \(1,\)"
    ):
        check_gradient(lambda x: x, POINT)
    for vector in (lambda x: 2 * x, lambda x: 2 * x[:1], lambda x: (x, x)):
        with pytest.raises(ValueError, match="fn: expected a function that returns a scalar"):
            finite_difference(vector)(jnp.ones(2))
    with pytest.raises(ValueError, match="x: expected at least one number"):
        check_gradient(lambda t: 1.0 + jnp.sum(t["a"]), {"a": jnp.zeros(0)})
    with pytest.raises(ValueError, match="step: expected a finite number, got inf"):
        finite_difference(textbook, step=math.inf)
    assert check_gradient(textbook, POINT, schemes="central").rows[0].scheme == "central"
    with pytest.raises(ValueError, match="schemes: expected at least one"):
        check_gradient(textbook, POINT, schemes=())


# The report ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(
    "name",
    [
        "ackley",
        "branin",
        *(
            pytest.param(name, marks=pytest.mark.thorough)
            for name in ("rosenbrock", "levy", "griewank", "michalewicz", "goldstein_price")
        ),
    ],
)
def test_right_gradients_pass(name, dtype):
    function = FUNCTIONS[name]
    dim = function.dim or 3
    lower, upper = function.bounds(dim)
    x = jnp.asarray(lower + (upper - lower) * np.array([0.37, 0.61, 0.52])[:dim], dtype)
    report = check_gradient(function.fn, x)
    assert report.ok, str(report)
    assert {row.scheme for row in report.rows} == {"forward", "central", "central4", "richardson", "forward mode"}


def test_a_gradient_of_zero_passes_at_every_smooth_minimizer():
    for name in ("sphere", "rosenbrock", "beale", "himmelblau", "powell", "drop_wave"):
        function = FUNCTIONS[name]
        report = check_gradient(function.fn, jnp.asarray(function.minimizers(function.dim or 4)[0]))
        assert report.ok, f"{name}\n{report}"


@pytest.mark.parametrize(("dtype", "fault"), [(jnp.float64, 1e-7), (jnp.float32, 1e-2)])
def test_a_wrong_gradient_is_found(dtype, fault):
    x = jnp.array([-1.2, 0.7, 1.1], dtype)
    rosenbrock = FUNCTIONS["rosenbrock"].fn

    def tampered(x):
        return jax.grad(rosenbrock)(x) * (1 + fault)

    report = check_gradient(rosenbrock, x, gradient=tampered)
    assert not report.ok
    assert "differs from central4 by" in report.verdict
    assert report.rows[2].best_error == pytest.approx(fault, rel=0.02)
    assert check_gradient(rosenbrock, x, gradient=jax.grad(rosenbrock)).ok


def test_ripples_do_not_hide_from_a_coarse_step():
    # Halved steps 1/2, 1/4, ... cancel the ripples of period 1 exactly; only finer steps show them.
    assert check_gradient(FUNCTIONS["rastrigin"].fn, jnp.array([2.3, -3.1])).ok
    smooth_part = check_gradient(FUNCTIONS["rastrigin"].fn, jnp.array([2.3, -3.1]), gradient=lambda x: 2 * x)
    assert not smooth_part.ok
    bump = lambda x: jnp.sum(x + jnp.exp(-((x / 1e-3) ** 2)))  # noqa: E731
    assert check_gradient(bump, jnp.array([5e-4])).ok
    assert not check_gradient(bump, jnp.array([5e-4]), gradient=jnp.ones_like).ok


@pytest.mark.thorough
def test_ripples_of_every_function_and_dtype():
    for name, x in (("rastrigin", [2.3, -3.1]), ("rastrigin", [3.3]), ("ackley", [8.2, 26.0, 18.1, -18.0])):
        for dtype in (jnp.float32, jnp.float64):
            assert check_gradient(FUNCTIONS[name].fn, jnp.array(x, dtype)).ok, (name, dtype)


@pytest.mark.thorough
def test_random_points_of_all_functions_pass_in_float64():
    for name, function in FUNCTIONS.items():
        dim = function.dim or 4
        lower, upper = function.bounds(dim)
        report = check_gradient(function.fn, jnp.asarray(np.random.default_rng(5).uniform(lower, upper)))
        assert report.ok, f"{name}\n{report}"


def test_an_uncertain_gradient_is_undecided_not_passed():
    x = jnp.array([0.5, 2.0], jnp.float32)
    noisy = lambda x: jnp.sum(jnp.sin(x)) + 3e3  # noqa: E731
    right = check_gradient(noisy, x, rtol=1e-4)
    assert not right.ok
    assert right.verdict.startswith("UNDECIDED")
    assert not check_gradient(noisy, x, rtol=1e-4, gradient=lambda x: jnp.cos(x) * 1.005).ok
    assert check_gradient(noisy, x, rtol=1e-2).ok


@pytest.mark.thorough
def test_half_precision_leaves_are_checked_in_float32():
    x16, bf16 = jnp.array([0.5, 1.0], jnp.float16), jnp.array([0.5, 1.0], jnp.bfloat16)
    fn = lambda x: jnp.sum(jnp.sin(x))  # noqa: E731
    for x in (x16, bf16):
        assert check_gradient(fn, x).ok
        assert not check_gradient(fn, x, gradient=lambda x: jnp.cos(x) * jnp.asarray(1.3, x.dtype)).ok
    mixed = {"a": bf16, "b": jnp.array([1.0, 2.0])}
    assert check_gradient(lambda t: jnp.sum(t["a"] ** 2) + jnp.sum(t["b"] ** 3), mixed).ok


@pytest.mark.thorough
def test_one_wrong_element_of_many_is_found_even_unsampled():
    x = jnp.linspace(0.1, 2.0, 5000)
    fn = lambda x: jnp.sum(jnp.sin(x))  # noqa: E731
    wrong = lambda x: jnp.cos(x).at[1234].add(1e-2)  # noqa: E731
    report = check_gradient(fn, x, gradient=wrong, coordinates=8)
    assert report.rows[0].directions == 8
    assert not report.ok
    assert check_gradient(fn, x, coordinates=8).ok


def test_kinks_beside_x_do_not_count():
    # sum(relu(x)) has the gradient x > 0 wherever no x is 0.
    x = jnp.array([0.3, 1.3e-4, -2e-3, 0.05])
    relu = lambda x: jnp.sum(jax.nn.relu(x))  # noqa: E731
    assert check_gradient(relu, x, schemes="central", gradient=lambda x: 1.0 * (np.asarray(x) > 0)).ok  # NumPy
    beside = check_gradient(relu, jnp.array([1e-9, -0.3], jnp.float32))  # nearer than the smallest step
    assert beside.verdict.startswith("UNDECIDED: x: undecided, because the function is not differentiable in 1 of 2")


def test_what_no_step_resolves_is_undecided():
    report = check_gradient(lambda x: jnp.sum(jnp.log(x)), jnp.array([1e-8], jnp.float32), schemes="forward")
    assert report.verdict.startswith("UNDECIDED: x: undecided, because even forward has an uncertainty"), report


@pytest.mark.thorough
def test_right_gradients_never_fail_where_quotients_say_little():
    relu = lambda x: jnp.sum(jax.nn.relu(x))  # noqa: E731
    x = 0.01 * jax.random.normal(jax.random.key(0), (64,))
    assert check_gradient(relu, x).ok
    assert check_gradient(relu, x, gradient=jnp.ones_like).verdict.startswith("FAIL")
    corner = lambda x: jnp.sum(jnp.abs(x))  # noqa: E731
    assert check_gradient(corner, jnp.zeros(1)).verdict.startswith("UNDECIDED")
    assert check_gradient(corner, jnp.zeros(1), gradient=lambda x: x + 30).verdict.startswith("FAIL")
    for small in ([1e-8], [1e-6, 1.0, 1e3]):
        report = check_gradient(lambda x: jnp.sum(jnp.log(x)), jnp.array(small, jnp.float32))
        assert report.verdict.startswith("UNDECIDED"), report
    wave = check_gradient(lambda x: jnp.sum(jnp.cos(1e6 * x)), jnp.array([0.7, 1.9], jnp.float32))
    assert wave.verdict.startswith("UNDECIDED"), wave
    flat = lambda x: jnp.sum(jax.nn.relu(x - 1)) + 2.5  # noqa: E731
    assert check_gradient(flat, jnp.array([-0.3, 0.1])).ok
    assert check_gradient(lambda x: 0 * x + 2.5, jnp.array(0.1), gradient=jnp.ones_like).verdict.startswith("FAIL")
    square = lambda x: jnp.sum(x**2)  # noqa: E731
    wrong = check_gradient(square, jnp.array([1.0, 2.0]), gradient=lambda x: 2.1 * np.asarray(x))
    assert wrong.verdict.startswith("FAIL")


@pytest.mark.thorough
def test_a_least_squares_solution_does_not_fail():
    # Both modes return rounding there, about 1e-16, which says nothing about either. Whether quotients decide depends
    # on the rounding of the solver.
    rng = np.random.default_rng(0)
    matrix, targets = jnp.asarray(rng.normal(size=(50, 4))), jnp.asarray(rng.normal(size=50))
    residuals = lambda w: jnp.mean((matrix @ w - targets) ** 2)  # noqa: E731
    solution = jnp.linalg.lstsq(matrix, targets)[0]
    assert not check_gradient(residuals, solution).verdict.startswith("FAIL")
    wrong = check_gradient(lambda w: residuals(w) + 1e-6 * w[0], solution, gradient=jax.grad(residuals))
    assert wrong.verdict.startswith("FAIL")


@pytest.mark.thorough
@pytest.mark.parametrize("fault", ["one of many", "sign", "term", "factor"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_wrong_custom_rule_fails_at_every_scale(fault, scale):
    fn = lambda x: jnp.sum(jnp.sin(x / scale) + (x / scale) ** 2)  # noqa: E731
    faults = {
        "one of many": lambda x, g: g.at[7].set(0.0),
        "sign": lambda x, g: g.at[3].multiply(-1.0),
        "term": lambda x, g: g - 2 * x / scale**2,
        "factor": lambda x, g: 1.001 * g,
    }
    wrong, right = jax.custom_vjp(fn), jax.custom_vjp(fn)
    wrong.defvjp(lambda x: (fn(x), x), lambda x, c: (c * faults[fault](x, jax.grad(fn)(x)),))
    right.defvjp(lambda x: (fn(x), x), lambda x, c: (c * jax.grad(fn)(x),))
    x = scale * jnp.linspace(0.5, 1.0, 1000)
    assert check_gradient(wrong, x).verdict.startswith("FAIL")
    assert check_gradient(right, x).ok


@pytest.mark.thorough
def test_a_function_that_is_not_deterministic_is_undecided():
    rng, shape = np.random.default_rng(0), jax.ShapeDtypeStruct((), jnp.float32)
    noisy = lambda v: np.float32(np.sum(np.asarray(v) ** 2) + 0.01 * rng.normal())  # noqa: E731
    fn = lambda x: jax.pure_callback(noisy, shape, x, vmap_method="sequential")  # noqa: E731
    report = check_gradient(fn, jnp.array([1.0, 2.0], jnp.float32), gradient=lambda x: 2 * x)
    assert report.verdict.startswith("UNDECIDED")


def test_kinks_are_flagged():
    fn = lambda x: jnp.abs(x[0]) + x[1] ** 3  # noqa: E731
    report = check_gradient(fn, jnp.array([0.0, 1.0]))
    assert not report.ok
    assert all(f"{KINK} in 1 of 2" in row.flags for row in report.rows if row.scheme != "forward mode")
    assert "not differentiable in 1 of 2 directions" in report.verdict
    assert check_gradient(fn, jnp.array([0.3, 1.0])).ok
    assert not check_gradient(FUNCTIONS["ackley"].fn, jnp.zeros(2)).ok
    assert not check_gradient(FUNCTIONS["bukin_6"].fn, jnp.array([-7.0, 0.49])).ok  # an infinite slope
    relu = check_gradient(lambda x: jnp.sum(jax.nn.relu(x)), jnp.array([0.0, 2.0], jnp.float32))
    assert any(KINK in flag for flag in relu.rows[0].flags)
    # Strong curvature is not a kink.
    assert check_gradient(lambda x: jnp.sum(jnp.tanh(200 * x)), jnp.array([0.001, 0.3])).ok


def test_one_component_that_is_not_finite_counts_as_one():
    root = lambda x: jnp.sum(jnp.where(x > 0, jnp.sqrt(x), 0.0))  # noqa: E731
    report = check_gradient(root, jnp.array([0.0, 1.0], jnp.float32), schemes="forward")
    assert report.verdict.startswith("FAIL: x: the gradient is not finite in 1 of 2 directions")


def test_non_finite_values_are_flagged():
    edge = check_gradient(lambda x: jnp.sum(jnp.log(x)), jnp.array([0.01]))
    assert edge.ok  # the gradient is right; the border of the domain is near
    assert any(flag.startswith(f"{NON_FINITE} values within") for row in edge.rows for flag in row.flags)
    naive = check_gradient(lambda x: jnp.sqrt(jnp.sum(x**2)) + x[0] * 0, jnp.zeros(2))
    assert not naive.ok
    assert f"{NON_FINITE} gradient" in naive.rows[0].flags
    nowhere = check_gradient(lambda x: jnp.sum(jnp.log(x)), jnp.array([-1.0]))
    assert not nowhere.ok
    assert "fn is nan at x" in nowhere.verdict


@pytest.mark.thorough
def test_a_step_too_small_for_the_dtype_is_flagged():
    for dtype, small in ((jnp.float64, 1e-13), (jnp.float32, 1e-7)):
        x = jnp.array([1.5, 0.3], dtype)
        fn = FUNCTIONS["levy"].fn
        flagged = check_gradient(fn, x, step=small)
        assert all(TOO_SMALL in row.flags for row in flagged.rows if row.scheme != "forward mode")
        assert flagged.ok  # the gradient is still right
        assert flagged.rows[1].error > 1e3 * flagged.rows[1].best_error
        assert not any(TOO_SMALL in row.flags for row in check_gradient(fn, x).rows)
    assert not any(TOO_SMALL in row.flags for row in check_gradient(FUNCTIONS["rosenbrock"].fn, jnp.ones(2)).rows)


def test_a_wrong_forward_rule_is_found_and_a_missing_one_reported():
    @jax.custom_jvp
    def cube(x):
        return x**3

    cube.defjvps(lambda t, y, x: 3.001 * x**2 * t)
    wrong = check_gradient(lambda x: jnp.sum(cube(x)), jnp.array([1.5]))
    assert not wrong.ok

    @jax.custom_vjp
    def square(x):
        return x**2

    square.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * g,))
    report = check_gradient(lambda x: jnp.sum(square(x)), jnp.array([1.5]))
    assert report.ok
    assert report.rows[-1].flags[0].startswith("not available")


def test_the_report_names_both_sides_and_prints_as_a_table():
    text = str(check_gradient(FUNCTIONS["rosenbrock"].fn, {"x": jnp.ones(2)}["x"] * 1.3))
    assert "checked: autodiff (reverse mode)" in text
    assert "against: finite differences of rosenbrock, autodiff (forward mode)" in text
    assert "best step" in text
    assert text.splitlines()[-1].startswith("verdict: PASS")
    tree = check_gradient(lambda t: jnp.sum(t["a"] ** 3) * t["b"], {"a": jnp.ones(2), "b": jnp.array(2.0)})
    assert {row.leaf for row in tree.rows} == {"x['a']", "x['b']"}


def test_a_gradient_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"gradient: expected shape \(2,\) for x, got \(\)"):
        check_gradient(lambda x: jnp.sum(x**2), jnp.ones(2), gradient=lambda x: jnp.sum(x))
