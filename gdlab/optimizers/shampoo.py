"""Shampoo: a preconditioner for every axis of every tensor (Gupta, Koren & Singer 2018)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from gdlab.arguments import require_count
from gdlab.numerics import symmetric_power
from gdlab.optimizers.transformation import (
    add_l2,
    require_fractions,
    require_non_negative,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import begin
from gdlab.types import Hyperparameter


class ShampooState(NamedTuple):
    """steps: how many were done. For every leaf, in jax.tree's order, and each of its axes: a matrix (n, n).

    statistics: eps I plus the sum of the gradient's products along the axis. roots: their inverse roots, as last
    computed. An axis longer than max_dim has matrices of shape (0, 0). In float32 at least.
    """

    steps: Int[Array, ""]
    statistics: tuple[tuple[Array, ...], ...]
    roots: tuple[tuple[Array, ...], ...]


def shape_as_tensor(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape, with a scalar as a vector of length 1."""
    return shape or (1,)


def sides(shape: tuple[int, ...], max_dim: int) -> tuple[int, ...]:
    """Per axis, the side of its preconditioner: its length, or 0 where that is over max_dim or the leaf is empty."""
    empty = 0 in shape
    return tuple(0 if empty or length > max_dim else length for length in shape_as_tensor(shape))


def unfold_product(g: Array, axis: int) -> Array:
    """G G', G being the tensor unfolded along the axis: shape (n, n) for an axis of length n."""
    flat = jnp.moveaxis(g, axis, 0).reshape(g.shape[axis], -1)
    return flat @ flat.T


def along_axis(g: Array, matrix: Array, axis: int) -> Array:
    """The matrix applied to every fibre of the tensor along the axis."""
    return jnp.moveaxis(jnp.tensordot(matrix, g, axes=(1, axis)), 0, axis)


@transformation
def scale_by_shampoo(
    eps: Hyperparameter = 1e-6, *, update_interval: Hyperparameter = 1, max_dim: int = 1024
) -> optax.GradientTransformation:
    """H_i = H_i + G_(i) G_(i)', from eps I, for each axis i; hands out g with H_i^(-1 / 2k) applied along each axis.

    k is the number of axes that are preconditioned. The roots are renewed every update_interval steps.
    """
    require_count("max_dim", max_dim)
    require_positive(eps=eps, update_interval=update_interval)

    def init(params: optax.Params) -> ShampooState:
        leaves = jax.tree.leaves(params)
        shapes = [(sides(jnp.shape(x), max_dim), jnp.result_type(x, jnp.float32)) for x in leaves]
        statistics = tuple(tuple((eps * jnp.eye(n)).astype(dtype) for n in lengths) for lengths, dtype in shapes)
        roots = tuple(tuple(jnp.eye(n, dtype=dtype) for n in lengths) for lengths, dtype in shapes)
        return ShampooState(begin(), statistics, roots)

    def update(
        updates: optax.Updates, state: ShampooState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, ShampooState]:
        del params
        leaves, tree = jax.tree.flatten(updates)
        tensors = [g.reshape(shape_as_tensor(g.shape)) for g in leaves]
        statistics = tuple(
            tuple((h + unfold_product(g, axis)).astype(h.dtype) if h.size else h for axis, h in enumerate(old))
            for g, old in zip(tensors, state.statistics, strict=True)
        )

        def renewed() -> tuple[tuple[Array, ...], ...]:
            def root(matrices: tuple[Array, ...]) -> tuple[Array, ...]:
                order = sum(1 for h in matrices if h.size)
                return tuple(symmetric_power(h, -1 / (2 * order), floor=eps) if h.size else h for h in matrices)

            return tuple(root(matrices) for matrices in statistics)

        due = state.steps % jnp.asarray(update_interval) == 0
        roots = jax.lax.cond(due, renewed, lambda: state.roots)
        moved = []
        for g, matrices, leaf in zip(tensors, roots, leaves, strict=True):
            for axis, matrix in enumerate(matrices):
                g = along_axis(g, matrix, axis) if matrix.size else g
            moved.append(g.reshape(leaf.shape))
        return jax.tree.unflatten(tree, moved), ShampooState(optax.safe_increment(state.steps), statistics, roots)

    return optax.GradientTransformation(init, update)


@transformation
def shampoo(
    learning_rate: Hyperparameter = 0.1,
    *,
    momentum: Hyperparameter = 0.0,
    eps: Hyperparameter = 1e-6,
    weight_decay: Hyperparameter = 0.0,
    update_interval: Hyperparameter = 1,
    max_dim: int = 1024,
) -> optax.GradientTransformation:
    """Shampoo: v <- momentum v + L^(-1/4) G R^(-1/4); x <- x - learning_rate v (Gupta, Koren & Singer 2018, alg. 1).

    L <- L + G G', R <- R + G' G, both from eps I; for a tensor with k axes one matrix an axis and the exponent -1 / 2k
    (algorithm 2): a vector has full-matrix Adagrad. The preconditioners are `scale_by_shampoo`'s. Axes longer than
    max_dim (static: it shapes the state) are left alone and not counted in k.

    The inverse roots are differentiated as functions of the matrix (`gdlab.numerics.symmetric_power`). Equal to
    pytorch-optimizer's Shampoo with preconditioning_compute_steps=1; torch-optimizer's has another exponent and
    preconditions its own statistics. weight_decay is L2. Defaults: the exponent and sums of the paper, no momentum,
    eps of pytorch-optimizer, rate of torch-optimizer. State: v, and two matrices n x n for every axis of length n.
    """
    require_fractions(momentum=momentum)
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        scale_by_shampoo(eps, update_interval=update_interval, max_dim=max_dim),
        optax.trace(momentum),
        optax.scale_by_learning_rate(learning_rate),
    )
