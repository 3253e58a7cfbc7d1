import dataclasses
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from gdlab import FUNCTIONS, OPTIMIZERS, check_gradient, descend, finite_difference
from gdlab.gradients import Scheme
from gdlab.optimizers import adam, momentum, sgd

ROSENBROCK = FUNCTIONS["rosenbrock"].fn
ACKLEY = FUNCTIONS["ackley"].fn


def parabola(x):
    return jnp.sum(jnp.array([1.0, 4.0], x.dtype) * x**2) / 2


def test_gradient_descent_on_a_parabola_follows_its_closed_form():
    # x_k = (1 - lr lam)^k x_0, coordinate by coordinate.
    start, rate, steps = jnp.array([3.0, -1.0]), 0.1, 40
    descent = descend(parabola, sgd(rate), start, max_steps=steps)
    k = np.arange(steps + 1)[:, None]
    np.testing.assert_allclose(descent.path, (1 - rate * np.array([1.0, 4.0])) ** k * start, rtol=1e-12)
    np.testing.assert_allclose(descent.value, jax.vmap(parabola)(descent.path), rtol=1e-14)
    assert descent.steps == steps
    assert not descent.converged
    assert not descent.diverged
    np.testing.assert_array_equal(descent.point, descent.path[-1])


def test_it_stops_at_the_step_predicted_by_the_closed_form_and_freezes():
    # On x^2 / 2 the k-th step has length lr (1 - lr)^(k - 1) |x_0|; the first below the tolerance is the last taken.
    rate, x0, tolerance = 0.1, 5.0, 1e-3
    expected = math.ceil(math.log(tolerance / (rate * x0)) / math.log(1 - rate)) + 1
    fn = lambda x: jnp.sum(x**2) / 2  # noqa: E731
    for record in ("path", "last"):
        descent = jax.jit(
            lambda x, record=record: descend(fn, sgd(rate), x, max_steps=300, tolerance=tolerance, record=record)
        )(jnp.array([x0]))
        assert int(descent.steps) == expected
        assert descent.converged
        assert float(descent.point[0]) == pytest.approx(x0 * (1 - rate) ** expected, rel=1e-12)
    path = descend(fn, sgd(rate), jnp.array([x0]), max_steps=300, tolerance=tolerance).path
    np.testing.assert_array_equal(path[expected:], np.full((301 - expected, 1), path[expected]))


def test_the_articles_counts():
    # The quotient as printed gives 139 and 127 epochs; with a derivative the first step meets the tolerance.
    printed = Scheme("printed", 0, lambda line, h: line(h) - line(-h) / (2 * h), lambda x: x)
    start = jnp.array([-2.0, -2.0])
    gradients = (finite_difference(ACKLEY, printed, 1e-3), finite_difference(ACKLEY, "central", 1e-3), None)
    counts = []
    for gradient in gradients:
        for m in (0.0, 0.1):
            run = jax.jit(
                lambda x, m=m, gradient=gradient: descend(
                    ACKLEY,
                    momentum(1e-5, momentum=m),
                    x,
                    max_steps=500,
                    tolerance=1e-3,
                    gradient=gradient,
                    record="last",
                )
            )(start)
            assert run.converged
            counts.append(int(run.steps))
    assert counts == [139, 127, 1, 1, 1, 1]
    np.testing.assert_allclose(run.point, [-1.99998659, -1.99998659], atol=5e-9)


@pytest.mark.parametrize("record", ["path", "last"])
def test_lanes_of_a_batch_equal_solo_runs(record):
    starts = jnp.array([[-1.2, 1.0], [0.9, 0.9], [jnp.nan, 0.0], [1.0, 1.0], [2.0, -2.0]])
    rates = jnp.array([0.02, 0.3])

    def run(rate, start):
        return descend(ROSENBROCK, adam(rate), start, max_steps=200, tolerance=1e-4, record=record)

    batch = jax.jit(jax.vmap(jax.vmap(run, (None, 0)), (0, None)))(rates, starts)
    assert batch.path.shape == (2, 5, 201 if record == "path" else 1, 2)
    assert batch.point.shape == (2, 5, 2)
    solo_run = jax.jit(run)
    for i, rate in enumerate(rates):
        for j, start in enumerate(starts):
            solo = solo_run(rate, start)
            lane = jax.tree.map(lambda leaf, i=i, j=j: leaf[i, j], batch)
            chex.assert_trees_all_close(lane, solo, rtol=1e-9, atol=1e-12)
    assert batch.converged[0, 3]
    assert batch.steps[0, 3] == 1  # it starts at the minimum
    assert batch.steps[0, 2] == 0


