"""Every optimizer keeps the contract, and the check detects whatever breaks it."""

import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import optax
import pytest

from gdlab.optimizers import OPTIMIZERS, check_contract, transformation
from gdlab.optimizers.protocol import with_any_arguments
from tests.selection import some_of

# Numbers for arguments without a default or with the default None, which vary only if a number is given.
ARGUMENTS = {
    "rmsprop": {"momentum": 0.5},
    "demon_sgdm": {"total_steps": 40.0},
    "demon_adam": {"total_steps": 40.0},
    "adafactor": {"eps1": 1e-3},
    "soap": {"shampoo_beta": 0.9},
    "prodigy": {"b3": 0.9},
    "ssbroyden": {"learning_rate": 0.5},
    "gauss_newton": {"residual_fn": lambda x: [jnp.sin(leaf - 0.2) + leaf / 5 for leaf in jax.tree.leaves(x)]},
    "psgd_kron": {"update_interval": 2.0},
}
# They draw random arrays for each leaf in turn.
SKIPPED = dict.fromkeys(("apollo", "dion", "psgd_kron"), ("order of leaves",))
# Arguments that stay static: a shape, the length of an unrolled loop, a seed, or a choice between programs.
STATIC = {
    "window",
    "ns_steps",
    "max_dim",
    "seed",
    "blocks",
    "coefficients",
    "form",
    "rank",
    "memory",
    "formula",
    "max_iterations",
    "residual_fn",
    "norm",
}


# One of each kind in the default run, the others with -m slow.
QUICK = ("adam",)
EVERY = some_of(OPTIMIZERS, QUICK)


@pytest.mark.parametrize("name", EVERY)
def test_every_optimizer_keeps_the_contract(name):
    factory = OPTIMIZERS[name]
    report = check_contract(factory, ARGUMENTS.get(name), skip=SKIPPED.get(name, ()))
    assert report.ok, str(report)
    flags = {n for n, p in inspect.signature(factory).parameters.items() if isinstance(p.default, bool)}
    assert set(report.static) <= STATIC | flags
    for argument in set(report.static) - flags:
        assert argument in inspect.getdoc(factory), f"{name}: {argument} is static and the docstring does not say so"


def with_a_loss(factory, arguments):
    """Return a factory whose optimizers receive a loss, and its gradient instead of that of the check."""

    def loss(x):
        leaves = jax.tree.leaves(x)
        return sum((jnp.sum(jnp.cosh(leaf - 0.2)) for leaf in leaves), 0.05 * sum(map(jnp.sum, leaves), 0.0) ** 2)

    @functools.wraps(factory)
    def build(**numbers):
        inner = with_any_arguments(factory(**arguments, **numbers))

        def update(g, state, x):
            slope = jax.tree.map(lambda new, old: new.astype(old.dtype), jax.grad(loss)(x), g)
            return inner.update(slope, state, x, value=loss(x), value_fn=loss, grad_fn=jax.grad(loss))

        return optax.GradientTransformation(inner.init, update)

    return build


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "arguments"), [("lbfgs", {}), ("newton_cg", {}), ("ssbroyden", {"formula": "bfgs"})])
def test_optimizers_that_search_keep_the_contract_with_a_loss_too(name, arguments):
    report = check_contract(with_a_loss(OPTIMIZERS[name], arguments))
    assert report.ok, str(report)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("rmsprop", {"centered": True, "momentum": 0.5}),
        pytest.param("amsgrad", {"bias_correction": False}, marks=pytest.mark.thorough),
        pytest.param("demon_adam", {"damped": True, "total_steps": 40.0}, marks=pytest.mark.thorough),
        pytest.param("prodigy", {"bias_correction": True, "safeguard_warmup": True}, marks=pytest.mark.thorough),
        pytest.param("dadapt_adam", {"bias_correction": True, "decoupled": True}, marks=pytest.mark.thorough),
    ],
)
def test_flags_keep_the_contract_too(name, flags):
    report = check_contract(OPTIMIZERS[name], flags)
    assert report.ok, str(report)


def branches(learning_rate=0.1):
    return optax.identity() if learning_rate == 0 else optax.scale(-learning_rate)


def drifts(learning_rate=0.1, decay=0.9):
    return optax.chain(optax.trace(decay), optax.scale_by_learning_rate(learning_rate))


def remembers(learning_rate=0.1):
    calls = itertools.count()

    def update(g, state, params=None):
        return jax.tree.map(lambda g: -learning_rate * g * (1 + next(calls)), g), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def grows(learning_rate=0.1):
    def update(g, state, params=None):
        return jax.tree.map(lambda g: -learning_rate * g, g), (*state, jnp.zeros([]))

    return optax.GradientTransformation(lambda params: (), update)


