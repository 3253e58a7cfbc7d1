"""The experiment with REINFORCE: its physics against other derivations, its episodes, and that it learns."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.test_experiments import load

M, m, L, G, FORCE, TAU = 1.0, 0.1, 0.5, 9.8, 10.0, 0.02


@pytest.fixture(scope="module")
def experiment():
    return load("policy_gradient")


def accelerations(state, force):
    """Those of the cart and of the pole, by Lagrange's equations: a uniform rod of mass m and length 2 L on a cart."""
    _, _, angle, spin = state
    masses = np.array([[M + m, m * L * np.cos(angle)], [m * L * np.cos(angle), 4 / 3 * m * L**2]])
    return np.linalg.solve(masses, [force + m * L * spin**2 * np.sin(angle), m * G * L * np.sin(angle)])


def energy(state):
    _, velocity, angle, spin = state
    kinetic = (M + m) * velocity**2 / 2 + m * L * velocity * spin * np.cos(angle) + 2 / 3 * m * L**2 * spin**2
    return kinetic + m * G * L * np.cos(angle)


def test_a_step_is_eulers_of_lagranges_equations(experiment):
    states = np.random.default_rng(0).normal(size=(20, 4)) * [1.0, 2.0, 1.0, 2.0]
    for action, force in ((0, -FORCE), (1, FORCE)):
        got = jax.jit(experiment.move)(jnp.asarray(states), action)
        for state, after in zip(states, got, strict=True):
            slide, turn = accelerations(state, force)
            np.testing.assert_allclose(after, state + TAU * np.array([state[1], slide, state[3], turn]), rtol=1e-12)


def test_without_a_force_the_energy_is_kept_as_the_step_shrinks(experiment, monkeypatch):
    # Euler's error is of order tau, so a tenth of the step loses a tenth of the energy. The pole swings for a second.
    monkeypatch.setattr(experiment, "FORCE", 0.0)
    start, lost = jnp.array([0.0, 0.3, 1.0, 0.0]), []
    for steps in (1_000, 10_000):
        monkeypatch.setattr(experiment, "TAU", 1 / steps)
        move, count = experiment.move, steps
        end = jax.jit(lambda s, move=move, count=count: jax.lax.fori_loop(0, count, lambda _, s: move(s, 1), s))(start)
        assert abs(float(end[2]) - 1.0) > 1.0  # it has swung
        lost.append(abs(energy(np.asarray(end)) - energy(np.asarray(start))))
    assert lost[0] < 0.02 * energy(np.asarray(start))
    assert lost[1] == pytest.approx(lost[0] / 10, rel=0.1)


def test_an_episode_ends_where_the_pole_has_fallen(experiment):
    # A policy that always pushes right, simulated by itself from the first states of the sampled episodes.
    params = experiment.first_network(jax.random.key(0)) | {"c": jnp.array([-50.0, 50.0])}
    distribution = experiment.episodes(params)

    @jax.jit
    def run(key):
        states, actions, stands = episode = distribution.sample(key, (3,))
        changed = (states, jnp.where(stands, actions, 0), stands)  # after the fall
        return episode, jax.vmap(experiment.returns_to_go)(episode), *map(distribution.log_prob, (episode, changed))

    (states, actions, stands), returns, before, after = jax.tree.map(np.asarray, run(jax.random.key(1)))
    assert states.shape == (3, experiment.HORIZON, 4)
    assert np.abs(states[:, 0]).max() <= 0.05
    assert (actions == 1).all()
    for number in range(3):
        state, steps = np.asarray(states[number, 0]), 0
        while abs(state[0]) <= 2.4 and abs(state[2]) <= np.radians(12):
            slide, turn = accelerations(state, FORCE)
            state, steps = state + TAU * np.array([state[1], slide, state[3], turn]), steps + 1
        assert 5 < steps < 20
        assert int(stands[number].sum()) == steps
        np.testing.assert_array_equal(returns[number, :steps], np.arange(steps, 0, -1))
        assert not returns[number, steps:].any()
    assert not stands.all()
    np.testing.assert_array_equal(before, after)  # steps after the fall are no factors of an episode's probability


@pytest.mark.oracle
def test_the_cart_pole_is_that_of_gymnasium(experiment):
    gymnasium = pytest.importorskip("gymnasium", reason="the oracle extra is not installed")
    env = gymnasium.make("CartPole-v1").unwrapped
    params = experiment.first_network(jax.random.key(0))
    episode = experiment.episodes(params).sample(jax.random.key(2), (20,))
    for states, actions, stands in zip(*map(np.asarray, episode), strict=True):
        env.reset()
        env.state = tuple(states[0].astype(float))
        steps = int(stands.sum())
        for step in range(steps):
            np.testing.assert_allclose(env.state, states[step], atol=1e-5)
            _, reward, terminated, _, _ = env.step(int(actions[step]))
            assert reward == 1.0
            assert terminated == (step == steps - 1)


@pytest.mark.slow
def test_policy_gradient(experiment, tmp_path, capsys, monkeypatch):
    # Both problems are solved by Adam at one of two rates that suit it.
    rates = {"bandit": 0.1, "cart-pole": 0.03}
    monkeypatch.setattr(
        experiment,
        "PROBLEMS",
        {name: one._replace(lowest_rate=rates[name]) for name, one in experiment.PROBLEMS.items()},
    )
    out = tmp_path / "out"
    experiment.main(experiment.Config(out=out, optimizers=("adam", "sgd"), rates=2, tuning_seeds=2, seeds=4))
    records = {(r["problem"], r["optimizer"]): r for r in json.loads((out / "results.json").read_text())}
    assert len(records) == 4
    for (problem, _), record in records.items():
        assert record["return_low"] <= record["return"] <= record["return_high"]
        assert record["learning_rate"] in [pytest.approx(rates[problem] * k) for k in (1, 3)]
        assert record["at_edge"]
    assert records["bandit", "adam"]["return"] > 0.9
    assert records["cart-pole", "adam"]["return"] > 475
    assert records["cart-pole", "adam"]["gradient_growth"] > 10
    for name in ("bandit_curves", "bandit_rates", "cart_pole_curves", "cart_pole_rates"):
        with Image.open(out / f"{name}.png") as image:
            assert min(image.size) > 400
    assert "cart-pole" in capsys.readouterr().out
