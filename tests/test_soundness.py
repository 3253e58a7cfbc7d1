"""Sound optimizers pass the examination, and each planted fault fails the check that is meant for it."""

import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import io_callback

from gdlab import OPTIMIZERS
from gdlab.judging.costs import bytes_per_parameter, relative_time
from gdlab.judging.soundness import PROBES, Soundness, examine, run_probe
from gdlab.judging.subject import Subject, bowl
from gdlab.optimizers.contract.report import Check


class State(NamedTuple):
    count: Any
    m: Any
    v: Any


def my_adam(learning_rate=1e-3, b1=0.9, b2=0.999, weight_decay=0.0, *, fault="none"):
    """A plain Adam with decoupled weight decay, and one fault."""

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return State(jnp.zeros([], jnp.int32), zeros, zeros)

    def update(gradient, state, params):
        if fault in ("l2 and decoupled", "l2 twice"):
            times = 2 if fault == "l2 twice" else 1
            gradient = jax.tree.map(lambda g, x: g + times * weight_decay * x, gradient, params)
        if fault == "calls back":
            gradient = jax.tree.map(
                lambda g: io_callback(lambda a: np.asarray(a), jax.ShapeDtypeStruct(g.shape, g.dtype), g), gradient
            )
        if fault == "calls back purely":
            gradient = jax.tree.map(
                lambda g: jax.pure_callback(lambda a: np.asarray(a), jax.ShapeDtypeStruct(g.shape, g.dtype), g),
                gradient,
            )
        count = state.count + 1
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.m, gradient)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.v, gradient)
        after = State(count, m, v)
        if fault == "stale moment":
            m = state.m
        if fault == "stale moments":
            m, v = state.m, state.v
        if fault == "state returned":
            after = state
        if fault == "moments returned":
            after = State(count, state.m, state.v)
        first, second = 1 - b1**count, 1 - b2**count
        if fault == "no correction":
            first = second = 1.0
        if fault == "b1 for both":
            second = first
        decay = {"decoupled twice": 2, "l2 twice": 0}.get(fault, 1) * weight_decay
        rate = learning_rate
        if fault == "reads the clock":
            rate = rate * (1 + 1e-12 * time.time())
        updates = jax.tree.map(
            lambda m, v, x: -rate * (m / first / (jnp.sqrt(v / second) + 1e-8) + decay * x), m, v, params
        )
        if fault == "one sign":
            updates = {name: -leaf if name == "bias" else leaf for name, leaf in updates.items()}
        if fault == "all signs":
            updates = jax.tree.map(jnp.negative, updates)
        if fault == "one leaf still":
            updates = {name: 0 * leaf if name == "bias" else leaf for name, leaf in updates.items()}
        return jax.tree.map(lambda u, x: jnp.asarray(u, x.dtype), updates, params), after

    return optax.GradientTransformation(init, update)


def probe(name, factory):
    return run_probe(name, Subject(factory))


def planted(fault):
    return functools.partial(my_adam, fault=fault)


FAULTS = [
    ("no correction", "bias correction", ("point where Adam's point", "3.16 times as long at step 1", "is left out")),
    ("b1 for both", "bias correction", ("times as long at step 1", "has b1 in place of b2")),
    ("one sign", "every leaf goes downhill", ("the loss of ['bias'] rises from", "its sign looks flipped")),
    ("all signs", "every leaf goes downhill", ("that of every other leaf rises", "point uphill")),
    ("one leaf still", "every leaf goes downhill", ("the loss of ['bias'] stays the same", "its updates are 0")),
    ("stale moments", "a step uses its gradient", ("not depend on the gradient", "the one before (stale momentum)")),
    ("stale moment", "a step uses its gradient", ("the sign of the gradient", "the one before (stale momentum)")),
    ("state returned", "the state moves on", ("the state never changes", "momentum is stale")),
    ("moments returned", "the state moves on", ("only the counters of the state change",)),
    ("decoupled twice", "weight decay is applied once", ("2.00 x learning_rate x weight_decay", "applied twice")),
    ("l2 twice", "weight decay is applied once", ("2.00 x weight_decay x params joins the gradient",)),
    ("l2 and decoupled", "weight decay is applied once", ("twice: as part of the gradient, and decoupled",)),
    ("reads the clock", "nothing from outside", ("two traces of the same step differ", "clock")),
    ("calls back", "nothing from outside", ("calls back into Python",)),
    ("calls back purely", "nothing from outside", ("calls back into Python",)),
]


