"""A pytree of arrays as one .npz file, and back: the same bits, the same dtypes, or an error."""

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
    """A checkpoint that is damaged, or that holds another tree than the one asked for."""


def save_tree(path: str | Path, tree: PyTree, note: Any = None) -> None:
    """Write every leaf of `tree`, and `note` (anything that JSON takes), to `path`, whole or not at all.

    Leaves are arrays, numbers or random keys. NumPy's files know neither bfloat16 nor keys, so bytes are written, and
    beside them what they stand for.
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
    """The note that `save_tree` wrote. Raises FileNotFoundError, and CheckpointError for a damaged file."""
    with _open(path) as archive:
        return _head(path, archive)["note"]


def load_tree(path: str | Path, like: PyTree) -> PyTree:
    """The tree that `save_tree` wrote to `path`, as NumPy arrays (and random keys), in the structure of `like`.

    like: a tree of arrays, or of what `jax.eval_shape` returns. Raises FileNotFoundError, and CheckpointError, in one
    line, for a damaged file and where names, shapes or dtypes differ from those of `like`.
    """
    wanted, structure = jax.tree_util.tree_flatten_with_path(like)
    leaves = []
    with _open(path) as archive:
        described = _head(path, archive)["leaves"]
        if len(described) != len(wanted):
            raise CheckpointError(f"{path}: wanted {len(wanted)} arrays, got {len(described)}")
        for place, ((where, leaf), (name, shape, dtype, stored)) in enumerate(zip(wanted, described, strict=True)):
            is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            same = is_key == dtype.startswith("key<") and (is_key or dtype == str(leaf.dtype))
            if name != jax.tree_util.keystr(where) or not same or (not is_key and shape != list(leaf.shape)):
                raise CheckpointError(
                    f"{path}: wanted {jax.tree_util.keystr(where)} of shape {tuple(leaf.shape)} and dtype "
                    f"{leaf.dtype}, got {name} of shape {tuple(shape)} and dtype {dtype}"
                )
            try:
                array = np.frombuffer(archive[f"leaf_{place}"].tobytes(), jnp.dtype(stored)).reshape(shape)
            except Exception as error:  # a damaged archive raises whatever its bytes suggest
                raise CheckpointError(f"{path}: {name} is damaged: {error}") from error
            leaves.append(jax.random.wrap_key_data(jnp.asarray(array), impl=dtype[4:-1]) if is_key else array)
    return jax.tree.unflatten(structure, leaves)


@contextlib.contextmanager
def _open(path: str | Path) -> Iterator[Any]:
    with Path(path).open("rb") as file:
        try:
            archive = np.load(file, allow_pickle=False)
        except Exception as error:
            raise CheckpointError(f"{path}: not a whole checkpoint: {error}") from error
        if not hasattr(archive, "files"):
            raise CheckpointError(f"{path}: not a whole checkpoint: one array, where an archive is wanted")
        with archive:
            yield archive


def _head(path: str | Path, archive: Any) -> dict[str, Any]:
    try:
        head = dict(json.loads(str(archive["head"])))
    except Exception as error:
        raise CheckpointError(f"{path}: not a whole checkpoint: {error}") from error
    if head.get("format") != FORMAT:
        raise CheckpointError(f"{path}: wanted format {FORMAT}, got {head.get('format')}")
    return head
