"""SOAP-Muon: the orthogonalized direction of SOAP, with the second moment of the momentum."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.numerics import safe_sqrt
from gdlab.optimizers.matrices import as_matrix, stretch, with_adamw
from gdlab.optimizers.muon import look_ahead
from gdlab.optimizers.orthogonalization import iteration
from gdlab.optimizers.shampoo import along_axis, unfold_product
from gdlab.optimizers.soap import eigenbasis, power_step
from gdlab.optimizers.transformation import (
    require_fractions,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import average, begin, divide, norm, zeros
from gdlab.types import Hyperparameter

Pair = tuple[Array, Array]


class SOAPMuonState(NamedTuple):
    """State of `scale_by_soap_muon`.

    The matrices are listed per leaf, in the order of jax.tree, and kept in float32 or wider.

    Attributes:
      steps: number of completed steps.
      mean: the average of g, shaped like the parameters.
      squares: the average of the squared momentum in the eigenbasis: per leaf, a matrix.
      statistics: the averages of G G^T and of G^T G.
      bases: matrices whose columns are eigenvectors, or nearly eigenvectors, of the statistics.
    """

    steps: Int[Array, ""]
    mean: PyTree
    squares: tuple[Array, ...]
    statistics: tuple[Pair, ...]
    bases: tuple[Pair, ...]


def rotate(g: Array, bases: Pair, *, back: bool = False) -> Array:
    """Return Q_L^T g Q_R, or Q_L g Q_R^T with `back`."""
    for axis, basis in enumerate(bases):
        g = along_axis(g, basis if back else basis.T, axis)
    return g


def square_pairs(params: optax.Params, fill: str = "zeros") -> tuple[Pair, ...]:
    """Return per leaf a pair of square matrices of zeros, or of identities with fill="eye", in float32 or wider."""
    pairs = []
    for x in map(jnp.asarray, jax.tree.leaves(params)):
        dtype, (rows, columns) = jnp.result_type(x, jnp.float32), as_matrix(x).shape
        eyes = jnp.eye(rows, dtype=dtype), jnp.eye(columns, dtype=dtype)
        pairs.append(eyes if fill == "eye" else (jnp.zeros_like(eyes[0]), jnp.zeros_like(eyes[1])))
    return tuple(pairs)


@transformation
def scale_by_soap_muon(
    momentum: Hyperparameter = 0.95,
    b2: Hyperparameter = 0.9,
    *,
    shampoo_beta: Hyperparameter = 0.9,
    ns_steps: int = 12,
    eps: Hyperparameter = 1e-7,
    moment_eps: Hyperparameter = 1e-8,
    coefficients: str = "classic",
    bfloat16: bool = False,
) -> optax.GradientTransformation:
    """Scale gradients by SOAP-Muon's rule, which the docstring of `soap_muon` gives. Each leaf has two axes or more.

    Args:
      momentum: the decay of the average of gradients. Default 0.95.
      b2: the decay of the average of the squared momentum in the eigenbasis. Default 0.9.
      shampoo_beta: the decay of the statistics. Default 0.9.
      ns_steps: the number of Newton-Schulz steps, static. Default 12.
      eps: added to the norm of the direction before the iteration. Default 1e-7.
      moment_eps: added to the root of the second moment. Default 1e-8.
      coefficients: the name of the coefficients of `orthogonalize`, static. Default "classic".
      bfloat16: whether to iterate in bfloat16, static. Default False.
    """
    polar = iteration(ns_steps, eps, coefficients, bfloat16)
    require_fractions(momentum=momentum, b2=b2, shampoo_beta=shampoo_beta)
    require_positive(eps=eps, moment_eps=moment_eps)

    def init(params: optax.Params) -> SOAPMuonState:
        squares = tuple(jnp.zeros_like(as_matrix(jnp.asarray(x))) for x in jax.tree.leaves(params))
        return SOAPMuonState(begin(), zeros(params), squares, square_pairs(params), square_pairs(params, "eye"))

    def renewed(idle: Array, h: Array, basis: Array) -> tuple[Array, Array]:
        return jax.lax.cond(idle, eigenbasis, power_step, *jax.lax.stop_gradient((h, basis)))

    def one(
        idle: Array, g: Array, u: Array, v: Array, statistics: Pair, bases: Pair
    ) -> tuple[Array, Array, Pair, Pair]:
        turned = rotate(u, bases)
        nu = jnp.where(idle, v, b2 * v + (1 - b2) * turned**2)
        whitened = rotate(turned / (safe_sqrt(nu) + moment_eps), bases, back=True)
        direction = jnp.where(idle, u, whitened * divide(norm(u), norm(whitened)))
        products = [average(shampoo_beta, h, unfold_product(g, axis)) for axis, h in enumerate(statistics)]
        found = [renewed(idle, h.astype(b.dtype), b) for h, b in zip(products, bases, strict=True)]
        for axis, (_, order) in enumerate(found):
            nu = jnp.take(nu, order, axis=axis)
        return stretch(u) * polar(direction), nu, (products[0], products[1]), (found[0][0], found[1][0])

    def update(
        updates: optax.Updates, state: SOAPMuonState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, SOAPMuonState]:
        del params
        mean = average(momentum, state.mean, updates)
        leaves, tree = jax.tree.flatten(updates)
        aheads = jax.tree.leaves(look_ahead(momentum, True, mean, updates))
        moves, squares, statistics, bases = [], [], [], []
        for g, u, v, products, turns in zip(leaves, aheads, state.squares, state.statistics, state.bases, strict=True):
            found = g, v, products, turns
            if g.size:
                found = one(state.steps == 0, as_matrix(g), as_matrix(u), v, products, turns)
            moves.append(found[0].reshape(g.shape))
            squares.append(found[1])
            statistics.append(found[2])
            bases.append(found[3])
        new = SOAPMuonState(optax.safe_increment(state.steps), mean, tuple(squares), tuple(statistics), tuple(bases))
        return jax.tree.unflatten(tree, moves), new

    return optax.GradientTransformation(init, update)


@transformation
def soap_muon(
    learning_rate: Hyperparameter = 0.02,
    *,
    momentum: Hyperparameter = 0.95,
    b2: Hyperparameter = 0.9,
    shampoo_beta: Hyperparameter = 0.9,
    weight_decay: Hyperparameter = 0.0,
    ns_steps: int = 12,
    eps: Hyperparameter = 1e-7,
    moment_eps: Hyperparameter = 1e-8,
    coefficients: str = "classic",
    bfloat16: bool = False,
    adam_ratio: Hyperparameter = 0.015,
    adam_b1: Hyperparameter = 0.9,
    adam_b2: Hyperparameter = 0.95,
    adam_eps: Hyperparameter = 1e-10,
) -> optax.GradientTransformation:
    """SOAP-Muon: x <- x - learning_rate (s O(Q_L (p / sqrt(v)) Q_R^T) + weight_decay x), where p = Q_L^T u Q_R.

    Here u is Muon's momentum, v <- b2 v + (1 - b2) p^2, Q_L and Q_R are eigenvectors of the averages of G G^T and
    G^T G, O is `orthogonalize` and s = sqrt(max(1, outputs / inputs)). SOAP evens out the directions of the eigenbasis
    over time, and Muon those that are left in each update.

    The first step is Muon's. The bases are those of the previous step; afterwards each is renewed by one orthogonal
    iteration Q <- qr(L Q), with the columns sorted by estimated eigenvalue, and v with them. A leaf with more than two
    axes is treated as a matrix of shape (all axes but the last, last axis). Leaves with fewer than two axes are updated
    by AdamW.

    Args:
      learning_rate: the step size for matrices, a number or a schedule. Default 0.02, as in `muon`.
      momentum: the decay of the average of gradients. Default 0.95, that of modded-nanogpt's record.
      b2: the decay of v, which has no bias correction. Default 0.9, that of the record.
      shampoo_beta: the decay of the averages of G G^T and G^T G. Default 0.9, that of the record.
      weight_decay: decoupled weight decay, scaled by the learning rate of each leaf. Default 0.
      ns_steps: the number of Newton-Schulz steps. Static. Default 12, that of the record.
      eps: added to the norm of the direction before the iteration, > 0. Default 1e-7.
      moment_eps: added to sqrt(v), > 0. Default 1e-8.
      coefficients: the polynomials of the iteration, as in `orthogonalize`. Static. Default "classic", those of the
        record.
      bfloat16: whether to iterate in bfloat16. Static. Default False.
      adam_ratio: AdamW's learning rate as a multiple of learning_rate. Default 0.015, as in `muon`.
      adam_b1: AdamW's decay of the average of gradients. Default 0.9, as in `muon`.
      adam_b2: AdamW's decay of the average of squared gradients. Default 0.95, as in `muon`.
      adam_eps: added to the root of AdamW's second moment. Default 1e-10, as in `muon`.

    State:
      m and v, two values per parameter, and two matrices n x n for every side of length n of a matrix.

    Example:
      >>> optimizer = soap_muon(0.01, b2=0.95)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The method is known from code, whose details may differ from those of the authors' note. Derivatives treat Q as
    constant. Where a first statistic has a null space of two or more dimensions, its basis is arbitrary, and so is the
    run.

    References:
      Vyas et al., "SOAP-Muon", 2026 (https://nikhilvyas.github.io/SOAP_Muon.pdf); equations as in modded-nanogpt
      (https://github.com/KellerJordan/modded-nanogpt).
    """
    scale = scale_by_soap_muon(
        momentum,
        b2,
        shampoo_beta=shampoo_beta,
        ns_steps=ns_steps,
        eps=eps,
        moment_eps=moment_eps,
        coefficients=coefficients,
        bfloat16=bfloat16,
    )
    return with_adamw(
        "soap_muon",
        scale,
        learning_rate,
        weight_decay,
        adam_ratio=adam_ratio,
        adam_b1=adam_b1,
        adam_b2=adam_b2,
        adam_eps=adam_eps,
    )
