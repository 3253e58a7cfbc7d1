"""KL-SOAP: SOAP with statistics that are whitened by the other side (Lin et al. 2025)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from gdlab.compute.precision import exact_products
from gdlab.numerics import safe_sqrt
from gdlab.optimizers.matrices import adamw_direction, as_matrix, by_axes
from gdlab.optimizers.shampoo import unfold_product
from gdlab.optimizers.soap import eigenbasis
from gdlab.optimizers.soap_muon import Pair, rotate, square_pairs
from gdlab.optimizers.transformation import (
    require_fractions,
    require_non_negative,
    require_params,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import average, begin
from gdlab.types import Hyperparameter


class KLSOAPState(NamedTuple):
    """State of `scale_by_kl_soap`.

    All is listed per leaf, in the order of jax.tree, for the leaf as a matrix, and kept in float32 or wider.

    Attributes:
      steps: number of completed steps.
      mu: the average of the gradient in the eigenbasis.
      nu: the average of its square.
      statistics: the averages of the whitened G G^T and G^T G.
      bases: matrices whose columns are eigenvectors, or nearly eigenvectors, of the statistics.
      values: estimates of the eigenvalues.
    """

    steps: Int[Array, ""]
    mu: tuple[Array, ...]
    nu: tuple[Array, ...]
    statistics: tuple[Pair, ...]
    bases: tuple[Pair, ...]
    values: tuple[Pair, ...]


class _Leaf(NamedTuple):
    mu: Array
    nu: Array
    statistics: Pair
    bases: Pair
    values: Pair


@exact_products
def _orthogonal_step(matrix: Array, basis: Array) -> Array:
    return jnp.linalg.qr(matrix @ basis)[0]


@transformation
def scale_by_kl_soap(
    b1: Hyperparameter = 0.95,
    b2: Hyperparameter = 0.9,
    eps: Hyperparameter = 1e-8,
    *,
    shampoo_beta: Hyperparameter = 0.9,
    precondition_frequency: Hyperparameter = 1,
    cap: Hyperparameter = 4000.0,
    initial_value: Hyperparameter = 0.1,
) -> optax.GradientTransformation:
    """Scale gradients by KL-SOAP's rule, which the docstring of `kl_soap` gives. Each leaf has two axes or more.

    Args:
      b1: the decay of the average of rotated gradients. Default 0.95.
      b2: the decay of the average of their squares. Default 0.9.
      eps: added to the root of the second moment. Default 1e-8.
      shampoo_beta: the decay of the statistics and of the eigenvalues. Default 0.9.
      precondition_frequency: the number of steps between two updates of the bases. Default 1.
      cap: the largest inverse root of an eigenvalue. Default 4000.
      initial_value: the first eigenvalues. Default 0.1.
    """
    require_fractions(b1=b1, b2=b2, shampoo_beta=shampoo_beta)
    require_positive(precondition_frequency=precondition_frequency, cap=cap, initial_value=initial_value)
    require_non_negative(eps=eps)

    def init(params: optax.Params) -> KLSOAPState:
        bases = square_pairs(params, "eye")
        moments = tuple(jnp.zeros((len(a), len(b)), a.dtype) for a, b in bases)
        values = tuple(
            (jnp.full(len(a), initial_value, a.dtype), jnp.full(len(b), initial_value, b.dtype)) for a, b in bases
        )
        return KLSOAPState(begin(), moments, jax.tree.map(jnp.zeros_like, moments), square_pairs(params), bases, values)

    def inverse(values: Array) -> Array:
        return 1 / jnp.maximum(values, 1 / cap**2)

    def begun(g: Array, old: _Leaf) -> tuple[Array, _Leaf]:
        """Take the bases from the first gradient, and do not move."""
        rows, columns = g.shape
        left, right = unfold_product(g, 0) / columns, unfold_product(g, 1) / rows
        held = jax.lax.stop_gradient((left, right))
        first, second = (eigenbasis(h, q)[0] for h, q in zip(held, old.bases, strict=True))
        return jnp.zeros_like(g), old._replace(statistics=(left, right), bases=(first, second))

    def moved(renew: Array, g: Array, old: _Leaf) -> tuple[Array, _Leaf]:
        rows, columns = g.shape
        left, right = old.bases
        turned = rotate(g, old.bases)
        mu, nu = average(b1, old.mu, turned), average(b2, old.nu, turned**2)
        direction = rotate(mu / (safe_sqrt(nu) + eps), old.bases, back=True)
        of_left, of_right = map(inverse, old.values)
        # G Q_R diag(1 / l_R) Q_R^T G^T is the product of a matrix with itself.
        fresh = (
            unfold_product(rotate(turned * jnp.sqrt(of_right), (left, right), back=True), 0) / columns,
            unfold_product(rotate(turned * jnp.sqrt(of_left)[:, None], (left, right), back=True), 1) / rows,
        )
        statistics = average(shampoo_beta, old.statistics, fresh)
        means = jnp.mean(turned**2 * of_right, axis=1), jnp.mean(turned**2 * of_left[:, None], axis=0)
        values = average(shampoo_beta, old.values, means)
        held = jax.lax.stop_gradient((statistics, old.bases))
        bases = jax.lax.cond(renew, lambda h, q: tuple(map(_orthogonal_step, h, q)), lambda h, q: tuple(q), *held)
        mu = jnp.where(renew, rotate(rotate(mu, old.bases, back=True), bases), mu)
        return direction, _Leaf(mu, nu, statistics, bases, values)

    def update(
        updates: optax.Updates, state: KLSOAPState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, KLSOAPState]:
        del params
        renew = state.steps % jnp.asarray(precondition_frequency) == 0
        leaves, tree = jax.tree.flatten(updates)
        moves, new = [], []
        for g, *parts in zip(leaves, *state[1:], strict=True):
            old = _Leaf(*parts)
            if g.size:
                matrix = as_matrix(g).astype(old.mu.dtype)
                found = jax.lax.cond(
                    state.steps == 0,
                    lambda g, old: _cast(begun(g, old), old),
                    lambda g, old: _cast(moved(renew, g, old), old),
                    *(matrix, old),
                )
            else:
                found = g, old
            moves.append(found[0].reshape(g.shape))
            new.append(found[1])
        count = optax.safe_increment(state.steps)
        return jax.tree.unflatten(tree, moves), KLSOAPState(count, *(tuple(one[k] for one in new) for k in range(5)))

    return optax.GradientTransformation(init, update)


def _cast(found: tuple[Array, _Leaf], old: _Leaf) -> tuple[Array, _Leaf]:
    """Return both branches' results in the dtypes of the state."""
    direction, new = found
    return direction.astype(old.mu.dtype), jax.tree.map(lambda a, b: a.astype(b.dtype), new, old)