def test_a_nan_start_is_a_flagged_lane():
    descent = descend(ROSENBROCK, adam(0.1), jnp.array([jnp.nan, 1.0]), max_steps=5)
    assert descent.diverged
    assert not descent.converged
    assert descent.steps == 0
    assert jnp.isnan(descent.path[:, 0]).all()


@pytest.mark.parametrize("record", ["path", "last"])
def test_a_diverging_descent_is_flagged_and_frozen_at_its_last_finite_point(record):
    descent = descend(ROSENBROCK, sgd(1.0), jnp.array([2.0, 2.0]), max_steps=50, record=record)
    assert descent.diverged
    assert not descent.converged
    assert 1 < descent.steps < 50
    assert jnp.isfinite(descent.path).all()


def test_a_descent_into_an_infinite_value_is_diverged():
    descent = descend(lambda x: jnp.sum(-1 / jnp.maximum(x, 0.0)), sgd(0.5), jnp.array([0.5]), max_steps=20)
    assert descent.diverged


def test_a_value_on_the_way_that_is_not_finite_stops_the_lane():
    def walled(x):
        return jnp.sum(jnp.where(jnp.abs(x - 1) < 0.3, jnp.inf, x**2))

    for record in ("path", "last"):
        descent = descend(
            walled, sgd(0.2), jnp.array([2.0]), max_steps=8, gradient=lambda x: 2 * x, record=record
        )  # the points are 2 and then 1.2, which is in the wall
        assert descent.diverged
        assert descent.steps == 2
        assert float(descent.point[0]) == pytest.approx(1.2)


def test_a_traced_float32_hyperparameter_of_optax_does_not_widen_a_bfloat16_descent():
    start = jnp.array([1.0, -1.0], jnp.bfloat16)
    for record in ("path", "last"):
        run = jax.jit(
            lambda m, record=record: descend(parabola, optax.sgd(0.1, momentum=m), start, max_steps=4, record=record)
        )
        assert run(jnp.float32(0.9)).path.dtype == jnp.bfloat16


def test_record_last_equals_the_end_of_the_path():
    for name in ("sgd", "momentum", "adam", "rmsprop", "yellowfin", "schedule_free_adamw", "shampoo"):
        optimizer = OPTIMIZERS[name](0.01)
        path = descend(ROSENBROCK, optimizer, jnp.array([-1.0, 1.5]), max_steps=60, tolerance=1e-5)
        last = descend(ROSENBROCK, optimizer, jnp.array([-1.0, 1.5]), max_steps=60, tolerance=1e-5, record="last")
        assert last.path.shape == (1, 2)
        np.testing.assert_allclose(last.point, path.point, rtol=1e-12, err_msg=name)
        assert last.steps == path.steps


def test_any_gradient_can_be_passed():
    start = jnp.array([-1.2, 1.0])
    exact = descend(ROSENBROCK, adam(0.05), start, max_steps=50)
    for scheme in ("central", "central4", "complex", "richardson"):
        numeric = descend(ROSENBROCK, adam(0.05), start, max_steps=50, gradient=finite_difference(ROSENBROCK, scheme))
        np.testing.assert_allclose(numeric.path, exact.path, atol=1e-6)
    uphill = descend(parabola, sgd(0.1), jnp.ones(2), max_steps=3, gradient=lambda x: -jax.grad(parabola)(x))
    assert uphill.value[-1] > uphill.value[0]


def test_float32_stays_float32_and_lists_are_accepted():
    descent = descend(ROSENBROCK, adam(0.1), jnp.array([0.0, 0.5], jnp.float32), max_steps=3)
    assert descent.path.dtype == descent.value.dtype == jnp.float32
    assert descend(ROSENBROCK, sgd(1e-3), [0.0, 0.5], max_steps=3).path.shape == (4, 2)


@pytest.mark.thorough
def test_the_whole_descent_is_differentiable():
    # The derivative of the final value with respect to the learning rate, against differences of whole descents.
    def final(rate):
        return descend(ROSENBROCK, adam(rate[0]), jnp.array([-1.2, 1.0]), max_steps=20).value[-1]

    report = check_gradient(final, jnp.array([0.05]))
    assert report.ok, str(report)


def test_optimizers_that_need_the_value_receive_it():
    # optax's Polyak step needs `value`; on a parabola with a known minimum it descends fast.
    descent = descend(parabola, optax.polyak_sgd(), jnp.array([3.0, -1.0]), max_steps=60)
    assert descent.value[-1] < 1e-6
    search = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(max_backtracking_steps=20))
    assert descend(ROSENBROCK, search, jnp.array([-1.2, 1.0]), max_steps=100).value[-1] < 4.0


