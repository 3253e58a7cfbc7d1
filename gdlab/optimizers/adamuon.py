"""AdaMuon: the orthogonalized sign of the momentum, with a second moment of its elements (Si et al. 2025)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from gdlab.numerics import safe_sqrt
from gdlab.optimizers.matrices import on_matrices, with_adamw
from gdlab.optimizers.muon import look_ahead
from gdlab.optimizers.orthogonalization import iteration
from gdlab.optimizers.transformation import (
    require_flags,
    require_fractions,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import average, average_of_squares, norm, zeros
from gdlab.types import Hyperparameter


class AdaMuonState(NamedTuple):
    """State of `scale_by_adamuon`.

    Attributes:
      mean: the moving average of the gradient, shaped like the parameters.
      squares: the moving average of the squares of the orthogonalized matrix, shaped like the parameters.
    """

    mean: PyTree
    squares: PyTree


@transformation
def scale_by_adamuon(
    momentum: Hyperparameter = 0.95,
    *,
    nesterov: bool = True,
    ns_steps: int = 5,
    eps: Hyperparameter = 1e-7,
    moment_eps: Hyperparameter = 1e-8,
    coefficients: str = "jordan",
    bfloat16: bool = False,
) -> optax.GradientTransformation:
    """Scale gradients by AdaMuon's rule, which the docstring of `adamuon` gives. Each leaf has at least two axes.

    Args:
      momentum: the decay of both averages. Default 0.95.
      nesterov: whether to look one step of momentum ahead. Default True.
      ns_steps: the number of Newton-Schulz steps, static. Default 5.
      eps: added to the norm of the signs before the iteration. Default 1e-7.
      moment_eps: added to the root of the second moment, and to the norm of the update. Default 1e-8.
      coefficients: the name of the coefficients of `orthogonalize`, static. Default "jordan".
      bfloat16: whether to iterate in bfloat16, static. Default False.
    """
    polar = iteration(ns_steps, eps, coefficients, bfloat16)
    require_flags(nesterov=nesterov)
    require_fractions(momentum=momentum)
    require_positive(eps=eps, moment_eps=moment_eps)

    def init(params: optax.Params) -> AdaMuonState:
        return AdaMuonState(zeros(params), zeros(params))

    def direction(u: Array) -> Array:
        return polar(jnp.sign(u))

    def normalize(o: Array, v: Array) -> Array:
        scaled = o / (safe_sqrt(v) + moment_eps)
        return scaled * (0.2 * o.size**0.5) / (norm(scaled) + moment_eps)

    def update(
        updates: optax.Updates, state: AdaMuonState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdaMuonState]:
        del params
        mean = average(momentum, state.mean, updates)
        turned = on_matrices(direction, look_ahead(momentum, nesterov, mean, updates))
        squares = average_of_squares(momentum, state.squares, turned)
        return jax.tree.map(normalize, turned, squares), AdaMuonState(mean, squares)

    return optax.GradientTransformation(init, update)


@transformation
def adamuon(
    learning_rate: Hyperparameter = 0.02,
    *,
    momentum: Hyperparameter = 0.95,
    weight_decay: Hyperparameter = 0.01,
    nesterov: bool = True,
    ns_steps: int = 5,
    eps: Hyperparameter = 1e-7,
    moment_eps: Hyperparameter = 1e-8,
    coefficients: str = "jordan",
    bfloat16: bool = False,
    adam_ratio: Hyperparameter = 0.015,
    adam_b1: Hyperparameter = 0.9,
    adam_b2: Hyperparameter = 0.95,
    adam_eps: Hyperparameter = 1e-10,
) -> optax.GradientTransformation:
    """AdaMuon: o = O(sign(u)); v <- momentum v + (1 - momentum) o^2; x <- x - learning_rate (c o / sqrt(v) + decay x).

    Here u is Muon's momentum, O is `orthogonalize`, v has one value per parameter, and c makes the root mean square of
    the update 0.2, as Moonlight does. The sign takes the size of the gradients out before the orthogonalization, and v
    adapts the step of each element after it.

    A leaf with more than two axes is treated as a matrix of shape (all axes but the last, last axis). Leaves with fewer
    than two axes are updated by AdamW, and so should be embeddings and output layers, which `optax.partition` can
    arrange.

    Args:
      learning_rate: the step size for matrices, a number or a schedule. Default 0.02, that of the authors' code.
      momentum: the decay of the averages of gradients and of o^2. Default 0.95, that of the authors' code.
      weight_decay: decoupled weight decay, scaled by the learning rate of each leaf. Default 0.01, that of the authors'
        code.
      nesterov: whether to look one step of momentum ahead. Default True, as in the authors' code.
      ns_steps: the number of Newton-Schulz steps. Static. Default 5, that of the authors' code.
      eps: added to the norm of the signs before the iteration, > 0. Default 1e-7, that of the authors' code.
      moment_eps: added to sqrt(v) and to the norm of the update, > 0. Default 1e-8, that of the authors' code.
      coefficients: the polynomials of the iteration, as in `orthogonalize`. Static. Default "jordan".
      bfloat16: whether to iterate in bfloat16, as the authors' code does. Static. Default False.
      adam_ratio: AdamW's learning rate as a multiple of learning_rate. Default 0.015, as in `muon`.
      adam_b1: AdamW's decay of the average of gradients. Default 0.9, as in `muon`.
      adam_b2: AdamW's decay of the average of squared gradients. Default 0.95, as in `muon`.
      adam_eps: added to the root of AdamW's second moment. Default 1e-10, as in `muon`.

    State:
      the averages of g and of o^2, two values per parameter, for matrices; m and v, two values, for the other leaves.

    Example:
      >>> optimizer = adamuon(0.01, momentum=0.9)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The equations are those of the authors' code. `pytorch_optimizer.AdaMuon` has neither the sign nor the look-ahead,
    and another decay of v with bias correction.

    References:
      Si, Zhang and Shen, "AdaMuon: Adaptive Muon Optimizer", 2025 (https://arxiv.org/abs/2507.11005).
    """
    scale = scale_by_adamuon(
        momentum,
        nesterov=nesterov,
        ns_steps=ns_steps,
        eps=eps,
        moment_eps=moment_eps,
        coefficients=coefficients,
        bfloat16=bfloat16,
    )
    return with_adamw(
        "adamuon",
        scale,
        learning_rate,
        weight_decay,
        adam_ratio=adam_ratio,
        adam_b1=adam_b1,
        adam_b2=adam_b2,
        adam_eps=adam_eps,
    )
