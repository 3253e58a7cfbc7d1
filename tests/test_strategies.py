"""Strategies: Nelder and Mead against SciPy, evosax's methods by derived properties and cmaes, budgets, wrong use."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

from gdlab import FUNCTIONS, OPTIMIZERS, descend, optimizers, strategies, sweep, train
from gdlab.strategies import STRATEGIES, nelder_mead, open_es, simulated_annealing
from gdlab.sweeps import count_evaluations, evaluations_in, steps_within, sweep_scipy, tune_and_judge_within
from gdlab.tasks import digits_mlp

quiet = functools.partial(sweep, progress=False)
rosenbrock = FUNCTIONS["rosenbrock"]
EVOLUTION = [name for name in STRATEGIES if name != "nelder_mead"]


def starts_in(half_width, count, dim=2, seed=0):
    return np.random.default_rng(seed).uniform(-half_width, half_width, (count, dim))


def ellipsoid(x):
    return jnp.sum(jnp.logspace(0, 3, x.size) * x**2)


def best_so_far(fn, points):
    values = [float(fn(point)) for point in points]
    return np.array(points)[[int(np.argmin(values[: k + 1])) for k in range(len(values))]]


def scipy_path(fn, start, evaluations, adaptive):
    """The best point so far after each of SciPy's evaluations."""
    seen, compiled = [], jax.jit(fn)

    def recorded(x):
        seen.append(x.copy())
        return float(compiled(x))

    options = {"maxfev": evaluations, "xatol": 0.0, "fatol": 0.0, "adaptive": adaptive}
    scipy.optimize.minimize(recorded, start, method="Nelder-Mead", options=options)
    return best_so_far(compiled, seen)


# Nelder and Mead -----------------------------------------------------------------------------------------------------


