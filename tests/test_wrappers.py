"""Wrappers: compared with independent ones, under the contract, and what they refuse."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdlab import optimizers as o
from gdlab.optimizers import WRAPPERS, check_contract, evaluation_params, transformation
from gdlab.strategies import STRATEGIES
from tests.oracles import wrapped
from tests.oracles.wrong_wrappers import WRONG

NUMPY = [case for case in wrapped.CASES if wrapped.kind_of(case) == "numpy"]
PLACES = [(case, problem) for case, entry in wrapped.CASES.items() for problem in entry.problems]


def require_agreement(case, ours, theirs):
    assert np.abs(theirs - theirs[0]).max() > 1e-3, case  # something moved
    seen = wrapped.deviation(ours, theirs)
    assert seen < wrapped.CASES[case].tolerance, f"{case}: {seen:.1e}"


# A small problem for the default run, on a matrix that is not square and a vector: each coordinate has a quartic.
FIRST = [np.array([[0.7, -1.3], [0.4, 0.9], [-2.0, 0.1]]), np.array([1.1, -0.6])]
STEPS = 8


def problem_of(case):
    """Return the loss and its gradient: steep enough that heavy ball turns within a few steps, but flat for rate 1."""
    steepness = 1.0 if wrapped.CASES[case].base == "sgd" else 300.0

    def value(params):
        return steepness * sum((0.5 * (x - 0.3) ** 2 + 0.05 * x**4).sum() for x in params)

    def slope(params):
        return [steepness * (x - 0.3 + 0.2 * x**3) for x in params]

    return value, slope


def test_a_few_steps_equal_those_of_references_in_numpy():
    # One loop for all, because each would compile for half a second.
    cases = {wrapped.CASES[case].wrapper: case for case in reversed(NUMPY) if not case.endswith("-all")}
    assert set(cases) == set(WRAPPERS) - {"noisy"}
    optimizers = {case: optax.with_extra_args_support(wrapped.optimizer_of(case)) for case in cases.values()}

    def step(carry, _):
        after = {}
        for case, (x, state) in carry.items():
            value, slope = problem_of(case)
            passed = {"value": value(x), "value_fn": value, "grad_fn": slope}
            updates, state = optimizers[case].update(slope(x), state, x, **passed)
            after[case] = (optax.apply_updates(x, updates), state)
        return after, {
            case: evaluation_params(s, x) if wrapped.CASES[case].average else x for case, (x, s) in after.items()
        }

    start = [jnp.asarray(x) for x in FIRST]
    begin = {case: (start, one.init(start)) for case, one in optimizers.items()}
    for case, ours in jax.jit(lambda: jax.lax.scan(step, begin, length=STEPS)[1])().items():
        value, slope = problem_of(case)
        theirs = wrapped.reference(case, FIRST, slope, STEPS, value)
        for leaf, points in enumerate(ours):
            np.testing.assert_allclose(points, [point[leaf] for point in theirs[1:]], rtol=1e-11, err_msg=case)


@pytest.mark.thorough
@pytest.mark.parametrize(("case", "problem"), [one for one in PLACES if wrapped.kind_of(one[0]) != "torch"])
def test_trajectories_equal_those_of_references_in_numpy_and_of_optax(case, problem):
    require_agreement(case, wrapped.ours(case, problem), wrapped.theirs(case, problem))


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("case", "problem"), [one for one in PLACES if wrapped.kind_of(one[0]) == "torch"])
def test_trajectories_equal_those_of_torch(case, problem):
    pytest.importorskip("torch", reason="the oracle extra is not installed")
    require_agreement(case, wrapped.ours(case, problem), wrapped.theirs(case, problem))


def test_every_wrapper_is_compared_with_its_defaults_and_with_every_number_changed():
    for name, wrapper in WRAPPERS.items():
        cases = [case for case in wrapped.CASES.values() if case.wrapper == name]
        # Rates are lowered where the problems require it; Polyak's least value depends on the problem.
        assert any(set(case.ours) <= {"learning_rate", "rest", "f_min"} for case in cases), name
        changed = set().union(*(case.ours for case in cases)) | {"base"}
        assert set(inspect.signature(wrapper).parameters) - changed <= (
            {"excluded"} if name == "partitioned" else set()
        )


# Five bases: no state, momentum, Adam with decay, one that sees leaves as wholes, one that sees matrices.
BASES = {
    "sgd": lambda rate: o.sgd(rate),
    "momentum": lambda rate: o.momentum(rate, momentum=0.9),
    "adamw": lambda rate: o.adamw(rate, weight_decay=0.1),
    "lamb": lambda rate: o.lamb(rate),
    "muon": lambda rate: o.muon(rate),
}
# What a wrapper needs besides its base, and values at which its numbers have an effect in a short run.
MORE = {
    "lookahead": {"sync_period": 3.0},
    "ema": {"decay": 0.9, "start_step": 2.0, "blend": 0.7},
    "ema_nesterov": {"decay": 0.9, "start_step": 3.0},
    "every_k": {"k": 3.0},
}
STATIC = {"select", "excluded", "min_ndim", "seed", "ns_steps", "max_backtracking_steps", "rest"}


def gradient_at(params):
    """The gradient elsewhere, of any tree of parameters."""
    return jax.tree.map(lambda x: 0.4 * (x - 0.2), params)


def value_at(params):
    """The loss elsewhere, which falls along the gradients of `gradient_at`."""
    return sum((jnp.sum(0.2 * (x - 0.2) ** 2) for x in jax.tree.leaves(params)), jnp.zeros([]))


def factory_of(name, base):
    """Return a factory of a wrapper around a base whose `update` also receives what the drivers pass."""
    wrapper = WRAPPERS[name]
    own = [each for key, each in inspect.signature(wrapper).parameters.items() if key not in ("base", "learning_rate")]

    def factory(learning_rate=0.05, **numbers):
        more = {"rest": o.adam(learning_rate)} if name == "partitioned" else {}
        optimizer = wrapper(BASES[base](learning_rate), **numbers, **more)

        def update(g, state, params=None):
            passed = {"value_fn": value_at, "grad_fn": gradient_at, "grad": g, "value": value_at(params)}
            return optimizer.update(g, state, params, **passed)

        return optax.GradientTransformation(optimizer.init, update)

    shown = [inspect.Parameter("learning_rate", inspect.Parameter.KEYWORD_ONLY, default=0.05)]
    shown += [each.replace(kind=each.KEYWORD_ONLY) for each in own if each.name != "rest"]
    factory.__signature__ = inspect.Signature(shown)
    factory.__name__ = f"{name}_{base}"
    return transformation(factory)


# Each wrapper with one of the bases in turn, and with a base that sees leaves as wholes, which compiles long, those
# wrappers that hold back or divide its steps.
WHOLES = ("lamb", "muon")
PLAIN = itertools.cycle(base for base in BASES if base not in WHOLES)
PAIRS = [*zip(WRAPPERS, PLAIN, strict=False), ("lookahead", "lamb"), ("schedule_free", "muon")]
PAIRS += [("every_k", "muon"), ("partitioned", "lamb")]


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "base"), PAIRS)
def test_every_wrapper_keeps_the_contract(name, base):
    skip = ("order of leaves",) if name == "noisy" else ()
    if name == "backtracking":  # a while loop, which has no reverse derivative, as in optax
        skip = ("derivatives are finite", "zeros give no NaN")
    report = check_contract(factory_of(name, base), MORE.get(name), skip=skip)
    assert report.ok, str(report)
    flags = {n for n, p in inspect.signature(WRAPPERS[name]).parameters.items() if isinstance(p.default, bool)}
    assert set(report.static) <= STATIC | flags


@pytest.mark.thorough
def test_the_contract_holds_for_wrappers_of_wrappers():
    def stacked(learning_rate=0.05, rho=0.1, k=3.0, decay=0.9):
        inner = o.cautious(o.grokfast(o.adam(learning_rate)))
        optimizer = o.ema(o.sam(o.every_k(o.lookahead(inner, sync_period=2), k=k), rho=rho), decay=decay)
        return optax.GradientTransformation(
            optimizer.init, lambda g, state, params=None: optimizer.update(g, state, params, grad_fn=gradient_at)
        )

    report = check_contract(transformation(stacked))
    assert report.ok, str(report)


PARAMS = {"layer": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}, "head": jnp.ones((2, 4))}


def shapes(optimizer, **passed):
    """Trace an init and an update, which computes nothing."""

    def both(params):
        return optimizer.update(params, optimizer.init(params), params, **passed)[0]

    return jax.eval_shape(both, PARAMS)


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("bad", [3, None, "adam", o.adam, STRATEGIES["nelder_mead"]()])
def test_what_is_no_optimizer_is_refused(name, bad):
    with pytest.raises(TypeError, match=r"^base: expected an (optax transformation|optimizer that uses the gradient)"):
        WRAPPERS[name](bad)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: o.sam(o.sgd()), "grad_fn: expected the gradient as a function of the parameters .* got None"),
        (lambda: o.asam(o.sgd()), "grad_fn: expected the gradient as a function of the parameters .* got None"),
        (lambda: o.backtracking(o.sgd()), "value: expected the loss at the parameters .* got None"),
        (lambda: o.polyak(o.sgd()), "value: expected the loss at the parameters .* got None"),
        (lambda: o.partitioned(o.sgd()), "rest: expected an optimizer for .* 'layer/bias', got None"),
        (
            lambda: o.partitioned(o.sgd(), None, excluded=["head"]),
            "rest: expected an optimizer for .* 'head', got None",
        ),
        (
            lambda: o.partitioned(o.sgd(), o.sgd(), excluded=["embed*"]),
            r"excluded: expected patterns .* among head, layer/bias, layer/kernel, got 'embed\*', which matches none",
        ),
        (
            lambda: o.partitioned(o.sgd(), o.sgd(), select=lambda name, leaf: leaf.ndim),
            "select: expected a function that returns True or False, got",
        ),
        (lambda: o.lookahead(o.asgd()), "base: expected an optimizer that keeps no average .* got one with ASGDState"),
        (lambda: o.schedule_free(o.ema(o.sgd())), "base: expected an optimizer that keeps no average .* EmaState"),
        (
            lambda: o.ema_nesterov(o.lookahead(o.sgd())),
            "base: expected an optimizer that keeps no average .* Lookahead",
        ),
    ],
)
def test_what_a_wrapper_lacks_is_one_line(build, message):
    with pytest.raises((ValueError, TypeError), match=f"^{message}") as caught:
        shapes(build())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrapper", "count"),
    [
        (o.orthogonalized, "ns_steps"),
        (o.backtracking, "max_backtracking_steps"),
        (o.centralize, "min_ndim"),
        (o.noisy, "seed"),
    ],
)
def test_a_traced_count_is_refused(wrapper, count):
    with pytest.raises(TypeError, match=rf"^{count}: expected a Python integer .* got a traced value"):
        jax.eval_shape(lambda number: wrapper(o.sgd(), **{count: number}) and number, jnp.int32(3))


def test_wrappers_pass_on_what_the_base_asks_for():
    seen = []

    def update(g, state, params=None, *, grad_fn, value_fn):
        seen.append((jax.tree.structure(grad_fn(params)), jax.tree.structure(params), value_fn(params).shape))
        return g, state

    asking = optax.GradientTransformationExtraArgs(lambda params: (), update)
    passed = {"value": jnp.ones(()), "grad_fn": gradient_at, "value_fn": value_at}
    for name, wrapper in WRAPPERS.items():
        seen.clear()
        more = {"rest": o.sgd()} if name == "partitioned" else {}
        moved = shapes(wrapper(asking, **more), **passed)
        assert seen, name
        assert all(slope == params and shape == () for slope, params, shape in seen), name
        assert jax.tree.structure(moved) == jax.tree.structure(PARAMS)
    assert seen[0][1] == jax.tree.structure(PARAMS)


def test_partitioned_divides_by_name_and_shape():
    rest = o.sgd(0.1)
    for excluded, expected in (((), {"layer/kernel", "head"}), (("he?d",), {"layer/kernel"}), (("layer",), {"head"})):
        state = jax.eval_shape(o.partitioned(o.momentum(0.1), rest, excluded=excluded).init, PARAMS)
        paths = jax.tree_util.tree_leaves_with_path(state.inner)
        found = {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths}
        assert {name for name in ("layer/kernel", "layer/bias", "head") if any(name in f for f in found)} == expected


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["ema", "lookahead", "ema_nesterov"])
def test_averages_of_16_bit_parameters_do_not_stand_still(name):
    numbers = {"ema": {"decay": 0.999}, "lookahead": {"alpha": 0.01}, "ema_nesterov": {"decay": 0.999}}[name]

    def ends(dtype):
        optimizer = WRAPPERS[name](o.sgd(0.01), **numbers)
        x = jnp.ones(3, dtype)

        def step(carry, _):
            x, state = carry
            updates, state = optimizer.update(jnp.ones(3, dtype), state, x)
            return (optax.apply_updates(x, updates), state), None

        x, state = jax.lax.scan(step, (x, optimizer.init(x)), length=50)[0]
        return state[0], evaluation_params(state, x)

    (mean, shown), (exact, _) = jax.jit(lambda: ends(jnp.bfloat16))(), jax.jit(lambda: ends(jnp.float32))()
    assert mean.dtype == jnp.float32
    assert shown.dtype == jnp.bfloat16
    # The points themselves are rounded to three digits; an average of them in 16 bits would not have left its start.
    np.testing.assert_allclose(mean, exact, rtol=0.2 if name == "ema_nesterov" else 0.02)
    start = 0.0 if name == "ema_nesterov" else 1.0
    assert jnp.abs(mean - start).min() > 4e-4


@pytest.mark.parametrize("name", WRONG)
def test_wrong_published_implementations_would_be_noticed(name):
    """They differ from the right ones by far more than the tolerance of the comparison above, on the same problem."""
    entry = wrapped.CASES[name]
    value, slope = problem_of(name)
    right = wrapped.reference(name, FIRST, slope, STEPS, value)
    for mutant in WRONG[name]:
        planted = mutant([*FIRST], slope, STEPS, wrapped.THEIRS[entry.base](), **entry.theirs)
        apart = max(np.abs(a - b).max() for p, q in zip(planted, right, strict=True) for a, b in zip(p, q, strict=True))
        assert apart > 1e-7, f"{name}: {mutant}"
