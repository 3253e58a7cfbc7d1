import jax.numpy as jnp
import numpy as np
import pytest

from gdlab.losses import cross_entropy, is_hit


def test_cross_entropy_is_the_textbook_formula():
    logits = np.random.default_rng(0).normal(size=(5, 7)) * 3
    labels = np.array([0, 6, 3, 3, 1])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(probabilities[np.arange(5), labels])
    np.testing.assert_allclose(cross_entropy(jnp.asarray(logits), jnp.asarray(labels)), expected, rtol=1e-12)


def test_cross_entropy_is_finite_and_in_float32():
    half = jnp.array([[300.0, -300.0, 0.0]], jnp.bfloat16)
    found = cross_entropy(half, jnp.array([1]))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, [600.0], rtol=1e-6)


@pytest.mark.oracle
def test_cross_entropy_equals_pytorchs():
    torch = pytest.importorskip("torch")
    logits = np.random.default_rng(1).normal(size=(4, 3, 6)).astype(np.float32)
    labels = np.random.default_rng(2).integers(0, 6, (4, 3))
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(logits).reshape(-1, 6), torch.tensor(labels).reshape(-1), reduction="none"
    )
    ours = cross_entropy(jnp.asarray(logits), jnp.asarray(labels))
    np.testing.assert_allclose(np.asarray(ours).reshape(-1), theirs.numpy(), rtol=1e-6)


def test_a_hit_is_the_first_largest():
    logits = jnp.array([[1.0, 2.0, 2.0], [1.0, 2.0, 2.0], [5.0, 0.0, 1.0]])
    assert is_hit(logits, jnp.array([1, 2, 0])).tolist() == [True, False, True]
