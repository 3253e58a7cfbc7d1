"""Methods of low rank: which axis they compress, what they keep, and what they are at full rank."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdlab import optimizers as o
from gdlab.optimizers import low_rank
from tests.oracles import trajectories
from tests.oracles.problems import LAYERS

SHAPES = {"wide": (3, 8), "long": (8, 3), "square": (4, 4), "kernel": (2, 2, 2, 5), "vector": (7,), "empty": (0, 3)}


def zeros(shapes):
    return {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}


def state_of(optimizer, shapes=SHAPES):
    """The shapes of the state, found without computing anything."""
    return jax.eval_shape(optimizer.init, zeros(shapes))


def test_moments_are_as_long_as_the_longer_side_and_as_wide_as_the_rank():
    moments = state_of(o.scale_by_galore(o.scale_by_adam(), rank=2)).inner.mu
    # A matrix keeps its orientation. Its shorter side is compressed, and the inputs of a square one.
    expected = {"wide": (2, 8), "long": (8, 2), "square": (2, 4), "kernel": (8, 2), "vector": (7,), "empty": (0, 3)}
    assert {name: leaf.shape for name, leaf in moments.items()} == expected
    moments = state_of(o.scale_by_apollo(rank=2)).mu
    expected |= {"long": (2, 8), "kernel": (2, 8)}
    assert {name: leaf.shape for name, leaf in moments.items()} == expected
    # Without a rank: a quarter of the shorter side, rounded up.
    assert state_of(o.scale_by_apollo(), {"a": (9, 20)}).mu["a"].shape == (3, 20)


@pytest.mark.parametrize("build", [o.galore, o.apollo])
def test_a_rank_above_the_shorter_side_is_refused_in_one_line(build):
    with pytest.raises(
        ValueError, match=r"^rank: expected at most 3, the shorter side of a leaf of shape \(8, 3\).*got 4"
    ):
        state_of(build(rank=4))
    with pytest.raises(TypeError, match=r"^rank: expected a Python integer \(it fixes a shape\), got a traced value"):
        jax.eval_shape(lambda rank: state_of(build(rank=rank)), jax.ShapeDtypeStruct((), np.int32))


def run(optimizer, gradients, x):
    def step(carry, g):
        x, state = carry
        updates, state = optimizer.update(g, state, x)
        x = optax.apply_updates(x, updates)
        return (x, state), x

    return jax.jit(lambda x: jax.lax.scan(step, (x, optimizer.init(x)), gradients)[1])(x)


def random_gradients(shapes, steps, seed=0):
    generator = np.random.default_rng(seed)
    return {name: jnp.asarray(generator.normal(size=(steps, *shape))) for name, shape in shapes.items()}


MATRICES = {"wide": (3, 8), "long": (8, 3), "square": (4, 4), "vector": (7,)}


@pytest.mark.thorough
def test_galore_at_full_rank_is_its_base_up_to_the_projection():
    gradients = random_gradients(MATRICES, 12)
    x = {name: jnp.ones(shape) for name, shape in MATRICES.items()}

    def full(base):
        each = {name: o.scale_by_galore(base, rank=min(shape), scale=1.0) for name, shape in MATRICES.items()}
        return optax.chain(optax.partition(each, {name: name for name in MATRICES}), optax.scale(-0.1))

    # Momentum does not see a rotation: P P^T G = G.
    ours, theirs = (
        run(full(optax.trace(0.9)), gradients, x),
        run(optax.chain(optax.trace(0.9), optax.scale(-0.1)), gradients, x),
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), ours, theirs)
    # Adam does; it is Adam on the rotated gradients, P u for u of P^T G, where P is that of the first gradient.
    ours = run(full(o.scale_by_adam()), gradients, x)
    for name, rotated in (
        ("wide", lambda g, u, v: u.T @ g),
        ("long", lambda g, u, v: g @ v),
        ("square", lambda g, u, v: u.T @ g),
    ):
        u, _, vt = np.linalg.svd(gradients[name][0], full_matrices=False)
        low = jax.vmap(lambda g, rotated=rotated, u=u, vt=vt: rotated(g, u, vt.T))(gradients[name])
        moved = run(optax.chain(o.scale_by_adam(), optax.scale(-0.1)), low, jnp.zeros(low.shape[1:]))
        back = moved @ vt if name == "long" else u @ moved
        np.testing.assert_allclose(ours[name], 1.0 + back, rtol=1e-10, atol=1e-12)


@pytest.mark.thorough
def test_what_lies_outside_of_the_span_is_lost_until_the_basis_is_renewed():
    first, second = np.zeros((3, 5)), np.zeros((3, 5))
    first[0, 0], second[1, 1] = 1.0, 1.0
    gradients = jnp.asarray(np.stack([first, second, second, second]))
    points = run(
        optax.chain(o.scale_by_galore(optax.identity(), rank=1, update_interval=2.0), optax.scale(-4.0)),
        gradients,
        jnp.zeros((3, 5)),
    )
    np.testing.assert_allclose(points[:, 0, 0], [-1.0, -1.0, -1.0, -1.0], atol=1e-12)
    np.testing.assert_allclose(points[:, 1, 1], [0.0, 0.0, -1.0, -2.0], atol=1e-12)  # renewed at step 2


@pytest.mark.thorough
def test_an_update_of_apollo_grows_by_the_limit_at_most():
    gradients = random_gradients({"w": (3, 8)}, 30, seed=1)
    gradients["w"] = gradients["w"] * jnp.geomspace(1e-3, 1e3, 30)[:, None, None]
    optimizer = o.scale_by_apollo(b1=0.0, growth_limit=1.05)
    state, sizes = optimizer.init({"w": jnp.ones((3, 8))}), []
    update = jax.jit(optimizer.update)
    for k in range(30):
        updates, state = update({"w": gradients["w"][k]}, state)
        sizes.append(float(jnp.linalg.norm(updates["w"])) / np.sqrt(1 - 0.999 ** (k + 1)))
    ratios = np.array(sizes[1:]) / np.array(sizes[:-1])
    assert ratios.max() == pytest.approx(1.05, rel=1e-9)
    assert (ratios > 1.0499).sum() > 10


@pytest.mark.thorough
def test_a_first_gradient_of_zero_does_not_stop_apollo():
    optimizer = o.scale_by_apollo(rank=1)
    x = {"w": jnp.ones((2, 3))}
    updates, state = optimizer.update(jax.tree.map(jnp.zeros_like, x), optimizer.init(x))
    assert jnp.all(updates["w"] == 0)
    updates, _ = optimizer.update(x, state)
    assert float(jnp.abs(updates["w"]).max()) > 0.1


@pytest.mark.thorough
@pytest.mark.parametrize("mutant", ["the longer side", "the outputs of a square", "renewed one step late", "no scale"])
def test_a_wrong_galore_is_noticed(mutant, monkeypatch):
    """The reference differs from others: optax projects the longer side, and PyTorch's kernels are turned around."""
    case, problem = trajectories.CASES["galore-all"], LAYERS
    changed = {"renewed one step late": {"update_interval": 31}, "no scale": {"scale": 1.0}}.get(mutant, {})
    module = sys.modules["gdlab.optimizers.galore"]  # the package gives this name to the factory
    if mutant == "the longer side":
        monkeypatch.setattr(module, "sides_of", lambda x: (max(x.shape), min(x.shape)))
        replace_side(monkeypatch, module, lambda m: m.shape[0] > m.shape[1])
    elif mutant == "the outputs of a square":
        problem = "mlp"
        replace_side(monkeypatch, module, lambda m: m.shape[0] < m.shape[1])
    monkeypatch.setitem(trajectories.CASES, "mutant", case._replace(ours=case.ours | changed))
    ours = trajectories.ours.__wrapped__("mutant", problem)
    assert trajectories.deviation(ours, trajectories.theirs("galore-all", problem)) > 1e-4


def replace_side(monkeypatch, module, wrong):
    for place in (module, low_rank):
        monkeypatch.setattr(place, "compresses_inputs", wrong)
