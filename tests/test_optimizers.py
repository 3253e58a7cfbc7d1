import inspect
import itertools
from collections.abc import Callable
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdlab import descend
from gdlab import optimizers as o
from gdlab.compute.programs import equations
from gdlab.optimizers import OPTIMIZERS, evaluation_params, scale_by_adam, stable_dtypes, transformation
from gdlab.optimizers.contract.compilation import quick_jit
from gdlab.optimizers.protocol import with_any_arguments
from tests.oracles import problems, trajectories
from tests.selection import some_of

EVERY = some_of(OPTIMIZERS, trajectories.QUICK)

PLACES = [(case, problem) for case, entry in trajectories.CASES.items() for problem in entry.problems]
PACKAGES = [(case, problem) for case, problem in PLACES if trajectories.package_of(case) not in trajectories.INSTALLED]
REFERENCES = [place for place in PLACES if place not in PACKAGES]


def quick(places):
    """Select the cases of the default run, those at default values and those of QUICK; the others are thorough.

    Each is compared on one problem, the network where possible.
    """
    found = []
    for case, problem in places:
        entry = trajectories.CASES[case]
        kept = entry.optimizer in trajectories.QUICK or (case == entry.optimizer and case not in trajectories.SLOW)
        one = "mlp" if "mlp" in entry.problems else entry.problems[0]
        found.append(pytest.param(case, problem, marks=() if kept and problem == one else pytest.mark.thorough))
    return found


def require_agreement(case, ours, theirs):
    assert np.abs(theirs - theirs[0]).max() > 1e-4  # the optimizer did something
    assert trajectories.deviation(ours, theirs) < trajectories.CASES[case].tolerance


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_has_two_cases_or_more(name):
    cases = [case for case, entry in trajectories.CASES.items() if entry.optimizer == name]
    assert len(cases) > 1, f"{name}: add cases to CASES in tests/oracles/trajectories.py, see .github/CONTRIBUTING.md"
    with np.load(trajectories.STORED) as stored:
        lost = {case for case, _ in PACKAGES if case in cases and not any(key.startswith(f"{case}/") for key in stored)}
    assert not lost, f"{lost}: run python -m tests.oracles.trajectories, which stores the oracles' trajectories"


@pytest.mark.parametrize(("case", "problem"), quick(PACKAGES))
def test_trajectories_equal_stored_ones(case, problem):
    with np.load(trajectories.STORED) as stored:
        theirs = stored[f"{case}/{problem}"]
    require_agreement(case, trajectories.ours(case, problem)[:: trajectories.EVERY], theirs)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("case", "problem"), PACKAGES)
def test_trajectories_equal_live_ones(case, problem):
    pytest.importorskip("torch", reason="the oracle extra is not installed")
    pytest.importorskip(trajectories.package_of(case), reason="the oracle extra is not installed")
    require_agreement(case, trajectories.ours(case, problem), trajectories.theirs(case, problem))


@pytest.mark.parametrize(("case", "problem"), quick(REFERENCES))
def test_trajectories_equal_references_in_numpy(case, problem):
    require_agreement(case, trajectories.ours(case, problem), trajectories.theirs(case, problem))


@pytest.mark.parametrize("problem", [*problems.PROBLEMS, problems.LAYERS, problems.LOGISTIC])
def test_the_references_gradients_are_those_of_the_loss(problem):
    fn = problems.loss(problem, jnp, [jnp.asarray(a) for a in problems.data(problem)])
    theirs = jax.grad(fn)([jnp.asarray(p) for p in problems.start(problem)])
    ours = problems.gradient(problem)(problems.start(problem))
    np.testing.assert_allclose(problems.flat(ours), problems.flat(theirs), rtol=1e-12)


def test_every_optimizer_is_compared_with_its_defaults_and_with_every_number_changed():
    for name, factory in OPTIMIZERS.items():
        cases = [case for case in trajectories.CASES.values() if case.optimizer == name]
        # Rates are lowered where the problems require it; SOAP's eps is raised, since a tiny one amplifies rounding.
        assert any(set(case.ours) <= {"learning_rate", "total_steps", "eps"} for case in cases), name
        changed = set().union(*(case.ours for case in cases))
        assert set(inspect.signature(factory).parameters) - changed <= NOT_IN_ORACLES.get(name, set()), (
            f"{name}: change every argument in a case of tests/oracles/trajectories.py, or list it in NOT_IN_ORACLES"
        )


NOT_IN_ORACLES = {
    "radam": {"threshold"},
    "shampoo": {"update_interval", "max_dim"},
    "soap": {"max_dim"},
    "splus": {"max_dim"},
    "sophia": {"seed"},
    "ssbroyden": {"max_search_steps"},
    "gauss_newton": {"residual_fn"},
    **{name: {"bfloat16"} for name in ("muon", "moonlight", "normuon", "adamuon", "muonh", "soap_muon")},
    "scion": {"bfloat16", "norm"},
    "psgd_kron": {"max_dim"},
    "sgd": set(),
}
"""Arguments that no oracle has; each has a test of its own below."""


