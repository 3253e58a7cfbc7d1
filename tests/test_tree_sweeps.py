"""Sweeps over points that are trees: the same numbers as descents of these trees, by name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdlab import descend, sweep
from gdlab.optimizers import adam, sgd

RNG = np.random.default_rng(0)
STARTS = {
    "layer": {"kernel": RNG.normal(size=(3, 2, 2))},
    "bias": RNG.normal(size=(3, 2)),
    "scalar": RNG.normal(size=3),
}
X = np.array([0.5, -1.0])


def loss(p):
    hidden = jnp.tanh(p["layer"]["kernel"] @ X + p["bias"])
    return jnp.sum((hidden - p["scalar"]) ** 2) + 0.1 * p["scalar"] ** 2


def at(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def quiet(*arguments, **options):
    return sweep(*arguments, **{"max_steps": 12, "progress": False, **options})


def test_lanes_of_trees_are_descents_of_trees():
    rates = [0.01, 0.1]
    found = quiet(loss, {"adam": adam, "sgd": sgd}, {"learning_rate": rates}, STARTS)
    assert found["point/layer/kernel"].dims == (
        "optimizer",
        "learning_rate",
        "start",
        "layer/kernel_0",
        "layer/kernel_1",
    )
    assert found["point/scalar"].dims == ("optimizer", "learning_rate", "start")
    assert "point" not in found
    np.testing.assert_array_equal(found["start_point/bias"], STARTS["bias"])
    for name, make in (("adam", adam), ("sgd", sgd)):
        one = descend(loss, make(rates[1]), at(STARTS, 2), max_steps=12, record="last")
        lane = found.sel(optimizer=name, learning_rate=rates[1], start=2)
        np.testing.assert_allclose(lane["point/layer/kernel"], one.point["layer"]["kernel"], rtol=1e-9)
        np.testing.assert_allclose(lane["point/bias"], one.point["bias"], rtol=1e-9)
        np.testing.assert_allclose(lane.value, one.value[-1], rtol=1e-9)


def spectral(learning_rate):
    """Divide the gradient of a matrix by its largest singular value; other leaves keep theirs."""

    def update(updates, state, params=None):
        norms = jax.tree.map(lambda g: jnp.linalg.norm(g, 2) if g.ndim == 2 else 1.0, updates)
        return jax.tree.map(lambda g, norm: -learning_rate * g / norm, updates, norms), state

    return optax.GradientTransformation(lambda params: (), update)


def test_paths_reductions_and_optimizers_see_the_tree():
    one = descend(loss, spectral(0.1), at(STARTS, 0), max_steps=12)
    path = quiet(loss, spectral, {"learning_rate": [0.1]}, STARTS, record="path")
    assert path["point/bias"].dims == ("learning_rate", "start", "step", "bias_0")
    np.testing.assert_allclose(path["point/layer/kernel"][0, 0], one.path["layer"]["kernel"], rtol=1e-9)
    kept = quiet(
        loss,
        spectral,
        {"learning_rate": [0.1]},
        STARTS,
        reduce=lambda descent: {"norm": jnp.sum(descent.point["bias"] ** 2)},
    )
    np.testing.assert_allclose(kept.norm[0, 0], np.sum(one.point["bias"] ** 2), rtol=1e-9)


def test_gradients_of_ones_own_and_what_stays():
    starts = {"x": np.ones((2, 3)), "name": "layer", "power": 2}
    fn = lambda p: jnp.sum(p["x"] ** p["power"]) / 2  # noqa: E731
    slope = lambda p: {"x": p["x"], "name": None, "power": None}  # noqa: E731
    found = quiet(fn, sgd, {"learning_rate": [0.5]}, starts, gradient=slope, max_steps=3)
    np.testing.assert_array_equal(found["point/x"][0], np.full((2, 3), 1 / 8))


def test_matrices_and_tuples_are_points_and_lists_are_rows():
    fn = lambda x: jnp.sum(x**2) / 2  # noqa: E731
    matrices = quiet(fn, sgd, {"learning_rate": [0.5]}, np.ones((4, 2, 3)), max_steps=2)
    np.testing.assert_array_equal(matrices.point, np.full((1, 4, 2, 3), 0.25))
    assert matrices.point.dims == ("learning_rate", "start", "coordinate_0", "coordinate_1")
    pairs = quiet(
        lambda p: fn(p[0]) + fn(p[1]), sgd, {"learning_rate": [0.5]}, (np.ones((4, 2)), np.ones(4)), max_steps=2
    )
    np.testing.assert_array_equal(pairs["point/1"], np.full((1, 4), 0.25))
    rows = quiet(fn, sgd, {"learning_rate": [0.5]}, [np.ones(2), 2 * np.ones(2)], max_steps=2)
    assert rows.point.shape == (1, 2, 2)


@pytest.mark.thorough
def test_trees_resume_to_the_same_bits(tmp_path):
    options = {"save_to": tmp_path / "sweep", "tolerance": 1e-3}
    whole = quiet(loss, adam, {"learning_rate": [0.01, 0.1]}, STARTS, **options)
    again = quiet(loss, adam, {"learning_rate": [0.01, 0.1]}, STARTS, **options)
    for name, values in whole.data_vars.items():
        np.testing.assert_array_equal(again[name], values)
    with pytest.raises(ValueError, match="save_to: "):
        quiet(loss, adam, {"learning_rate": [0.01, 0.1]}, {**STARTS, "bias": STARTS["bias"] + 1}, **options)


@pytest.mark.parametrize(
    ("starts", "error", "message"),
    [
        ({"a": np.ones((3, 2)), "b": np.ones((2, 2))}, ValueError, r"got axes of lengths {'a': 3, 'b': 2}"),
        ({"a": np.ones((3, 2)), "b": np.float64(1)}, ValueError, r"got axes of lengths {'a': 3, 'b': 0}"),
        (
            {"a": np.ones((3, 2), int)},
            TypeError,
            "starts: expected arrays of floating-point numbers, got none in a dict",
        ),
        ({"a": np.ones((0, 2))}, ValueError, "got axes of lengths {'a': 0}"),
    ],
)
def test_bad_trees_are_refused(starts, error, message):
    with pytest.raises(error, match=message):
        quiet(lambda p: jnp.sum(p["a"]), sgd, {"learning_rate": [0.1]}, starts)
