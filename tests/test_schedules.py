import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdlab import schedules
from gdlab.optimizers import OPTIMIZERS, momentum, transformation

COUNTS = np.arange(0, 131)


def values(schedule):
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.asarray(COUNTS)))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (schedules.constant(0.3), np.full(131, 0.3)),
        (schedules.linear(2.0, 100, final=1.0), 2 - np.minimum(COUNTS, 100) / 100),
        (schedules.exponential(2.0, 10, factor=0.5), 2 * 0.5 ** (COUNTS / 10)),
        (schedules.step(1.0, 100), np.where(COUNTS < 50, 1.0, np.where(COUNTS < 75, 0.1, 0.01))),
        (schedules.step(2.0, 100, fractions=(), factor=0.5), np.full(131, 2.0)),
        (schedules.warmup_linear(2.0, 100, 20, initial=0.5), np.interp(COUNTS, [0, 20, 100], [0.5, 2.0, 0.0])),
        (schedules.warmup_stable_decay(2.0, 100, 20), np.interp(COUNTS, [0, 20, 80, 100], [0.0, 2.0, 2.0, 0.0])),
        (
            schedules.warmup_stable_decay(2.0, 100, 0, cooldown=0.5, power=0.5, final=1.0),
            1 + (1 - np.sqrt(np.clip((COUNTS - 50) / 50, 0, 1))),
        ),
        (
            schedules.warmup_stable_decay(1.0, 100, 90, cooldown=0.4),
            np.interp(COUNTS, [0, 90, 100], [0.0, 1.0, 0.0]),
        ),
        (
            schedules.inverse_square_root(2.0, 16),
            2 * np.minimum(COUNTS / 16, np.sqrt(16 / np.maximum(COUNTS, 1))),
        ),
    ],
)
def test_values_follow_from_the_definitions(schedule, expected):
    np.testing.assert_allclose(values(schedule), expected, rtol=1e-13)


def test_cosine_and_warmup_equal_those_of_optax():
    theirs = optax.cosine_decay_schedule(0.7, 100, alpha=0.1)
    np.testing.assert_allclose(values(schedules.cosine(0.7, 100, final=0.07)), [theirs(c) for c in COUNTS], rtol=1e-12)
    theirs = optax.warmup_cosine_decay_schedule(0.1, 0.7, 20, 100, 0.05)
    ours = schedules.warmup_cosine(0.7, 100, 20, initial=0.1, final=0.05)
    np.testing.assert_allclose(values(ours), [theirs(c) for c in COUNTS], rtol=1e-6)


def test_one_cycle_equals_that_of_optax():
    theirs = optax.cosine_onecycle_schedule(100, 0.7, pct_start=0.4, div_factor=10.0, final_div_factor=50.0)
    ours = schedules.one_cycle(0.7, 100, rise=0.4, divisor=10.0, final_divisor=50.0)
    np.testing.assert_allclose(values(ours), values(theirs), rtol=1e-12)


@pytest.mark.parametrize(
    ("period", "growth", "factor"),
    [(7, 2.0, 0.9), *(pytest.param(*each, marks=pytest.mark.thorough) for each in ((10, 1.0, 0.5), (4, 1.5, 1.0)))],
)
def test_cosine_restarts_where_a_period_ends(period, growth, factor):
    # The periods one after the other, without a formula for their number.
    begin, length, peak, expected = 0.0, float(period), 0.9, []
    for count in COUNTS:
        while count >= begin + length:
            begin, length, peak = begin + length, length * growth, peak * factor
        expected.append(0.1 + (peak - 0.1) * (1 + np.cos(np.pi * (count - begin) / length)) / 2)
    ours = schedules.cosine_restarts(0.9, period, growth=growth, factor=factor, final=0.1)
    np.testing.assert_allclose(values(ours), expected, rtol=1e-12)
    with jax.enable_x64(False):
        np.testing.assert_allclose(values(ours), expected, rtol=1e-4)


def test_demon_has_the_published_values():
    # beta / (1 - beta) falls linearly (Chen et al. 2022); here from beta = 0.9 over 20 steps.
    demon = schedules.demon(0.9, 20)
    seen = [float(demon(jnp.asarray(t))) for t in (0, 5, 10, 15, 19, 20, 25)]
    np.testing.assert_allclose(seen, [0.9, 0.870968, 0.818182, 0.692308, 0.310345, 0.0, 0.0], atol=1e-6)
    odds = np.array([float(demon(jnp.asarray(t))) for t in range(20)])
    np.testing.assert_allclose(odds / (1 - odds), 9 * (1 - np.arange(20) / 20), rtol=1e-12)
    delayed = values(schedules.demon(0.9, 100, delay=0.75))
    np.testing.assert_allclose(delayed[:76], 0.9, rtol=1e-12)
    np.testing.assert_allclose(delayed[75:], values(schedules.demon(0.9, 25))[:56], rtol=1e-9)


def test_warmup_at_its_edges():
    ours = values(schedules.warmup_cosine(1.0, 100, 0))
    np.testing.assert_allclose(ours, values(schedules.cosine(1.0, 100)), rtol=1e-12)
    # Numbers that are traced are not compared; a warm-up beyond the end then ends with the run.
    counts = jnp.asarray(COUNTS)
    longer = jax.jit(lambda warmup: jax.vmap(schedules.warmup_cosine(1.0, 50, warmup))(counts))(100.0)
    np.testing.assert_allclose(longer, np.minimum(np.arange(131), 50) / 100, rtol=1e-12)


