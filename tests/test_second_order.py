"""Methods that use curvature: identities on quadratics, SciPy's minima and formulas, and what they refuse."""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from gdlab import FUNCTIONS, descend
from gdlab import optimizers as o
from gdlab.optimizers.broyden import renewed_inverse
from gdlab.optimizers.lbfgs import LbfgsState, _two_loops
from tests.oracles import problems, trajectories

ROSENBROCK = FUNCTIONS["rosenbrock"].fn


def quadratic(dim, seed=0):
    """Return a random positive definite matrix with condition 100, and a vector."""
    generator = np.random.default_rng(seed)
    basis = np.linalg.qr(generator.normal(size=(dim, dim)))[0]
    return basis @ np.diag(np.geomspace(1.0, 100.0, dim)) @ basis.T, generator.normal(size=dim)


def exact_steps(factory, matrix, target, steps):
    """Take steps whose length is the exact minimum along the direction, which the learning rate is set to."""

    def slope(x):
        return matrix @ x - target

    def step(carry, _):
        x, state = carry
        direction, _ = factory(1.0).update(slope(x), state, x)
        curvature = direction @ matrix @ direction
        length = jnp.where(curvature > 0, -(slope(x) @ direction) / jnp.where(curvature > 0, curvature, 1.0), 0.0)
        updates, state = factory(length).update(slope(x), state, x)
        return (x + updates, state), jnp.linalg.norm(slope(x + updates))

    x = jnp.zeros(len(target))
    return jax.jit(lambda x: jax.lax.scan(step, (x, factory(1.0).init(x)), length=steps)[1])(x)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("factory", [o.lbfgs, lambda rate: o.ssbroyden(rate, formula="bfgs"), o.ssbroyden])
def test_with_exact_searches_a_quadratic_takes_as_many_steps_as_it_has_dimensions(factory, seed):
    """A quasi-Newton method of Broyden's family then has the directions of conjugate gradients."""
    dim = 6
    matrix, target = quadratic(dim, seed)
    sizes = exact_steps(factory, jnp.asarray(matrix), jnp.asarray(target), dim + 1)
    assert sizes[dim] < 1e-9 * np.linalg.norm(target)
    assert sizes[dim - 2] > 1e-6 * np.linalg.norm(target)


def test_the_two_loops_are_scipys_product():
    generator = np.random.default_rng(1)
    matrix, g = quadratic(5)[0], generator.normal(size=5)
    s = generator.normal(size=(3, 5))
    y = s @ matrix
    state = LbfgsState(
        *(jnp.array(n) for n in (3, 3, 0)), g, g, jnp.asarray(s), jnp.asarray(y), 1 / jnp.sum(s * y, 1), jnp.array(1.0)
    )
    expected = scipy.optimize.LbfgsInvHessProduct(s, y).matvec(g)  # whose first matrix is the identity
    np.testing.assert_allclose(jax.jit(_two_loops)(state, jnp.asarray(g)), expected, rtol=1e-12)


@pytest.mark.thorough
def test_a_matrix_after_an_update_keeps_the_secant_equation_and_is_bfgs_without_scales():
    generator = np.random.default_rng(2)
    matrix = quadratic(5)[0]
    inverse = np.linalg.inv(quadratic(5, seed=3)[0])
    g = generator.normal(size=5)
    s = -0.3 * inverse @ g
    y = matrix @ s
    found = {
        formula: np.asarray(renewed_inverse(*map(jnp.asarray, (inverse, s, y, g, 0.3, False)), formula)[0])
        for formula in ("bfgs", "ssbfgs", "ssbroyden")
    }
    for formula, new in found.items():
        np.testing.assert_allclose(new @ y, s, rtol=1e-10, err_msg=formula)
        assert np.linalg.eigvalsh((new + new.T) / 2).min() > 0
    left = np.eye(5) - np.outer(s, y) / (y @ s)
    np.testing.assert_allclose(found["bfgs"], left @ inverse @ left.T + np.outer(s, s) / (y @ s), rtol=1e-10)
    assert np.abs(found["ssbroyden"] - found["bfgs"]).max() > 1e-6


@pytest.mark.thorough
@pytest.mark.parametrize("factory", [o.lbfgs, o.ssbroyden, o.newton_cg], ids=lambda factory: factory.__name__)
def test_minima_are_scipys(factory):
    start = np.array([-1.2, 1.0, 0.5, 2.0])
    end = jax.jit(lambda x: descend(ROSENBROCK, factory(), x, max_steps=150, record="last"))(start)
    expected = scipy.optimize.minimize(
        ROSENBROCK, start, jac=jax.grad(ROSENBROCK), method="BFGS", options={"gtol": 1e-9}
    )
    np.testing.assert_allclose(end.point, expected.x, atol=1e-7)


@pytest.mark.thorough
def test_gauss_newton_ends_where_minpack_does():
    arrays = problems.data("mlp")
    first = problems.start("mlp")[2:]
    hidden = np.tanh(arrays[0] @ problems.start("mlp")[0])

    def residual(p):
        return (jnp.tanh(hidden @ p[0] + p[1]) - arrays[1] / 4).reshape(-1)

    optimizer = o.gauss_newton(residual_fn=residual)
    end = descend(lambda p: jnp.sum(residual(p) ** 2) / 2, optimizer, [jnp.asarray(p) for p in first], max_steps=60)
    flat = problems.flat(first)
    theirs = scipy.optimize.least_squares(
        lambda x: np.asarray(residual([x[:6].reshape(3, 2), x[6:]])), flat, method="lm", xtol=1e-14, ftol=1e-14
    )
    np.testing.assert_allclose(problems.flat(end.point), theirs.x, rtol=1e-5)
    assert float(end.value[-1]) == pytest.approx(theirs.cost, rel=1e-10)