def test_one_compilation_serves_all_values():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(rate, start):
        return descend(ROSENBROCK, adam(rate), start, max_steps=5, tolerance=1e-6).value[-1]

    for rate in (0.1, 0.2):
        run(rate, jnp.array([rate, 1.0]))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"fn": 3}, TypeError, "fn: expected a function, got 3"),
        ({"fn": FUNCTIONS["sphere"]}, TypeError, "fn: expected a function, got a Function; pass its .fn"),
        (
            {"fn": lambda x: x},
            ValueError,
            r"fn: expected a function that returns a scalar of shape \(\), got shape \(2,\)",
        ),
        ({"fn": FUNCTIONS["beale"].fn, "start": jnp.ones(3)}, ValueError, "beale: expected dimension 2, got 3"),
        (
            {"optimizer": adam},
            TypeError,
            r"optimizer: expected an optax.GradientTransformation, got function adam; call",
        ),
        ({"optimizer": "adam"}, TypeError, "optimizer: expected an optax.GradientTransformation, got 'adam'"),
        ({"start": [-2, -2]}, TypeError, "start: expected floating-point numbers, got dtype int"),
        (
            {"start": jnp.ones((9, 2))},
            ValueError,
            r"rosenbrock: expected one point of shape \(dim,\), got shape \(9, 2\); for many",
        ),
        ({"start": "here"}, TypeError, "start: expected floating-point numbers, got 'here'"),
        ({"max_steps": 0}, ValueError, "max_steps: expected an integer of at least 1, got 0"),
        ({"max_steps": 10.0}, TypeError, "max_steps: expected an integer, got 10.0"),
        ({"tolerance": -1e-3}, ValueError, r"tolerance: expected a number in \[0, inf\), got -0.001"),
        ({"record": "all"}, ValueError, "record: expected one of path, last; got 'all'"),
        ({"record": np.array(["path"])}, ValueError, "record: expected one of path, last; got an array"),
        ({"gradient": jax.value_and_grad(ROSENBROCK)}, ValueError, r"the start's shape \(2,\), got a tuple"),
        ({"start": None}, TypeError, "start: expected floating-point numbers, got None"),
        ({"start": [[1.0], [2.0, 3.0]]}, TypeError, "start: expected floating-point numbers, got a list"),
        ({"start": [1j, 2.0]}, TypeError, "start: expected floating-point numbers, got dtype complex128$"),
        ({"max_steps": 2**31}, ValueError, r"max_steps: expected an integer below 2\^31"),
        ({"optimizer": optax.GradientTransformation}, TypeError, "optimizer: expected an optax.GradientTransformation"),
        ({"gradient": 2.0}, TypeError, "gradient: expected a function, got 2.0"),
        (
            {"gradient": lambda x: x[0]},
            ValueError,
            r"gradient: expected a function that returns the start's shape \(2,\), got shape \(\)",
        ),
    ],
)
def test_bad_input_is_refused(change, error, message):
    arguments = {"fn": ROSENBROCK, "optimizer": adam(0.1), "start": jnp.ones(2), "max_steps": 3, **change}
    with pytest.raises(error, match=message) as caught:
        descend(arguments.pop("fn"), arguments.pop("optimizer"), arguments.pop("start"), **arguments)
    assert "\n" not in str(caught.value)


def test_a_traced_step_count_is_refused():
    with pytest.raises(TypeError, match="max_steps: expected a Python integer"):
        jax.jit(lambda n: descend(ROSENBROCK, adam(0.1), jnp.ones(2), max_steps=n))(3)


# Points that are trees ---------------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Pair:
    first: jax.Array
    second: jax.Array


class Named(NamedTuple):
    matrix: jax.Array
    scalar: jax.Array


MATRIX, SCALAR = np.arange(6.0).reshape(2, 3) - 2, np.float64(1.5)
TREES = {
    "dict": {"layer": {"kernel": MATRIX}, "bias": SCALAR},
    "tuple": (MATRIX, SCALAR),
    "named tuple": Named(MATRIX, SCALAR),
    "dataclass": Pair(MATRIX, SCALAR),
    "list with None": [MATRIX, None, SCALAR],
    "with what stays": {
        "kernel": MATRIX,
        "name": "layer",
        "count": 3,
        "key": np.arange(2, dtype=np.uint32),
        "x": SCALAR,
    },
}