# Values that have an effect within a few steps, for arguments where half the default has none.
TELLING = {
    "asgd": {"t0": 3.0, "alpha": 5.0, "lambd": 0.5},
    "rprop": {"eta_plus": 1.5, "min_step_size": 0.5, "max_step_size": 0.01},
    "radam": {"threshold": 7.0},
    "demon_sgdm": {"total_steps": 20.0},
    "demon_adam": {"total_steps": 20.0},
    "shampoo": {"update_interval": 3.0, "max_dim": 1},
    "soap": {"shampoo_beta": 0.5, "precondition_frequency": 3.0, "max_dim": 1, "eps": 1e-2},
    "sophia": {"update_interval": 3.0, "eps": 0.1},
    "lion": {"b1": 0.99},
    "schedule_free_sgd": {"warmup_steps": 5.0},
    "schedule_free_adamw": {"warmup_steps": 5.0},
    "yellowfin": {"clip_factor": 0.1, "max_move": 1e-5, "window": 3},
    "lars": {"eps": 0.5},
    "adopt": {"eps": 0.9},
    "adafactor": {"beta2_decay": -0.4, "eps1": 0.5, "eps2": 3.0, "clip_threshold": 0.1},
    "adabelief": {"eps": 1e-3},
    "rmsprop": {"momentum": 0.5},
    "prodigy": {"b3": 0.5},
    "muon": {"ns_steps": 3, "eps": 0.1, "coefficients": "polar_express"},
    "adam_mini": {"blocks": "tensor"},
    "mars": {"form": "lion"},
    "lbfgs": {"memory": 2},
    "ssbroyden": {"formula": "bfgs"},
    "newton_cg": {"forcing": 0.5, "max_iterations": 1},
    "galore": {"rank": 2, "update_interval": 3.0, "eps": 0.1},
    "apollo": {"rank": 2, "update_interval": 3.0, "growth_limit": 1.5, "eps": 0.1},
    "moonlight": {"ns_steps": 3, "eps": 0.1, "coefficients": "polar_express"},
    "normuon": {"ns_steps": 3, "eps": 0.1, "coefficients": "polar_express", "norm_eps": 0.1},
    "adamuon": {"ns_steps": 3, "eps": 0.1, "coefficients": "polar_express", "moment_eps": 0.1},
    "scion": {"ns_steps": 3, "eps": 0.1, "coefficients": "polar_express", "norm": "sign", "vector_eps": 0.1},
    "muonh": {"ns_steps": 3, "eps": 0.1, "coefficients": "polar_express", "norm_eps": 9.0},
    "adamh": {"eps": 0.1, "norm_eps": 9.0},
    "psgd_kron": {"update_interval": 3.0, "max_dim": 2, "damping": 0.1, "seed": 1},
    "soap_muon": {"ns_steps": 3, "eps": 1e5, "coefficients": "polar_express", "moment_eps": 0.1},
    "kl_soap": {"precondition_frequency": 3.0, "cap": 1.0, "eps": 0.1},
    "dion": {"rank": 1, "eps": 0.1},
    "splus": {"update_interval": 2.0, "eps": 5.0, "max_dim": 1, "average_decay": 0.5},
}
# Optimizers some of whose arguments have no effect unless `update` receives the loss.
SEARCHES = ("lbfgs", "ssbroyden", "newton_cg")
# Values for arguments without a default, or without which another argument would have no effect.
BASE = {
    "demon_sgdm": {"total_steps": 40.0},
    "demon_adam": {"total_steps": 40.0},
    "sophia": {"gamma": 20.0},
    "dadapt_adam": {"weight_decay": 0.1},
    "prodigy": {"learning_rate": 0.5},
    "schedule_free_sgd": {"warmup_steps": 3.0},
    "schedule_free_adamw": {"warmup_steps": 3.0},
    "splus": {"update_interval": 3.0},
    "newton_cg": {"forcing": 0.01},
    "gauss_newton": {"residual_fn": lambda x: [jnp.sin(leaf) + leaf / 5 for leaf in jax.tree.leaves(x)]},
    "adamuon": {"momentum": 0.8},
}


def few_steps(optimizer, steps=12, searches=False):
    """Return the points of a few steps on a bowl, and those to evaluate at; gradients shrink, then change sign.

    An optimizer that searches receives the loss as well.
    """

    def with_loss(scale):
        return {"value_fn": lambda x: scale * sum(jnp.sum(v**2 / 2 + v**4 / 20) for v in jax.tree.leaves(x))}

    x = {"w": jnp.array([[0.7, -1.3, 0.2], [0.4, 0.9, -2.0]]), "b": jnp.array([1.1, -0.6])}
    optimizer = with_any_arguments(optimizer)
    scales = jnp.concatenate([jnp.linspace(1.0, 0.2, steps - 3), jnp.array([-1.0, -0.5, 3.0])])

    def step(carry, scale):
        x, state = carry
        gradient = jax.tree.map(lambda leaf: scale * (leaf + leaf**3 / 5), x)
        updates, state = optimizer.update(gradient, state, x, **(with_loss(scale) if searches else {}))
        x = optax.apply_updates(x, updates)
        return (x, state), jnp.concatenate([jnp.ravel(p) for p in jax.tree.leaves((x, evaluation_params(state, x)))])

    return jax.lax.scan(step, (x, optimizer.init(x)), scales)[1]


@pytest.mark.parametrize("name", EVERY)
def test_no_argument_is_ignored(name):
    factory = OPTIMIZERS[name]
    fixed = {argument: value for argument, value in BASE.get(name, {}).items() if callable(value)}
    walk = partial(few_steps, searches=name in SEARCHES)
    numbers, others = {}, []
    for argument, parameter in inspect.signature(factory).parameters.items():
        default = BASE.get(name, {}).get(argument, parameter.default)
        if argument in ("seed", "residual_fn", "max_search_steps"):
            continue  # without effect where no randomness is used, or a search succeeds at once; tested elsewhere
        if isinstance(default, bool):
            others.append({argument: not default})
        elif default is None or parameter.annotation in (int, str):
            assert argument in TELLING.get(name, {}), f"{name}: give {argument} another value in TELLING"
            others.append({argument: TELLING[name][argument]})
        else:
            half = tuple(beta / 2 for beta in default) if isinstance(default, tuple) else default / 2 or 0.1
            numbers[argument] = (default, TELLING.get(name, {}).get(argument, half))

    # Lane k changes the k-th number; the last lane changes none.
    lanes = {
        argument: jnp.array([changed if argument == own else default for own in (*numbers, None)], float)
        for argument, (default, changed) in numbers.items()
    }
    points = quick_jit(jax.vmap(lambda values: walk(factory(**values, **fixed))))(lanes)
    plain = points[-1]
    assert jnp.isfinite(points).all()
    for argument, changed in zip(numbers, points, strict=False):
        assert jnp.abs(changed - plain).max() > 1e-14, f"{name}: {argument} changes nothing"
    for arguments in others:
        changed = quick_jit(lambda arguments=arguments: walk(factory(**BASE.get(name, {}), **arguments)))()
        assert jnp.abs(changed - plain).max() > 1e-14, f"{name}: {arguments} changes nothing"


