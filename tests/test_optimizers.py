import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdlab.optimizers import OPTIMIZERS, scale_by_adam, stable_dtypes
from tests.oracles import torch_trajectories as oracle

PROBLEMS = ("rosenbrock", "least_squares")


def our_trajectory(case, problem):
    matrix, target, start = oracle.least_squares_data()
    if problem == "rosenbrock":
        fn, start = oracle.rosenbrock, np.array([-1.2, 1.0])
    else:
        fn = oracle.least_squares(jnp.array(matrix), jnp.array(target))
    name, arguments, _, _ = oracle.CASES[case]
    optimizer = OPTIMIZERS[name](**arguments)

    def step(carry, _):
        x, state = carry
        updates, state = optimizer.update(jax.grad(fn)(x), state, x)
        x = optax.apply_updates(x, updates)
        return (x, state), x

    x = jnp.array(start)
    _, points = jax.jit(lambda x: jax.lax.scan(step, (x, optimizer.init(x)), length=oracle.STEPS))(x)
    return np.concatenate([start[None], np.asarray(points)])


def relative_deviation(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("case", oracle.CASES)
def test_trajectories_equal_stored_ones_of_torch(case, problem):
    with np.load(oracle.STORED) as stored:
        theirs = stored[f"{case}/{problem}"]
    assert np.abs(theirs[-1] - theirs[0]).max() > 1e-4  # the optimizer did something
    assert relative_deviation(our_trajectory(case, problem)[::10], theirs) < 1e-10


@pytest.mark.oracle
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("case", oracle.CASES)
def test_trajectories_equal_torch_live(case, problem):
    pytest.importorskip("torch", reason="the oracle extra is not installed")
    theirs = oracle.torch_trajectory(case, problem)
    assert relative_deviation(our_trajectory(case, problem), theirs) < 1e-10


def test_every_optimizer_has_a_case_with_its_defaults():
    assert {name for name, arguments, _, _ in oracle.CASES.values() if not arguments} == set(OPTIMIZERS)


def numeric_arguments(factory):
    return [name for name, p in inspect.signature(factory).parameters.items() if not isinstance(p.default, bool)]


def run(optimizer, x, steps=15):
    """A few steps on a curved function with a coupling, in x's dtype; its gradient shrinks as the steps go on."""

    def step(carry, scale):
        x, state = carry
        gradient = jax.grad(lambda x: jnp.sum(jnp.cosh(x)) + x[0] * x[1] / 2)(x) * scale
        updates, state = optimizer.update(gradient, state, x)
        return (optax.apply_updates(x, updates), state), None

    scales = jnp.linspace(1, 0.1, steps).astype(x.dtype)
    (x, state), _ = jax.lax.scan(step, (x, optimizer.init(x)), scales)
    return x, state


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_number_can_be_traced(name):
    factory = OPTIMIZERS[name]
    start = jnp.array([0.7, -1.3])
    for argument in numeric_arguments(factory):
        values = jnp.array([0.1, 0.5, 0.9])
        together = jax.jit(jax.vmap(lambda v, argument=argument: run(factory(**{argument: v}), start)[0]))(values)
        alone = [run(factory(**{argument: float(v)}), start)[0] for v in values]
        np.testing.assert_allclose(together, jnp.stack(alone), rtol=1e-12, err_msg=f"{name}({argument})")
        spread = np.ptp(together, axis=0).max()
        assert spread > 1e-13, f"{name}: {argument} changes nothing"


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_dtypes_do_not_drift_under_traced_float32_hyperparameters(name, dtype):
    factory = OPTIMIZERS[name]
    start = jnp.array([0.7, -1.3], dtype)

    def all_traced(value):
        return run(factory(**dict.fromkeys(numeric_arguments(factory), value)), start, steps=3)

    x, state = jax.jit(all_traced)(jnp.float32(0.1))  # lax.scan refuses a state whose dtypes change
    assert x.dtype == dtype
    assert {leaf.dtype for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)} <= {
        jnp.dtype(dtype)
    }


def test_stable_dtypes_is_what_keeps_them():
    bare = optax.chain(optax.trace(jnp.float32(0.9)), optax.scale_by_learning_rate(0.1))
    x = jnp.ones(2, jnp.bfloat16)
    updates, state = bare.update(x, bare.init(x), x)
    assert jax.tree.leaves(state)[0].dtype == jnp.float32  # the trap is real
    updates, state = stable_dtypes(bare).update(x, stable_dtypes(bare).init(x), x)
    assert jax.tree.leaves(state)[0].dtype == updates.dtype == jnp.bfloat16


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learning_rate_may_be_a_schedule(name):
    # With a schedule that is 0 but at step 2, only the third update moves anything.
    optimizer = OPTIMIZERS[name](lambda count: jnp.where(count == 2, 0.5, 0.0))
    x = jnp.array([1.0, -2.0])
    state = optimizer.init(x)
    moved = []
    for _ in range(4):
        updates, state = optimizer.update(jnp.array([0.3, 0.4]), state, x)
        moved.append(bool(jnp.any(updates != 0)))
    assert moved == [False, False, True, False]


