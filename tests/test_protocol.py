"""What an optimizer may ask for is the same in `descend`, `sweep`, `train` and `train_many`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from gdlab import descend, sweep, tasks
from gdlab import optimizers as o
from gdlab.optimizers.protocol import with_any_arguments
from gdlab.training import train, train_many

CURVATURES = np.array([1.0, 3.0])
START, STEPS, RATE, RADIUS = np.array([3.0, -2.0]), 20, 0.1, 0.05


def quadratic(x):
    return jnp.sum(jnp.asarray(CURVATURES, x.dtype) * x**2) / 2


def opaque_sam(learning_rate):
    climb = optax.chain(contrib.normalize(), optax.sgd(RADIUS))
    return contrib.sam(optax.sgd(learning_rate), climb, opaque_mode=True)


def grouped(make):
    return lambda learning_rate: make(
        {"all": optax.adam(learning_rate)}, lambda tree: jax.tree.map(lambda _: "all", tree)
    )


FACTORIES = {
    "lbfgs": lambda learning_rate: optax.lbfgs(),
    "sam": opaque_sam,
    "polyak_sgd": lambda learning_rate: optax.polyak_sgd(max_learning_rate=1.0),
    "multi_transform": grouped(optax.multi_transform),
    "partition": grouped(optax.partition),
    "apply_if_finite": lambda learning_rate: optax.apply_if_finite(optax.adam(learning_rate), 3),
    "MultiSteps": lambda learning_rate: optax.MultiSteps(optax.sgd(learning_rate), 2),
    "reduce_on_plateau": lambda learning_rate: optax.chain(
        optax.sgd(learning_rate), contrib.reduce_on_plateau(patience=2)
    ),
    "noisy_sgd": lambda learning_rate: optax.noisy_sgd(learning_rate, key=0),
    "linesearch": lambda learning_rate: optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(15)),
    "backtracking": lambda learning_rate: o.backtracking(o.sgd(1.0), max_learning_rate=10 * learning_rate),
    "polyak": lambda learning_rate: o.polyak(o.sgd(1.0), max_learning_rate=learning_rate),
    "gdlab_sam": lambda learning_rate: o.sam(o.every_k(o.momentum(learning_rate), k=2)),
    "averages": lambda learning_rate: o.ema(o.lookahead(o.adam(learning_rate)), decay=0.9),
    "partitioned": lambda learning_rate: o.partitioned(
        o.orthogonalized(o.nesterov(learning_rate), learning_rate), o.asam(o.schedule_free(o.sgd(learning_rate)))
    ),
    "cautious": lambda learning_rate: o.cautious_decay(o.cautious(o.noisy(o.adam(learning_rate))), learning_rate),
    "ema_nesterov": lambda learning_rate: o.ema_nesterov(
        o.centralize(o.grokfast(o.adaptive_clip(o.sgd(learning_rate), clipping=1.0)))
    ),
}
OURS = ("backtracking", "polyak", "gdlab_sam", "averages", "cautious", "ema_nesterov")


def swept(factory, **kwargs):
    return sweep(quadratic, factory, {"learning_rate": [RATE]}, START[None], max_steps=STEPS, progress=False, **kwargs)


def sam_by_hand():
    """Sharpness-aware minimization (Foret et al. 2021): the gradient at x + radius g / |g|."""
    x = START.copy()
    for _ in range(STEPS):
        g = CURVATURES * x
        x = x - RATE * CURVATURES * (x + RADIUS * g / np.linalg.norm(g))
    return x


def test_sam_asks_for_gradients_elsewhere():
    np.testing.assert_allclose(
        descend(quadratic, opaque_sam(RATE), START, max_steps=STEPS).point, sam_by_hand(), rtol=1e-9
    )
    np.testing.assert_allclose(swept(opaque_sam).point.values[0, 0], sam_by_hand(), rtol=1e-9)


def test_sweeps_carry_random_keys():
    make = FACTORIES["noisy_sgd"]
    one = descend(quadratic, make(RATE), START, max_steps=STEPS)
    for found in (swept(make), swept(make, record="path").isel(step=-1)):
        np.testing.assert_allclose(found.point.values[0, 0], one.point, rtol=1e-9)
    assert not np.allclose(one.point, (1 - RATE * CURVATURES) ** STEPS * START)


def test_line_searches_are_given_the_function():
    np.testing.assert_allclose(swept(FACTORIES["lbfgs"]).point.values[0, 0], 0, atol=1e-6)
    np.testing.assert_allclose(swept(FACTORIES["polyak_sgd"]).value.values[0, 0], 0, atol=1e-3)


@pytest.mark.thorough
def test_paths_of_lbfgs_are_those_of_descents():
    # Each lane has its own place in the memories, to which a batch writes by scatters: XLA must not merge two of them.
    starts = np.stack([START, -START, START / 2])
    make = FACTORIES["lbfgs"]
    found = sweep(quadratic, make, {"learning_rate": [RATE]}, starts, max_steps=5, record="path", progress=False)
    for place, start in enumerate(starts):
        one = descend(quadratic, make(RATE), start, max_steps=5)
        np.testing.assert_allclose(found.value[0, place], one.value, rtol=1e-9, atol=1e-12)


def test_only_what_an_update_names_is_passed_on():
    def named(updates, state, params, *, grad_fn):
        return grad_fn(params), state

    found = with_any_arguments(optax.GradientTransformationExtraArgs(lambda params: (), named))
    assert found.update(0, (), 3, grad_fn=lambda x: 2 * x, value=1, other=2) == (6, ())
    plain = with_any_arguments(
        optax.GradientTransformation(lambda params: (), lambda g, state, params=None: (g, state))
    )
    assert plain.update(5, (), 3, grad_fn=None, value=1) == (5, ())
    everything = with_any_arguments(
        optax.GradientTransformationExtraArgs(lambda params: (), lambda g, state, params=None, **extra: (extra, state))
    )
    assert everything.update(5, (), 3, value=1) == ({"value": 1}, ())


def probe(learning_rate):
    """Move by the difference of two gradients that are equal, if batch, key and state are: not at all."""

    def update(updates, state, params, *, grad_fn, value_fn, value):
        again = jax.tree.map(jnp.subtract, grad_fn(params), updates)
        return jax.tree.map(lambda g: learning_rate * (g + value_fn(params) - value), again), state

    return optax.GradientTransformationExtraArgs(lambda params: (), update)


def test_training_gives_the_gradient_and_the_loss_on_the_same_batch():
    task = tasks.digits_mlp(train_size=64, test_size=32, batch_size=32)
    still = train(task, optax.sgd(0.0), epochs=2, progress=False).history
    found = train(task, probe(1e3), epochs=2, progress=False).history
    np.testing.assert_allclose(found["train_loss"], still["train_loss"], rtol=1e-4)
    lanes = train_many(task, probe, {"learning_rate": [1e3, 1e4]}, epochs=2, seeds=1, progress=False)
    np.testing.assert_allclose(lanes.train_loss.values[0, 0], still["train_loss"], rtol=1e-3)


@pytest.mark.thorough
@pytest.mark.parametrize("name", FACTORIES)
def test_optimizers_of_optax_run_everywhere_as_they_are(name):
    make = FACTORIES[name]
    before = float(quadratic(START))
    assert float(descend(quadratic, make(RATE), START, max_steps=STEPS).value[-1]) < before
    assert float(swept(make).value[0, 0]) < before
    if name in OURS:  # the arguments of an update, which training passes on, are those that optax's ask for
        return
    task = tasks.digits_mlp(train_size=128, test_size=64, batch_size=32)
    one = train(task, make(RATE), epochs=2, seed=0, progress=False).history["train_loss"]
    many = train_many(task, make, {"learning_rate": [RATE, RATE / 2]}, epochs=2, seeds=1, progress=False)
    assert np.isfinite(one).all()
    np.testing.assert_allclose(many.train_loss.values[0, 0, 0], one[0], rtol=0.1)
