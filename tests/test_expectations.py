"""Gradients of expectations: bias and variance are computed exactly, by summing over all samples or by quadrature."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gdlab.gradients import Categorical, Normal, check_gradient, reparameterized, score_function
from gdlab.gradients.ladder import directions, everywhere
from gdlab.gradients.noise import FALSE_ALARM, average, summarize

KEY = jax.random.key(0)


def fixed(make, x):
    """A distribution with the log-probability of another, whose samples are given."""
    return lambda params: types.SimpleNamespace(sample=lambda key, shape: x, log_prob=make(params).log_prob)


def shifted(z):
    """The distribution N(params, 1) whose standard normal numbers are given."""
    make = lambda params: types.SimpleNamespace(sample=lambda key, shape: params + z, log_prob=Normal(params).log_prob)  # noqa: E731
    return make


def standard_normal(dimensions):
    """Points and weights of a quadrature over independent standard normal numbers, exact up to degree 7 in each."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    points = np.array([*itertools.product(nodes, repeat=dimensions)])
    return points, np.array([*itertools.product(weights / weights.sum(), repeat=dimensions)]).prod(axis=1)


def moments(estimates, weights):
    """The expectation and the variance of an estimate, the latter per component."""
    mean = np.tensordot(weights, estimates, 1)
    return mean, np.tensordot(weights, (estimates - mean) ** 2, 1)


def estimates_of(build, points, params):
    """The estimates for each of the given standard normal numbers."""
    return np.asarray(jax.jit(jax.vmap(lambda z: build(shifted(z))(params, KEY)))(jnp.asarray(points)))


@pytest.mark.parametrize("dimensions", [1, 3])
def test_the_variance_of_one_sample_is_that_of_theory(dimensions):
    # f = |x|^2 and x ~ N(1, I), so E f = 2 d and the gradient is 2. Each component of one estimate has a second moment
    # E z^2 (f - b)^2. With x_1 = 1 + z and r the other terms, which have mean 2 (d - 1) and variance 6 (d - 1):
    # E z^2 x_1^4 = 34, E z^2 x_1^2 = 4, so the variance is 34 + 8 (2 (d - 1) - b) + 6 (d - 1) + (2 (d - 1) - b)^2 - 4.
    d = dimensions
    points, weights = standard_normal(d)
    square = lambda x: jnp.sum(x**2)  # noqa: E731
    theory = lambda b: 30 + 8 * (2 * (d - 1) - b) + 6 * (d - 1) + (2 * (d - 1) - b) ** 2  # noqa: E731
    best = 2 * (d - 1) + 4
    found = {}
    for baseline in (None, 2.0 * d, float(best)):
        build = lambda make, b=baseline: score_function(square, make, samples=1, baseline=b)  # noqa: E731
        mean, found[baseline] = moments(estimates_of(build, points[:, None], jnp.ones(d)), weights)
        np.testing.assert_allclose(mean, 2, rtol=1e-12)
        np.testing.assert_allclose(found[baseline], theory(baseline or 0.0), rtol=1e-12)
    if d == 1:
        assert {b: round(float(v[0])) for b, v in found.items()} == {None: 30, 2.0: 18, 4.0: 14}
    np.testing.assert_allclose(found[None], 4 * d**2 + 14 * d + 12, rtol=1e-12)  # the growth that the docstring states
    np.testing.assert_allclose(found[2.0 * d], 6 * d + 12, rtol=1e-12)
    build = lambda make: reparameterized(square, make, samples=1)  # noqa: E731
    mean, variance = moments(estimates_of(build, points[:, None], jnp.ones(d)), weights)
    np.testing.assert_allclose(mean, 2, rtol=1e-12)
    np.testing.assert_allclose(variance, 4, rtol=1e-12)


def test_the_variance_of_the_leave_one_out_baseline_is_that_of_a_covariance():
    # For n = 2 the estimate is (s_1 - s_2) (f_1 - f_2) / 2, whose variance is (E s^2 (f - Ef)^2 + Var s Var f) / 2.
    points, weights = standard_normal(2)
    build = lambda make: score_function(lambda x: x**2, make, samples=2)  # noqa: E731
    mean, variance = moments(estimates_of(build, points, jnp.array(1.0)), weights)
    assert mean == pytest.approx(2, rel=1e-12)
    assert variance == pytest.approx((22 + 1 * 6) / 2, rel=1e-12)


