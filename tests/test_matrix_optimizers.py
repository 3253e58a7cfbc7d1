"""What must hold between optimizers of matrices, and the wrong forms of them that have been published."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdlab import optimizers as o
from gdlab.optimizers.matrices import matching_rms, stretch
from gdlab.optimizers.orthogonalization import COEFFICIENTS, MARGINS
from tests.oracles import trajectories
from tests.oracles.numpy_matrices import polar
from tests.oracles.problems import LAYERS, data, flat, loss, start

RNG = np.random.default_rng(7)
WIDE, TALL = (jnp.asarray(RNG.normal(size=shape)) for shape in ((2, 8), (8, 2)))


def first_step(optimizer, x, g):
    """The update of the first step."""
    return optimizer.update(g, optimizer.init(x), x)[0]


@pytest.mark.parametrize(
    ("name", "steps", "low", "image"),
    [
        ("jordan", 5, 0.01, (0.682, 1.134)),
        ("quintic", 5, 0.01, (0.978, 1.032)),
        ("polar_express", 5, 0.01, (0.859, 1.141)),
        ("polar_express", 5, 0.001, (0.847, 1.141)),
        ("polar_express_exact", 8, 0.001, (1.0, 1.0)),
        ("classic", 12, 0.001, (1.0, 1.0)),
        ("deepseek", 10, 0.001, (1.0, 1.0005)),
    ],
)
def test_the_polynomials_map_singular_values_where_the_docstring_says(name, steps, low, image):
    values = np.geomspace(low, 1.0, 20001) / MARGINS.get(name, 1.0)
    rows = COEFFICIENTS[name]
    for step in range(steps):
        a, b, c = rows[min(step, len(rows) - 1)]
        values = a * values + b * values**3 + c * values**5
    np.testing.assert_allclose((values.min(), values.max()), image, atol=6e-4)


@pytest.mark.thorough
@pytest.mark.parametrize("name", COEFFICIENTS)
def test_orthogonalize_applies_the_polynomials_to_the_singular_values(name):
    steps = len(COEFFICIENTS[name]) + 2  # the last row is repeated
    rows = [*COEFFICIENTS[name], *COEFFICIENTS[name][-1:] * 2]
    for matrix in (WIDE, TALL):
        ours = o.orthogonalize(matrix, steps, coefficients=name)
        np.testing.assert_allclose(ours, polar(matrix, 1e-7, rows, MARGINS.get(name, 1.0)), atol=1e-10)


@pytest.mark.thorough
def test_iterating_in_bfloat16_is_coarse_and_keeps_the_dtype():
    rough = o.orthogonalize(WIDE, bfloat16=True)
    assert rough.dtype == WIDE.dtype
    error = float(jnp.abs(rough - o.orthogonalize(WIDE)).max())
    assert 1e-4 < error < 0.05


def test_factors_of_the_shape_count_the_last_axis_as_outputs():
    assert (stretch(WIDE), stretch(TALL)) == (2.0, 1.0)
    assert matching_rms(WIDE) == matching_rms(TALL) == pytest.approx(0.2 * 8**0.5)


@pytest.mark.thorough
def test_scions_factor_has_no_lower_bound():
    for x, largest in ((WIDE, 2.0), (TALL, 0.5)):  # sqrt(outputs / inputs)
        step = first_step(o.scion(1.0, norm="spectral", coefficients="classic", ns_steps=20), x, x)
        np.testing.assert_allclose(np.linalg.svd(step)[1], largest, rtol=1e-6)


@pytest.mark.parametrize(
    "x", [pytest.param(WIDE, id="wide"), pytest.param(TALL, marks=pytest.mark.thorough, id="tall")]
)
def test_moonlight_is_muon_with_another_factor(x):
    ours = first_step(o.moonlight(0.1, weight_decay=0.0, eps=1e-14), x, x)
    muons = first_step(o.muon(0.1, eps=1e-14), x, x)
    np.testing.assert_allclose(ours, muons * matching_rms(x) / stretch(x), rtol=1e-9)


@pytest.mark.thorough
def test_normuon_gives_all_neurons_the_same_norm_in_its_first_step():
    step = first_step(o.normuon(1.0), WIDE, WIDE)
    columns = jnp.linalg.norm(step, axis=0)
    np.testing.assert_allclose(columns, columns[0], rtol=1e-6)
    muons = first_step(o.muon(1.0), WIDE, WIDE)
    assert float(jnp.linalg.norm(step)) == pytest.approx(float(jnp.linalg.norm(muons)), rel=1e-6)
    assert np.ptp(np.asarray(jnp.linalg.norm(muons, axis=0))) > 0.1


@pytest.mark.thorough
def test_adamuons_step_has_the_root_mean_square_of_moonlights():
    step = first_step(o.adamuon(1.0, weight_decay=0.0), TALL, TALL)
    assert float(jnp.sqrt(jnp.mean(step**2))) == pytest.approx(0.2, rel=1e-6)


@pytest.mark.thorough
def test_splus_begins_with_the_sign_of_the_gradient():
    step = first_step(o.splus(0.5, weight_decay=0.0), WIDE, WIDE)
    np.testing.assert_allclose(step, -0.5 * 2 / 10 * np.sign(WIDE), rtol=1e-12)


def walk(optimizer, steps=30, dtype=float, start_at=(WIDE, TALL)):
    """The points of a descent on a bowl of matrices whose gradient turns."""
    x = [jnp.asarray(one, dtype) for one in start_at]

    def step(carry, t):
        x, state = carry
        g = jax.tree.map(lambda leaf: jnp.cos(0.3 * t).astype(dtype) * (leaf + leaf**3) + 0.1, x)
        updates, state = optimizer.update(g, state, x)
        x = optax.apply_updates(x, updates)
        return (x, state), x

    return jax.jit(lambda x: jax.lax.scan(step, (x, optimizer.init(x)), jnp.arange(1.0, steps + 1))[1])(x)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "base",
    [o.sgd(1.0), o.adamw(0.1, weight_decay=0.0), o.muon(0.1), o.lion(0.1), o.soap(0.1), o.splus(0.1)],
    ids=["sgd", "adamw", "muon", "lion", "soap", "splus"],
)
def test_hyperball_keeps_the_norms_of_matrices(base):
    for path, first in zip(walk(o.hyperball(base, 0.1), dtype=np.float32), (WIDE, TALL), strict=True):
        norms = np.linalg.norm(np.asarray(path, float), axis=(1, 2))
        np.testing.assert_allclose(norms, np.linalg.norm(first), rtol=1e-6)
        assert np.abs(path[-1] - path[0]).max() > 0.1


AT_MOST_ONE = optax.stateless(lambda g, _: jax.tree.map(lambda leaf: leaf / jnp.maximum(jnp.linalg.norm(leaf), 1), g))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (o.muonh(0.02), o.hyperball(o.muon(0.02), 0.02)),
        (o.adamh(0.02), o.hyperball(o.adam(0.02, b2=0.95), 0.02)),
        (o.adam_mini(0.02, blocks="element"), o.adam(0.02)),
        (o.mars(0.02, gamma=0.0, b1=0.9, b2=0.999), optax.chain(AT_MOST_ONE, o.adam(0.02))),
        # With b2 = 0 the second moment never lags behind.
        (o.stable_adamw(0.02, b2=0.0, weight_decay=0.1), o.adamw(0.02, b2=0.0, eps=1e-6, weight_decay=0.1)),
        (o.hyperball(o.hyperball(o.adam(1.0), 0.5), 0.02), o.hyperball(o.hyperball(o.adam(2.0), 0.5), 0.02)),
    ],
)
def test_two_ways_to_the_same_path(ours, theirs):
    for a, b in zip(walk(ours), walk(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def transposed(optimizer):
    """The optimizer with the axes of matrices exchanged, as code for PyTorch's kernels has them."""

    def turn(tree):
        return jax.tree.map(lambda leaf: leaf.T, tree)

    def update(updates, state, params):
        updates, state = optimizer.update(turn(updates), state, turn(params))
        return turn(updates), state

    return optax.GradientTransformation(lambda params: optimizer.init(turn(params)), update)