def test_stable_dtypes_keeps_the_dtypes():
    bare = optax.chain(optax.trace(jnp.float32(0.9)), optax.scale_by_learning_rate(0.1))
    x = jnp.ones(2, jnp.bfloat16)
    updates, state = bare.update(x, bare.init(x), x)
    assert jax.tree.leaves(state)[0].dtype == jnp.float32  # without it the state widens
    updates, state = stable_dtypes(bare).update(x, stable_dtypes(bare).init(x), x)
    assert jax.tree.leaves(state)[0].dtype == updates.dtype == jnp.bfloat16


# Their state depends on earlier rates, or their average still moves, so a rate of 0 does not stop them.
RATES_IN_STATE = {"sutskever_nesterov", "demon_sgdm", "madgrad", "lars", "dadapt_adam", "rprop"}
RATES_IN_STATE |= {"schedule_free_sgd", "schedule_free_adamw"}


@pytest.mark.parametrize(
    "name", some_of([name for name in OPTIMIZERS if name not in RATES_IN_STATE], trajectories.QUICK)
)
def test_learning_rate_may_be_a_schedule(name):
    # With a schedule that is 0 except at step 2, only the third update moves anything.
    optimizer = OPTIMIZERS[name](
        **(BASE.get(name, {}) | {"learning_rate": lambda count: jnp.where(count == 2, 0.5, 0.0)})
    )
    x = jnp.array([1.0, -2.0])
    gradient = jnp.array([0.3, 0.4])

    @jax.jit
    def four(x):
        state = optimizer.init(x)
        moved = []
        for _ in range(4):
            updates, state = optimizer.update(gradient, state, x)
            moved.append(jnp.any(updates != 0))
        return moved

    assert [bool(m) for m in four(x)] == [False, False, True, False]


def test_first_steps_follow_from_the_equations():
    x, g = jnp.array([2.0]), jnp.array([0.5])

    def first(name, **arguments):
        optimizer = OPTIMIZERS[name](**arguments)
        return float(optimizer.update(g, optimizer.init(x), x)[0][0])

    assert first("sgd", learning_rate=0.1, weight_decay=0.25) == pytest.approx(-0.1 * (0.5 + 0.25 * 2), rel=1e-14)
    assert first("momentum", learning_rate=0.1, dampening=0.5) == pytest.approx(-0.05, rel=1e-14)  # v = g, undampened
    assert first("nesterov", learning_rate=0.1, momentum=0.9) == pytest.approx(-0.1 * 0.5 * 1.9, rel=1e-14)
    # Adam's first step is learning_rate g / (|g| + eps); AdamW's adds learning_rate weight_decay x.
    assert first("adam", learning_rate=0.1, eps=0.5) == pytest.approx(-0.05, rel=1e-12)
    assert first("adamw", learning_rate=0.1, eps=0.0, weight_decay=0.3) == pytest.approx(-0.1 * (1 + 0.6), rel=1e-12)
    assert first("adamax", learning_rate=0.1, eps=0.5) == pytest.approx(-0.05, rel=1e-12)
    assert first("adagrad", learning_rate=0.1, eps=0.5) == pytest.approx(-0.05, rel=1e-14)
    # v = (1 - 0.75) 0.25, so sqrt(v) = 0.25
    assert first("rmsprop", learning_rate=0.1, decay=0.75, eps=0.0) == pytest.approx(-0.2, rel=1e-14)
    # d = g sqrt(eps) / sqrt((1 - rho) g^2 + eps)
    assert first("adadelta", rho=0.0, eps=0.75) == pytest.approx(-0.5 * np.sqrt(0.75), rel=1e-14)


def test_adams_first_float32_step_is_the_learning_rate():
    with jax.enable_x64(False):
        x = jnp.ones(1, jnp.float32)
        ours = scale_by_adam(eps=0.0)
        assert float(ours.update(x, ours.init(x))[0][0]) == pytest.approx(1.0, abs=1.2e-7)
        theirs = optax.scale_by_adam(eps=0.0)
        assert abs(float(theirs.update(x, theirs.init(x))[0][0]) - 1) > 1e-6  # the reason for our own


def test_centered_rmsprop_survives_a_constant_gradient():
    optimizer = OPTIMIZERS["rmsprop"](centered=True, decay=0.9)
    x = jnp.array([1.0])

    def step(carry, _):
        x, state = carry
        updates, state = optimizer.update(jnp.array([1 / 3]), state, x)
        return (x + updates, state), updates

    _, updates = jax.lax.scan(step, (x, optimizer.init(x)), length=2000)
    assert jnp.isfinite(updates).all()