def test_nelder_mead_evaluates_what_scipy_evaluates():
    start = np.array([0.0, -1.2, 1.0])
    expected = scipy_path(rosenbrock.fn, start, 250, False)
    assert len(expected) == 250
    run = jax.jit(lambda x: descend(rosenbrock.fn, nelder_mead(), x, max_steps=249))
    np.testing.assert_allclose(run(start).path, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.thorough
@pytest.mark.parametrize("dim", [1, 2, 3, 8])
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("name", ["rosenbrock", "plateaus", "shrinking"])
def test_nelder_mead_evaluates_what_scipy_evaluates_everywhere(dim, adaptive, name):
    fn = {
        "rosenbrock": lambda x: jnp.sum((x - 1) ** 4 + jnp.abs(x)) if dim == 1 else rosenbrock.fn(x),
        "plateaus": lambda x: jnp.floor(jnp.sum(x**2)),  # values are equal, so the order of vertices decides
        "shrinking": lambda x: jnp.sum(jnp.abs(jnp.sin(37 * x)) + x**2 / 9),  # no contraction helps
    }[name]
    start = starts_in(2.0, 1, dim, seed=dim)[0]
    expected = scipy_path(fn, start, 200, adaptive)
    run = jax.jit(lambda x: descend(fn, nelder_mead(adaptive=adaptive), x, max_steps=len(expected) - 1))
    np.testing.assert_allclose(run(start).path, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.thorough
def test_a_sweep_counts_the_evaluations_that_scipy_counts():
    starts = starts_in(2.0, 4)
    options = {"target": 0.1, "stop_at_target": True}
    ours = quiet({"valley": rosenbrock}, {"nelder_mead": nelder_mead}, {}, starts, max_steps=299, **options)
    ours = count_evaluations(ours, {"nelder_mead": nelder_mead})
    theirs = sweep_scipy({"valley": rosenbrock}, ["nelder_mead"], starts, budget=300, **options)
    assert ours.reached.all()
    for name, array in theirs.data_vars.items():
        assert ours[name].dims == array.dims
        np.testing.assert_allclose(ours[name], array, rtol=1e-9, err_msg=name)
    np.testing.assert_array_equal(theirs.evaluations, 1 + theirs.steps)


def test_functions_without_a_gradient():
    def halvings(x):  # a loop of unknown length has no reverse derivative
        left, count = jax.lax.while_loop(lambda c: c[0] > 0.1, lambda c: (c[0] / 2, c[1] + 1.0), (jnp.sum(x**2), 0.0))

        return left * 2**count

    with pytest.raises(ValueError, match="fn: expected a function that JAX can trace for its gradient"):
        quiet(halvings, OPTIMIZERS["sgd"], {}, np.ones((1, 2)), max_steps=2)
    found = quiet(halvings, nelder_mead, {"edge": [0.5]}, starts_in(9.0, 8), max_steps=200)
    assert not found.diverged.any()
    assert (found.value < 1e-9).all()  # the sum of squares again


# What holds for all --------------------------------------------------------------------------------------------------


def scaled_paths(factory, fn, rounds):
    """The paths on fn, 8 fn (the same order of values, exactly) and from another seed, from one start."""

    def run(scale, seed):
        strategy = factory() if factory is nelder_mead else factory(seed=seed)
        return descend(lambda x: scale * fn(x), strategy, jnp.array([2.0, -1.5, 0.5]), max_steps=rounds)

    return jax.jit(jax.vmap(run))(jnp.array([1.0, 8.0, 1.0]), jnp.array([3.0, 3.0, 4.0]))


@pytest.mark.thorough
@pytest.mark.parametrize("name", STRATEGIES)
def test_strategies_see_only_the_order_of_values(name):
    found = scaled_paths(STRATEGIES[name], ellipsoid, 60)
    assert (np.diff(found.value, axis=1) <= 1e-9).all()  # the point is the best so far
    assert (found.value[:, -1] < 0.5 * found.value[:, 0]).all()
    assert not found.diverged.any()
    if name != "simulated_annealing":  # its temperature is in the function's units
        np.testing.assert_array_equal(found.path[0], found.path[1])
    if name != "nelder_mead":
        assert not np.array_equal(found.path[0], found.path[2])  # another seed


def test_hot_annealing_is_a_random_walk():
    # Every step is accepted at an infinite temperature, so coordinates have the variance rounds * std^2.
    hot = functools.partial(simulated_annealing, temperature=1e30, cooling=1.0, std_decay=1.0, std=0.3)
    starts = starts_in(0.1, 2000)

    def walk(start):
        optimizer = hot()

        def step(carry, _):
            x, state = carry
            move, state = optimizer.update(None, state, x, value_fn=ellipsoid)
            return (x + move, state), None

        (_, state), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=20)
        return state.inner.mean - start

    moved = np.asarray(jax.jit(jax.vmap(walk))(starts))
    # 4000 normal numbers: the variance's relative standard error is sqrt(2 / 4000) = 2.2%.
    assert moved.var() == pytest.approx(20 * 0.3**2, rel=0.09)
    assert abs(moved.mean()) < 4 * np.sqrt(20 * 0.09 / 4000)


@pytest.mark.thorough
def test_lanes_do_not_depend_on_each_other():
    starts = starts_in(2.0, 40).astype(np.float32)
    run = functools.partial(quiet, ellipsoid, simulated_annealing, max_steps=30)
    both = run({"seed": [0, 1], "std": [0.1, 0.5]}, starts)
    back = run({"seed": [1, 0], "std": [0.5, 0.1]}, starts[::-1], chunk=7).isel(seed=[1, 0], std=[1, 0])
    np.testing.assert_array_equal(both.point, back.point[..., ::-1, :])
    assert (both.point[0] != both.point[1]).any()


@pytest.mark.thorough
def test_members_of_differential_evolution_never_get_worse_and_change_one_coordinate():
    optimizer = strategies.differential_evolution(crossover_rate=0.0, population=12)
    x = jnp.array([1.0, 2.0, -1.0])
    state = optimizer.init(x)
    update = jax.jit(functools.partial(optimizer.update, value_fn=ellipsoid))
    move, state = update(None, state, x)
    for _ in range(20):
        before, x = state.inner, x + move
        move, state = update(None, state, x)
        changed = state.inner.population != before.population
        assert (state.inner.fitness <= before.fitness).all()
        assert (changed.sum(axis=1) <= 1).all()
        assert (changed.any(axis=1) <= (state.inner.fitness <= before.fitness)).all()


@pytest.mark.thorough
def test_failed_values_count_as_infinite():
    def holed(x):
        return jnp.where(jnp.sin(50 * x[0]) > 0.5, jnp.nan, jnp.sum(x**2))

    starts = starts_in(2.0, 40)
    starts = starts[np.sin(50 * starts[:, 0]) <= 0.5]
    for name, factory in STRATEGIES.items():
        found = quiet(holed, factory, {}, starts, max_steps=60)
        assert not found.diverged.any(), name
        assert (found.value < (starts**2).sum(axis=1)).mean() > 0.9, name


@pytest.mark.thorough
def test_a_network_is_trained_without_gradients():
    found = train(digits_mlp(hidden=(4,), train_size=64, test_size=8), simulated_annealing(std=0.1), epochs=8)
    losses = found.history["train_loss"]
    assert losses[-1] < losses[0]


@pytest.mark.oracle
@pytest.mark.parametrize(("dim", "std"), [(5, 1.0), (10, 0.5)])
def test_cma_es_needs_as_many_evaluations_as_cmaes(dim, std):
    cmaes = pytest.importorskip("cmaes", reason="the oracle extra is not installed")
    seeds, rounds, target = 50, 900, 1e-8
    scale, start = np.logspace(0, 3, dim), np.full(dim, 1.0)
    theirs = []
    for seed in range(seeds):
        optimizer = cmaes.CMA(mean=start, sigma=std, seed=seed)
        count = 0
        while True:
            points = [optimizer.ask() for _ in range(optimizer.population_size)]
            values = [float((scale * x**2).sum()) for x in points]
            count += len(points)
            if min(values) < target or count > 1e5:
                break
            optimizer.tell(list(zip(points, values, strict=True)))
        theirs.append(count)

    def run(seed):
        return descend(ellipsoid, strategies.cma_es(std=std, seed=seed), jnp.asarray(start), max_steps=rounds).value

    values = np.asarray(jax.jit(jax.vmap(run))(jnp.arange(seeds)))
    assert (values[:, -1] < target).all()
    first = (values < target).argmax(axis=1)
    ours = evaluations_in(first, strategies.cma_es(), dim)
    assert strategies.cma_es().evaluations(dim) == optimizer.population_size
    assert np.median(ours) == pytest.approx(np.median(theirs), rel=0.2)


# Budgets -------------------------------------------------------------------------------------------------------------


def test_a_budget_pays_for_gradients_or_populations():
    adam, es = OPTIMIZERS["adam"](), open_es(population=16)
    assert steps_within(100, adam, 2) == 33
    assert steps_within(100, adam, 2, gradient_cost=5) == 20
    assert steps_within(100, es, 2) == 6  # 1 + 6 * 16 = 97
    np.testing.assert_array_equal(evaluations_in([0, 6], es, 2), [1, 97])
    around = optimizers.lookahead(optimizers.sam(optimizers.momentum(0.1)))
    for two_gradients in (around, optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.05), opaque_mode=True)):
        assert steps_within(100, two_gradients, 2) == 16  # 16 * 2 * 3 = 96
    for_one_tree = optax.multi_transform({"all": optax.sgd(0.1)}, {"w": "all"})  # it takes no vector
    assert steps_within(100, for_one_tree, 2) == 33
    np.testing.assert_array_equal(evaluations_in([0, 6], adam, 2), [0, 18])
    assert strategies.cma_es().evaluations(10) == 10  # 4 + floor(3 ln 10)
    assert strategies.differential_evolution().evaluations(5) == 50
    assert steps_within(17, es, 2) == 1
    with pytest.raises(ValueError, match="budget: expected at least 17 evaluations, for the start and one population"):
        steps_within(16, es, 2)
    with pytest.raises(ValueError, match="budget: expected at least 3 evaluations, for one gradient, got 2"):
        steps_within(2, adam, 2)