SLOW = ("all signs", "one leaf still", "moments returned", "l2 twice")
CASES = [pytest.param(*case, id=case[0], marks=[pytest.mark.thorough] if case[0] in SLOW else []) for case in FAULTS]


@pytest.mark.parametrize(("fault", "name", "words"), CASES)
def test_a_planted_fault_fails_its_check(fault, name, words):
    check = probe(name, planted(fault))
    assert not check.passed, check
    for word in words:
        assert word in check.detail
    assert "\n" not in check.detail


@pytest.fixture(scope="module")
def sound():
    return Subject(planted("none"))


@pytest.mark.parametrize("name", PROBES)
def test_without_a_fault_the_same_optimizer_passes(name, sound):
    check = run_probe(name, sound)
    assert check.passed, check
    assert check.detail


def raises_in_update(learning_rate=0.1, weight_decay=0.0):
    def update(gradient, state, params):
        raise ZeroDivisionError("nothing to divide\nand more")

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


@pytest.mark.parametrize("name", PROBES)
def test_an_error_of_the_optimizer_fails_every_check(name):
    check = probe(name, raises_in_update)
    assert check == Check(name, False, "ZeroDivisionError: nothing to divide")


def test_an_object_that_is_no_optimizer_fails_a_check():
    check = probe("the state moves on", lambda: 3)
    assert not check.passed
    assert "to return an optax transformation, got 3" in check.detail


def test_checks_that_do_not_apply_pass_and_say_so():
    subject = Subject(OPTIMIZERS["sgd"])
    assert run_probe("the state moves on", subject) == Check("the state moves on", True, "it has no state")
    assert "not applicable" in run_probe("bias correction", subject).detail
    assert (
        run_probe("weight decay is applied once", Subject(lambda: optax.sgd(0.1))).detail == "it takes no weight_decay"
    )


def test_parameters_that_never_move_are_found():
    subject = Subject(optax.set_to_zero)
    assert run_probe("every leaf goes downhill", subject).detail == "the parameters do not move in 200 steps"
    assert "the parameters do not move in 64 steps" in run_probe("a step uses its gradient", subject).detail


def test_an_optimizer_that_accumulates_gradients_passes():
    subject = Subject(lambda: optax.MultiSteps(optax.adam(1e-2), 10).gradient_transformation())
    assert run_probe("a step uses its gradient", subject).detail == "step 10 depends on its gradient"
    assert run_probe("the state moves on", subject).passed
    assert run_probe("every leaf goes downhill", subject).passed


def test_a_warm_up_is_not_mistaken_for_a_wrong_bias_correction():
    check = probe("bias correction", lambda: optax.adam(optax.linear_schedule(1e-5, 1e-3, 50)))
    assert check.passed
    assert "no known wrong bias correction" in check.detail


def test_a_learning_rate_that_is_too_large_is_not_mistaken_for_a_flipped_sign():
    check = probe("every leaf goes downhill", lambda lr=50.0: optax.sgd(lr))
    assert check.passed
    assert "the default, 50, is too large here" in check.detail


def test_arithmetic_that_float32_cannot_do_is_found():
    def update(gradient, state, params):
        return jax.tree.map(lambda g, x: -0.1 * ((1 + 1e-6 * g) ** 2 - 1) / 2e-6, gradient, params), state

    check = probe(
        "float32 agrees with float64", lambda: optax.GradientTransformation(lambda params: optax.EmptyState(), update)
    )
    assert not check.passed
    assert "in float32 and in float64 differ by" in check.detail


