"""What methods of low rank share: leaves as matrices, the rank of each, and its shorter side, which is compressed.

A leaf of two or more axes is a matrix of shape (inputs, outputs): its last axis, and all others. The shorter of the two
is compressed, and the inputs of a square matrix. So the moments have the length of the longer side, and which axis is
meant does not depend on whether a library stores (inputs, outputs), as JAX does, or (outputs, inputs), as PyTorch does.
"""

import jax.numpy as jnp
from jaxtyping import Array

from gdlab.arguments import require_count
from gdlab.compute.precision import exact_products


def require_rank(rank: int | None) -> None:
    """Raise unless the rank is None or a whole number >= 1."""
    if rank is not None:
        require_count("rank", rank)


def has_rank(x: Array) -> bool:
    """Return whether a leaf is a matrix; vectors, scalars and leaves without elements are not."""
    return jnp.ndim(x) >= 2 and jnp.size(x) > 0


def sides_of(x: Array) -> tuple[int, int]:
    """Return the shorter and the longer side of a leaf as a matrix."""
    rows, columns = x.size // x.shape[-1], x.shape[-1]
    return min(rows, columns), max(rows, columns)


def rank_of(x: Array, rank: int | None, *, parts: int = 1) -> int:
    """Return `rank`, or one of `parts` equal parts of the shorter side, rounded up, if that is None.

    Raises:
      ValueError: if the rank is above the shorter side.
    """
    shorter = sides_of(x)[0]
    if rank is None:
        return -(-shorter // parts)
    if rank > shorter:
        raise ValueError(
            f"rank: expected at most {shorter}, the shorter side of a leaf of shape {tuple(x.shape)}; give such leaves "
            f"to another optimizer (optax.partition), or leave rank out, got {rank}"
        )
    return rank


def compresses_inputs(matrix: Array) -> bool:
    """Return whether the inputs are compressed: where they are not more than the outputs."""
    return matrix.shape[0] <= matrix.shape[1]


@exact_products
def compress(matrix: Array, basis: Array) -> Array:
    """Return P^T G, or G P if the outputs are compressed; the basis P has a column for each rank."""
    return basis.T @ matrix if compresses_inputs(matrix) else matrix @ basis


@exact_products
def expand(low: Array, basis: Array, like: Array) -> Array:
    """Return P U, or U P^T if the outputs of `like` are compressed: the inverse of `compress` on the span of P."""
    return basis @ low if compresses_inputs(like) else low @ basis.T