@pytest.mark.thorough
def test_zero_gradient_moves_nothing_and_can_be_differentiated():
    def last(learning_rate, x, gradient, factory):
        optimizer = factory(learning_rate, weight_decay=0.0)
        updates, state = optimizer.update(gradient, optimizer.init(x), x)
        updates, _ = optimizer.update(gradient, state, x + updates)
        return jnp.sum(updates)

    names = ("sgd", "momentum", "nesterov", "adam", "adamw", "adamax", "adagrad", "adadelta", "rmsprop", "lion", "muon")
    factories = [(name, OPTIMIZERS[name]) for name in (*names, "lamb", "shampoo", "prodigy", "schedule_free_adamw")]
    factories += [("centered", partial(OPTIMIZERS["rmsprop"], centered=True))]
    for name, factory in factories:
        value, slopes = jax.value_and_grad(last, argnums=(0, 1, 2))(0.1, jnp.ones(3), jnp.zeros(3), factory)
        assert value == 0, name
        chex.assert_tree_all_finite(slopes)


def test_adams_hypergradients_are_finite_at_the_edges():
    def final(b1, b2):
        return jnp.sum(few_steps(OPTIMIZERS["adam"](0.1, b1=b1, b2=b2))[-1])

    chex.assert_tree_all_finite(jax.grad(final, argnums=(0, 1))(0.0, 0.0))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_bad_number_passes(name):
    """Every factory refuses a concrete number that is out of range, and the message names the argument."""
    factory, required = OPTIMIZERS[name], BASE.get(name, {})
    for argument, parameter in inspect.signature(factory).parameters.items():
        bad = ["0.1", 1j, float("nan"), float("inf"), np.ones((3, 2))]
        bad += [None] if parameter.default is not None else []
        bad += [2] if isinstance(parameter.default, bool) else [True]
        if argument not in ("beta2_decay",) and not isinstance(parameter.default, bool):
            bad += [-0.5, -1]
        if argument in ("b1", "b2", "b3", "momentum", "beta", "rho", "decay", "adam_b1", "adam_b2", "shampoo_beta"):
            bad += [1.0, np.float64(1.5)]
        for value in bad:
            with pytest.raises((ValueError, TypeError), match=rf"^{argument}\b.*: expected .*[,;] got "):
                factory(**(required | {argument: value}))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("sgd", {"learning_rate": -0.1}, r"learning_rate: expected a number in \[0, inf\), got -0.1"),
        ("adam", {"b1": 1.0}, r"b1: expected a number in \[0, 1\), got 1"),
        ("adam", {"eps": -1e-8}, r"eps: expected a number in \[0, inf\), got -1e-08"),
        ("momentum", {"momentum": float("nan")}, r"momentum: expected a number in \[0, 1\), got nan"),
        ("adagrad", {"lr_decay": -1}, r"lr_decay: expected"),
        ("rmsprop", {"decay": 1.5}, r"decay: expected a number in \[0, 1\), got 1.5"),
        ("adam", {"learning_rate": float("inf")}, "learning_rate: expected a finite number, got inf"),
        ("adam", {"learning_rate": np.ones(3)}, r"learning_rate: expected one number, got an array of shape \(3,\)"),
    ],
)
def test_a_number_out_of_range_is_refused_at_construction(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        OPTIMIZERS[name](**arguments)


@pytest.mark.parametrize("value", ["0.1", True, 1j, [0.1]])
def test_anything_but_a_number_is_refused(value):
    with pytest.raises(TypeError, match="learning_rate: expected a number, got"):
        OPTIMIZERS["adam"](value)


def test_an_unknown_name_raises_an_error_with_the_nearest():
    with pytest.raises(KeyError) as caught:
        OPTIMIZERS["adamx"]
    assert str(caught.value).startswith("no optimizer named 'adamx'; nearest: adamax")


def test_evaluation_params_finds_the_average_wherever_it_lies():
    x = {"a": jnp.array([1.0, 2.0])}
    for optimizer in (
        o.asgd(0.1, t0=0.0),
        optax.chain(optax.clip(10.0), o.asgd(0.1, t0=0.0)),
        o.asgd(lambda count: 0.1, t0=0.0),
        optax.apply_if_finite(o.asgd(0.1, t0=0.0), 3),
    ):
        y, state = x, optimizer.init(x)
        points = []
        for _ in range(4):
            updates, state = optimizer.update({"a": jnp.ones(2)}, state, y)
            y = optax.apply_updates(y, updates)
            points.append(np.array(y["a"]))
        # lambd is 1e-4; from the second step on the average is that of the second point and those after it
        np.testing.assert_allclose(evaluation_params(state, y)["a"], np.mean(points[1:], axis=0), rtol=1e-12)


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - {"asgd", "sutskever_nesterov", "splus"}))
def test_evaluation_params_is_the_identity_for_others(name):
    optimizer = OPTIMIZERS[name](**BASE.get(name, {}))
    x = {"a": jnp.ones(2)}
    same = evaluation_params(jax.eval_shape(optimizer.init, x), x) if "schedule_free" not in name else x
    assert same is x


def test_two_averages_in_one_state_are_refused():
    optimizer = optax.chain(o.asgd(), o.schedule_free_sgd())
    x = jnp.ones(2)
    with pytest.raises(
        ValueError, match="expected at most one average per leaf, got two: ASGDState, ScheduleFreeState"
    ):
        evaluation_params(optimizer.init(x), x)


def test_evaluation_params_under_vmap():
    def last(rate):
        optimizer = o.schedule_free_sgd(rate)
        x = jnp.ones(2)
        updates, state = optimizer.update(x, optimizer.init(x), x)
        return state, x + updates

    states, points = jax.vmap(last)(jnp.array([0.1, 0.2]))
    # After one step the average is the iterate z = x - rate g.
    np.testing.assert_allclose(jax.vmap(evaluation_params)(states, points), [[0.9, 0.9], [0.8, 0.8]], rtol=1e-12)


def test_an_optimizer_without_parameters_says_so():
    optimizer = o.asgd()
    with pytest.raises(ValueError, match="asgd: expected the parameters as update's third argument"):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))


