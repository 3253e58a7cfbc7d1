import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdlab import linear_range, scan
from gdlab.scans import plans

X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
Y = X @ np.array([1.0, -1.0, 0.5, 0.0], np.float32)


def regress(key, learning_rate, momentum=0.5, steps=20):
    """Fit a line to random batches by gradient descent with momentum: a user's own training run."""

    def step(carry, key):
        w, m = carry
        rows = jax.random.randint(key, (8,), 0, len(X))
        loss, g = jax.value_and_grad(lambda w: jnp.mean((jnp.asarray(X)[rows] @ w - jnp.asarray(Y)[rows]) ** 2))(w)
        m = momentum * m + g
        return (w - learning_rate * m, m), loss

    start, noise = jax.random.split(key)
    begun = jax.random.normal(start, (4,)), jnp.zeros(4)  # in the default floating-point type
    (w, _), losses = jax.lax.scan(step, begun, jax.random.split(noise, steps))
    return {"loss": losses[-1], "w": w}


GRID = {"learning_rate": np.array([1e-3, 1e-2, 0.1]), "momentum": np.array([0.0, 0.9])}


def assert_solo(found, tolerance, **settings):
    """Every lane is the call that a user would make alone."""
    solo = jax.jit(regress, static_argnames="steps")
    for rate in found.learning_rate.values:
        for momentum in found.momentum.values:
            for seed in found.seed.values:
                one = solo(jax.random.key(seed), learning_rate=rate, momentum=momentum, **settings)
                lane = found.sel(learning_rate=rate, momentum=momentum, seed=seed)
                np.testing.assert_allclose(lane.loss, one["loss"], rtol=tolerance)
                np.testing.assert_allclose(lane.w, one["w"], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("chunk", ["auto", 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_lane_is_the_solo_run(chunk, dtype):
    with jax.enable_x64(dtype is np.float64):
        found = scan(regress, GRID, seeds=[3, 7], chunk=chunk, progress=False)
        assert dict(found.sizes) == {"learning_rate": 3, "momentum": 2, "seed": 2, "w_0": 4}
        assert found.loss.dims == ("learning_rate", "momentum", "seed")
        assert found.w.dtype == dtype
        assert_solo(found, {np.float32: 1e-6, np.float64: 1e-12}[dtype])


@pytest.fixture
def eager(monkeypatch):
    """Several lanes per call are tried at once, whatever compiling takes, and no choice is remembered."""
    monkeypatch.setattr(plans, "CHOICES", {})
    monkeypatch.setattr(plans.Runner, "_is_worth_trying", lambda self, left, one: not (self.choice and self.choice.width))
    monkeypatch.setattr(plans, "BLOCK_SECONDS", 0.0)
    monkeypatch.setattr(plans, "QUICK_SECONDS", 0.0)


def logistic(key, rate, start):
    """The hundredth value of the logistic map, which is never 0."""
    return {"x": jax.lax.fori_loop(0, 100, lambda _, x: rate * x * (1 - x), start) + jax.random.uniform(key)}


MANY = {"rate": np.linspace(0.5, 3.0, 40), "start": linear_range(0.1, 0.9, 5)}


@pytest.mark.parametrize(("faster", "expected"), [("several", 16), ("one", 1)])
def test_the_faster_way_is_taken_and_remembered(eager, monkeypatch, faster, expected):
    timed = plans.Runner._timed
    seconds = {"several": (2.0, 1.0), "one": (1.0, 2.0)}[faster]

    def pretend(self, size, width, device, most, limit=np.inf):
        found = timed(self, size, width, device, most, limit)
        return found and seconds[width is not None]

    scan(logistic, MANY, chunk=16, progress=False)  # compiled before, or else the other thread would do all lanes
    monkeypatch.setattr(plans.Runner, "_timed", pretend)
    found = scan(logistic, MANY, seeds=2, progress=False)
    assert (found.x != 0).all()
    (plan,) = json.loads(found.attrs["plan"])
    assert plan["lanes_per_call"] == expected
    assert plan["several_are_faster_by"] == seconds[0] / seconds[1]
    monkeypatch.setattr(plans.Runner, "_try", lambda self: pytest.fail("timed again"))
    again = scan(logistic, MANY, seeds=2, progress=False)
    np.testing.assert_allclose(again.x, found.x, rtol=1e-5)
    assert json.loads(again.attrs["plan"])[0]["lanes_per_call"] == expected


def test_the_rounds_of_a_choice():
    choice = plans.Choice(one=1.0, width=16, several=0.5)
    assert choice.best(1024, 2) == 16
    assert choice.best(17, 2) == 16  # 17 s one after another, 16 s in two calls side by side
    assert choice.best(16, 2) is None  # one thread would do nothing
    assert plans.Choice(one=1.0).best(1024, 2) is None


def test_lanes_run_one_after_another_where_vmap_fails(eager):
    def fn(key, rate):
        return {"x": jax.pure_callback(lambda x: 2 * np.asarray(x), rate, rate)}

    rates = {"rate": np.arange(1.0, 100.0)}
    message = "chunk: expected a function that jax.vmap can map, got NotImplementedError: vmap is"
    with pytest.raises(ValueError, match=message):
        scan(fn, rates, chunk=4, progress=False)
    found = scan(fn, rates, progress=False)
    np.testing.assert_array_equal(found.x.isel(seed=0), 2 * np.arange(1.0, 100.0))
    assert json.loads(found.attrs["plan"])[0]["note"].startswith("vmap failed: NotImplementedError: vmap is")