def test_first_steps_follow_from_the_equations():
    x, g = jnp.array([2.0]), jnp.array([0.5])

    def first(name, **arguments):
        optimizer = OPTIMIZERS[name](**arguments)
        return float(optimizer.update(g, optimizer.init(x), x)[0][0])

    assert first("sgd", learning_rate=0.1, weight_decay=0.25) == pytest.approx(-0.1 * (0.5 + 0.25 * 2), rel=1e-14)
    assert first("momentum", learning_rate=0.1, dampening=0.5) == pytest.approx(-0.05, rel=1e-14)  # v = g, undampened
    assert first("nesterov", learning_rate=0.1, momentum=0.9) == pytest.approx(-0.1 * 0.5 * 1.9, rel=1e-14)
    # Adam's first step is learning_rate g / (|g| + eps); AdamW's adds learning_rate weight_decay x.
    assert first("adam", learning_rate=0.1, eps=0.5) == pytest.approx(-0.05, rel=1e-12)
    assert first("adamw", learning_rate=0.1, eps=0.0, weight_decay=0.3) == pytest.approx(-0.1 * (1 + 0.6), rel=1e-12)
    assert first("adamax", learning_rate=0.1, eps=0.5) == pytest.approx(-0.05, rel=1e-12)
    assert first("adagrad", learning_rate=0.1, eps=0.5) == pytest.approx(-0.05, rel=1e-14)
    # v = (1 - 0.75) 0.25, so sqrt(v) = 0.25
    assert first("rmsprop", learning_rate=0.1, decay=0.75, eps=0.0) == pytest.approx(-0.2, rel=1e-14)
    # d = g sqrt(eps) / sqrt((1 - rho) g^2 + eps)
    assert first("adadelta", rho=0.0, eps=0.75) == pytest.approx(-0.5 * np.sqrt(0.75), rel=1e-14)


def test_adams_first_float32_step_is_the_learning_rate():
    with jax.enable_x64(False):
        x = jnp.ones(1, jnp.float32)
        ours = scale_by_adam(eps=0.0)
        assert float(ours.update(x, ours.init(x))[0][0]) == pytest.approx(1.0, abs=1.2e-7)
        theirs = optax.scale_by_adam(eps=0.0)
        assert abs(float(theirs.update(x, theirs.init(x))[0][0]) - 1) > 1e-6  # why we have our own


def test_centered_rmsprop_survives_a_constant_gradient():
    optimizer = OPTIMIZERS["rmsprop"](centered=True, decay=0.9)
    x = jnp.array([1.0])

    def step(carry, _):
        x, state = carry
        updates, state = optimizer.update(jnp.array([1 / 3]), state, x)
        return (x + updates, state), updates

    _, updates = jax.lax.scan(step, (x, optimizer.init(x)), length=2000)
    assert jnp.isfinite(updates).all()


def test_zero_gradient_moves_nothing_and_can_be_differentiated():
    def last(learning_rate, x, gradient, factory):
        optimizer = factory(learning_rate, weight_decay=0.0)
        updates, state = optimizer.update(gradient, optimizer.init(x), x)
        updates, _ = optimizer.update(gradient, state, x + updates)
        return jnp.sum(updates)

    factories = [*OPTIMIZERS.items(), ("centered", partial(OPTIMIZERS["rmsprop"], centered=True))]
    for name, factory in factories:
        value, slopes = jax.value_and_grad(last, argnums=(0, 1, 2))(0.1, jnp.ones(3), jnp.zeros(3), factory)
        assert value == 0, name
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes)), name


def test_adams_hypergradients_are_finite_at_the_edges():
    def final(b1, b2):
        x, _ = run(OPTIMIZERS["adam"](0.1, b1=b1, b2=b2), jnp.array([0.7, -1.3]))
        return jnp.sum(x)

    assert all(jnp.isfinite(slope) for slope in jax.grad(final, argnums=(0, 1))(0.0, 0.0))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("sgd", {"learning_rate": -0.1}, r"learning_rate: wanted a number in \[0, inf\), got -0.1"),
        ("adam", {"b1": 1.0}, r"b1: wanted a number in \[0, 1\), got 1"),
        ("adam", {"eps": -1e-8}, r"eps: wanted a number in \[0, inf\), got -1e-08"),
        ("momentum", {"momentum": float("nan")}, r"momentum: wanted a number in \[0, 1\), got nan"),
        ("adagrad", {"lr_decay": -1}, r"lr_decay: wanted"),
        ("rmsprop", {"decay": 1.5}, r"decay: wanted a number in \[0, 1\), got 1.5"),
        ("adam", {"learning_rate": float("inf")}, "learning_rate: wanted a finite number, got inf"),
        ("adam", {"learning_rate": np.ones(3)}, r"learning_rate: wanted one number, got an array of shape \(3,\)"),
    ],
)
def test_a_number_out_of_range_is_refused_at_construction(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        OPTIMIZERS[name](**arguments)


@pytest.mark.parametrize("value", ["0.1", True, 1j, [0.1]])
def test_something_else_than_a_number_is_refused(value):
    with pytest.raises(TypeError, match="learning_rate: wanted a number, got"):
        OPTIMIZERS["adam"](value)


def test_an_unknown_name_gives_the_nearest():
    with pytest.raises(KeyError) as caught:
        OPTIMIZERS["adamx"]
    assert str(caught.value).startswith("no optimizer named 'adamx'; nearest: adamax")
