"""Dion: momentum orthogonalized in a subspace that power iteration follows (Ahn et al. 2025)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from gdlab.arguments import require_count
from gdlab.compute.precision import exact_products
from gdlab.numerics import safe_sqrt
from gdlab.optimizers.matrices import as_matrix, with_adamw
from gdlab.optimizers.transformation import require_fractions, require_positive, transformation
from gdlab.optimizers.trees import zeros
from gdlab.types import Hyperparameter


class DionState(NamedTuple):
    """State of `scale_by_dion`.

    Attributes:
      buffer: the gradients that the steps have not used up, shaped like the parameters.
      bases: per leaf, in the order of jax.tree, a matrix of shape (inputs, rank), in float32 or wider.
    """

    buffer: PyTree
    bases: tuple[Array, ...]


@exact_products
def _step(buffer: Array, basis: Array, momentum: Hyperparameter, eps: Hyperparameter) -> tuple[Array, Array, Array]:
    """Return the direction, what is left of the buffer and the new basis; the buffer is (inputs, outputs)."""
    # A factor of a rank-deficient matrix has no derivative.
    left = jnp.linalg.qr(jax.lax.stop_gradient(buffer.T @ basis))[0]
    right = buffer @ left
    rest = buffer - (1 - momentum) * right @ left.T
    turned = right / (safe_sqrt(jnp.sum(right**2, axis=0)) + eps)
    inputs, outputs = buffer.shape
    return (outputs / inputs) ** 0.5 * turned @ left.T, rest, turned


@transformation
def scale_by_dion(
    momentum: Hyperparameter = 0.95, *, rank: int | None = None, eps: Hyperparameter = 1e-8, seed: int = 0
) -> optax.GradientTransformation:
    """Scale gradients by Dion's rule, which the docstring of `dion` gives. Each leaf has at least two axes.

    Args:
      momentum: the share of the direction that stays in the buffer. Default 0.95.
      rank: the number of directions, static; at most the smaller side of every matrix. Default None, which means that
        side.
      eps: added to the norms of the columns of the basis. Default 1e-8.
      seed: the seed of the first bases. Default 0.
    """
    require_fractions(momentum=momentum)
    require_positive(eps=eps)
    if rank is not None:
        require_count("rank", rank)
    require_count("seed", seed, low=0)

    def first(x: Array, key: Array) -> Array:
        inputs, outputs = as_matrix(x).shape
        least = min(inputs, outputs)
        if rank is not None and x.size and rank > least:
            smaller = f"the smaller side of a leaf of shape {x.shape}"
            raise ValueError(f"rank: expected an integer of at most {least}, {smaller}, got {rank}")
        width = least if rank is None or not x.size else rank
        return jax.random.normal(key, (inputs, width), jnp.result_type(x, jnp.float32))

    def init(params: optax.Params) -> DionState:
        leaves = [jnp.asarray(x) for x in jax.tree.leaves(params)]
        keys = jax.random.split(jax.random.key(seed), max(len(leaves), 1))
        return DionState(zeros(params), tuple(first(x, key) for x, key in zip(leaves, keys, strict=False)))

    def update(
        updates: optax.Updates, state: DionState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, DionState]:
        del params
        leaves, tree = jax.tree.flatten(updates)
        moves, buffers, bases = [], [], []
        for g, buffer, basis in zip(leaves, jax.tree.leaves(state.buffer), state.bases, strict=True):
            found = g, buffer, basis
            if g.size:
                found = _step(as_matrix(buffer + g), basis, momentum, eps)
            moves.append(found[0].reshape(g.shape))
            buffers.append(found[1].reshape(g.shape).astype(buffer.dtype))
            bases.append(found[2].astype(basis.dtype))
        return jax.tree.unflatten(tree, moves), DionState(jax.tree.unflatten(tree, buffers), tuple(bases))

    return optax.GradientTransformation(init, update)


@transformation
def dion(
    learning_rate: Hyperparameter = 0.01,
    *,
    momentum: Hyperparameter = 0.95,
    weight_decay: Hyperparameter = 0.01,
    rank: int | None = None,
    eps: Hyperparameter = 1e-8,
    seed: int = 0,
    adam_ratio: Hyperparameter = 0.1,
    adam_b1: Hyperparameter = 0.9,
    adam_b2: Hyperparameter = 0.95,
    adam_eps: Hyperparameter = 1e-10,
) -> optax.GradientTransformation:
    """Dion: M <- M + g; x <- x - learning_rate (sqrt(outputs / inputs) Q P^T + weight_decay x).

    For kernels of shape (inputs, outputs), P = qr(M^T Q) has orthonormal columns, R = M P, M <- M - (1 - momentum) R
    P^T, and Q is R with its columns scaled to norm 1. At low rank a step costs a thin QR decomposition, where Muon
    multiplies whole matrices; what a step leaves out stays in M and is not lost. At full rank it is not Muon: the
    basis takes some steps of power iteration to follow the gradients.

    A leaf with more than two axes is treated as a matrix of shape (all axes but the last, last axis). Leaves with fewer
    than two axes are updated by AdamW, and so should be embeddings and output layers, which `optax.partition` can
    arrange.

    Args:
      learning_rate: the step size for matrices, a number or a schedule. Default 0.01, that of the authors' code.
      momentum: the share of the direction that stays in M. Default 0.95, that of the authors' code.
      weight_decay: decoupled weight decay, scaled by the learning rate of each leaf. Default 0.01, that of the authors'
        code.
      rank: the number of columns of P and Q, at most the smaller side of every matrix. Static. Default None, which
        means that side, as in the authors' code.
      eps: added to the norms of the columns of R, > 0. Default 1e-8, that of the authors' code.
      seed: the seed of the first Q, whose elements are standard normal. Static. Default 0.
      adam_ratio: AdamW's learning rate as a multiple of learning_rate. Default 0.1, which gives AdamW's usual 1e-3; the
        authors' code has none.
      adam_b1: AdamW's decay of the average of gradients. Default 0.9, as in `muon`.
      adam_b2: AdamW's decay of the average of squared gradients. Default 0.95, as in `muon`.
      adam_eps: added to the root of AdamW's second moment. Default 1e-10, as in `muon`.

    State:
      M, one value per parameter, and Q, inputs x rank values, for matrices; two values per parameter for the others.

    Example:
      >>> optimizer = dion(0.02, rank=2)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    This is the method on one device, without its sharding. Unlike Muon's, the factor has no lower bound. Derivatives
    treat P as constant. Where M^T Q has a lower rank than its columns, their directions are arbitrary, and so is the
    run. The authors now recommend a successor.

    References:
      Ahn, Xu, Abreu and Langford, "Dion: Distributed Orthonormalized Updates", 2025, algorithm 1
      (https://arxiv.org/abs/2504.05295).
    """
    return with_adamw(
        "dion",
        scale_by_dion(momentum, rank=rank, eps=eps, seed=seed),
        learning_rate,
        weight_decay,
        adam_ratio=adam_ratio,
        adam_b1=adam_b1,
        adam_b2=adam_b2,
        adam_eps=adam_eps,
    )
