"""Diagnostic problems: known solutions, gradients, what cannot solve them and what does, and maps of optimizers."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from gdlab import check_gradient, given
from gdlab.diagnostics import FAMILIES, LEVELS, PROBLEMS, map_optimizer, run_problem
from gdlab.diagnostics.maps import choose_settings
from gdlab.diagnostics.problem import rotation, spectrum
from gdlab.diagnostics.run import begin_instance, take_steps
from gdlab.optimizers import OPTIMIZERS, adam, asgd, sgd
from tests.selection import some_of
from tests.test_experiments import load

SEEDS = np.arange(64)
KEY = jax.random.key(0)


def factors(data):
    return {side: data[side] * jnp.sqrt(data["values"]) for side in ("left", "right")}


def layers(data):
    return {f"layer_{n}": data["matrix"] if n == 1 else jnp.eye(4) for n in range(1, 7)}


AT_SOLUTION = {
    "saddle": lambda data: data["center"] + data["basis"].T @ (jnp.zeros(16).at[-1].set(math.sqrt(0.2))),
    "monkey_saddle": lambda data: data["center"] - jnp.tile(jnp.array([0.75, 0.0]), 8),
    "saddle_approached": lambda data: jnp.concatenate([jnp.full(8, 2.0), jnp.full(8, 0.5)]),
    **dict.fromkeys(("low_rank_factorization", "small_initialization"), factors),
    "orthogonality": lambda data: {"kernel": rotation(jax.random.key(3), 8)[:, :6]},
    **dict.fromkeys(("deep_linear", "unbalanced_layers"), layers),
    "zipf_classes": lambda data: {"kernel": 100 * jnp.eye(16)},
}
"""A solution of each kind of problem whose data do not name one, derived by hand."""

FITTED = {
    *(name for name in PROBLEMS if PROBLEMS[name].family in ("network", "sequence")),
    *("matrix_completion", "class_imbalance", "growing_weights", "feature_sizes"),
    *("moving_solution", "jumping_solution"),
}
"""Problems whose solutions are sets of weights that nobody writes down, or places that move."""


def instance(problem, level=0, seed=0):
    """The start and the data of an instance."""
    params, data, _ = begin_instance(problem, problem.levels[level], jax.random.key(seed))
    return params, data


def test_there_are_sixty_problems_in_fifteen_families():
    assert len(PROBLEMS) >= 60
    assert len(FAMILIES) == len(set(FAMILIES)) == 15
    assert {problem.family for problem in PROBLEMS.values()} == set(FAMILIES)
    for problem in PROBLEMS.values():
        assert problem.measures.endswith("?")
        assert len(problem.levels) == len(set(problem.levels)) == len(LEVELS)
        assert list(problem.levels) in (sorted(problem.levels), sorted(problem.levels, reverse=True))
        assert set(problem.references) <= set(OPTIMIZERS)


SOME = ("delayed_gradients", "low_rank_factorization", "attention")
EVERY = some_of(PROBLEMS, SOME)


@pytest.mark.parametrize("name", EVERY)
def test_all_functions_can_be_traced_with_a_level(name):
    problem = PROBLEMS[name]

    def every(level, step):
        params, data, noise = begin_instance(problem, level, jax.random.key(0))
        memory = problem.recall(params, data) if problem.recall else None
        if problem.remember:
            memory = problem.remember(memory, params, noise, step)
        sampled = problem.sampled(params, data, memory, noise, step) if problem.sampled else jnp.zeros(())
        return sampled, problem.loss(params, data, step), problem.error(params, data, step)

    with jax.enable_x64(False):  # as in a map
        shapes = jax.eval_shape(every, jnp.float32(1), jnp.int32(3))
    assert [one.shape for one in shapes] == [()] * 3
    assert [one.dtype for one in shapes] == [np.float32] * 3


@pytest.mark.thorough
def test_a_vanishing_rate_solves_nothing_and_rounding_is_no_progress():
    problem = PROBLEMS["quadratic_aligned"]._replace(steps=20)
    ds = map_optimizer(sgd, {"learning_rate": [0.0, 1e-20]}, problems={"bowl": problem}, progress=False)
    np.testing.assert_allclose(ds.error, 1.0, rtol=1e-6)
    assert not ds.solved.any()
    assert (ds.arrived == -1).all()
    assert float(ds.share.max()) == 0.0


def test_a_setting_is_chosen_by_its_share_and_then_by_its_error():
    errors = np.array([[[[0.5, 0.01], [0.04, 0.04], [0.03, 0.04], [0.06, 1e-9]]]])
    assert choose_settings(errors < 0.05, errors) == 2
    assert choose_settings(np.zeros((1, 1, 3, 2), bool), errors[:, :, :3]) == 2
    assert choose_settings(errors < 0.02, errors) == 3  # one seed of two, as with the second, and the smaller error


def test_a_run_that_passes_the_solution_or_is_lost_has_not_solved_it():
    bowl = PROBLEMS["quadratic_aligned"]._replace(
        begin=lambda key, level: (jnp.ones(2), {"target": jnp.zeros(2)}),
        loss=lambda x, data, step: jnp.sum(x**2) / 2,
        error=lambda x, data, step: jnp.sum(jnp.abs(x)),
        steps=20,
    )
    there = run_problem(bowl, sgd(1.0), 1.0)
    assert (float(there.error), int(there.arrived)) == (0.0, 1)
    back = optax.stateless(lambda g, x: jax.tree.map(lambda leaf: jnp.where(jnp.sum(leaf) == 0, 1.0, -leaf), x))
    passing = run_problem(bowl, back, 1.0)  # to the solution and away again, every other step
    assert int(passing.arrived) == 1
    assert float(passing.error) == 0.5
    lost = run_problem(bowl, sgd(1e30), 1.0)
    assert float(lost.error) == math.inf


@pytest.mark.thorough
def test_the_average_of_an_averaging_optimizer_is_judged():
    swings = PROBLEMS["quadratic_aligned"]._replace(
        begin=lambda key, level: (jnp.ones(1), {}),
        loss=lambda x, data, step: jnp.sum(x**2) / 2,
        error=lambda x, data, step: jnp.sum(jnp.abs(x)),
        steps=40,
    )
    assert float(run_problem(swings, sgd(2.0), 1.0).error) == 1.0  # it jumps between 1 and -1
    assert float(run_problem(swings, asgd(2.0, lambd=0.0, t0=0.0), 1.0).error) < 0.1


def test_spectra_and_rotations():
    np.testing.assert_allclose(spectrum(3, 100.0), [1.0, 0.1, 0.01], rtol=1e-6)
    basis = rotation(KEY, 5)
    np.testing.assert_allclose(basis @ basis.T, np.eye(5), atol=1e-6)


def test_what_is_no_problem_or_no_setting_is_refused():
    bowl = PROBLEMS["quadratic_aligned"]
    with pytest.raises(ValueError, match=r"^problems\['a'\]\.levels: expected 4 numbers"):
        map_optimizer(sgd, problems={"a": bowl._replace(levels=(1.0,))})
    with pytest.raises(ValueError, match=r"^hyperparameters: expected arguments of .*, got 'rate'"):
        map_optimizer(sgd, {"rate": [0.1]})
    with pytest.raises(TypeError, match=r"^factory: expected a function"):
        map_optimizer(sgd(0.1))


@pytest.mark.thorough
@pytest.mark.parametrize("name", PROBLEMS)
def test_a_start_is_no_solution_and_gradients_are_right(name):
    problem = PROBLEMS[name]

    @jax.jit
    def errors(level, steps):
        params, data, _ = jax.vmap(lambda seed: begin_instance(problem, level, jax.random.key(seed)))(SEEDS)
        return jax.lax.map(lambda step: jax.vmap(lambda p, d: problem.error(p, d, step))(params, data), steps)

    for level in problem.levels:
        starts, *judged = errors(level, np.array([0, *np.linspace(0.9, 1, 5) * problem.steps], int))
        # Staying at the start solves nothing, wherever the solution has moved by the last tenth of the steps.
        assert (np.mean(judged, 0) > problem.goal * starts).all(), level
        # The bound is a part of the instance's own start; no start is below the bound of a typical one either, except
        # where a teacher may be nearly silent.
        if name != "teacher_and_student":
            assert float(starts.min()) > problem.goal * float(jnp.median(starts)), level
        assert float(starts.min()) > 0
        assert np.isfinite(starts).all()
    params, data = instance(problem, level=1, seed=1)
    if problem.family != "quantization":  # there, derivatives pass straight through what is rounded
        wide = jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, (params, data))
        assert check_gradient(lambda x: problem.loss(x, wide[1], 0), wide[0], rtol=1e-5).ok


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in PROBLEMS if name not in FITTED])
def test_the_error_vanishes_at_the_solution_and_so_does_the_slope(name):
    problem = PROBLEMS[name]
    params, data = instance(problem, level=1)
    solution = AT_SOLUTION[name](data) if name in AT_SOLUTION else data["target"]
    solution = jax.tree.map(lambda x, like: x.astype(like.dtype), solution, params)
    assert float(problem.error(solution, data, 0)) < 1e-4 * float(problem.error(params, data, 0))
    if problem.family != "discontinuity" and name != "sharp_ridge":
        slopes = optax.tree.norm(jax.grad(problem.loss)(solution, data, 0))
        assert float(slopes) < 1e-3 * float(optax.tree.norm(jax.grad(problem.loss)(params, data, 0)))


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_a_reference_solves_it_at_every_level(name):
    problem = PROBLEMS[name]
    best = np.zeros(len(LEVELS))
    for reference in problem.references:
        factory = given(OPTIMIZERS[reference], weight_decay=0.0)
        found = map_optimizer(factory, problems={name: problem}, judged_seeds=16)
        best = np.maximum(best, found.share.values[0])
        if best.min() >= 0.5:
            break
    assert best.min() >= 0.5, best


@pytest.mark.thorough
def test_gradient_descent_on_the_noisy_quadratic_model_has_the_error_of_its_closed_form():
    # Zhang et al. 2019: s <- (1 - rate h)^2 s + rate^2 h / batch, for the second moment of each coordinate.
    problem = PROBLEMS["noisy_quadratic_model"]
    rate, batch = 0.3, 4.0
    runs = jax.jit(jax.vmap(lambda seed: run(problem, sgd(rate), batch, seed).error ** 2))(np.arange(512))
    curvatures = 1 / np.arange(1, 17)
    moments, judged = np.ones(16), []
    for step in range(problem.steps):
        moments = (1 - rate * curvatures) ** 2 * moments + rate**2 * curvatures / batch
        judged += [moments.mean()] * (step >= problem.steps * 9 // 10)
    # The mean distance over the tail is squared here, so its fluctuation is missing, which is small in 16 dimensions.
    assert float(runs.mean()) == pytest.approx(np.mean(judged), rel=0.05)


def run(problem, optimizer, level, seed):
    return take_steps(problem, optimizer, *begin_instance(problem, level, jax.random.key(seed)))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "level", "limit"),
    [
        ("delayed_gradients", 4.0, 2 * math.sin(math.pi / (4 * 4 + 2))),  # the largest curvature is 1
        ("curl", 5.0, 2 / (1 + 5.0**2)),  # |1 - rate (1 + 5i)| = 1
        ("quadratic_rotated", 100.0, 2.0),
    ],
)
def test_gradient_descent_is_stable_up_to_the_rate_that_theory_says(name, level, limit):
    below, above = (run(PROBLEMS[name], sgd(factor * limit), level, 0).error for factor in (0.93, 1.1))
    assert float(below) < 0.2
    assert float(above) > 1e3


@pytest.mark.thorough
def test_the_mean_of_sampled_gradients_is_the_gradient():
    for problem in PROBLEMS.values():
        if problem.sampled is None or problem.recall is not None:
            continue
        if problem.family in ("game", "sequence", "discontinuity") or problem.name in (
            "heavy_tailed_noise",
            "periodic_push",
        ):
            continue  # no loss belongs to it, its loss is that of other examples, or its noise has no variance
        params, data = instance(problem)
        draws = jax.jit(jax.vmap(lambda key, p=problem, x=params, d=data: jax.grad(p.sampled)(x, d, None, key, 0)))
        found = draws(jax.random.split(jax.random.key(1), 20_000))
        error = np.abs(found.mean(0) - jax.grad(problem.loss)(params, data, 0))
        assert (error <= 5 * np.asarray(found).std(0) / math.sqrt(20_000) + 1e-5).all(), problem.name


def flipped(learning_rate=1e-3):
    """Adam with the sign of its update flipped in the first leaf of a tree of several."""
    inner = adam(learning_rate)

    def update(gradients, state, params=None):
        updates, state = inner.update(gradients, state, params)
        leaves, structure = jax.tree.flatten(updates)
        return jax.tree.unflatten(structure, [-leaves[0], *leaves[1:]] if len(leaves) > 1 else leaves), state

    return optax.GradientTransformation(inner.init, update)


@pytest.mark.thorough
def test_planted_faults_are_told_apart_from_adam():
    some = {name: PROBLEMS[name] for name in ("layer_scales", "low_rank_factorization", "quadratic_aligned", "cigar")}
    right, wrong = map_optimizer(adam, problems=some), map_optimizer(flipped, problems=some)
    faults = (right.share - wrong.share).mean("level")
    assert float(faults.sel(problem="layer_scales")) >= 0.75
    assert float(abs(faults.sel(problem=["quadratic_aligned", "cigar"])).max()) == 0.0  # one leaf: nothing is flipped
    again = map_optimizer(adam, problems=some)
    np.testing.assert_array_equal(again.error, right.error)


@pytest.mark.thorough
def test_the_experiment_draws_a_map_and_continues_from_kept_ones(tmp_path, capsys):
    experiment = load("diagnostics_map")
    settings = {
        "optimizers": ("sgd", "adam", "signum"),
        "problems": ("quadratic_aligned", "curl", "outliers"),
        "trials": 8,
        "judged_seeds": 2,
        "maps": tmp_path / "maps",
    }
    experiment.main(experiment.Config(out=tmp_path / "first", **settings))
    printed = capsys.readouterr().out
    assert "solves most" in printed
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "maps").rglob("*.json")}
    assert len(kept) == 9
    experiment.main(experiment.Config(out=tmp_path / "second", **settings))
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "maps").rglob("*.json")}
    first, second = ((tmp_path / name / "results.json").read_text() for name in ("first", "second"))
    assert first == second
    records = {one["optimizer"]: one for one in json.loads(first)}
    assert sum(records["sgd"]["shares"]["curl"]) > sum(records["signum"]["shares"]["curl"])
    for one in records.values():
        assert one["score_low"] <= one["score"] <= one["score_high"]
    with Image.open(tmp_path / "first" / "map.png") as image:
        assert min(image.size) > 200
