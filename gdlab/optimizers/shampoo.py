"""Shampoo: a preconditioner for every axis of every tensor (Gupta, Koren & Singer 2018)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from gdlab.arguments import require_count
from gdlab.compute.precision import exact_products
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
    """State of `scale_by_shampoo`.

    The matrices are listed per leaf, in the order of jax.tree, and per axis of the leaf. They have shape (n, n) for an
    axis of length n, or (0, 0) for an axis longer than max_dim, and are kept in float32 or wider.

    Attributes:
      steps: number of completed steps.
      statistics: eps I plus the sum of the products of the gradient with itself along each axis.
      roots: the inverse roots of the statistics, as last computed.
    """

    steps: Int[Array, ""]
    statistics: tuple[tuple[Array, ...], ...]
    roots: tuple[tuple[Array, ...], ...]


def shape_as_tensor(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape, with that of a scalar replaced by (1,)."""
    return shape or (1,)


def sides(shape: tuple[int, ...], max_dim: int) -> tuple[int, ...]:
    """Return the side of each axis's preconditioner: its length, or 0 if that exceeds max_dim or the leaf is empty."""
    empty = 0 in shape
    return tuple(0 if empty or length > max_dim else length for length in shape_as_tensor(shape))


@exact_products
def unfold_product(g: Array, axis: int) -> Array:
    """Return G G^T, where G is the tensor unfolded along the axis: shape (n, n) for an axis of length n."""
    flat = jnp.moveaxis(g, axis, 0).reshape(g.shape[axis], -1)
    return flat @ flat.T


@exact_products
def along_axis(g: Array, matrix: Array, axis: int) -> Array:
    """Multiply every fiber of the tensor along the axis by the matrix."""
    return jnp.moveaxis(jnp.tensordot(matrix, g, axes=(1, axis)), 0, axis)


@transformation
def scale_by_shampoo(
    eps: Hyperparameter = 1e-6, *, update_interval: Hyperparameter = 1, max_dim: int = 1024
) -> optax.GradientTransformation:
    """Scale gradients by Shampoo's rule: H_i^(-1 / (2 k)) is applied along each axis i of a tensor.

    Here H_i <- H_i + G_(i) G_(i)^T, starting from eps I, where G_(i) is the gradient unfolded along axis i, and k is
    the number of axes that are preconditioned.

    Args:
      eps: the initial diagonal of the preconditioners. Default 1e-6.
      update_interval: the number of steps between two computations of the roots. Default 1.
      max_dim: the length above which an axis is not preconditioned, static. Default 1024.
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
    """Shampoo: v <- momentum v + L^(-1/4) G R^(-1/4); x <- x - learning_rate v.

    Here L <- L + G G^T and R <- R + G^T G, both starting from eps I. A tensor with k axes has one matrix per axis and
    the exponent -1 / (2 k), so a vector has full-matrix Adagrad. Shampoo takes correlations between the rows and
    between the columns of a gradient into account, at the price of matrix roots; use it for matrices of moderate size.

    Args:
      learning_rate: the step size, a number or a schedule. Default 0.1, torch-optimizer's.
      momentum: the decay of the velocity v. Default 0; the paper's algorithm has no momentum.
      eps: the initial diagonal of the preconditioners. Default 1e-6, pytorch-optimizer's.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0.
      update_interval: the number of steps between two computations of the roots. Default 1.
      max_dim: the length above which an axis is not preconditioned and not counted in k. It is static, because it
        shapes the state. Default 1024.

    State:
      v, one value per parameter, and two matrices n x n for every preconditioned axis of length n.

    Example:
      >>> optimizer = shampoo(0.1, momentum=0.9, update_interval=10)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The sums and the exponent are the paper's. Derivatives through the inverse roots are those of the matrix function
    (`gdlab.numerics.symmetric_power`). Equivalent to pytorch-optimizer's Shampoo with preconditioning_compute_steps=1.
    torch-optimizer's Shampoo has another exponent, and it computes its statistics from gradients that are already
    preconditioned along other axes.

    References:
      Gupta, Koren and Singer, "Shampoo: Preconditioned Stochastic Tensor Optimization", 2018, algorithms 1 and 2
      (https://arxiv.org/abs/1802.09568).
    """
    require_fractions(momentum=momentum)
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        scale_by_shampoo(eps, update_interval=update_interval, max_dim=max_dim),
        optax.trace(momentum),
        optax.scale_by_learning_rate(learning_rate),
    )
