"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al. 2024)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.arguments import require_count
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
    """steps: how many were done. mu: average of g. nu: of its squares in the eigenbasis. Both like the parameters.

    For every leaf, in jax.tree's order, and each of its axes, a matrix (n, n): statistics, averages of the gradient's
    products along the axis, and bases, whose columns are their eigenvectors or nearly so. (0, 0) where there is none.
    In float32 at least.
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


def _eigenbasis(matrix: Array, basis: Array) -> tuple[Array, Array]:
    """Eigenvectors, that of the largest eigenvalue first; and the order of the columns, unchanged."""
    vectors = jnp.linalg.eigh(_wide(matrix))[1][:, ::-1]
    return vectors.astype(basis.dtype), jnp.arange(len(basis), dtype=jnp.int32)


def _power_step(matrix: Array, basis: Array) -> tuple[Array, Array]:
    """One step of orthogonal iteration, the columns sorted by estimated eigenvalue first; and the order of the sort."""
    product = _wide(matrix) @ _wide(basis)
    order = jnp.argsort(-jnp.sum(basis * product, axis=0)).astype(jnp.int32)
    return jnp.linalg.qr(product[:, order])[0].astype(basis.dtype), order


def _as_it_is(matrix: Array, basis: Array) -> tuple[Array, Array]:
    del matrix
    return basis, jnp.arange(len(basis), dtype=jnp.int32)


def _wide(x: Array) -> Array:
    """In float32 at least, which factorizations need."""
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
    """Adam's step for the rotated gradient Q_L' G Q_R, rotated back; the rule is told in `soap`."""
    require_fractions(b1=b1, b2=b2)
    if shampoo_beta is not None:
        require_fractions(shampoo_beta=shampoo_beta)
    require_positive(precondition_frequency=precondition_frequency)
    require_non_negative(eps=eps)
    require_flags(precondition_1d=precondition_1d)
    require_count("max_dim", max_dim)
    shampoo_decay = b2 if shampoo_beta is None else shampoo_beta

    def lengths(x: Array) -> tuple[int, ...]:
        """Per axis, the side of its matrices; none for a scalar."""
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
                    basis, order = jax.lax.switch(which, (_eigenbasis, _power_step, _as_it_is), *fixed)
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
    """SOAP: x <- x - learning_rate sqrt(1 - b2^t) / (1 - b1^t) Q_L (m' / (sqrt(v) + eps)) Q_R'.

    Vyas et al. 2024, algorithm 3. m is the average of g, m' = Q_L' m Q_R; v that of (Q_L' g Q_R)^2. L <- s L + (1 - s)
    G G', R alike, with s = shampoo_beta, or b2 where that is None; tensors have one matrix an axis. The columns of Q
    are L's eigenvectors, from the first step; every precondition_frequency steps Q <- qr(L Q), its columns sorted by
    estimated eigenvalue before (and v with them). The first step only builds L, R and Q and moves nothing; t is 1 at
    the second. The decay follows the step: x <- x (1 - learning_rate weight_decay). Vectors have no matrices (plain
    Adam) unless precondition_1d; axes longer than max_dim (static) have none either.

    Derivatives treat Q as constant: eigenvectors of equal eigenvalues, which the first step meets, have none. Where L
    has a null space of two dimensions or more its basis is arbitrary, and so is the run, here as in the reference.
    Equal to pytorch-optimizer's SOAP where its QR runs in float64 (it casts to float32). Defaults: the authors' code.
    State: m and v, two values a parameter, and two matrices n x n for every axis of length n.
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