def test_bytes_per_parameter():
    sizes = {"sgd": 0.0, "momentum": 4.0, "adam": 8.0, "amsgrad": 12.0}
    for name, size in sizes.items():
        assert bytes_per_parameter(OPTIMIZERS[name]) == pytest.approx(size, abs=0.01)


def test_soundness_is_that_of_all_checks():
    passed, failed = Check("a", True, ""), Check("b", False, "")
    assert Soundness((passed,), 6.0, 8.0, 1.0).ok
    assert not Soundness((passed, failed), 6.0, 8.0, 1.0).ok


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("adam", "factory: expected a function, got 'adam'"),
        (OPTIMIZERS["demon_adam"], "expected a value for total_steps"),
    ],
)
def test_bad_arguments(factory, message):
    with pytest.raises(TypeError, match=message):
        examine(factory)


@pytest.mark.thorough
def test_examine_adam():
    found = examine(OPTIMIZERS["adam"])
    assert found.ok, [check for check in found.checks if not check.passed]
    assert [check.name for check in found.checks[-len(PROBES) :]] == list(PROBES)
    assert len(found.checks) > len(PROBES)
    assert found.agreement > 5
    assert found.bytes_per_parameter == pytest.approx(8.0, abs=0.01)
    assert found.relative_time > 0


def polyak(max_learning_rate=1.0):
    return optax.polyak_sgd(max_learning_rate)


def test_whether_an_optimizer_needs_a_loss():
    assert Subject(polyak).needs_loss
    assert not Subject(OPTIMIZERS["sgd"]).needs_loss
    assert not Subject(raises_in_update).needs_loss
    assert probe("a step uses its gradient", polyak).passed


@pytest.mark.thorough
def test_an_optimizer_that_needs_a_loss_receives_one():
    details = [check.detail for check in examine(polyak).checks]
    assert not any("missing" in detail for detail in details), details


@pytest.mark.thorough
def test_examine_what_raises_and_what_draws():
    broken = examine(raises_in_update)
    assert not any(check.passed for check in broken.checks[-len(PROBES) :])
    assert broken.bytes_per_parameter == 0.0
    assert np.isnan([broken.agreement, broken.relative_time]).all()
    noisy = examine(OPTIMIZERS["dion"])
    assert noisy.ok, [check for check in noisy.checks if not check.passed]
    assert "order of leaves" not in [check.name for check in noisy.checks]


def residuals(x):
    curvature, center, _ = bowl()
    return jax.tree.map(
        lambda x, c, t: jnp.asarray(np.sqrt(c), x.dtype) * (x - t.astype(x.dtype)), x, curvature, center
    )


# What some optimizers need: arguments without a default, and residuals that fit the function of the descents.
ARGUMENTS = {
    "demon_sgdm": {"total_steps": 1000.0},
    "demon_adam": {"total_steps": 1000.0},
    "gauss_newton": {"residual_fn": residuals},
}


OF_EVERY_KIND = (
    *("sgd", "momentum", "rprop", "adam", "radam", "adafactor", "lion", "lamb", "yellowfin", "demon_adam"),
    *("muon", "kl_soap", "galore", "apollo", "schedule_free_adamw", "prodigy", "lbfgs", "gauss_newton"),
)
"""Optimizers whose steps differ in kind; all others have passed as well, and take four times as long."""


@pytest.mark.thorough
@pytest.mark.parametrize("name", OF_EVERY_KIND)
def test_optimizers_of_every_kind_are_sound(name):
    subject = Subject(functools.partial(OPTIMIZERS[name], **ARGUMENTS.get(name, {})))
    checks = [run_probe(each, subject) for each in PROBES]
    assert all(check.passed for check in checks), [check for check in checks if not check.passed]


@pytest.mark.thorough
def test_relative_time_of_a_slower_optimizer():
    assert relative_time(OPTIMIZERS["soap"]) > 1.0  # some hundred times
