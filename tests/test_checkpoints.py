import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdlab.records import CheckpointError, load_note, load_tree, save_tree


class State(NamedTuple):
    count: jax.Array
    moments: dict


def tree():
    return State(
        jnp.array(7, jnp.int32),
        {
            "wide": jnp.array([1e-300, jnp.nan, -jnp.inf], jnp.float64),
            "half": jnp.array([[1.5, -3e38]], jnp.bfloat16),
            "key": jax.random.split(jax.random.key(3)),
            "flags": (np.array([True, False]), jnp.zeros((0, 4), jnp.float32)),
        },
    )


def test_a_tree_is_restored_bit_for_bit(tmp_path):
    path = tmp_path / "deep" / "tree.npz"
    save_tree(path, tree(), {"rows": [1.5, None]})
    found = load_tree(path, jax.eval_shape(tree))
    assert jax.tree.structure(found) == jax.tree.structure(tree())
    assert load_note(path) == {"rows": [1.5, None]}
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(tree()), strict=True):
        assert ours.dtype == theirs.dtype
        if jax.dtypes.issubdtype(theirs.dtype, jax.dtypes.prng_key):
            ours, theirs = jax.random.key_data(ours), jax.random.key_data(theirs)
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()
        assert ours.shape == theirs.shape
    np.testing.assert_array_equal(
        jax.random.normal(found.moments["key"][1]), jax.random.normal(tree().moments["key"][1])
    )
    assert os.listdir(path.parent) == ["tree.npz"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_truncated_file_raises_an_error_of_one_line(tmp_path, share):
    path = tmp_path / "tree.npz"
    save_tree(path, {"x": jnp.arange(1000.0)})
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(CheckpointError, match="not a complete checkpoint") as caught:
        load_tree(path, {"x": jnp.arange(1000.0)})
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_detected(tmp_path):
    path = tmp_path / "tree.npz"
    save_tree(path, {"x": jnp.arange(1000.0)})
    data = bytearray(path.read_bytes())
    data[data.index(np.float64(500).tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"\['x'\] is damaged"):
        load_tree(path, {"x": jnp.arange(1000.0)})


def test_another_tree_is_refused(tmp_path):
    path = tmp_path / "tree.npz"
    save_tree(path, {"x": jnp.zeros(3), "y": jnp.zeros(2)})
    for like, answer in (
        ({"x": jnp.zeros(3)}, "expected 1 arrays, got 2"),
        ({"x": jnp.zeros(4), "y": jnp.zeros(2)}, r"expected \['x'\] of shape \(4,\) .* got \['x'\] of shape \(3,\)"),
        ({"x": jnp.zeros(3), "y": jnp.zeros(2, jnp.float32)}, "dtype float32, got .* float64"),
        ({"x": jnp.zeros(3), "z": jnp.zeros(2)}, r"expected \['z'\] .* got \['y'\]"),
        ({"x": jnp.zeros(3), "y": jax.random.key(0)}, r"expected \['y'\] .* dtype key<fry>"),
    ):
        with pytest.raises(CheckpointError, match=answer):
            load_tree(path, like)
    with pytest.raises(FileNotFoundError):
        load_tree(tmp_path / "none.npz", {})