def without_sign(learning_rate, momentum):
    """AdaMuon as pytorch-optimizer begins it: the momentum itself is orthogonalized."""
    state_of = o.scale_by_muon(momentum, scale="rms")
    return optax.chain(state_of, optax.scale(-learning_rate))


def early_bases(**arguments):
    """SPlus whose first bases act in the step that computes them: its statistics are a step ahead."""
    inner = o.splus(**arguments)

    def update(updates, state, params):
        _, ahead = inner.update(updates, state, params)
        return inner.update(updates, state._replace(bases=ahead.bases), params)

    return optax.GradientTransformation(inner.init, update)


def scion_with_muons_factor(learning_rate, **arguments):
    """Scion with sqrt(max(1, outputs / inputs))."""

    def clamp(updates, _):
        return jax.tree.map(lambda u: u * max(1.0, (u.shape[0] / u.shape[-1]) ** 0.5) if u.ndim > 1 else u, updates)

    return optax.chain(o.scale_by_scion(**arguments), optax.stateless(clamp), optax.scale(-learning_rate))


def arguments_of(case, **changed):
    return trajectories.CASES[case].ours | changed


MUTANTS = {
    "NAdamW corrected with t + 1": (
        "nadamw-all",
        lambda: optax.nadamw(3e-3, b1=0.8, b2=0.95, eps=1e-3, weight_decay=0.3),
    ),
    "StableAdamW whose decay is not clipped": (
        "stable_adamw-all",
        lambda: optax.chain(
            o.scale_by_stable_adamw(0.8, 0.95, 1e-3),
            optax.add_decayed_weights(0.3),
            optax.scale(-5e-3),
        ),
    ),
    "Adam-mini with one block per tensor": ("adam_mini", lambda: o.adam_mini(blocks="tensor")),
    "Adam-mini with inputs for outputs": ("adam_mini", lambda: transposed(o.adam_mini())),
    "MARS with a tenth of gamma": ("mars-all", lambda: o.mars(**arguments_of("mars-all", gamma=0.01))),
    "SPlus whose first bases act at once": ("splus", lambda: early_bases(learning_rate=0.01)),
    "Muon with inputs for outputs": ("muon-layers", lambda: transposed(o.muon(5e-3, weight_decay=0.1))),
    "Muon with NAdam's correction": (
        "muon-layers",
        lambda: optax.contrib.muon(5e-3, weight_decay=0.1, adam_learning_rate=5e-3 * 0.015),
    ),
    "Polar Express with the list of the paper": (
        "muon-polar-express",
        lambda: o.muon(5e-3, coefficients="polar_express_exact"),
    ),
    "Moonlight with Muon's factor": ("moonlight", lambda: o.muon(1e-3, weight_decay=0.1, adam_ratio=1.0)),
    "NorMuon with inputs for outputs": ("normuon", lambda: transposed(o.normuon(5e-3))),
    "NorMuon that is Muon": ("normuon", lambda: o.muon(5e-3)),
    "AdaMuon without the sign": ("adamuon", lambda: without_sign(5e-3, 0.95)),
    "Scion with Muon's factor": ("scion", lambda: scion_with_muons_factor(1e-3)),
    "Scion with inputs for outputs": ("scion", lambda: transposed(o.scion())),
    "Scion without momentum": ("scion", lambda: o.scion(momentum=0.0)),
    "AdamH without a first moment": ("adamh", lambda: o.adamh(b1=0.0)),
    "PSGD with the same noise in every run": (
        "psgd_kron-all",
        lambda: o.psgd_kron(**arguments_of("psgd_kron-all", seed=0)),
    ),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", MUTANTS)
def test_wrong_forms_that_have_been_published_are_noticed(name):
    case, build = MUTANTS[name]
    fn = loss(LAYERS, jnp, [jnp.asarray(a) for a in data(LAYERS)])
    optimizer = build()

    def step(carry, _):
        x, state = carry
        updates, state = optimizer.update(jax.grad(fn)(x), state, x)
        x = optax.apply_updates(x, updates)
        return (x, state), jnp.concatenate([jnp.ravel(leaf) for leaf in x])

    first = [jnp.asarray(a) for a in start(LAYERS)]
    points = jax.jit(lambda x: jax.lax.scan(step, (x, optimizer.init(x)), length=trajectories.STEPS)[1])(first)
    found = trajectories.deviation(np.concatenate([flat(start(LAYERS))[None], np.asarray(points)]), theirs(case))
    assert found > 1e3 * trajectories.CASES[case].tolerance


def theirs(case):
    """The oracle's points, of which only some are stored if it is a package."""
    entry = trajectories.CASES[case]
    if entry.oracle.startswith("numpy:"):
        return trajectories.theirs(case, LAYERS)
    return trajectories.ours(case, LAYERS)  # equal to the package's, as tests/test_optimizers.py shows


def test_a_rank_above_a_matrixs_or_traced_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^rank: expected an integer of at most 2, .* shape \(2, 8\), got 3$"):
        o.dion(rank=3).init(WIDE)
    for factory in (o.dion, o.scale_by_dion):
        with pytest.raises(TypeError, match=r"^rank: expected a Python integer .* got a traced value"):
            jax.eval_shape(lambda rank, factory=factory: factory(rank=rank).init(WIDE), 2)


@pytest.mark.parametrize(
    ("blocks", "x", "message"),
    [
        ({"a": "output"}, {"b": WIDE}, r"^blocks: expected a tree like the parameters"),
        (3, WIDE, r"^blocks: expected a number of heads that divides 8 outputs, got 3"),
        ("output", jnp.ones(()), r"^blocks: expected element or tensor for a leaf without axes, got 'output'"),
        (lambda params: "rows", WIDE, r"^blocks: expected a tree of output, .* got 'rows'"),
    ],
)
def test_blocks_that_do_not_fit_the_parameters_are_refused_in_one_line(blocks, x, message):
    with pytest.raises(ValueError, match=message) as caught:
        o.adam_mini(blocks=blocks).init(x)
    assert "\n" not in str(caught.value)


def test_blocks_may_name_the_upper_levels_of_the_parameters():
    x = {"layer": {"w": WIDE, "b": jnp.ones(8)}, "head": TALL}
    state = o.scale_by_adam_mini(blocks={"layer": "tensor", "head": 2}).init(x)
    assert jax.tree.map(jnp.shape, state.nu) == {"layer": {"w": (), "b": ()}, "head": (2, 1)}


def test_scions_spectral_norm_needs_matrices():
    optimizer = o.scion(norm="spectral")
    with pytest.raises(ValueError, match=r"^norm: expected leaves of at least two axes for spectral, got shape \(3,\)"):
        optimizer.update(jnp.ones(3), optimizer.init(jnp.ones(3)), jnp.ones(3))


@pytest.mark.thorough
def test_constrained_scion_never_leaves_its_ball():
    x = walk(o.scion(0.1, radius=0.5, norm="spectral", constrained=True, coefficients="classic", ns_steps=20), 200)
    for path, scale in zip(x, (2.0, 0.5), strict=True):  # sqrt(outputs / inputs)
        largest = np.linalg.svd(np.asarray(path[-50:]), compute_uv=False).max()
        assert largest <= 0.5 * scale * (1 + 1e-6)


@pytest.mark.thorough
def test_psgd_whitens_gradients_of_a_known_covariance():
    # Gradients A Z B of independent elements have covariance (A A') (x) (B' B); whitened ones have that of Z.
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(3, 3)) + 2 * np.eye(3), rng.normal(size=(4, 4)) + 2 * np.eye(4)
    optimizer = o.scale_by_psgd_kron(0.0, clip=1e9, damping=0.0, update_interval=1.0, precondition_lr=0.05)
    noise = jnp.asarray(rng.normal(size=(8000, 3, 4)))

    def step(state, z):
        u, state = optimizer.update(jnp.asarray(a) @ z @ jnp.asarray(b), state)
        return state, u.ravel()

    _, found = jax.jit(lambda z: jax.lax.scan(step, optimizer.init(z[0]), z))(noise)
    late = np.asarray(found[4000:])
    values = np.linalg.eigvalsh(late.T @ late / len(late))
    before = np.linalg.eigvalsh(np.kron(a @ a.T, b.T @ b))
    assert before.max() / before.min() > 100
    assert values.max() / values.min() < 3, values
    np.testing.assert_allclose(values.mean(), 1.0, atol=0.25)


@pytest.mark.thorough
def test_psgds_probes_differ_between_leaves_steps_and_seeds():
    x = [WIDE, WIDE]

    def factors(seed):
        optimizer = o.scale_by_psgd_kron(seed=seed)
        _, state = optimizer.update(x, optimizer.init(x))
        return state.factors

    first, other = factors(0), factors(1)
    assert not np.allclose(first[0][0], first[1][0])
    assert not np.allclose(first[0][0], other[0][0])


@pytest.mark.thorough
def test_dion_at_full_rank_turns_into_the_polar_factor_of_a_constant_gradient():
    optimizer = o.scale_by_dion(momentum=0.0)
    state = optimizer.init(TALL)
    for _ in range(200):
        step, state = optimizer.update(TALL, state)
    left, _, right = np.linalg.svd(TALL, full_matrices=False)
    # Orthonormal directions that span the gradient's; their pairing is that of its singular vectors.
    np.testing.assert_allclose(step, (2 / 8) ** 0.5 * left @ right, atol=1e-6)