def test_optimizers_and_strategies_race_within_a_budget():
    factories = {"momentum": OPTIMIZERS["momentum"], "simplex": nelder_mead}
    settings = {"momentum": [{"learning_rate": r} for r in (1e-6, 3e-4)], "simplex": [{"edge": e} for e in (0.3, 1e-5)]}
    starts = starts_in(1.5, 6)
    race = tune_and_judge_within(
        301, {"valley": rosenbrock}, factories, settings, starts, starts + 0.1, target=0.3, progress=False
    )
    judged = race.judged.isel(trial=0, function=0)
    assert judged.learning_rate.sel(optimizer="momentum") == 3e-4
    assert judged.edge.sel(optimizer="simplex") == 0.3
    assert np.isnan(judged.edge.sel(optimizer="momentum"))
    np.testing.assert_array_equal(judged.evaluations.sel(optimizer="momentum"), 300)
    np.testing.assert_array_equal(judged.evaluations.sel(optimizer="simplex"), 301)
    np.testing.assert_array_equal(judged.rounds, judged.steps)
    first = judged.first_reached.sel(optimizer="momentum")
    np.testing.assert_array_equal(
        judged.evaluations_to_target.sel(optimizer="momentum"), np.where(first < 0, np.inf, 3.0 * first)
    )
    first = judged.first_reached.sel(optimizer="simplex")
    assert (first > 0).any()
    np.testing.assert_array_equal(
        judged.evaluations_to_target.sel(optimizer="simplex"), np.where(first < 0, np.inf, 1.0 + first)
    )
    assert race.tuning.attrs["budget"] == 301
    with pytest.raises(ValueError, match="budget: expected at least 17"):
        tune_and_judge_within(
            16, rosenbrock, {"open_es": open_es}, {"open_es": [{"std": 0.1}]}, starts, starts, progress=False
        )
    with pytest.raises(ValueError, match="hyperparameters: expected equally many settings for all, got"):
        tune_and_judge_within(
            99, rosenbrock, factories, settings | {"simplex": settings["simplex"][:1]}, starts, starts
        )