PUBLIC = [f for name, f in vars(schedules).items() if inspect.isfunction(f) and not name.startswith("_")]
PUBLIC = [f for f in PUBLIC if f.__module__ == "gdlab.schedules"]
ARGUMENTS = {"value": 0.5, "total_steps": 60.0, "warmup_steps": 10.0, "steps": 30.0, "final": 0.1, "initial": 0.2}
ARGUMENTS |= {"factor": 0.3, "delay": 0.2, "cooldown": 0.4, "power": 0.5, "rise": 0.3}
ARGUMENTS |= {"divisor": 20.0, "final_divisor": 100.0, "period": 17.0, "growth": 2.0}


# Those that differ from another one by a line are thorough.
SLOW = {"warmup_linear", "one_cycle", "inverse_square_root", "cosine_restarts"}
EVERY = [pytest.param(f, marks=pytest.mark.thorough if f.__name__ in SLOW else (), id=f.__name__) for f in PUBLIC]


@pytest.mark.parametrize("schedule", EVERY)
def test_every_number_can_be_traced_and_differentiated(schedule):
    names = [name for name in inspect.signature(schedule).parameters if name != "fractions"]

    @chex.assert_max_traces(n=1)
    def end(numbers, count):
        return schedule(**numbers)(count)

    value_and_slopes = jax.jit(jax.value_and_grad(end))
    numbers = {name: jnp.asarray(ARGUMENTS[name]) for name in names}
    for count in (0, 17, 59, 60, 200):
        plain = schedule(**{name: ARGUMENTS[name] for name in names})(jnp.asarray(count))
        traced, slopes = value_and_slopes(numbers, jnp.asarray(count))
        np.testing.assert_allclose(traced, plain, rtol=1e-12)
        chex.assert_tree_all_finite(slopes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: schedules.cosine(0.1, 0), r"total_steps: expected a number in \(0, inf\), got 0"),
        (lambda: schedules.demon(1.0, 10), r"value: expected a number in \[0, 1\), got 1"),
        (lambda: schedules.step(0.1, 10, fractions=(1.5,)), r"fractions: expected a number in \[0, 1\], got 1.5"),
        (lambda: schedules.step(0.1, 10, fractions=(0.7, 0.3)), "fractions: expected ascending .* got 0.3 after 0.7"),
        (lambda: schedules.warmup_cosine(0.1, 50, 100), r"warmup_steps: expected a number in \[0, 50\], got 100"),
        (lambda: schedules.exponential(0.1, 10, factor=0), r"factor: expected a number in \(0, inf\), got 0"),
        (lambda: schedules.linear(float("nan"), 10), "value: expected a number"),
        (lambda: schedules.warmup_linear(0.1, 50, 100), r"warmup_steps: expected a number in \[0, 50\], got 100"),
        (
            lambda: schedules.warmup_stable_decay(0.1, 50, 5, cooldown=2),
            r"cooldown: expected a number in \[0, 1\], got 2",
        ),
        (lambda: schedules.cosine_restarts(0.1, 10, growth=0.5), r"growth: expected a number in \[1, inf\), got 0.5"),
        (lambda: schedules.one_cycle(0.1, 10, divisor=0), r"divisor: expected a number in \[1, inf\), got 0"),
    ],
)
def test_bad_numbers_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_any_hyperparameter_takes_a_schedule():
    # Heavy ball with a falling momentum, compared with the rule written out.
    falling = schedules.linear(0.9, 10)
    optimizer = momentum(schedules.step(0.1, 10), momentum=falling)
    x = jnp.array([1.0, -2.0])
    state = optimizer.init(x)
    v = np.zeros(2)
    expected = np.array(x)
    for count in range(12):
        g = np.array([0.3, 0.4]) * (count + 1)
        v = max(0.9 * (1 - count / 10), 0.0) * v + g
        expected = expected - (0.1 if count < 5 else 0.01 if count < 7.5 else 0.001) * v
        updates, state = optimizer.update(jnp.asarray(g), state, x)
        x = optax.apply_updates(x, updates)
        np.testing.assert_allclose(x, expected, rtol=1e-12)


def test_a_schedule_may_hold_traced_numbers_and_be_in_a_tuple():
    def last(rate, beta):
        optimizer = OPTIMIZERS["aggmo"](schedules.cosine(rate, 10), betas=(0.0, schedules.demon(beta, 10)))
        x = jnp.ones(2)

        def step(carry, _):
            x, state = carry
            updates, state = optimizer.update(x, state, x)
            return (x + updates, state), None

        return jax.lax.scan(step, (x, optimizer.init(x)), length=10)[0][0]

    lanes = jax.jit(jax.vmap(last))(jnp.array([0.1, 0.2]), jnp.array([0.5, 0.9]))
    np.testing.assert_allclose(lanes[1], jax.jit(last)(0.2, 0.9), rtol=1e-12)
    assert jnp.abs(lanes[0] - lanes[1]).min() > 1e-3


def test_a_schedule_that_starts_out_of_range_is_refused_at_construction():
    with pytest.raises(ValueError, match=r"momentum: expected a number in \[0, 1\), got 1.5"):
        momentum(0.1, momentum=schedules.linear(1.5, 10))


def test_transformation_works_with_custom_functions():
    @transformation
    def clipped(bound=1.0, *, name="x"):
        return optax.clip(bound)

    optimizer = clipped(schedules.linear(1.0, 2))
    state = optimizer.init(jnp.ones(1))
    seen = []
    for _ in range(3):
        updates, state = optimizer.update(jnp.array([5.0]), state)
        seen.append(float(updates[0]))
    assert seen == [1.0, 0.5, 0.0]
    assert state.steps == 3