def halves(tree):
    """Return sum((k + 1) x_k^2) / 2 over the numbers of a tree, in the order of its floating-point leaves."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(getattr(leaf, "dtype", int), jnp.floating)]
    flat = jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])
    return jnp.sum(jnp.arange(1, flat.size + 1) * flat**2) / 2


@pytest.mark.parametrize("kind", TREES)
def test_a_descent_of_a_tree_is_that_of_all_its_numbers(kind):
    start = TREES[kind]
    numbers = [leaf for leaf in jax.tree.leaves(start) if getattr(leaf, "dtype", None) == np.float64]
    flat = np.concatenate([np.ravel(leaf) for leaf in numbers])
    options = {"max_steps": 30, "tolerance": 0.1}
    expected = descend(halves, sgd(0.1), flat, **options)
    found = descend(halves, sgd(0.1), start, **options)
    assert 0 < int(found.steps) == int(expected.steps) < 30
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-12)
    ends = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found.point)])
    np.testing.assert_allclose(ends, expected.point, rtol=1e-12)
    assert [leaf.shape for leaf in jax.tree.leaves(found.path)] == [(31, *leaf.shape) for leaf in numbers]
    if kind != "with what stays":
        assert jax.tree.structure(found.point) == jax.tree.structure(start)
    else:
        assert found.point["name"] is None
        assert found.point["count"] is None


def by_spectrum(rate):
    """Move each matrix by its gradient over the largest singular value: what depends on shapes."""

    def update(updates, state, params=None):
        return jax.tree.map(lambda g: -rate * g / jnp.linalg.norm(g, 2 if g.ndim == 2 else None), updates), state

    return optax.GradientTransformation(lambda params: (), update)


def test_an_optimizer_sees_the_matrices_of_a_tree():
    kernel, bias = MATRIX, np.ones(3)
    fn = lambda p: jnp.sum(p["kernel"] ** 2) / 2 + jnp.sum(p["bias"] ** 2) / 2  # noqa: E731
    found = descend(fn, by_spectrum(0.1), {"kernel": kernel, "bias": bias}, max_steps=5)
    for _ in range(5):
        kernel = kernel - 0.1 * kernel / np.linalg.svd(kernel)[1][0]
        bias = bias - 0.1 * bias / np.linalg.norm(bias)
    np.testing.assert_allclose(found.point["kernel"], kernel, rtol=1e-9)
    np.testing.assert_allclose(found.point["bias"], bias, rtol=1e-9)


def test_trees_are_mapped_over():
    kernels = np.stack([MATRIX, -MATRIX, 2 * MATRIX])
    run = jax.vmap(lambda kernel: descend(halves, sgd(0.1), {"kernel": kernel, "bias": np.ones(2)}, max_steps=3))
    found = run(kernels)
    one = descend(halves, sgd(0.1), {"kernel": kernels[2], "bias": np.ones(2)}, max_steps=3)
    np.testing.assert_allclose(found.point["kernel"][2], one.point["kernel"], rtol=1e-12)
    assert found.path["bias"].shape == (3, 4, 2)
    assert found.point["bias"].shape == (3, 2)


@pytest.mark.parametrize("start", [2.0, MATRIX, np.float32(3.0)])
def test_scalars_and_matrices_are_points(start):
    found = descend(lambda x: jnp.sum(x**2) / 2, sgd(0.5), start, max_steps=4)
    np.testing.assert_allclose(found.point, np.asarray(start) / 16, rtol=1e-6)
    assert found.point.shape == np.shape(start)


def test_modules_of_nnx_are_points():
    module = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    x = jnp.ones((4, 3))
    found = descend(lambda m: jnp.mean((m(x) - 1) ** 2), adam(0.1), module, max_steps=60, record="last")
    assert float(found.value[-1]) < 1e-2 < float(jnp.mean((module(x) - 1) ** 2))
    assert {leaf.shape for leaf in jax.tree.leaves(found.point)} == {(3, 2), (2,)}


def test_modules_of_equinox_are_points():
    eqx = pytest.importorskip("equinox")
    module = eqx.nn.MLP(3, 1, 4, 1, activation=jnp.tanh, key=jax.random.key(0))
    x = jnp.ones(3)
    found = descend(lambda m: jnp.sum((m(x) - 1) ** 2), adam(0.1), module, max_steps=60, record="last")
    assert float(found.value[-1]) < 1e-2 < float(jnp.sum((module(x) - 1) ** 2))
    trained = eqx.combine(found.point, module)
    np.testing.assert_allclose(jnp.sum((trained(x) - 1) ** 2), found.value[-1], rtol=1e-6)


@pytest.mark.parametrize(
    ("start", "gradient", "error", "message"),
    [
        ({"a": 1, "b": "text"}, None, TypeError, "start: expected floating-point numbers, got none in a dict"),
        ({"a": np.ones(2)}, lambda p: p["a"], ValueError, "gradient: expected a function that returns arrays like the"),
        (
            {"a": np.ones(2)},
            lambda p: {"a": 1.0},
            ValueError,
            r"gradient: .* \['a'\] of shape \(2,\), got \['a'\] of shape \(\)",
        ),
    ],
)
def test_bad_trees_are_refused(start, gradient, error, message):
    with pytest.raises(error, match=message):
        descend(lambda p: jnp.sum(p["a"] ** 2), sgd(0.1), start, max_steps=3, gradient=gradient)
