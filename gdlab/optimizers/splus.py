"""SPlus: the sign of the momentum in Shampoo's eigenbasis, and an average of the parameters (Frans et al. 2025)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.arguments import require_count
from gdlab.compute.precision import exact_products
from gdlab.optimizers.matrices import as_matrix
from gdlab.optimizers.transformation import (
    require_fractions,
    require_non_negative,
    require_params,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import average, begin, zeros
from gdlab.types import Hyperparameter


class SPlusState(NamedTuple):
    """State of `splus`.

    The matrices are listed per leaf, in the order of jax.tree, and per side of the leaf as a matrix; leaves of fewer
    than two axes have none. They have shape (n, n) for a side of length n, or (0, 0) for a side without a basis, and
    are kept in float32 or wider.

    Attributes:
      steps: number of completed steps.
      mu: the average of g, shaped like the parameters.
      mean: the average of the parameters, starting from 0.
      weight: the sum of the weights of that average, by which it is divided where it is used.
      statistics: the averages of G G^T and of G^T G.
      bases: their eigenvectors, as last computed.
    """

    steps: Int[Array, ""]
    mu: PyTree
    mean: PyTree
    weight: Array
    statistics: tuple[tuple[Array, ...], ...]
    bases: tuple[tuple[Array, ...], ...]

    def evaluation_params(self, params: optax.Params) -> optax.Params:
        """Return the average of the parameters; before the first step, the parameters."""
        share = jnp.where(self.steps == 0, 1.0, self.weight)
        return jax.tree.map(
            lambda mean, x: jnp.where(self.steps == 0, x, mean / share.astype(mean.dtype)).astype(x.dtype),
            self.mean,
            params,
        )


@exact_products
def _whitened_sign(m: Array, bases: tuple[Array, ...]) -> Array:
    left, right = bases
    rotated = left.T @ m if left.size else m
    signs = jnp.sign(rotated @ right if right.size else rotated)
    signs = left @ signs if left.size else signs
    return signs @ right.T if right.size else signs


@exact_products
def _products(g: Array, statistics: tuple[Array, ...], decay: Hyperparameter) -> tuple[Array, ...]:
    pairs = zip(statistics, (g, g.T), strict=True)
    return tuple(average(decay, h, x @ x.T).astype(h.dtype) if h.size else h for h, x in pairs)


def _eigenvectors(statistics: tuple[Array, ...], eps: Hyperparameter) -> tuple[Array, ...]:
    # Eigenvectors of equal eigenvalues, which occur in the first step, have no derivative.
    held, ridge = jax.lax.stop_gradient((statistics, jnp.asarray(eps)))
    return tuple(
        jnp.linalg.eigh(h + ridge.astype(h.dtype) * jnp.eye(len(h), dtype=h.dtype))[1] if h.size else h for h in held
    )


@transformation
def splus(
    learning_rate: Hyperparameter = 0.1,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-30,
    weight_decay: Hyperparameter = 1e-2,
    average_decay: Hyperparameter = 0.999,
    update_interval: Hyperparameter = 100,
    vector_scale: Hyperparameter = 1e-3,
    max_dim: int = 10000,
) -> optax.GradientTransformation:
    """SPlus: x <- x - learning_rate 2 / (inputs + outputs) Q_L sign(Q_L^T m Q_R) Q_R^T; then x <- x (1 - rate decay).

    Here m is the average of g, and Q_L and Q_R are the eigenvectors of L <- b2 L + (1 - b2) G G^T and R <- b2 R +
    (1 - b2) G^T G. Shampoo's inverse roots diverge when they are recomputed rarely; the sign bounds the step instead,
    so that the decompositions may be a hundred steps apart. The factor makes the best learning rate nearly independent
    of the width. `evaluation_params` returns an average of the parameters, which the noise of the large steps leaves.

    The eigenvectors are computed at the end of the first step and of every update_interval-th one, and act from the
    next step on; in the first step they are the identity. Leaves of fewer than two axes, and matrices with a side
    longer than max_dim, have learning rate vector_scale learning_rate instead; the update of a vector is sign(m). A
    leaf of more than two axes is treated as a matrix of shape (all axes but the last, last axis).

    Args:
      learning_rate: the step size, a number or a schedule. Default 0.1, that of the authors' PyTorch code; its README
        recommends 0.2.
      b1: the decay of the average of gradients. Default 0.9, that of the authors' code.
      b2: the decay of L and R. Default 0.999, that of the authors' code.
      eps: added to the diagonals of L and R before the decomposition. Default 1e-30, that of the authors' code.
      weight_decay: decoupled weight decay, scaled by the learning rate of each leaf. Default 1e-2, that of the authors'
        code.
      average_decay: the decay of the average of the parameters. Default 0.999, that of the authors' code.
      update_interval: the number of steps between two decompositions. Default 100, that of the authors' code.
      vector_scale: the factor of the learning rate for leaves without bases. Default 1e-3, that of the authors' code.
      max_dim: the length above which a side has no basis. Static. Default 10000, that of the authors' code.

    State:
      m and the average of x, two values per parameter, and two matrices n x n for every side of length n of a matrix.

    Example:
      >>> optimizer = splus(0.2, update_interval=50)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The average is taken of the parameters after the step and before its decay, as in the authors' PyTorch code; their
    JAX code averages those before the step. It starts from 0 and is divided by one minus the product of its decays.
    Derivatives treat Q as constant. Where L has a null space of two or more dimensions, its basis is arbitrary, and so
    is the run. Equivalent to `pytorch_optimizer.SPlus`, which decomposes in float32 and treats kernels of more than two
    axes as vectors.

    References:
      Frans, Levine and Abbeel, "A Stable Whitening Optimizer for Efficient Neural Network Training", 2025, algorithm 1
      (https://arxiv.org/abs/2506.07254).
    """
    require_fractions(b1=b1, b2=b2, average_decay=average_decay)
    require_positive(update_interval=update_interval)
    require_non_negative(learning_rate=learning_rate, eps=eps, weight_decay=weight_decay, vector_scale=vector_scale)
    require_count("max_dim", max_dim)

    def lengths(x: Array) -> tuple[int, ...]:
        return tuple(n if n <= max_dim else 0 for n in as_matrix(x).shape) if jnp.ndim(x) >= 2 else ()

    def init(params: optax.Params) -> SPlusState:
        leaves = [jnp.asarray(x) for x in jax.tree.leaves(params)]
        wide = [jnp.result_type(x, jnp.float32) for x in leaves]
        statistics = tuple(tuple(jnp.zeros((n, n), d) for n in lengths(x)) for x, d in zip(leaves, wide, strict=True))
        bases = tuple(tuple(jnp.eye(n, dtype=d) for n in lengths(x)) for x, d in zip(leaves, wide, strict=True))
        weight = jnp.zeros([], jnp.result_type(jnp.float32, *wide))
        return SPlusState(begin(), zeros(params), zeros(params), weight, statistics, bases)

    def update(
        updates: optax.Updates, state: SPlusState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, SPlusState]:
        leaves, tree = jax.tree.flatten(require_params("splus", params))
        count = optax.safe_increment(state.steps)
        due = (count == 1) | (count % jnp.asarray(update_interval) == 0)
        mu = average(b1, state.mu, updates)
        moves, means, statistics, bases = [], [], [], []
        each = zip(
            leaves,
            jax.tree.leaves(updates),
            jax.tree.leaves(mu),
            jax.tree.leaves(state.mean),
            state.statistics,
            state.bases,
            strict=True,
        )
        for x, g, m, mean, products, basis in each:
            rate = learning_rate * vector_scale
            direction = jnp.sign(m)
            if basis:
                direction = _whitened_sign(as_matrix(m), basis).reshape(m.shape)
                if all(side.size for side in basis):
                    rate = learning_rate * (2.0 / sum(as_matrix(x).shape))
                products = _products(as_matrix(g), products, b2)
                basis = jax.lax.cond(due, lambda now: _eigenvectors(now, eps), lambda _, b=basis: b, products)
            step = -rate * direction
            moves.append(step - rate * weight_decay * (x + step))
            means.append(average(average_decay, mean, x + step))
            statistics.append(products)
            bases.append(basis)
        new = SPlusState(
            count,
            mu,
            jax.tree.unflatten(tree, means),
            average(average_decay, state.weight, jnp.ones_like(state.weight)),
            tuple(statistics),
            tuple(bases),
        )
        return jax.tree.unflatten(tree, moves), new

    return optax.GradientTransformation(init, update)
