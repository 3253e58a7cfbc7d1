"""Functions of matrices: minima from theorems or constructions, gradients against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax.flatten_util import ravel_pytree

from gdlab import FUNCTIONS, check_gradient, descend, sweep
from gdlab.functions import MATRIX_FUNCTIONS
from gdlab.optimizers import adam, muon, sgd


def first(tree):
    return jax.tree.map(lambda leaf: leaf[0], tree)


@pytest.mark.parametrize("name", MATRIX_FUNCTIONS)
def test_the_minimizer_is_one(name):
    one = MATRIX_FUNCTIONS[name]()
    assert one.name == name
    np.testing.assert_allclose(one.fn(one.minimizer), one.minimum, atol=1e-14)
    slopes, _ = ravel_pytree(jax.grad(one.fn)(one.minimizer))
    np.testing.assert_allclose(slopes, 0, atol=1e-12)
    flat, rebuild = ravel_pytree(one.minimizer)
    points = flat + 0.1 * jax.random.normal(jax.random.key(0), (64, flat.size), jnp.float64)
    assert float(jax.vmap(lambda v: one.fn(rebuild(v)))(points).min()) >= one.minimum


@pytest.mark.thorough
@pytest.mark.parametrize("name", MATRIX_FUNCTIONS)
def test_nothing_lies_below_the_minimum_and_gradients_are_right(name):
    one = MATRIX_FUNCTIONS[name](seed=3) if name != "matrix_rosenbrock" else MATRIX_FUNCTIONS[name]()
    starts = one.starts(jax.random.key(1), 12, np.float64)
    assert check_gradient(one.fn, first(starts), rtol=1e-7).ok
    flat = np.asarray(jax.vmap(lambda start: ravel_pytree(start)[0])(starts))
    rebuild = ravel_pytree(first(starts))[1]
    both = jax.jit(jax.value_and_grad(lambda v: one.fn(rebuild(v))))
    limit = {"maxiter": 3000}
    ends = [scipy.optimize.minimize(both, v, jac=True, method="L-BFGS-B", options=limit).fun for v in flat]
    assert min(ends) >= one.minimum - 1e-10
    assert min(ends) == pytest.approx(one.minimum, abs=1e-4)  # SciPy's L-BFGS finds it from one start of twelve


def test_eckart_and_young():
    for rank in (1, 3, 6):
        one = MATRIX_FUNCTIONS["low_rank_factorization"](rank=rank, seed=5)
        full = MATRIX_FUNCTIONS["low_rank_factorization"](rank=6, seed=5).minimizer
        values = np.linalg.svd(full["left"] @ full["right"].T)[1]
        assert one.minimum == pytest.approx(np.sum(values[rank:] ** 2) / 2, abs=1e-15)


@pytest.mark.parametrize("rotated", [True, False])
def test_the_hessian_is_a_kronecker_product(rotated):
    one = MATRIX_FUNCTIONS["kronecker_quadratic"](3, 2, condition=100.0, rotated=rotated)
    hessian = jax.hessian(one.fn)(np.zeros((3, 2))).reshape(6, 6)
    values = np.linalg.eigvalsh(hessian)
    sides = np.multiply.outer(np.geomspace(1, 0.1, 3), np.geomspace(1, 0.1, 2))
    np.testing.assert_allclose(values, np.sort(sides.ravel()), rtol=1e-9)
    assert np.allclose(hessian, np.diag(np.diag(hessian))) != rotated


def test_one_by_one_is_rosenbrocks_function():
    one = MATRIX_FUNCTIONS["matrix_rosenbrock"](1)
    for x, y in ((-1.2, 1.0), (0.5, 2.0)):
        value = one.fn({"x": np.array([[x]]), "y": np.array([[y]])})
        np.testing.assert_allclose(value, FUNCTIONS["rosenbrock"].fn(jnp.array([x, y])), rtol=1e-13)


def test_layers_of_a_deep_linear_network_multiply_to_the_same_matrix():
    deep, shallow = (MATRIX_FUNCTIONS["deep_linear"](4, depth=depth).minimizer for depth in (3, 1))
    product = deep["layer_3"] @ deep["layer_2"] @ deep["layer_1"]
    np.testing.assert_allclose(product, shallow["layer_1"], atol=1e-13)


def test_starts_have_their_spread_and_go_through_sweeps():
    one = MATRIX_FUNCTIONS["low_rank_factorization"](3, 2, rank=1)
    starts = one.starts(jax.random.key(0), 400)
    assert starts["left"].shape == (400, 3, 1)
    assert starts["left"].dtype == jnp.float32
    assert float(starts["right"].std()) == pytest.approx(0.1, rel=0.1)
    few = jax.tree.map(lambda leaf: leaf[:4], starts)
    found = sweep(one.fn, adam, {"learning_rate": [0.05]}, few, max_steps=400, progress=False)
    np.testing.assert_allclose(found.value[0], one.minimum, rtol=0.05)  # all other critical points are saddles


@pytest.mark.thorough
def test_matrices_matter():
    """On a rotated Kronecker quadratic, orthogonalized steps are unlike Adam's, and both descend."""
    one = MATRIX_FUNCTIONS["kronecker_quadratic"](condition=100.0)
    start = first(one.starts(jax.random.key(0), 1, np.float64))
    values = {make: descend(one.fn, make(0.05), start, max_steps=100).value for make in (adam, muon, sgd)}
    assert all(float(value[-1]) < 0.5 * float(value[0]) for value in values.values())
    assert len({round(float(value[-1]), 8) for value in values.values()}) == 3


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("low_rank_factorization", {"rank": 7}, "rank: expected an integer of at most 6, the smaller side of M, got 7"),
        ("orthogonal_procrustes", {"rows": 3}, "rows: expected an integer of at least size, 5, got 3"),
        ("kronecker_quadratic", {"condition": 0.5}, r"condition: expected a number in \[1, inf\), got 0.5"),
        ("deep_linear", {"depth": 0}, "depth: expected an integer of at least 1, got 0"),
    ],
)
def test_sizes_are_checked(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        MATRIX_FUNCTIONS[name](**arguments)