@pytest.mark.thorough
def test_scipys_methods_arrive_and_keep_their_budget():
    found = sweep_scipy(
        FUNCTIONS["booth"], ["nelder_mead", "differential_evolution", "dual_annealing"], starts_in(9.0, 6), budget=1500
    )
    assert found.reached.all()
    assert (found.evaluations <= 1500).all()
    assert (found.evaluations_to_target <= found.evaluations).all()
    again = sweep_scipy(FUNCTIONS["booth"], ["differential_evolution"], starts_in(9.0, 6), budget=1500)
    np.testing.assert_array_equal(again.point, found.point.sel(optimizer=["differential_evolution"]))


# Wrong use -----------------------------------------------------------------------------------------------------------


def test_wrong_use_is_one_line(monkeypatch):
    starts = np.ones((2, 2))
    with pytest.raises(ValueError, match=r"tolerance: expected None for a strategy, .*, got 0.1"):
        quiet(rosenbrock, nelder_mead, {}, starts, max_steps=2, tolerance=0.1)
    with pytest.raises(ValueError, match="tolerance: expected None for a strategy"):
        descend(rosenbrock.fn, nelder_mead(), starts[0], max_steps=2, tolerance=0.1)
    with pytest.raises(ValueError, match="population: expected an even number, since points come in pairs, got 15"):
        open_es(population=15)
    with pytest.raises(TypeError, match="'population' of cma_es shapes the program and cannot be traced"):
        quiet(rosenbrock, strategies.cma_es, {"population": [8, 16]}, starts, max_steps=2)
    with pytest.raises(ValueError, match=r"hyperparameters: seed: expected a whole number .* got 0.5, for simple_ga"):
        quiet(rosenbrock, strategies.simple_ga, {"seed": [0.5]}, starts, max_steps=2)
    with pytest.raises(ValueError, match="value_fn: expected the function, which nelder_mead evaluates itself, got"):
        nelder_mead().update(None, nelder_mead().init(starts[0]), starts[0])
    with pytest.raises(TypeError, match="params: expected floating-point leaves, got dtype int"):
        nelder_mead().init(np.ones(2, int))
    with pytest.raises(ValueError, match="starts: expected points in the box"):
        sweep_scipy(rosenbrock, ["dual_annealing"], 9 * starts, budget=10)
    with pytest.raises(ValueError, match="lower, upper: expected the corners of the box to search, got None"):
        sweep_scipy(ellipsoid, ["dual_annealing"], starts, budget=10)
    monkeypatch.setitem(sys.modules, "evosax", None)
    for name in EVOLUTION:
        with pytest.raises(
            ImportError, match=r"^strategy: expected .* evosax, got none .* pip install 'gdlab\[evosax\]'"
        ):
            STRATEGIES[name]()
    with pytest.raises(ImportError, match=r"pip install 'gdlab\[evosax\]'"):
        quiet(rosenbrock, strategies.simple_ga, {}, starts, max_steps=2)


def test_a_strategy_that_cannot_be_traced():
    def host_only():
        def begin(x):
            return jnp.zeros(())

        def take_round(state, x, fn, value_of_start):
            return (x if float(fn(x)) > 0 else -x), state

        return strategies.strategy.make_strategy("host_only", lambda dim: 1, begin, take_round)

    with pytest.raises(TypeError, match="host_only") as caught:
        quiet(rosenbrock, host_only, {}, np.ones((2, 2)), max_steps=2)
    assert "\n" not in str(caught.value)
    assert "trace" in str(caught.value)