def divides_by_the_norm(learning_rate=0.1):
    def update(g, state, params=None):
        return jax.tree.map(lambda g: -learning_rate * g / jnp.sqrt(jnp.sum(g**2)), g), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def infinite_slope(learning_rate=0.1):
    def update(g, state, params=None):
        # the root of 0, whose value is finite and whose derivative is not
        return jax.tree.map(lambda g: -learning_rate * g + jnp.sqrt(learning_rate - learning_rate), g), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def counts_leaves(learning_rate=0.1):
    def update(g, state, params=None):
        leaves, tree = jax.tree.flatten(g)
        return jax.tree.unflatten(tree, [-learning_rate * (1 + k) * leaf for k, leaf in enumerate(leaves)]), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def wants_matrices(learning_rate=0.1):
    def update(g, state, params=None):
        return jax.tree.map(lambda g: -learning_rate * g * jnp.ones(g.shape[-1]), g), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def keeps_its_start_in_a_closure(learning_rate=0.1):
    memory = {}

    def init(params):
        memory["start"] = params
        return optax.EmptyState()

    def update(g, state, params=None):
        start = memory["start"]
        return jax.tree.map(lambda g, x, first: -learning_rate * (g + 0.1 * (x - first)), g, params, start), state

    return optax.GradientTransformation(init, update)


def does_nothing(learning_rate=0.1):
    return optax.set_to_zero()


def takes_schedules_and_reads_the_first_value_only(learning_rate=0.1):
    rate = learning_rate(jnp.zeros([])) if callable(learning_rate) else learning_rate
    return optax.scale(-rate)


takes_schedules_and_reads_the_first_value_only.takes_schedules = True


@transformation
def ignores_its_schedule(learning_rate=0.1):
    first = isinstance(learning_rate, float)  # Python numbers and values of schedules take different branches
    return optax.scale(-learning_rate if first else -2 * learning_rate)


@pytest.mark.parametrize(
    ("factory", "failing"),
    [
        (branches, {"vmap = solo, float64", "vmap = solo, float32", "derivatives are finite"}),
        (grows, {"dtypes stay", "pure, one compilation, restorable"}),
        (infinite_slope, {"derivatives are finite", "zeros give no NaN"}),
        (counts_leaves, {"order of leaves"}),
        (wants_matrices, {"any tree of parameters"}),
        (takes_schedules_and_reads_the_first_value_only, {"schedules of all numbers"}),
        *(
            pytest.param(factory, {check}, marks=pytest.mark.thorough)
            for factory, check in (
                (drifts, "dtypes stay"),
                (optax.rprop, "dtypes stay"),
                (remembers, "pure, one compilation, restorable"),
                (ignores_its_schedule, "pure, one compilation, restorable"),
                (keeps_its_start_in_a_closure, "pure, one compilation, restorable"),
                (divides_by_the_norm, "zeros give no NaN"),
                (does_nothing, "vmap = solo, float64"),
            )
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_breaks_the_contract_is_detected(factory, failing):
    arguments = {"learning_rate": 0.1} if factory is optax.rprop else None
    report = check_contract(factory, arguments)
    failed = {check.name for check in report.checks if not check.passed}
    assert not report.ok
    assert failing <= failed, str(report)
    assert "BREAKS" in str(report)


def test_a_sound_custom_factory_passes():
    @transformation
    def sign_momentum(learning_rate=1e-3, *, momentum=0.9):
        return optax.chain(
            optax.trace(momentum),
            optax.stateless(lambda g, _: jax.tree.map(jnp.sign, g)),
            optax.scale_by_learning_rate(learning_rate),
        )

    report = check_contract(sign_momentum)
    assert report.ok, str(report)
    assert report.numbers == ("learning_rate", "momentum")
    assert "keeps the contract" in str(report)


def test_the_message_names_the_number_that_cannot_be_traced():
    report = check_contract(branches)
    assert "learning_rate: cannot be traced; annotate it int or bool if it is static" in str(report)


def noisy(learning_rate=0.1, *, seed: int = 0):
    def init(params):
        return jax.random.key(seed)

    def update(g, state, params=None):
        key, now = jax.random.split(state)
        leaves, tree = jax.tree.flatten(g)
        keys = jax.random.split(now, max(len(leaves), 1))
        noise = [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=False)]
        moves = [-learning_rate * (leaf + 0.01 * e) for leaf, e in zip(leaves, noise, strict=True)]
        return jax.tree.unflatten(tree, moves), key

    return optax.GradientTransformation(init, update)


@pytest.mark.thorough
def test_noise_with_a_typed_key_passes_except_for_the_order_of_leaves():
    report = check_contract(transformation(noisy))
    assert [check.name for check in report.checks if not check.passed] == ["order of leaves"], str(report)
    skipped = check_contract(OPTIMIZERS["sgd"], skip=("order of leaves",))
    assert skipped.ok
    assert len(skipped.checks) == len(report.checks) - 1


def test_the_check_leaves_x64_as_it_was():
    with jax.enable_x64(False):
        check_contract(OPTIMIZERS["sgd"])
        assert not jax.config.jax_enable_x64


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("adam",), TypeError, "factory: expected a function, got 'adam'"),
        ((OPTIMIZERS["demon_adam"],), TypeError, "arguments: expected a value for total_steps, which has no default"),
        (
            (OPTIMIZERS["adam"], {"b3": 0.9}),
            TypeError,
            "arguments: expected names of the factory's arguments, got 'b3'",
        ),
    ],
)
def test_bad_arguments_of_the_check(arguments, error, message):
    with pytest.raises(error, match=message):
        check_contract(*arguments)