@pytest.mark.thorough
def test_gauss_newton_solves_a_linear_fit_in_one_step_without_damping():
    matrix, target = problems.data("least_squares")
    optimizer = o.gauss_newton(residual_fn=lambda x: matrix @ x - target, damping=1e-14)
    updates, _ = optimizer.update(jnp.zeros(5), optimizer.init(jnp.ones(5)), jnp.ones(5))
    np.testing.assert_allclose(1.0 + updates, np.linalg.lstsq(matrix, target)[0], rtol=1e-9)


def test_gauss_newton_without_residuals_says_so():
    optimizer = o.gauss_newton()
    with pytest.raises(ValueError, match=r"^residual_fn: expected the residuals as a function .*, got None"):
        jax.eval_shape(optimizer.update, jnp.ones(2), optimizer.init(jnp.ones(2)), jnp.ones(2))


@pytest.mark.parametrize(
    ("build", "argument"), [(o.lbfgs, "memory"), (o.newton_cg, "max_iterations")], ids=["lbfgs", "newton_cg"]
)
def test_what_shapes_the_program_cannot_be_traced(build, argument):
    def traced(value):
        return build(**{argument: value}).init(jnp.ones(2))

    with pytest.raises(TypeError, match=rf"^{argument}: expected a Python integer .*, got a traced value"):
        jax.eval_shape(traced, jax.ShapeDtypeStruct((), np.int32))


@pytest.mark.thorough
def test_a_pair_without_positive_curvature_is_not_stored_and_newton_goes_downhill_there():
    def saddle(x):
        return x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 4

    start = jnp.array([0.3, 0.1])
    slope = jax.grad(saddle)
    optimizer = o.lbfgs(0.01)
    state, x = optimizer.init(start), start
    for _ in range(2):
        _, state = optimizer.update(slope(x), state, x)
        x = x.at[1].add(0.05)  # along the direction of negative curvature
    assert int(state.pairs) == 0
    end = descend(saddle, o.newton_cg(), start, max_steps=30)
    assert (np.diff(end.value) <= 1e-15).all()
    np.testing.assert_allclose(end.point, [0.0, np.sqrt(2)], atol=1e-7)


@pytest.mark.thorough
def test_searches_in_a_batch_are_searches_alone():
    starts = jnp.asarray(np.random.default_rng(0).uniform(-2, 2, (4, 2)))
    for factory in (o.lbfgs, o.ssbroyden, o.newton_cg):

        def run(x, factory=factory):
            return descend(ROSENBROCK, factory(), x, max_steps=12, record="last").point

        np.testing.assert_allclose(
            jax.jit(jax.vmap(run))(starts), [jax.jit(run)(x) for x in starts], rtol=1e-7, err_msg=factory.__name__
        )


@pytest.mark.thorough
def test_a_search_ends_after_the_largest_number_of_trials():
    start = jnp.array([-1.2, 1.0])
    for factory in (o.lbfgs, o.ssbroyden, partial(o.newton_cg, forcing=1e-6)):  # whose second full step leads uphill

        def path(most, factory=factory):
            return descend(ROSENBROCK, factory(max_search_steps=most), start, max_steps=8).path

        paths = jax.jit(jax.vmap(path))(jnp.array([1.0, 20.0]))
        assert jnp.isfinite(paths).all()
        assert jnp.abs(paths[0] - paths[1]).max() > 1e-3, factory


@pytest.mark.thorough
def test_derivatives_take_the_length_of_a_step_as_constant():
    def end(x):
        return descend(ROSENBROCK, o.lbfgs(), x, max_steps=4).point

    x = jnp.array([-0.5, 0.7])
    backward, forward = jax.jit(jax.jacrev(end))(x), jax.jit(jax.jacfwd(end))(x)
    np.testing.assert_allclose(backward, forward, rtol=1e-8)


@pytest.mark.thorough
@pytest.mark.parametrize("mutant", ["no scale of the identity", "pairs in the wrong order"])
def test_a_wrong_lbfgs_is_noticed(mutant, monkeypatch):
    module = sys.modules["gdlab.optimizers.lbfgs"]
    two_loops = module._two_loops

    def wrong(state, gradient):
        if mutant == "no scale of the identity":
            return two_loops(state._replace(scale=jnp.ones_like(state.scale)), gradient)
        turned = jax.tree.map(lambda x: x[::-1], (state.moves, state.changes, state.weights))
        return two_loops(state._replace(moves=turned[0], changes=turned[1], weights=turned[2]), gradient)

    monkeypatch.setattr(module, "_two_loops", wrong)
    ours = trajectories.ours.__wrapped__("lbfgs", problems.LOGISTIC)
    assert trajectories.deviation(ours, trajectories.theirs("lbfgs", problems.LOGISTIC)) > 1e-8