def test_all_baselines_are_unbiased_except_the_mean_of_all_samples():
    samples, logits, rewards = 3, jnp.array([0.3, -1.0, 0.5]), jnp.array([1.0, 5.0, -2.0])
    exact = jax.grad(lambda logits: jax.nn.softmax(logits) @ rewards)(logits)
    draws = np.array([*itertools.product(range(3), repeat=samples)])
    weights = np.asarray(jax.nn.softmax(logits))[draws].prod(axis=1)
    for baseline, factor in ((None, 1), (2.5, 1), ("leave_one_out", 1), ("mean", (samples - 1) / samples)):

        def estimate(x, baseline=baseline):
            make = fixed(Categorical, x)
            return score_function(lambda i: rewards[i], make, samples=samples, baseline=baseline)(logits, KEY)

        mean, _ = moments(np.asarray(jax.jit(jax.vmap(estimate))(jnp.asarray(draws))), weights)
        np.testing.assert_allclose(mean, factor * exact, rtol=1e-12, atol=1e-14)


def test_with_leave_one_out_the_estimate_is_the_sample_covariance_of_value_and_score():
    x = jnp.asarray(np.random.default_rng(0).normal(0.5, 1.0, 7))
    got = jax.jit(score_function(jnp.sin, fixed(Normal, x), samples=7))(jnp.array(0.5), KEY)
    assert float(got) == pytest.approx(np.cov(np.sin(x), x - 0.5)[0, 1], rel=1e-12)  # numpy divides by n - 1


def test_factors_have_values_and_baselines_of_their_own():
    # Two actions in turn; the reward of the first depends on it alone, that of the second on both. The sum over all
    # pairs of episodes is exact, and the returns to go vary less than the whole return.
    params = {"first": jnp.array([0.2, -0.4]), "second": jnp.array([[0.5, 0.1], [-0.3, 0.8]])}
    first, second = jnp.array([1.0, 3.0]), jnp.array([[0.0, 2.0], [5.0, -1.0]])

    def value(params):
        p, q = jax.nn.softmax(params["first"]), jax.nn.softmax(params["second"])
        return p @ first + p @ (q * second).sum(axis=1)

    def log_prob(params, x):
        chosen = Categorical(params["second"][x[..., 0]])
        return jnp.stack([Categorical(params["first"]).log_prob(x[..., 0]), chosen.log_prob(x[..., 1])], axis=-1)

    to_go = lambda x: jnp.stack([first[x[0]] + second[x[0], x[1]], second[x[0], x[1]]])  # noqa: E731
    episodes = np.array([*itertools.product(range(2), repeat=2)])
    chances = np.exp(np.asarray(log_prob(params, jnp.asarray(episodes))).sum(axis=1))
    draws = jnp.asarray([*itertools.product(episodes, repeat=2)])
    weights = np.array([*itertools.product(chances, repeat=2)]).prod(axis=1)
    exact, spread = jax.jit(jax.grad(value))(params), []
    for fn in (to_go, lambda x: to_go(x)[0]):

        def estimate(x, fn=fn):
            make = lambda p: types.SimpleNamespace(sample=lambda key, shape: x, log_prob=lambda x: log_prob(p, x))  # noqa: E731
            return score_function(fn, make, samples=2)(params, KEY)

        got = jax.jit(jax.vmap(estimate))(draws)
        found = {name: moments(np.asarray(leaf), weights) for name, leaf in got.items()}
        for name, (mean, _) in found.items():
            np.testing.assert_allclose(mean, exact[name], rtol=1e-12, atol=1e-14)
        spread.append(sum(variance.sum() for _, variance in found.values()))
    assert spread[0] < 0.9 * spread[1]


def test_estimates_have_the_tree_of_the_parameters_under_jit_and_vmap():
    params = {"mean": jnp.array([1.0, -1.0], jnp.float32), "scale": (jnp.array(2.0, jnp.float32),)}
    make = lambda p: Normal(p["mean"], p["scale"][0])  # noqa: E731
    for build in (score_function, reparameterized):
        estimate = build(lambda x: jnp.sum(x**2), make, samples=4, with_value=True)

        @jax.jit
        def run(params, keys, make=make, estimate=estimate):
            drawn = make(params).sample(keys[1], (4,))
            return drawn, *estimate(params, keys[1]), jax.vmap(estimate, (None, 0))(params, keys)[1]

        drawn, value, gradient, many = run(params, jax.random.split(KEY, 3))
        assert jax.tree.structure(gradient) == jax.tree.structure(params)
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradient))
        assert float(value) == pytest.approx(float(jnp.sum(drawn**2, axis=1).mean()), rel=1e-6)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-5), many, gradient)


