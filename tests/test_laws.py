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
@pytest.mark.thorough
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


@pytest.mark.thorough
@LAW
@given(seeds, rates, fractions)
def test_nadam_approaches_a_constant_momentum(seed, rate, b1):
    ours = WALKS["nadam"](gradients(seed), learning_rate=rate, b1=b1, momentum_decay=1e9)[0]
    theirs = walk(optax.nadam)(gradients(seed), learning_rate=rate, b1=b1, b2=0.999, eps=1e-8)[0]
    same(ours, theirs, rtol=1e-9)


@pytest.mark.thorough
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


def around(base, wrapper):
    """Return a walk of a wrapper; numbers named `base_...` are those of the base."""

    def factory(**numbers):
        own = {name: value for name, value in numbers.items() if not name.startswith("base_")}
        inner = {name.removeprefix("base_"): value for name, value in numbers.items() if name.startswith("base_")}
        return wrapper(base(**inner), **own)

    return walk(factory)


@pytest.mark.thorough
@LAW
@given(seeds, rates, fractions, st.floats(0.0, 1.0))
def test_lookahead_that_returns_after_every_step_is_its_base(seed, rate, m, alpha):
    sequence = gradients(seed)
    found = AROUND["lookahead"](sequence, base_learning_rate=rate, base_momentum=m, sync_period=1.0, alpha=1.0)
    same(found[0], WALKS["momentum"](sequence, learning_rate=rate, momentum=m)[0], rtol=1e-9)
    same(found[1], found[0])  # the slow weights are the fast ones
    found = AROUND["lookahead_sgd"](sequence, base_learning_rate=rate, sync_period=1.0, alpha=alpha)
    same(found[0], WALKS["sgd"](sequence, learning_rate=alpha * rate)[0], rtol=1e-9)


@pytest.mark.thorough
@LAW
@given(seeds, rates, fractions)
def test_cautious_steps_whose_signs_agree_are_those_of_the_base(seed, rate, m):
    one_sign = np.abs(gradients(seed)) * np.array([1.0, -1.0, 1.0, -1.0])
    ours = AROUND["cautious"](one_sign, base_learning_rate=rate, base_momentum=m)[0]
    same(ours, WALKS["momentum"](one_sign, learning_rate=rate, momentum=m)[0])


@pytest.mark.thorough
@LAW
@given(seeds, rates)
def test_cautious_steps_move_what_agrees_by_the_inverse_of_its_share(seed, rate):
    # After one gradient, the second is turned in two of four coordinates: heavy ball goes on, those two wait.
    first = np.abs(gradients(seed)[0]) + 0.1
    second = 0.1 * first * np.array([1.0, -1.0, 1.0, -1.0])
    moves = AROUND["cautious"](np.stack([first, second]), base_learning_rate=rate, base_momentum=0.9)[2]
    plain = WALKS["momentum"](np.stack([first, second]), learning_rate=rate, momentum=0.9)[2]
    same(moves[1], 2 * plain[1] * np.array([1.0, 0.0, 1.0, 0.0]))


@pytest.mark.thorough
@LAW
@given(seeds, rates, st.floats(0.01, 0.99), st.floats(0.0, 0.5), st.floats(0.0, 2.0))
def test_schedule_free_around_sgd_and_adam_are_the_optimizers_of_that_name(seed, rate, m, decay, r):
    sequence = gradients(seed)
    numbers = {"base_learning_rate": rate, "momentum": m, "r": r}
    ours = AROUND["schedule_free"](sequence, base_weight_decay=decay, **numbers)
    theirs = WALKS["schedule_free_sgd"](sequence, learning_rate=rate, momentum=m, weight_decay=decay, r=r)
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        same(a, b, rtol=1e-9)
    ours = AROUND["schedule_free_adam"](sequence, base_b1=0.0, **numbers)
    theirs = WALKS["schedule_free_adamw"](sequence, learning_rate=rate, b1=m, r=r)
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        same(a, b, rtol=1e-9)


NEUTRAL = {
    "asam": {"rho": 0.0},
    "sam": {"rho": 0.0},
    "ema": {},
    "ema_nesterov": {"beta": 0.0},
    "cautious_decay": {"weight_decay": 0.0},
    "centralize": {},  # the parameters are a vector
    "orthogonalized": {},
    "grokfast": {"factor": 0.0},
    "adaptive_clip": {"clipping": 1e9},
    "noisy": {"eta": 0.0},
    "every_k": {"k": 1.0},
    "partitioned": {"rest": o.momentum(0.1, momentum=0.8)},
}


@pytest.mark.thorough
@LAW
@given(seeds)
def test_wrappers_with_neutral_numbers_are_their_base(seed):
    sequence = gradients(seed)
    expected = WALKS["momentum"](sequence, learning_rate=0.1, momentum=0.8)[0]
    for name in NEUTRAL:
        same(AROUND[f"neutral {name}"](sequence)[0], expected)


@pytest.mark.thorough
@LAW
@given(seeds, fractions)
def test_orthogonalized_heavy_ball_is_muon(seed, m):
    sequence = np.random.default_rng(seed).normal(size=(STEPS, 3, 2))

    def run(optimizer):
        x = jnp.ones((3, 2))

        def step(carry, g):
            x, state = carry
            updates, state = optimizer.update(g, state, x)
            return (x + updates, state), x + updates

        return jax.lax.scan(step, (x, optimizer.init(x)), sequence)[1]

    muon = jax.jit(lambda: run(o.muon(0.02, momentum=m, eps=1e-30)))()
    ours = jax.jit(lambda: run(o.orthogonalized(o.nesterov(0.3, momentum=m), 0.02, eps=1e-30)))()
    same(ours, muon, rtol=1e-8)


def with_gradient(optimizer):
    """Let the update receive a gradient elsewhere that is the one at hand."""
    return optax.GradientTransformation(
        optimizer.init, lambda g, state, params=None: optimizer.update(g, state, params, grad_fn=lambda _: g)
    )


AROUND = {
    "lookahead": around(o.momentum, o.lookahead),
    "lookahead_sgd": around(o.sgd, o.lookahead),
    "cautious": around(o.momentum, o.cautious),
    "schedule_free": around(o.sgd, o.schedule_free),
    "schedule_free_adam": around(o.adam, o.schedule_free),
    **{
        f"neutral {name}": walk(
            lambda name=name: with_gradient(o.WRAPPERS[name](o.momentum(0.1, momentum=0.8), **NEUTRAL[name]))
        )
        for name in NEUTRAL
    },
}
