"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.arguments import require_count
from gdlab.compute.precision import exact_products
from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.shampoo import along_axis, sides, unfold_product
from gdlab.optimizers.transformation import (
    require_flags,
    require_fractions,
    require_non_negative,
    require_params,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import average, begin, zeros
from gdlab.types import Hyperparameter


class SOAPState(NamedTuple):
    """State of `scale_by_soap`.

    The matrices are listed per leaf, in the order of jax.tree, and per axis of the leaf. They have shape (n, n) for an
    axis of length n, or (0, 0) for an axis without a basis, and are kept in float32 or wider.

    Attributes:
      steps: number of completed steps.
      mu: the average of g, shaped like the parameters.
      nu: the average of the squared gradient in the eigenbasis, shaped like the parameters.
      statistics: the averages of the products of the gradient with itself along each axis.
      bases: matrices whose columns are eigenvectors, or nearly eigenvectors, of the statistics.
    """

    steps: Int[Array, ""]
    mu: PyTree
    nu: PyTree
    statistics: tuple[tuple[Array, ...], ...]
    bases: tuple[tuple[Array, ...], ...]


def _rotate(g: Array, bases: tuple[Array, ...], *, back: bool = False) -> Array:
    for axis, basis in enumerate(bases):
        if basis.size:
            g = along_axis(g, basis if back else basis.T, axis)
    return g


def eigenbasis(matrix: Array, basis: Array) -> tuple[Array, Array]:
    """Return the eigenvectors, largest eigenvalue first, and the identity as the order of the columns."""
    vectors = jnp.linalg.eigh(_wide(matrix))[1][:, ::-1]
    return vectors.astype(basis.dtype), jnp.arange(len(basis), dtype=jnp.int32)


@exact_products
def power_step(matrix: Array, basis: Array) -> tuple[Array, Array]:
    """Sort the columns by estimated eigenvalue, then do one orthogonal iteration; return the basis and the order."""
    product = _wide(matrix) @ _wide(basis)
    order = jnp.argsort(-jnp.sum(basis * product, axis=0)).astype(jnp.int32)
    return jnp.linalg.qr(product[:, order])[0].astype(basis.dtype), order


def _as_it_is(matrix: Array, basis: Array) -> tuple[Array, Array]:
    del matrix
    return basis, jnp.arange(len(basis), dtype=jnp.int32)


def _wide(x: Array) -> Array:
    """Return x in float32 or wider, which factorizations need."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


@transformation
def scale_by_soap(
    b1: Hyperparameter = 0.95,
    b2: Hyperparameter = 0.95,
    eps: Hyperparameter = 1e-8,
    *,
    shampoo_beta: Hyperparameter | None = None,
    precondition_frequency: Hyperparameter = 10,
    precondition_1d: bool = False,
    max_dim: int = 10000,
) -> optax.GradientTransformation:
    """Scale gradients by SOAP's rule: Adam's direction for the rotated gradient Q_L^T G Q_R, rotated back.

    The docstring of `soap` gives the details.

    Args:
      b1: the decay of the average of gradients. Default 0.95.
      b2: the decay of the average of squared rotated gradients. Default 0.95.
      eps: added to the root of the second moment. Default 1e-8.
      shampoo_beta: the decay of the statistics. Default None, which means b2.
      precondition_frequency: the number of steps between two updates of the bases. Default 10.
      precondition_1d: whether vectors have a basis, static. Default False.
      max_dim: the length above which an axis has no basis, static. Default 10000.
    """
    require_fractions(b1=b1, b2=b2)
    if shampoo_beta is not None:
        require_fractions(shampoo_beta=shampoo_beta)
    require_positive(precondition_frequency=precondition_frequency)
    require_non_negative(eps=eps)
    require_flags(precondition_1d=precondition_1d)
    require_count("max_dim", max_dim)
    shampoo_decay = b2 if shampoo_beta is None else shampoo_beta

    def lengths(x: Array) -> tuple[int, ...]:
        """Return the side of each axis's matrices: 0 for no matrix, and an empty tuple for a scalar."""
        shape = jnp.shape(x)
        if not shape or (len(shape) == 1 and not precondition_1d):
            return (0,) * len(shape)
        return sides(shape, max_dim)

    def init(params: optax.Params) -> SOAPState:
        leaves = [jnp.asarray(x) for x in jax.tree.leaves(params)]
        wide = [jnp.result_type(x, jnp.float32) for x in leaves]
        statistics = tuple(tuple(jnp.zeros((n, n), d) for n in lengths(x)) for x, d in zip(leaves, wide, strict=True))
        bases = tuple(tuple(jnp.eye(n, dtype=d) for n in lengths(x)) for x, d in zip(leaves, wide, strict=True))
        return SOAPState(begin(), zeros(params), zeros(params), statistics, bases)

    def update(
        updates: optax.Updates, state: SOAPState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, SOAPState]:
        del params
        idle = state.steps == 0
        count = jnp.maximum(state.steps, 1)
        first, second = one_minus_power(b1, count), one_minus_power(b2, count)
        renew = state.steps % jnp.asarray(precondition_frequency) == 0
        which = jnp.where(idle, 0, jnp.where(renew, 1, 2))

        def one(
            g: Array, m: Array, v: Array, statistics: tuple[Array, ...], bases: tuple[Array, ...]
        ) -> tuple[Array, Array, Array, tuple[Array, ...], tuple[Array, ...]]:
            mu = jnp.where(idle, m, average(b1, m, g))
            nu = jnp.where(idle, v, b2 * v + (1 - b2) * _rotate(g, bases) ** 2)
            scaled = _rotate(mu, bases) / (safe_sqrt(nu) + eps) * (safe_sqrt(second) / first)
            moved = jnp.where(idle, 0.0, _rotate(scaled, bases, back=True))
            statistics = tuple(
                average(shampoo_decay, h, unfold_product(g, axis)).astype(h.dtype) if h.size else h
                for axis, h in enumerate(statistics)
            )
            turned = []
            for axis, (h, basis) in enumerate(zip(statistics, bases, strict=True)):
                if h.size:
                    fixed = jax.lax.stop_gradient((h, basis))
                    basis, order = jax.lax.switch(which, (eigenbasis, power_step, _as_it_is), *fixed)
                    nu = jnp.take(nu, order, axis=axis)
                turned.append(basis)
            return moved, mu.astype(m.dtype), nu.astype(v.dtype), statistics, tuple(turned)

        leaves, tree = jax.tree.flatten(updates)
        means, squares = jax.tree.leaves(state.mu), jax.tree.leaves(state.nu)
        results = [one(*leaf) for leaf in zip(leaves, means, squares, state.statistics, state.bases, strict=True)]
        moves, mu, nu = ([result[k] for result in results] for k in range(3))
        new = SOAPState(
            optax.safe_increment(state.steps),
            jax.tree.unflatten(tree, mu),
            jax.tree.unflatten(tree, nu),
            tuple(result[3] for result in results),
            tuple(result[4] for result in results),
        )
        return jax.tree.unflatten(tree, moves), new

    return optax.GradientTransformation(init, update)


@transformation
def soap(
    learning_rate: Hyperparameter = 3e-3,
    *,
    b1: Hyperparameter = 0.95,
    b2: Hyperparameter = 0.95,
    shampoo_beta: Hyperparameter | None = None,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.01,
    precondition_frequency: Hyperparameter = 10,
    precondition_1d: bool = False,
    max_dim: int = 10000,
) -> optax.GradientTransformation:
    """SOAP: x <- x - learning_rate sqrt(1 - b2^t) / (1 - b1^t) Q_L (n / (sqrt(v) + eps)) Q_R^T.

    Here n = Q_L^T m Q_R, m is the average of g, and v is the average of (Q_L^T g Q_R)^2. The columns of Q_L and Q_R are
    eigenvectors of L <- s L + (1 - s) G G^T and R <- s R + (1 - s) G^T G; a tensor has one such matrix per axis.
    Running Adam in Shampoo's eigenbasis makes Adam see correlations between parameters, and needs the costly
    decompositions only every few steps.

    The first step computes L, R and the eigenvectors and does not move the parameters; t is 1 at the second step. Every
    precondition_frequency steps Q <- qr(L Q), where the columns are first sorted by estimated eigenvalue, and v with
    them. The weight decay follows the step: x <- x (1 - learning_rate weight_decay).

    Args:
      learning_rate: the step size, a number or a schedule. Default 3e-3, that of the authors' code.
      b1: the decay of the average of gradients. Default 0.95, that of the authors' code.
      b2: the decay of the average of squared rotated gradients. Default 0.95, that of the authors' code.
      shampoo_beta: the decay s of L and R. Default None, which means b2, as in the authors' code.
      eps: added to the root of the second moment. Default 1e-8, that of the authors' code.
      weight_decay: decoupled weight decay. Default 0.01, that of the authors' code.
      precondition_frequency: the number of steps between two updates of the bases. Default 10, that of the authors'
        code.
      precondition_1d: whether vectors have a basis; without one they are updated by plain Adam. Static. Default False,
        as in the authors' code.
      max_dim: the length above which an axis has no basis. Static. Default 10000, that of the authors' code.

    State:
      m and v, two values per parameter, and two matrices n x n for every preconditioned axis of length n.

    Example:
      >>> optimizer = soap(3e-3, precondition_frequency=5)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Derivatives treat Q as constant, because eigenvectors of equal eigenvalues, which occur in the first step, have no
    derivative. Where L has a null space of two or more dimensions, its basis is arbitrary, and so is the run, here as
    in the reference. Equivalent to pytorch-optimizer's SOAP if the QR there runs in float64 (it casts to float32).

    References:
      Vyas, Morwani, Zhao, et al., "SOAP: Improving and Stabilizing Shampoo using Adam", 2024, algorithm 3
      (https://arxiv.org/abs/2409.11321).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    scale = scale_by_soap(
        b1,
        b2,
        eps,
        shampoo_beta=shampoo_beta,
        precondition_frequency=precondition_frequency,
        precondition_1d=precondition_1d,
        max_dim=max_dim,
    )

    def finish(updates: optax.Updates, steps: Array, params: optax.Params | None = None) -> tuple[optax.Updates, Array]:
        params = require_params("soap", params)

        def move(u: Array, x: Array) -> Array:
            stepped = -learning_rate * u
            return jnp.where(steps == 0, 0.0, stepped - learning_rate * weight_decay * (x + stepped))

        return jax.tree.map(move, updates, params), optax.safe_increment(steps)

    return optax.chain(scale, optax.GradientTransformation(lambda params: begin(), finish))
