"""Equality of trees, bit by bit or within a tolerance."""

from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from gdlab.compute.trees import without_key
from gdlab.optimizers.contract.report import BrokenContractError

TIGHT, LOOSE = 1e-12, 1e-6
"""Tolerances for runs that should agree, in float64 and in float32, relative to the largest coordinate."""


def to_vector(tree: PyTree) -> np.ndarray:
    """Return all numbers of a tree as one float64 vector."""
    return np.concatenate([np.zeros(0), *(np.asarray(leaf, float).ravel() for leaf in jax.tree.leaves(tree))])


def deviation(a: PyTree, b: PyTree) -> float:
    """Return the largest difference between two trees, relative to the largest number in `b`."""
    x, y = to_vector(a), to_vector(b)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise BrokenContractError("a parameter is not finite")
    return float(np.max(np.abs(x - y), initial=0.0) / max(np.max(np.abs(y), initial=0.0), 1e-300))


def require_close(what: str, a: PyTree, b: PyTree, tolerance: float) -> str:
    """Return the deviation as text, or raise if it exceeds the tolerance."""
    seen = deviation(a, b)
    if not seen <= tolerance:
        raise BrokenContractError(f"{what} differ by {seen:.1e} (relative); the tolerance is {tolerance:g}")
    return f"{seen:.1e}"


def to_array(leaf: Any) -> np.ndarray:
    """Return a leaf, or the data of a random key, as a NumPy array."""
    return np.asarray(without_key(leaf))


def to_bytes(tree: PyTree) -> list[bytes]:
    """Return the bytes of every leaf."""
    return [to_array(leaf).tobytes() for leaf in jax.tree.leaves(tree)]
