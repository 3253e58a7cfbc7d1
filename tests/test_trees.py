"""Points that are trees of every kind, through descents, sweeps and gradient checks: only floating arrays move."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from gdlab import autodiff, check_gradient, descend, finite_difference, sweep
from gdlab.compute.trees import open_tree
from gdlab.optimizers import adam, sgd
from gdlab.strategies import cma_es
from gdlab.sweeps import count_evaluations, evaluations_in, steps_within, tune_and_judge_within
from tests.test_protocol import FACTORIES, RATE

COUNT = 3
"""The number of starts."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Pair:
    first: jax.Array
    second: jax.Array
    name: str = dataclasses.field(default="pair", metadata={"static": True})


class Named(NamedTuple):
    matrix: jax.Array
    scalar: jax.Array


class Head(nnx.Module):
    """A layer with a static number, a function, and an array of integers."""

    def __init__(self, rngs):
        self.layer = nnx.Linear(2, 2, rngs=rngs)
        self.factor, self.activation, self.order = 2.0, jnp.tanh, nnx.Variable(jnp.array([1, 0]))

    def __call__(self, x):
        return self.activation(self.factor * self.layer(x)[self.order[...]])


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


class Scaled(eqx.Module):
    """A layer with a static field and a function."""

    kernel: Any
    power: int = eqx.field(static=True)
    activation: Any

    def __call__(self, x):
        return self.activation(self.kernel @ x) ** self.power


X = np.array([0.5, -1.5])
TREES = {
    "dict": lambda seed: {"layer": {"kernel": draw(seed, 2, 2)}, "bias": draw(seed + 9)},
    "tuple": lambda seed: (draw(seed, 2, 2), draw(seed + 9, 2)),
    "named tuple": lambda seed: Named(draw(seed, 2, 2), draw(seed + 9)),
    "dataclass": lambda seed: Pair(draw(seed, 2), draw(seed + 9, 1, 2)),
    "None leaves": lambda seed: {"a": draw(seed, 2), "b": None, "c": [None, draw(seed + 9)]},
    "leaves that stay": lambda seed: {"x": draw(seed, 2), "name": "layer", "count": 3, "mask": np.array([True, False])},
    "scalar": lambda seed: {"x": draw(seed)},
    "matrix": lambda seed: draw(seed, 2, 3),
    "module of NNX": lambda seed: jax.tree.map(
        lambda leaf: leaf.astype(float) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, Head(nnx.Rngs(seed))
    ),
    "module of Equinox": lambda seed: Scaled(draw(seed, 2, 2), 2, jnp.tanh),
}
"""For each kind of tree, a function from a seed to one of that kind."""


def loss(tree):
    """Return a function of all numbers of a tree that is not quadratic; a module is called."""
    if callable(tree):
        return jnp.sum((tree(jnp.asarray(X)) - 0.3) ** 2)
    flat = jnp.concatenate([jnp.ravel(leaf) for leaf in moving(tree)])
    return jnp.sum(jnp.arange(1, flat.size + 1) * (flat**2 + jnp.cos(flat)))


def noisy(tree, key, data):
    return data["weight"] * loss(tree) + sum(jnp.sum(leaf) for leaf in moving(tree)) * jax.random.uniform(key)


def moving(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(getattr(leaf, "dtype", int), jnp.floating)]


def stacked(trees):
    """Return one tree whose floating-point leaves have an axis of starts in front."""
    moves = lambda leaf: jnp.issubdtype(getattr(leaf, "dtype", int), jnp.floating)  # noqa: E731
    return jax.tree.map(lambda *leaves: np.stack(leaves) if moves(leaves[0]) else leaves[0], *trees)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", TREES)
