"""Checkpoints: a pytree of arrays in one .npz file, restored with the same bits and dtypes."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from gdlab.arguments import as_path, describe, first_line
from gdlab.compute.trees import is_key
from gdlab.records.files import atomic_path, to_json
from gdlab.records.manifest import digest_identity
from gdlab.records.packed import DamagedError, Packed, is_numeric, pack, unpacked

AnyPath = str | os.PathLike[str]


class CheckpointError(ValueError):
    """The checkpoint is damaged, belongs to another run, or holds a different tree from the expected one."""


def save_tree(path: AnyPath, tree: PyTree, note: Any = None, *, identity: Any = None) -> None:
    """Write every leaf of a tree, and a note, to one file atomically.

    Args:
      path: the file to write.
      tree: a pytree whose leaves are arrays, numbers or random keys.
      note: any value that JSON supports. Default None.
      identity: what the file belongs to, as any value that JSON supports; the file holds a digest of it. Default None.

    Raises:
      TypeError: if `path` is not a path, or a leaf or the note cannot be written.
    """
    file = as_path("path", path)
    arrays, note, belongs = arrays_of(tree), to_json(note, "note"), digest_identity(identity)
    with atomic_path(file) as temporary:
        pack(temporary, arrays, note, belongs)


def load_note(path: AnyPath) -> Any:
    """Load the note that `save_tree` wrote.

    Args:
      path: the file of the checkpoint.

    Returns:
      The note, as JSON returns it.

    Raises:
      FileNotFoundError: if there is no such file.
      CheckpointError: if the file is damaged.
    """
    with _open(as_path("path", path), None) as packed:
        return packed.head.note


def load_tree(path: AnyPath, like: PyTree, *, identity: Any = None) -> PyTree:
    """Load the tree that `save_tree` wrote.

    Args:
      path: the file of the checkpoint.
      like: a tree with the expected structure, whose leaves are arrays or results of `jax.eval_shape`.
      identity: what the file must belong to, as it was given to `save_tree`. Default None: anything.

    Returns:
      The tree in the structure of `like`, with NumPy arrays (and random keys) as leaves.

    Raises:
      TypeError: if `path` is not a path, or a leaf of `like` has no shape and dtype.
      FileNotFoundError: if there is no such file.
      CheckpointError: if the file is damaged, belongs to something else, or its names, shapes or dtypes differ from
        those of `like`.
    """
    return load(as_path("path", path), like, None if identity is None else digest_identity(identity))[0]


def arrays_of(tree: PyTree) -> dict[str, tuple[np.ndarray, str]]:
    """Return the leaves of a tree by name, as `pack` takes them; random keys are converted to their data."""
    arrays = {}
    for where, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name, plain, dtype = jax.tree_util.keystr(where), leaf, ""
        if is_key(leaf):
            plain, dtype = jax.random.key_data(leaf), f"key<{jax.random.key_impl(leaf)}>"
        try:
            array = np.asarray(plain)
        except Exception as error:  # a traced array, for example
            raise TypeError(f"tree{name}: expected an array, got {first_line(error)}") from None
        if not is_numeric(array):
            raise TypeError(f"tree{name}: expected numbers or random keys, got {describe(leaf)}")
        arrays[name] = (array, dtype)
    return arrays


def load(path: Path, like: PyTree, belongs_to: str | None) -> tuple[PyTree, Any]:
    """Return the tree and the note of a file; see `load_tree`. `belongs_to` is the digest of the identity."""
    expected, structure = jax.tree_util.tree_flatten_with_path(like)
    for where, leaf in expected:
        if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
            name = jax.tree_util.keystr(where)
            raise TypeError(f"like{name}: expected an array, or its shape and dtype, got {describe(leaf)}")
    leaves = []
    with _open(path, belongs_to) as packed:
        entries = packed.head.entries
        if len(entries) != len(expected):
            raise CheckpointError(f"{path}: expected {len(expected)} arrays, got {len(entries)}")
        for place, ((where, leaf), entry) in enumerate(zip(expected, entries, strict=True)):
            stored = jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf
            same = is_key(leaf) == entry.dtype.startswith("key<") and entry.stored == str(stored.dtype)
            same = same and (is_key(leaf) or entry.dtype == entry.stored) and entry.shape == tuple(stored.shape)
            if entry.name != jax.tree_util.keystr(where) or not same:
                raise CheckpointError(
                    f"{path}: expected {jax.tree_util.keystr(where)} of shape {tuple(leaf.shape)} and dtype "
                    f"{leaf.dtype}, got {entry.name} of shape {entry.shape} and dtype {entry.dtype}"
                )
            array = packed.array(place)
            if is_key(leaf):
                try:
                    array = jax.random.wrap_key_data(jnp.asarray(array), impl=entry.dtype[4:-1])
                except (ValueError, TypeError) as error:
                    raise CheckpointError(f"{path}: {entry.name} is damaged: {first_line(error)}") from None
            leaves.append(array)
        return jax.tree.unflatten(structure, leaves), packed.head.note


@contextlib.contextmanager
def _open(path: Path, belongs_to: str | None) -> Iterator[Packed]:
    try:
        with unpacked(path) as packed:
            if belongs_to not in (None, packed.head.belongs_to):
                raise CheckpointError(f"{path}: expected a checkpoint of this run, got that of another")
            yield packed
    except DamagedError as error:
        raise CheckpointError(f"{path}: not a complete checkpoint: {error}") from None