@transformation
def kl_soap(
    learning_rate: Hyperparameter = 3e-3,
    *,
    b1: Hyperparameter = 0.95,
    b2: Hyperparameter = 0.9,
    shampoo_beta: Hyperparameter = 0.9,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.01,
    precondition_frequency: Hyperparameter = 1,
    cap: Hyperparameter = 4000.0,
    initial_value: Hyperparameter = 0.1,
    adam_ratio: Hyperparameter = 1.0,
    adam_b1: Hyperparameter = 0.9,
    adam_b2: Hyperparameter = 0.95,
) -> optax.GradientTransformation:
    """KL-SOAP: x <- x - learning_rate (Q_L (m / (sqrt(v) + eps)) Q_R^T + weight_decay x).

    Here m and v are the averages of p = Q_L^T G Q_R and of p^2, without bias correction, and Q_L and Q_R are
    eigenvectors of L <- s L + (1 - s) G Q_R diag(1 / l_R) Q_R^T G^T / columns, and of R likewise. The eigenvalues l_R
    are averages of p^2 / l_L over the rows, and l_L of p^2 / l_R over the columns. In SOAP the scales of both sides
    enter L and R; these are the best Kronecker approximation of the covariance of gradients in the Kullback-Leibler
    divergence.

    The first gradient only makes the bases; no matrix moves. Afterwards every precondition_frequency-th step ends with
    Q <- qr(L Q); m turns with the bases and v does not. A leaf with more than two axes is treated as a matrix of shape
    (all axes but the last, last axis). Leaves with fewer than two axes are updated by AdamW from the first step on.

    Args:
      learning_rate: the step size, a number or a schedule. Default 3e-3, heavyball's; in modded-nanogpt's record the
        direction is used with the steps of `hyperball`.
      b1: the decay of m. Default 0.95, that of the record.
      b2: the decay of v. Default 0.9, that of the record.
      shampoo_beta: s, the decay of L, R and their eigenvalues. Default 0.9, that of the record.
      eps: added to sqrt(v), and to AdamW's. Default 1e-8, that of the record.
      weight_decay: decoupled weight decay, scaled by the learning rate of each leaf. Default 0.01, heavyball's.
      precondition_frequency: the number of steps between two updates of the bases. Default 1, that of the record.
      cap: the largest 1 / sqrt(l) that is used, > 0. Default 4000, that of the record.
      initial_value: the first eigenvalues, > 0. Default 0.1, those of the record.
      adam_ratio: AdamW's learning rate as a multiple of learning_rate. Default 1.
      adam_b1: AdamW's decay of the average of gradients. Default 0.9, as in `muon`.
      adam_b2: AdamW's decay of the average of squared gradients. Default 0.95, as in `muon`.

    State:
      m and v, two values per parameter, two matrices n x n and n eigenvalues for every side of length n of a matrix.

    Example:
      >>> optimizer = kl_soap(1e-3, precondition_frequency=5)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Derivatives treat Q as constant. Where a first statistic has a null space of two or more dimensions, its basis is
    arbitrary, and so is the run. heavyball's KLSOAP differs: it corrects the bias, and recomputes the eigenvalues.

    References:
      Lin, Lowe, Dangel, et al., "Understanding and improving Shampoo and SOAP via Kullback-Leibler minimization", 2025
      (https://arxiv.org/abs/2509.03378); details as in modded-nanogpt (https://github.com/KellerJordan/modded-nanogpt).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay, adam_ratio=adam_ratio)
    require_fractions(adam_b1=adam_b1, adam_b2=adam_b2)
    scale = scale_by_kl_soap(
        b1,
        b2,
        eps,
        shampoo_beta=shampoo_beta,
        precondition_frequency=precondition_frequency,
        cap=cap,
        initial_value=initial_value,
    )

    def decay(updates: optax.Updates, steps: Array, params: optax.Params | None = None) -> tuple[optax.Updates, Array]:
        held = require_params("kl_soap", params)
        share = jnp.where(steps == 0, 0.0, 1.0)
        added = jax.tree.map(lambda u, x: u + share.astype(u.dtype) * weight_decay * x, updates, held)
        return added, optax.safe_increment(steps)

    matrices = optax.chain(scale, optax.GradientTransformation(lambda params: begin(), decay))
    vectors = adamw_direction("kl_soap", b1=adam_b1, b2=adam_b2, eps=eps, weight_decay=weight_decay, ratio=adam_ratio)
    return optax.chain(by_axes(matrices, vectors), optax.scale_by_learning_rate(learning_rate))
