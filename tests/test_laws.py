"""Identities between optimizers as property tests: they hold for random hyperparameters and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdlab import optimizers as o
from gdlab.optimizers import evaluation_params

pytest.importorskip("hypothesis", reason="the test extra is not installed")
from hypothesis import given, settings
from hypothesis import strategies as st

LAW = settings(max_examples=15, deadline=None, derandomize=True, database=None)
rates = st.floats(1e-4, 0.5)
fractions = st.floats(0.0, 0.99)
seeds = st.integers(0, 2**31 - 1)
STEPS = 25


def gradients(seed):
    """Return gradients of shape (STEPS, 4), whose sizes differ from coordinate to coordinate."""
    return np.random.default_rng(seed).normal(size=(STEPS, 4)) * np.array([1.0, 0.1, 10.0, 1e-3])


def walk(factory):
    """Return a compiled `fn(gradients, **numbers)`: the points of the optimizer, those to evaluate at, the updates."""

    @jax.jit
    def run(sequence, numbers):
        optimizer = factory(**numbers)
        x = jnp.array([1.0, -2.0, 0.5, 3.0])

        def step(carry, g):
            x, state = carry
            updates, state = optimizer.update(g, state, x)
            x = optax.apply_updates(x, updates)
            return (x, state), (x, evaluation_params(state, x), updates)

        return jax.lax.scan(step, (x, optimizer.init(x)), sequence)[1]

    return lambda sequence, **numbers: run(sequence, numbers)


WALKS = {name: walk(factory) for name, factory in o.OPTIMIZERS.items()}


def same(a, b, rtol=1e-10):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12)


@LAW
@given(seeds, rates, fractions)
def test_qhm_with_nu_1_is_heavy_ball_at_the_rate_times_1_minus_momentum(seed, rate, m):
    ours = WALKS["qhm"](gradients(seed), learning_rate=rate, momentum=m, nu=1.0)[0]
    same(ours, WALKS["momentum"](gradients(seed), learning_rate=rate * (1 - m), momentum=m)[0])


@LAW
@given(seeds, rates, fractions)
def test_qhm_with_nu_equal_to_momentum_is_nesterov(seed, rate, m):
    ours = WALKS["qhm"](gradients(seed), learning_rate=rate, momentum=m, nu=m)[0]
    same(ours, WALKS["nesterov"](gradients(seed), learning_rate=rate * (1 - m), momentum=m)[0])


@LAW
@given(seeds, rates, fractions, fractions)
def test_qhadam_with_both_nus_1_is_adam(seed, rate, b1, b2):
    ours = WALKS["qhadam"](gradients(seed), learning_rate=rate, b1=b1, b2=b2, nu1=1.0, nu2=1.0)[0]
    same(ours, WALKS["adam"](gradients(seed), learning_rate=rate, b1=b1, b2=b2)[0])


@LAW
@given(seeds, rates, fractions)
def test_aggmo_with_one_beta_is_heavy_ball(seed, rate, m):
    ours = WALKS["aggmo"](gradients(seed), learning_rate=rate, betas=(m,))[0]
    same(ours, WALKS["momentum"](gradients(seed), learning_rate=rate, momentum=m)[0])


@LAW
@given(seeds, rates, fractions, fractions)
@pytest.mark.slow
def test_demon_with_a_constant_momentum_is_its_base(seed, rate, m, b2):
    # Over an endless run the momentum does not decay.
    ours = WALKS["demon_sgdm"](gradients(seed), learning_rate=rate, momentum=m, total_steps=1e15)[0]
    same(ours, WALKS["momentum"](gradients(seed), learning_rate=rate, momentum=m)[0])
    damped = walk(lambda **numbers: o.demon_adam(**numbers, damped=True))
    ours = damped(gradients(seed), learning_rate=rate, momentum=m, b2=b2, total_steps=1e15)[0]
    same(ours, WALKS["adam"](gradients(seed), learning_rate=rate, b1=m, b2=b2)[0], rtol=1e-9)


@LAW
@given(seeds, rates, fractions, fractions)
def test_amsgrad_is_adam_while_the_second_moment_grows(seed, rate, b1, b2):
    growing = np.abs(gradients(seed))
    growing = np.sort(growing, axis=0) * np.sign(gradients(seed))  # g^2 never falls, so v never does
    ours = WALKS["amsgrad"](growing, learning_rate=rate, b1=b1, b2=b2)[0]
    same(ours, WALKS["adam"](growing, learning_rate=rate, b1=b1, b2=b2)[0])
    # As soon as v falls, they differ.
    falling = growing[::-1]
    ours = WALKS["amsgrad"](falling, learning_rate=0.1, b1=0.9, b2=0.5)[0]
    assert np.abs(ours - WALKS["adam"](falling, learning_rate=0.1, b1=0.9, b2=0.5)[0]).max() > 1e-3


@LAW
@given(seeds, rates, fractions, fractions)
def test_adamw_without_decay_is_adam(seed, rate, b1, b2):
    ours = WALKS["adamw"](gradients(seed), learning_rate=rate, b1=b1, b2=b2, weight_decay=0.0)[0]
    same(ours, WALKS["adam"](gradients(seed), learning_rate=rate, b1=b1, b2=b2)[0])


@LAW
@given(seeds, rates, st.integers(0, STEPS))
def test_asgd_averages_nothing_before_t0_and_everything_after(seed, rate, t0):
    points, averages, _ = WALKS["asgd"](gradients(seed), learning_rate=rate, t0=float(t0))
    # The average is the last point until step t0 + 1, and the mean of the points from there on.
    same(averages[: t0 + 1], points[: t0 + 1])
    for step in range(t0 + 1, STEPS):
        same(averages[step], points[t0 + 1 : step + 1].mean(axis=0) if step > t0 + 1 else points[step])


@LAW
@given(seeds, rates, st.floats(0.01, 0.99))
def test_the_average_of_schedule_free_is_the_running_mean_of_its_iterates(seed, rate, m):
    # At a constant rate: z_t = z_(t-1) - rate g_t, and x_t is the mean of z_1 ... z_t.
    sequence = gradients(seed)
    points, averages, _ = WALKS["schedule_free_sgd"](sequence, learning_rate=rate, momentum=m)
    iterates = np.array([1.0, -2.0, 0.5, 3.0]) - rate * np.cumsum(sequence, axis=0)
    means = np.cumsum(iterates, axis=0) / np.arange(1, STEPS + 1)[:, None]
    same(averages, means, rtol=1e-9)
    same(points, (1 - m) * iterates + m * means, rtol=1e-9)


@LAW
@given(seeds, rates, st.sampled_from([2.0**-20, 0.5, 4.0, 2.0**20]))
def test_sign_optimizers_do_not_see_the_scale_of_the_gradient(seed, rate, scale):
    for name in ("signum", "lion", "rprop"):
        sequence = gradients(seed)
        np.testing.assert_array_equal(
            WALKS[name](sequence, learning_rate=rate)[0], WALKS[name](scale * sequence, learning_rate=rate)[0]
        )


@LAW
@given(seeds, rates, st.sampled_from([2.0**-20, 0.5, 4.0, 2.0**20]))
def test_adaptive_optimizers_without_eps_do_not_see_the_scale_of_the_gradient(seed, rate, scale):
    for name in ("adam", "adagrad", "amsgrad", "nadam", "qhadam", "adan", "novograd", "lars", "lamb"):
        sequence = gradients(seed)
        same(
            WALKS[name](sequence, learning_rate=rate, eps=0.0)[0],
            WALKS[name](scale * sequence, learning_rate=rate, eps=0.0)[0],
        )


@LAW
@given(seeds, rates, fractions)
def test_sutskevers_form_is_nesterov_with_constant_numbers_and_shows_the_iterate(seed, rate, m):
    sequence = gradients(seed)
    points, iterates, _ = WALKS["sutskever_nesterov"](sequence, learning_rate=rate, momentum=m)
    same(points, WALKS["nesterov"](sequence, learning_rate=rate, momentum=m)[0], rtol=1e-9)
    # x_t = x_(t-1) + v_t, v_t = m v_(t-1) - rate g_t
    x, v = np.array([1.0, -2.0, 0.5, 3.0]), np.zeros(4)
    for g, seen in zip(sequence, iterates, strict=True):
        v = m * v - rate * g
        x = x + v
        same(seen, x, rtol=1e-8)


@LAW
@given(seeds, rates, fractions)
def test_nadam_approaches_a_constant_momentum(seed, rate, b1):
    ours = WALKS["nadam"](gradients(seed), learning_rate=rate, b1=b1, momentum_decay=1e9)[0]
    theirs = walk(optax.nadam)(gradients(seed), learning_rate=rate, b1=b1, b2=0.999, eps=1e-8)[0]
    same(ours, theirs, rtol=1e-9)


@LAW
@given(seeds, st.floats(1e-3, 0.2))
def test_shampoo_on_scalars_is_adagrad(seed, rate):
    # One axis of length 1: H = eps + sum g^2, exponent -1/2.
    sequence = gradients(seed)[:, :1]

    def scalars(factory):
        def run(g):
            optimizer = factory()
            x = {"x": jnp.ones([])}

            def step(carry, g):
                x, state = carry
                updates, state = optimizer.update({"x": g[0]}, state, x)
                return (optax.apply_updates(x, updates), state), carry[0]["x"]

            return jax.lax.scan(step, (x, optimizer.init(x)), g)[1]

        return jax.jit(run)(jnp.asarray(sequence))

    same(
        scalars(lambda: o.shampoo(rate, eps=1e-12)),
        scalars(lambda: o.adagrad(rate, initial_accumulator_value=1e-12, eps=0.0)),
        rtol=1e-8,
    )