def test_orthogonalize_brings_singular_values_near_one():
    for shape in ((4, 4), (3, 7), (7, 3), (1, 5)):
        matrix = jnp.asarray(np.random.default_rng(1).normal(size=shape))
        u, _, vt = np.linalg.svd(matrix, full_matrices=False)
        result = np.asarray(o.orthogonalize(matrix))
        # The singular vectors are the same, and the values are where the iteration of the quintic leaves them.
        values = np.diag(u.T @ result @ vt.T)
        np.testing.assert_allclose(u @ np.diag(values) @ vt, result, atol=1e-12)
        assert (values > 0.65).all(), values
        assert (values < 1.25).all(), values
    assert jnp.all(o.orthogonalize(jnp.zeros((2, 3))) == 0)


WITH_PRODUCTS = ("muon", "shampoo", "soap")
ALL_WITH_PRODUCTS = {*WITH_PRODUCTS, "splus", "moonlight", "normuon", "adamuon", "scion", "muonh", "psgd_kron"}
ALL_WITH_PRODUCTS |= {"soap_muon", "kl_soap", "dion", "galore", "apollo", "gauss_newton"}


@pytest.mark.parametrize("name", some_of(OPTIMIZERS, WITH_PRODUCTS))
def test_products_of_matrices_ask_for_the_precision_of_their_dtype(name):
    optimizer = optax.with_extra_args_support(OPTIMIZERS[name](**BASE.get(name, {})))
    params = {"matrix": jnp.ones((3, 2))}
    traced = jax.make_jaxpr(optimizer.update)(params, optimizer.init(params), params, value=1.0, grad=params)
    found = {eqn.params["precision"] for eqn in equations(traced.jaxpr) if eqn.primitive.name == "dot_general"}
    assert found == ({(jax.lax.Precision.HIGHEST,) * 2} if name in ALL_WITH_PRODUCTS else set())


def test_hutchinson_is_exact_for_a_diagonal_hessian_and_unbiased_for_any():
    diagonal = jnp.array([3.0, 0.5, 2.0])
    params = {"a": jnp.ones(3), "b": jnp.ones(())}

    def bowl(p):
        return 0.5 * jnp.sum(diagonal * p["a"] ** 2) + 2.0 * p["b"] ** 2

    estimate = o.hutchinson(bowl, params, jax.random.PRNGKey(3))
    np.testing.assert_allclose(estimate["a"], diagonal, rtol=1e-12)
    assert float(estimate["b"]) == pytest.approx(4.0)

    hessian = jnp.array([[2.0, 0.7], [0.7, 1.0]])
    keys = jax.random.split(jax.random.PRNGKey(0), 4000)
    estimates = jax.vmap(lambda key: o.hutchinson(lambda x: 0.5 * x @ hessian @ x, jnp.ones(2), key))(keys)
    np.testing.assert_allclose(estimates.mean(axis=0), [2.0, 1.0], atol=5 * 0.7 / np.sqrt(4000))


def test_sophia_uses_a_given_hessian():
    optimizer = o.scale_by_sophia(b1=0.5, b2=0.0, gamma=1.0, eps=1e-12)
    x, g = jnp.ones(2), jnp.array([0.4, 8.0])
    state = optimizer.init(x)
    scaled, state = optimizer.update(g, state, x, hessian=jnp.array([2.0, 2.0]))
    np.testing.assert_allclose(scaled, [0.1, 1.0], rtol=1e-12)  # m = g / 2; the second is clipped
    scaled, _ = optimizer.update(g, state, x, hessian=jnp.array([100.0, 100.0]))
    np.testing.assert_allclose(scaled, [0.15, 1.0], rtol=1e-12)  # not due before step 11: still 2
    # With a loss it uses Hutchinson's estimate, which is exact here; the seed determines the signs.
    scaled, _ = optimizer.update(g, state._replace(steps=jnp.array(10)), x, value_fn=lambda x: jnp.sum(2 * x**2))
    np.testing.assert_allclose(scaled, [0.3 / 4, 1.0], rtol=1e-12)


def test_a_descent_with_sophia_uses_the_curvature_and_the_seed():
    def coupled(x):
        return x[0] ** 2 + 2 * x[0] * x[1] + 3 * x[1] ** 2

    def last(seed):
        optimizer = o.sophia(0.05, gamma=1.0, weight_decay=0.0, b2=0.5, update_interval=1, seed=seed)
        return descend(coupled, optimizer, jnp.array([0.5, -0.5]), max_steps=200)

    ends = [last(seed) for seed in (0, 1)]
    assert max(float(jnp.linalg.norm(end.point)) for end in ends) < 0.05  # within one step of the signs
    assert float(jnp.abs(ends[0].path - ends[1].path).max()) > 1e-6


def test_radams_threshold_determines_when_the_second_moment_is_used():
    # b2 = 0.9: rho_inf = 19; rho at step t is 19 - 2 t 0.9^t / (1 - 0.9^t).
    g = jnp.array([2.0])
    rho = [19 - 2 * t * 0.9**t / (1 - 0.9**t) for t in range(1, 12)]
    for threshold in (5.0, 6.0, 8.0):
        optimizer = o.scale_by_radam(b1=0.0, b2=0.9, eps=0.0, threshold=threshold)
        state = optimizer.init(g)
        plain = []
        for _ in range(11):
            scaled, state = optimizer.update(g, state)
            plain.append(float(scaled[0]) == pytest.approx(2.0))  # m itself, before then
        assert plain == [r <= threshold for r in rho]