@pytest.mark.thorough
def test_the_distributions_are_those_of_scipy():
    normal = Normal(jnp.array([0.5, -2.0]), jnp.array([0.3, 4.0]))
    x = np.array([[0.1, 1.0], [-3.0, -2.5]])
    np.testing.assert_allclose(normal.log_prob(x), scipy.stats.norm([0.5, -2], [0.3, 4]).logpdf(x), rtol=1e-12)
    assert normal.sample(KEY).shape == (2,)
    z = (np.asarray(normal.sample(KEY, (4000,))) - [0.5, -2.0]) / [0.3, 4.0]
    assert all(scipy.stats.kstest(z[:, k], "norm").pvalue > 1e-4 for k in range(2))
    logits = np.array([[0.0, 1.0, -1.0], [3.0, 3.0, 4.0]])
    categorical = Categorical(jnp.asarray(logits))
    chances = scipy.special.softmax(logits, axis=1)
    np.testing.assert_allclose(categorical.log_prob(np.array([2, 0])), np.log(chances[[0, 1], [2, 0]]), rtol=1e-12)
    seen = np.asarray(categorical.sample(KEY, (4000,)))
    for row in range(2):
        counts = np.bincount(seen[:, row], minlength=3)
        assert scipy.stats.chisquare(counts, 4000 * chances[row]).pvalue > 1e-4


ONE = jnp.array(1.0)


def run(fn=lambda x: x**2, make=Normal, params=ONE, key=KEY, build=score_function, **more):
    return build(fn, make, **{"samples": 3} | more)(params, key)