def test_lanes_and_descents_of_a_tree_are_those_of_its_numbers(kind):
    trees = [TREES[kind](seed) for seed in range(COUNT)]
    key, data = jax.random.key(0), {"weight": np.float64(0.5)}
    found = sweep(noisy, adam, {"learning_rate": [0.05]}, stacked(trees), max_steps=9, key=key, data=data,
                  progress=False)  # fmt: skip
    names = [name for name in map(str, found.data_vars) if name.split("/")[0] == "point"]
    for place, tree in enumerate(trees):
        one = descend(noisy, adam(0.05), tree, max_steps=9, key=jax.random.fold_in(key, place), data=data)
        np.testing.assert_allclose(found.value[0, place], one.value[-1], rtol=1e-9)
        for name, leaf in zip(names, jax.tree.leaves(one.point), strict=True):
            np.testing.assert_allclose(found[name][0, place], leaf, rtol=1e-9)
        vector = of_numbers(tree, max_steps=9, key=jax.random.fold_in(key, place), data=data)
        np.testing.assert_allclose(jax.flatten_util.ravel_pytree(one.point)[0], vector.point, rtol=1e-9)


def of_numbers(tree, **options):
    """Descend from the vector of all numbers of a tree."""
    opened = open_tree(tree)
    start, whole = jax.flatten_util.ravel_pytree(opened.params)
    on_tree = opened.on(noisy)
    return descend(lambda vector, *given: on_tree(whole(vector), *given), adam(0.05), start, **options)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", TREES)
def test_gradients_of_a_tree_are_checked_leaf_by_leaf(kind):
    tree = TREES[kind](1)
    params = open_tree(tree).params
    names = {f"x{jax.tree_util.keystr(where)}" for where, _ in jax.tree_util.tree_leaves_with_path(params)}
    options = {"schemes": ("central", "central4"), "coordinates": 4}
    report = check_gradient(loss, tree, **options)
    assert report.ok, report
    assert {row.leaf for row in report.rows} == names
    for gradient in (finite_difference(loss, "central4"), autodiff(loss), autodiff(loss, "forward")):
        slope = gradient(tree)
        assert jax.tree.structure(slope) == jax.tree.structure(params)

    def wrong(tree, *more):  # by a half in the last leaf
        leaves, structure = jax.tree.flatten(autodiff(loss)(tree))
        return jax.tree.unflatten(structure, [*leaves[:-1], 1.5 * leaves[-1]])

    report = check_gradient(loss, tree, gradient=wrong, **options)
    last = f"x{jax.tree_util.keystr(jax.tree_util.tree_leaves_with_path(params)[-1][0])}"
    assert report.verdict.startswith(f"FAIL: {last}: differs from"), report
    noise = {"key": jax.random.key(2), "estimates": 4, "data": {"weight": np.float64(0.5)}}
    report = check_gradient(noisy, tree, **options, **noise)
    assert report.ok, report


@pytest.mark.thorough
@pytest.mark.parametrize("name", FACTORIES)
def test_optimizers_of_optax_take_trees_and_noise(name):
    """A lane of a sweep, a descent and a descent in a batch are the same, whatever the optimizer asks for."""
    trees = [TREES["dict"](seed) for seed in range(COUNT)]
    key, data = jax.random.key(5), {"weight": np.float64(0.5)}
    run = lambda tree, key: descend(noisy, FACTORIES[name](RATE), tree, max_steps=6, key=key, data=data)  # noqa: E731
    keys = jax.vmap(lambda start: jax.random.fold_in(key, start))(jnp.arange(COUNT))
    # With the option that gdlab sets (`gdlab.compute.fusion`), XLA ends the process at optax's lbfgs under vmap.
    batch = jax.jit(jax.vmap(run))(stacked(trees), keys) if name != "lbfgs" else None
    found = sweep(noisy, FACTORIES[name], {"learning_rate": [RATE]}, stacked(trees), max_steps=6, key=key, data=data,
                  progress=False)  # fmt: skip
    one = jax.jit(run)(trees[1], keys[1])
    kernels = [found["point/layer/kernel"][0, 1]]
    kernels += [] if batch is None else [batch.point["layer"]["kernel"][1]]
    for kernel in kernels:
        np.testing.assert_allclose(kernel, one.point["layer"]["kernel"], rtol=1e-6)
    assert bool(np.isfinite(found.value).all())