def test_axes_over_max_dim_have_no_preconditioner():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3)))
    # Only the first axis is left: L^(-1/2) G with L = eps I + G G'.
    ours = o.scale_by_shampoo(eps=0.1, max_dim=2)
    scaled, state = ours.update(x, ours.init(x))
    values, vectors = np.linalg.eigh(0.1 * np.eye(2) + x @ x.T)
    np.testing.assert_allclose(scaled, vectors @ np.diag(values**-0.5) @ vectors.T @ x, rtol=1e-10)
    assert [m.shape for m in state.statistics[0]] == [(2, 2), (0, 0)]
    # SOAP with no axis left is Adam that begins one step later.
    soap, adam = o.scale_by_soap(0.9, 0.95, 0.0, max_dim=1), o.scale_by_adam(0.9, 0.95, 0.0)
    state, later = soap.init(x), adam.init(x)
    for step in range(4):
        scaled, state = soap.update(x * (1 + step), state)
        if step == 0:
            assert jnp.all(scaled == 0)
            continue
        expected, later = adam.update(x * (1 + step), later)
        np.testing.assert_allclose(scaled, expected, rtol=1e-10)


def test_shampoo_recomputes_its_roots_only_at_the_interval():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 2)))
    optimizer = o.scale_by_shampoo(update_interval=3)
    state = optimizer.init(x)
    roots = []
    for step in range(7):
        _, state = optimizer.update(x * (1 + step), state)
        roots.append(np.asarray(state.roots[0][0]))
    renewed = [not np.array_equal(a, b) for a, b in itertools.pairwise(roots)]
    assert renewed == [False, False, True, False, False, True]


def test_shampoo_stays_finite_in_float32_where_eps_is_lost_beside_the_gradient():
    with jax.enable_x64(False):
        x = jnp.array([300.0, 400.0], jnp.float32)
        optimizer = o.shampoo(1.0, eps=1e-6)
        state = optimizer.init(x)
        updates = []
        for _ in range(5):
            step, state = optimizer.update(x, state)
            updates.append(step)
        # Full-matrix Adagrad on one direction: after t steps the update is the direction over sqrt(t). The rounding
        # error of the gradient orthogonal to it, 3e-5, is amplified a thousandfold by the floor of 1e-6.
        for t, step in enumerate(updates, 1):
            np.testing.assert_allclose(step, -np.array([0.6, 0.8]) / np.sqrt(t), atol=0.05)


def test_lars_and_lamb_scale_steps_to_the_tensor():
    x, g = {"w": jnp.array([3.0, 4.0])}, {"w": jnp.array([0.0, 2.0])}
    step = o.lars(1.0, trust_coefficient=0.1).update(g, o.lars().init(x), x)[0]["w"]
    np.testing.assert_allclose(step, [0.0, -0.5], rtol=1e-12)  # 0.1 * 5 / 2 * 2
    step = o.lamb(0.1).update(g, o.lamb().init(x), x)[0]["w"]
    np.testing.assert_allclose(step, [0.0, -0.5], rtol=1e-6)  # 0.1 * 5 / 1 * (0, 1)


def test_pieces_chain_with_those_of_optax():
    x = jnp.array([1.0, -2.0])
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        o.scale_by_qhadam(nu1=lambda count: 0.5 + 0.1 * count),
        optax.add_decayed_weights(0.1),
        optax.scale_by_learning_rate(lambda count: 0.1 / (1 + count)),
    )
    updates, state = optimizer.update(jnp.array([30.0, 40.0]), optimizer.init(x), x)
    # The first step of QHAdam is the sign for any nu1; decay and rate follow.
    np.testing.assert_allclose(updates, -0.1 * (np.ones(2) + 0.1 * np.array([1.0, -2.0])), rtol=1e-6)
    assert jax.tree.leaves(state)


@pytest.mark.thorough
def test_wrappers_of_optax_accept_our_optimizers():
    x = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    labels = {"w": "matrix", "b": "vector"}
    for optimizer in (
        optax.partition({"matrix": o.muon(0.1), "vector": o.prodigy()}, labels),
        optax.masked(o.soap(0.1), {"w": True, "b": False}),
        optax.MultiSteps(o.yellowfin(), 2),
        optax.apply_if_finite(o.shampoo(0.1), 2),
        optax.inject_hyperparams(o.adan)(learning_rate=0.1),
    ):
        state = optimizer.init(x)
        for _ in range(3):
            updates, state = optimizer.update(x, state, x)
        chex.assert_trees_all_equal_shapes(updates, x)
        chex.assert_tree_all_finite(updates)


def float32_steps(optimizer, gradients, x):
    """Return the updates of a few steps, all in float32."""
    with jax.enable_x64(False):
        x = jnp.asarray(x, jnp.float32)
        state = optimizer.init(x)
        updates = []
        for g in gradients:
            step, state = optimizer.update(jnp.asarray(g, jnp.float32), state, x)
            updates.append(np.asarray(step, float))
        return np.array(updates)


def test_radam_crosses_its_threshold_in_float32_where_it_does_in_float64():
    # rho_5 = 4.996 at b2 = 0.999: five steps of plain momentum, which is 1 for gradients of 1.
    steps = float32_steps(o.radam(1.0), np.ones((7, 1)), np.zeros(1))[:, 0]
    np.testing.assert_allclose(steps[:5], -1.0, rtol=1e-6)
    # Then sqrt(vhat) = 1, and only the rectification remains: rho_6 = 5.994.
    rho, limit = 1999 - 2 * 6 * 0.999**6 / (1 - 0.999**6), 1999
    r = np.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
    assert steps[5] == pytest.approx(-r, rel=2e-3)


