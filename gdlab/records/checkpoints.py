"""Checkpoints: a pytree of arrays in one .npz file, restored with the same bits and dtypes."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from gdlab.records.files import atomic_path, to_json

FORMAT = 1


class CheckpointError(ValueError):
    """The checkpoint is damaged, or holds a different tree from the expected one."""


def save_tree(path: str | Path, tree: PyTree, note: Any = None) -> None:
    """Write every leaf of a tree, and a note, to one file atomically.

    NumPy's files support neither bfloat16 nor random keys, so leaves are written as bytes, together with the dtypes
    that they represent.

    Args:
      path: the file to write.
      tree: a pytree whose leaves are arrays, numbers or random keys.
      note: any value that JSON supports. Default None.
    """
    arrays: dict[str, Any] = {}
    described = []
    for place, (where, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(tree)):
        plain, dtype = leaf, None
        if hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            plain, dtype = jax.random.key_data(leaf), f"key<{jax.random.key_impl(leaf)}>"
        array = np.asarray(plain)
        described.append([jax.tree_util.keystr(where), list(array.shape), dtype or str(array.dtype), str(array.dtype)])
        arrays[f"leaf_{place}"] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    head = json.dumps({"format": FORMAT, "leaves": described, "note": to_json(note)})
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, head=np.array(head), **arrays)


def load_note(path: str | Path) -> Any:
    """Load the note that `save_tree` wrote.

    Args:
      path: the file of the checkpoint.

    Returns:
      The note, as JSON returns it.

    Raises:
      FileNotFoundError: if there is no such file.
      CheckpointError: if the file is damaged.
    """
    with _open(path) as archive:
        return _head(path, archive)["note"]


def load_tree(path: str | Path, like: PyTree) -> PyTree:
    """Load the tree that `save_tree` wrote.

    Args:
      path: the file of the checkpoint.
      like: a tree with the expected structure, whose leaves are arrays or results of `jax.eval_shape`.

    Returns:
      The tree in the structure of `like`, with NumPy arrays (and random keys) as leaves.

    Raises:
      FileNotFoundError: if there is no such file.
      CheckpointError: if the file is damaged, or its names, shapes or dtypes differ from those of `like`.
    """
    expected, structure = jax.tree_util.tree_flatten_with_path(like)
    leaves = []
    with _open(path) as archive:
        described = _head(path, archive)["leaves"]
        if len(described) != len(expected):
            raise CheckpointError(f"{path}: expected {len(expected)} arrays, got {len(described)}")
        for place, ((where, leaf), (name, shape, dtype, stored)) in enumerate(zip(expected, described, strict=True)):
            is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            same = is_key == dtype.startswith("key<") and (is_key or dtype == str(leaf.dtype))
            if name != jax.tree_util.keystr(where) or not same or (not is_key and shape != list(leaf.shape)):
                raise CheckpointError(
                    f"{path}: expected {jax.tree_util.keystr(where)} of shape {tuple(leaf.shape)} and dtype "
                    f"{leaf.dtype}, got {name} of shape {tuple(shape)} and dtype {dtype}"
                )
            try:
                array = np.frombuffer(archive[f"leaf_{place}"].tobytes(), jnp.dtype(stored)).reshape(shape)
            except Exception as error:  # a damaged archive can raise any error
                raise CheckpointError(f"{path}: {name} is damaged: {error}") from error
            leaves.append(jax.random.wrap_key_data(jnp.asarray(array), impl=dtype[4:-1]) if is_key else array)
    return jax.tree.unflatten(structure, leaves)


@contextlib.contextmanager
def _open(path: str | Path) -> Iterator[Any]:
    with Path(path).open("rb") as file:
        try:
            archive = np.load(file, allow_pickle=False)
        except Exception as error:
            raise CheckpointError(f"{path}: not a complete checkpoint: {error}") from error
        if not hasattr(archive, "files"):
            raise CheckpointError(f"{path}: not a complete checkpoint: expected an archive, got one array")
        with archive:
            yield archive


def _head(path: str | Path, archive: Any) -> dict[str, Any]:
    try:
        head = dict(json.loads(str(archive["head"])))
    except Exception as error:
        raise CheckpointError(f"{path}: not a complete checkpoint: {error}") from error
    if head.get("format") != FORMAT:
        raise CheckpointError(f"{path}: expected format {FORMAT}, got {head.get('format')}")
    return head