BAD = [
    (lambda: run(make=lambda p: 3), "distribution: expected .* with sample and log_prob, got 3, which has no sample"),
    (lambda: run(make=Normal(1.0)), "distribution: expected a function .* got the object itself, a Normal"),
    (lambda: run(make=lambda p: p.foo), "distribution: expected a function of the parameters, got AttributeError"),
    (lambda: run(make=fixed(Normal, jnp.ones(5))), r"distribution: expected sample\(key, \(3,\)\) .* got shape \(5,\)"),
    (lambda: run(fn=lambda x: x / 0), "fn: expected finite values, got -?inf"),
    (lambda: run(fn=lambda x: x / 0, build=reparameterized), "fn: expected finite values, got -?inf"),
    (lambda: run(fn=lambda x: jnp.ones(2)), r"fn: expected one number, or one for each factor .* got shape \(2,\)"),
    (lambda: run(fn=lambda x: jnp.ones(2), build=reparameterized), r"fn: expected .* one number, got shape \(2,\)"),
    (lambda: run(fn=lambda x: x.foo), "fn: expected a function that JAX can trace for one sample, got AttributeError"),
    (lambda: run(fn=lambda x: 1j * x), "fn: expected a function that returns real numbers, got dtype complex"),
    (lambda: run(samples=1), "samples: expected at least 2 for the baseline leave_one_out, got 1"),
    (lambda: run(samples=1, baseline="mean"), "samples: expected at least 2 for the baseline mean, got 1"),
    (lambda: run(baseline="median"), "baseline: expected one of mean, leave_one_out; got 'median'"),
    (lambda: run(params=jnp.array(1)), "params: expected floating-point numbers, got dtype int"),
    (lambda: run(params={"a": "text"}), r"params\['a'\]: expected floating-point numbers, got 'text'"),
    (lambda: run(key=3), "key: expected a random key"),
    (lambda: run(make=Categorical, params=jnp.ones(3), build=reparameterized), "distribution: .* got dtype int"),
    (lambda: Normal(0.0, 0.0), "scale: expected positive numbers, got 0.0"),
    (lambda: Normal(jnp.ones(2), jnp.ones(3)), r"scale: expected a shape that broadcasts .* got shape \(3,\)"),
    (lambda: Categorical(1.0), r"logits: expected at least one category along the last axis, got \(\)"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_a_wrong_argument_of_an_estimator_is_one_line(number):
    call, message = BAD[number]
    with pytest.raises((TypeError, ValueError), match=f"^{message}") as caught:
        call()
    assert "\n" not in str(caught.value)


def test_values_that_are_not_finite_make_the_gradient_nan_under_jit():
    assert np.isnan(jax.jit(lambda p: run(fn=lambda x: x / 0, params=p))(ONE))


def square_mean(mean):
    """E x^2 for x ~ N(mean, 1)."""
    return mean**2 + 1


def checked(estimator, **more):
    return check_gradient(
        square_mean, ONE, gradient=estimator, key=KEY, **{"schemes": "central", "estimates": 2} | more
    )


def test_a_noisy_gradient_is_checked_for_bias():
    # With the mean of all 4 samples as the baseline a quarter of the gradient is missing.
    report = checked(score_function(lambda x: x**2, Normal, samples=4, baseline="mean"), estimates=4096)
    assert not report.ok
    assert report.verdict.startswith("FAIL: x: is biased against central by")
    assert report.rows[0].best_error == pytest.approx(0.25, abs=4 * report.rows[0].standard_error)
    assert "std. error" in str(report)


@pytest.mark.thorough
def test_a_noisy_gradient_passes_or_needs_more_estimates():
    # One estimate has variance 4 / 4, so 4096 of them a standard error of 1/64, which is 1/128 of the gradient, 2.
    sound = checked(reparameterized(lambda x: x**2, Normal, samples=4), estimates=4096)
    assert sound.ok
    assert sound.verdict.startswith("PASS: the largest bias is")
    assert sound.rows[0].standard_error == pytest.approx(1 / 128, rel=0.1)
    few = checked(score_function(lambda x: x**2, Normal, samples=4, baseline="mean"), estimates=16)
    assert few.verdict.startswith("UNDECIDED")
    assert "too few estimates to tell" in few.verdict


@pytest.mark.thorough
def test_an_expectation_that_is_not_known_is_compared_by_common_random_numbers():
    mean_square = lambda x, key: jnp.mean(Normal(x).sample(key, (4,)) ** 2)  # noqa: E731
    options = dict(key=KEY, schemes="central", estimates=1024)
    pathwise = reparameterized(lambda x: x**2, Normal, samples=4)  # draws the same samples, so that all noise cancels
    report = check_gradient(mean_square, ONE, gradient=pathwise, **options)
    assert report.ok, report
    assert report.rows[0].standard_error < 1e-9
    too_long = check_gradient(mean_square, ONE, gradient=lambda x, key: 1.1 * pathwise(x, key), **options)
    assert too_long.verdict.startswith("FAIL: x: is biased against central by 1.")
    biased = score_function(lambda x: x**2, Normal, samples=4, baseline="mean")
    assert check_gradient(mean_square, ONE, gradient=biased, **options).verdict.startswith("FAIL: x: is biased")
    # A share of samples below x has the slope 1, which no quotient with the same random numbers shows.
    share = lambda x, key: jnp.mean((jax.random.uniform(key, (4,)) < x) * 1.0)  # noqa: E731
    for slope in (1.0, 2.0):
        noisy_slope = lambda x, key, slope=slope: slope + 0.1 * jax.random.normal(key)  # noqa: E731
        report = check_gradient(share, jnp.array(0.5), gradient=noisy_slope, **options)
        assert report.verdict.startswith("UNDECIDED")


@pytest.mark.thorough
def test_estimates_without_noise_confirm_a_gradient_and_do_not_refute_one():
    assert checked(lambda x, key: 2 * x).ok
    wrong = checked(lambda x, key: 3 * x)
    assert wrong.verdict.startswith("UNDECIDED")
    assert "all estimates are equal" in wrong.verdict
    assert checked(lambda x, key: x * jnp.nan).verdict.startswith("FAIL: x: the gradient is not finite")


def noisy(x, key, factor=1.0):
    """The gradient of the sum of x["many"]^3 and of x["one"]^2, times 1 plus noise."""
    noise = 1 + 0.1 * jax.random.normal(key)
    return {"many": 3 * noise * x["many"] ** 2, "one": 2 * factor * noise * x["one"]}


TREE = {"many": jnp.linspace(-1, 1, 100), "one": jnp.array(2.0)}


def test_estimates_are_projected_on_the_directions_of_a_check():
    # 100 elements are checked along 3 coordinates and along one direction in which all count. All see the same noise.
    keys = jax.random.split(KEY, 2)
    many, one = average(noisy, TREE, KEY, 64, 4, keys)
    factors = 1 + 0.1 * np.asarray(jax.vmap(jax.random.normal)(jax.random.split(KEY, 64)))
    slopes, spread = 3 * np.asarray(TREE["many"]) ** 2, np.asarray(everywhere(keys[0], (100,), jnp.float64))
    exact = np.append(slopes[np.asarray(directions(100, 4, keys[0]))[:3]], slopes @ spread)
    np.testing.assert_allclose(many.mean, exact * factors.mean(), rtol=1e-6)
    np.testing.assert_allclose(many.error, np.abs(exact) * factors.std(ddof=1) / 8, rtol=1e-6)
    np.testing.assert_allclose(one.mean, [4 * factors.mean()], rtol=1e-6)
    half = one.error * (scipy.stats.t(63).ppf(1 - FALSE_ALARM / 10))  # for five directions, before skewness
    assert (half <= one.half).all()
    assert (one.half < 1.5 * half).all()


@pytest.mark.thorough
def test_a_noisy_gradient_of_a_tree_is_checked():
    fn = lambda x: jnp.sum(x["many"] ** 3) + x["one"] ** 2  # noqa: E731
    options = dict(key=KEY, schemes="central", coordinates=4, estimates=512)
    report = check_gradient(fn, TREE, gradient=noisy, **options)
    assert report.ok, report
    assert [row.directions for row in report.rows] == [4, 1]
    report = check_gradient(fn, TREE, gradient=lambda x, key: noisy(x, key, 1.2), **options)
    assert report.verdict.startswith("FAIL: x['one']: is biased against central by 2.")


def test_a_noisy_gradient_that_is_none_is_refused_in_one_line():
    for gradient, message in (
        (None, "gradient: expected a function, got None"),
        (lambda x: x, "gradient: expected a function of x and a key that JAX can trace, got TypeError"),
        (lambda x, key: jnp.ones(3), r"gradient: expected shape \(\) for x, got \(3,\)"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{message}"):
            checked(gradient)
    with pytest.raises(TypeError, match=r"^key: expected a random key"):
        check_gradient(square_mean, ONE, gradient=lambda x, key: x, key=3)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("case", "most"), [("sound", 2e-3), ("score function", 2e-3), ("rare", 2e-3), ("log-normal", 6e-3)]
)
def test_the_interval_of_a_bias_misses_about_as_rarely_as_it_says(case, most):
    # 5,000 checks of 1,024 estimates. `most` is what was measured over 20,000 (0.1, 0.06, 0 and 0.2%), with room for
    # 4 standard deviations of this count; without regard to skewness the last three would be 0.15, 1.3 and 0.7%.
    estimate, params, exact = {
        "sound": (reparameterized(lambda x: x**2, Normal, samples=1), 1.0, 2.0),
        "score function": (score_function(lambda x: x**2, Normal, samples=4), 1.0, 2.0),
        "rare": (
            score_function(lambda i: (i == 0) * 1.0, lambda x: Categorical(jnp.stack([x, x * 0])), samples=2),
            np.log(0.003 / 0.997),
            0.003 * 0.997,
        ),
        "log-normal": (score_function(jnp.exp, Normal, samples=1, baseline=None), 0.0, np.exp(0.5)),
    }[case]
    draw = jax.jit(lambda key: jax.vmap(lambda key: estimate(jnp.array(params), key))(jax.random.split(key, 50 * 1024)))
    keys = jax.random.split(jax.random.key(1), 100)
    seen = np.concatenate([np.asarray(draw(key)).reshape(50, 1024) for key in keys])
    noise = summarize(seen.T, 1)
    missed = (np.abs(noise.mean - exact) > noise.half) & (noise.error > 0)
    assert missed.mean() <= most


@pytest.mark.oracle
def test_distributions_of_numpyro_serve_too():
    numpyro = pytest.importorskip("numpyro.distributions", reason="the oracle extra is not installed")
    params = {"mean": jnp.ones(3), "scale": jnp.array([1.0, 2.0, 3.0])}
    fn = lambda x: x.sum() ** 2  # noqa: E731
    for build in (score_function, reparameterized):
        ours = build(fn, lambda p: Normal(p["mean"], p["scale"]), samples=8)(params, KEY)
        for make in (
            lambda p: numpyro.Normal(p["mean"], p["scale"]),
            lambda p: numpyro.MultivariateNormal(p["mean"], scale_tril=jnp.diag(p["scale"])),
        ):
            theirs = build(fn, make, samples=8)(params, KEY)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), ours, theirs)


def test_distributions_whose_sample_takes_a_seed_serve_too():
    class Seeded:
        """The signature of distrax and TensorFlow Probability."""

        def __init__(self, mean):
            self.normal = Normal(mean)
            self.log_prob = self.normal.log_prob

        def sample(self, *, seed, sample_shape=()):
            return self.normal.sample(seed, sample_shape)

    assert float(run(make=Seeded)) == float(run())