@pytest.mark.thorough
@pytest.mark.parametrize("size", [1.0, 1e4, 1e8])
def test_yellowfin_agrees_in_float32_and_float64_for_gradients_of_any_size(size):
    gradients = size * (1 + 0.1 * np.sin(np.arange(40)))[:, None] * np.array([1.0, -2.0])
    optimizer = o.yellowfin()
    x = jnp.zeros(2)
    state = optimizer.init(x)
    for k, ours in enumerate(float32_steps(optimizer, gradients, np.zeros(2))):
        exact, state = optimizer.update(jnp.asarray(gradients[k]), state, x)
        np.testing.assert_allclose(ours, exact, rtol=0.02)


@pytest.mark.thorough
def test_shampoo_in_bfloat16_follows_float32():
    rng = np.random.default_rng(0)
    near_rank_one = rng.normal(size=(4, 1)) @ rng.normal(size=(1, 4)) + 1e-3 * rng.normal(size=(4, 4))
    sizes = {}
    for dtype in (jnp.bfloat16, jnp.float32):
        x = jnp.zeros((4, 4), dtype)
        optimizer = o.shampoo(1.0)
        state = optimizer.init(x)
        g = jnp.asarray(near_rank_one, jnp.bfloat16).astype(dtype)
        for _ in range(20):
            updates, state = optimizer.update(g, state, x)
        sizes[dtype] = float(jnp.abs(updates).max())
        assert updates.dtype == dtype
    assert sizes[jnp.bfloat16] == pytest.approx(sizes[jnp.float32], rel=0.02)


@pytest.mark.parametrize("name", EVERY)
def test_parameters_and_state_share_no_buffer_so_that_both_can_be_donated(name):
    x = {"w": jnp.ones((3, 2)), "b": jnp.ones(2), "s": jnp.ones(())}
    state = OPTIMIZERS[name](**BASE.get(name, {})).init(x)
    places = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((x, state)) if leaf.size]
    assert len(places) == len(set(places))


def test_16_bit_gradients_of_wider_parameters_lose_no_decay():
    x = jnp.array([1.0, -1.0], jnp.float32)
    for name, expected in (("adamw", -1e-3 * (1 + 0.01 * np.array([1, -1]))), ("sgd", -1e-3 * np.array([0.1, 0.1]))):
        optimizer = OPTIMIZERS[name](1e-3)
        updates, _ = optimizer.update(jnp.full(2, 0.1, jnp.bfloat16), optimizer.init(x), x)
        assert updates.dtype == jnp.float32
        np.testing.assert_allclose(updates, expected, rtol=3e-3 if name == "sgd" else 1e-6)


def test_python_and_traced_numbers_give_the_same_result_in_bfloat16():
    def last(b2):
        optimizer = o.scale_by_adam(b2=b2)
        x = jnp.ones(2, jnp.bfloat16)

        def step(state, g):
            updates, state = optimizer.update(g * x, state)
            return state, updates

        gradients = jnp.where(jnp.arange(300) < 100, 1.0, 0.01).astype(jnp.bfloat16)
        return jax.lax.scan(step, optimizer.init(x), gradients)[1]

    python, traced = jax.jit(lambda: last(0.999))(), jax.jit(last)(jnp.float32(0.999))
    np.testing.assert_array_equal(python.astype(float), traced.astype(float))


def test_integer_gradients_and_complex_parameters():
    x = jnp.array([1.0, 1.0])
    optimizer = o.sgd(0.1)
    updates, _ = optimizer.update(jnp.array([2, -2]), optimizer.init(x), x)
    np.testing.assert_allclose(updates, [-0.2, 0.2], rtol=1e-12)
    with pytest.raises(TypeError, match="params: expected real leaves, got dtype complex128"):
        o.adam().init(jnp.array([1 + 1j]))


def test_huge_gradients_where_the_reference_is_finite():
    huge = np.full((2, 2), 1e30)
    assert np.isfinite(float32_steps(o.qhadam(), huge, np.ones(2))).all()
    np.testing.assert_array_equal(float32_steps(o.scale_by_trust_ratio(), huge, np.ones(2)), 0.0)
    third = np.full((300, 1), 1 / 3)
    assert np.isfinite(float32_steps(o.dadapt_adam(), third[:150], np.zeros(1))).all()


def test_counters_at_their_limit():
    optimizer = o.scale_by_nadam()
    g = jnp.ones(2)
    state = optimizer.init(g)._replace(steps=jnp.array(2**31 - 2, jnp.int32))
    for _ in range(3):
        updates, state = optimizer.update(g, state)
    assert jnp.isfinite(updates).all()


def test_aggmo_takes_arrays_of_momenta_and_refuses_bad_ones():
    for betas in (np.array([0.5, 0.9]), jnp.array([0.5, 0.9]), [0.5, 0.9]):
        updates, _ = o.scale_by_aggmo(betas).update(jnp.ones(2), o.scale_by_aggmo(betas).init(jnp.ones(2)))
        np.testing.assert_array_equal(updates, 1.0)
    for betas in (jnp.array([1.5, 0.9]), np.array([0.5, np.nan])):
        with pytest.raises(ValueError, match=r"betas\[\d\]: expected a number in \[0, 1\), got"):
            o.aggmo(betas=betas)
    with pytest.raises(ValueError, match="betas: expected at least one momentum"):
        o.aggmo(betas=())


PIECES = [getattr(o, name) for name in o.__all__ if name.startswith("scale_by_")]


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.__name__)
def test_pieces_check_their_numbers_too(piece):
    required = {o.scale_by_momentum: {"momentum": 0.9}, o.scale_by_galore: {"base": optax.identity()}}.get(piece, {})
    for argument, parameter in inspect.signature(piece).parameters.items():
        for bad in ("0.1", float("nan"), np.ones(3)):
            with pytest.raises((ValueError, TypeError), match=rf"^{argument}\b.*: expected "):
                piece(**(required | {argument: bad}))
        if not isinstance(parameter.default, bool):
            with pytest.raises((ValueError, TypeError), match=rf"^{argument}\b.*: expected "):
                piece(**(required | {argument: -1.0}))