def test_what_stays_is_named_and_what_is_complex_is_refused():
    tree = {"x": np.ones(2), "n": 2, "f": jnp.tanh, "s": "text", "m": np.array([1, 2])}
    fn = lambda p: jnp.sum(p["f"](p["x"]) ** p["n"]) * p["m"][1]  # noqa: E731
    slope = autodiff(fn)(tree)
    t = np.tanh(1.0)
    np.testing.assert_allclose(slope["x"], 4 * t * (1 - t**2), rtol=1e-12)
    assert [slope[name] for name in "nfsm"] == [None] * 4
    np.testing.assert_allclose(finite_difference(fn, "central6")(tree)["x"], slope["x"], rtol=1e-9)
    for call in (autodiff(fn), finite_difference(fn), lambda tree: check_gradient(fn, tree)):
        with pytest.raises(TypeError, match=r"^x\['z'\]: expected floating-point numbers, got dtype complex"):
            call({**tree, "z": np.ones(2, complex)})
        with pytest.raises(TypeError, match=r"^x\['n'\]: expected floating-point numbers, got dtype int"):
            call({"n": 2})


def bowl(tree):
    return jnp.sum(tree["w"] ** 2) + tree["b"] ** 2


@pytest.mark.thorough
def test_budgets_count_the_numbers_of_a_tree():
    starts = {"w": draw(0, COUNT, 2, 3), "b": draw(1, COUNT)}
    least = {"w": np.zeros((1, 2, 3)), "b": np.zeros(1)}
    factories = {"sgd": sgd, "cma_es": cma_es}
    runs = sweep(bowl, factories, {}, starts, max_steps=10, minimizers=least, target=0.5, progress=False)
    counted = count_evaluations(runs, factories)
    for name, made in (("sgd", sgd()), ("cma_es", cma_es())):
        np.testing.assert_array_equal(counted.evaluations.sel(optimizer=name), evaluations_in(10, made, 7))
    inside = np.isfinite(counted.evaluations_to_target)
    np.testing.assert_array_equal(inside, runs.first_reached >= 0)
    distance = np.sqrt(np.square(runs["point/w"]).sum(["w_0", "w_1"]) + np.square(runs["point/b"]))
    np.testing.assert_array_equal(runs.reached, distance <= 0.5)
    matrices = sweep(lambda x: jnp.sum(x**2), cma_es, {}, starts["w"], max_steps=4, progress=False)
    np.testing.assert_array_equal(count_evaluations(matrices, cma_es).evaluations, evaluations_in(4, cma_es(), 6))
    settings = {"sgd": [{"learning_rate": 0.1}, {"learning_rate": 0.01}], "cma_es": [{"std": 1.0}, {"std": 0.5}]}
    race = tune_and_judge_within(300, {"bowl": bowl}, factories, settings, starts, starts,
                                 minimizers={"bowl": least}, progress=False)  # fmt: skip
    assert int(race.judged.rounds.sel(optimizer="cma_es").max()) == steps_within(300, cma_es(), 7)
    assert float(race.judged.evaluations.max()) <= 300
    with pytest.raises(ValueError, match="minimizers: expected points like the starts, of shapes"):
        sweep(bowl, sgd, {}, starts, max_steps=2, minimizers={"w": np.zeros((1, 2, 2)), "b": np.zeros(1)})


@pytest.mark.thorough
def test_a_module_with_dropout_has_a_mask_for_each_step():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.layer, self.dropout = nnx.Linear(3, 8, rngs=rngs), nnx.Dropout(0.5)

        def __call__(self, x, key):
            return self.dropout(self.layer(x), rngs=nnx.Rngs(key)).sum(axis=-1)

    fn = lambda net, key, data: jnp.mean((net(data["x"], key) - data["y"]) ** 2)  # noqa: E731
    net, data = Net(nnx.Rngs(0)), {"x": np.float32(draw(2, 6, 3)), "y": np.float32(draw(3, 6))}
    found = descend(fn, optax.sgd(0.0), net, max_steps=8, key=jax.random.key(1), data=data)
    assert len(np.unique(np.asarray(found.value))) == 9
    steps = [float(fn(net, jax.random.fold_in(jax.random.key(1), t), data)) for t in range(9)]
    np.testing.assert_allclose(found.value, steps, rtol=1e-5)
