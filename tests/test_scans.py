
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdlab import scan

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
    begun = jax.random.normal(start, (4,)), jnp.zeros(4)
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


@pytest.mark.parametrize("chunk", ["auto", 1, 5])
def test_every_lane_is_the_solo_run(chunk):
    found = scan(regress, GRID, seeds=[3, 7], chunk=chunk, progress=False)
    assert dict(found.sizes) == {"learning_rate": 3, "momentum": 2, "seed": 2, "w_0": 4}
    assert found.loss.dims == ("learning_rate", "momentum", "seed")
    assert_solo(found, 1e-6)