def test_evaluation_params_of_some_leaves():
    x = {"a": jnp.array([1.0, 2.0]), "b": {"c": jnp.array(3.0), "d": jnp.array([4.0])}}
    g = jax.tree.map(jnp.ones_like, x)

    def after_three(optimizer):
        y, state = x, optimizer.init(x)
        iterates = []
        for _ in range(3):
            updates, state = optimizer.update(g, state, y)
            y = optax.apply_updates(y, updates)
            iterates.append(y)
        return y, evaluation_params(state, y)

    # z falls by the rate at every step; the average of its first three values is its value after two steps.
    masked = optax.masked(o.schedule_free_sgd(0.1), {"a": True, "b": False})
    y, shown = after_three(optax.chain(masked, optax.identity()))
    np.testing.assert_allclose(shown["a"], x["a"] - 0.2, rtol=1e-12)
    assert shown["b"]["c"] is y["b"]["c"]
    labels = {"a": "slow", "b": "fast"}
    for fast, expected in ((o.schedule_free_sgd(0.2), 3.0 - 0.4), (o.sgd(0.1), 3.0 - 0.3)):
        y, shown = after_three(optax.partition({"slow": o.schedule_free_sgd(0.1), "fast": fast}, labels))
        np.testing.assert_allclose(shown["a"], x["a"] - 0.2, rtol=1e-12)
        np.testing.assert_allclose(shown["b"]["c"], expected, rtol=1e-12)
    for factory in (o.asgd, o.sutskever_nesterov):
        y, shown = after_three(optax.masked(factory(0.1), {"a": True, "b": {"c": False, "d": True}}))
        assert jax.tree.structure(shown) == jax.tree.structure(x)
        assert shown["b"]["c"] is y["b"]["c"]


def test_optaxs_schedule_free_is_evaluated_at_its_average_wherever_it_lies():
    x = {"a": jnp.array([1.0, 2.0]), "b": {"c": jnp.array(3.0)}}

    def after_three(optimizer):
        y, state = x, optimizer.init(x)
        for number in range(3):
            updates, state = optimizer.update(jax.tree.map(lambda leaf, n=number: leaf + n, y), state, y)
            y = optax.apply_updates(y, updates)
        return y, state

    build = optax.contrib.schedule_free_sgd
    y, state = after_three(build(0.1))
    expected = optax.contrib.schedule_free_eval_params(state, y)
    assert float(jnp.abs(expected["a"] - y["a"]).max()) > 1e-3
    for optimizer in (
        build(0.1),
        optax.chain(optax.clip(100.0), build(0.1)),
        optax.inject_hyperparams(build)(learning_rate=0.1),
        optax.MultiSteps(build(0.1), 1).gradient_transformation(),
        optax.masked(build(0.1), jax.tree.map(lambda _: True, x)),
        optax.flatten(build(0.1)),
    ):
        y, state = after_three(optimizer)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), evaluation_params(state, y), expected)
    y, state = after_three(optax.masked(build(0.1), {"a": True, "b": {"c": False}}))
    shown = evaluation_params(state, y)
    np.testing.assert_allclose(shown["a"], expected["a"], rtol=1e-6)
    assert shown["b"]["c"] is y["b"]["c"]
    y, state = after_three(o.schedule_free_sgd(0.1))
    flat, flat_state = after_three(optax.flatten(o.schedule_free_sgd(0.1)))
    shown = evaluation_params(flat_state, flat)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), shown, evaluation_params(state, y))
    for bad, answer in (((state, None), "params: .* got None"), (("abc", x), "state: .* got 'abc'")):
        with pytest.raises(TypeError, match=f"^{answer}"):
            evaluation_params(*bad)


def test_a_mask_is_not_taken_for_a_schedule():
    def masked(learning_rate=0.1, weight_decay=0.5, mask=None):
        return optax.adamw(learning_rate, weight_decay=weight_decay, mask=mask)

    def annotated(learning_rate=0.1, weight_decay=0.5, *, which: Callable | dict[str, bool] | None = None):
        return optax.adamw(learning_rate, weight_decay=weight_decay, mask=which)

    def bare(learning_rate=0.1, weight_decay=0.5, which=None):
        return optax.adamw(learning_rate, weight_decay=weight_decay, mask=which)

    def wrapping(learning_rate=0.1, inner=None):
        return optax.chain(inner, optax.scale(learning_rate))

    params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    zeros = jax.tree.map(jnp.zeros_like, params)

    def matrices(tree):
        return jax.tree.map(lambda leaf: leaf.ndim > 1, tree)

    for optimizer in (
        transformation(masked)(mask=matrices),
        transformation(masked)(lambda count: 0.1, mask=matrices),  # beside a schedule
        transformation(annotated)(which=matrices),
        transformation(annotated)(which={"w": True, "b": False}),
    ):
        updates, _ = optimizer.update(zeros, optimizer.init(params), params)
        np.testing.assert_allclose(updates["w"], -0.1 * 0.5 * np.ones((2, 2)))  # -rate * decay * w
        np.testing.assert_allclose(updates["b"], np.zeros(2))
    inner = transformation(wrapping)(inner=optax.sgd(1.0))
    updates, _ = inner.update(params, inner.init(params), params)
    np.testing.assert_allclose(updates["b"], -0.1 * np.ones(2))
    for bad in (matrices, lambda tree: tree["w"], lambda count: "float32", lambda count: None):
        with pytest.raises((TypeError, ValueError), match=r"^which: expected a schedule, .* got ") as caught:
            transformation(bare)(which=bad)
        assert "\n" not in str(caught.value)
    with pytest.raises(TypeError, match=r"^build: expected a function, got 3"):
        transformation(3)
