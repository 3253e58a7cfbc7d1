"""NorMuon: orthogonalized updates, normalized neuron by neuron (Li et al. 2025)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from gdlab.numerics import safe_sqrt
from gdlab.optimizers.matrices import as_matrix, on_matrices, stretch, with_adamw
from gdlab.optimizers.muon import look_ahead
from gdlab.optimizers.orthogonalization import iteration
from gdlab.optimizers.transformation import (
    require_flags,
    require_fractions,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import average, norm, zeros
from gdlab.types import Hyperparameter


class NorMuonState(NamedTuple):
    """State of `scale_by_normuon`.

    Attributes:
      mean: the moving average of the gradient, shaped like the parameters.
      squares: the moving average of the mean of squares of each column of the orthogonalized matrix.
    """

    mean: PyTree
    squares: PyTree


@transformation
def scale_by_normuon(
    momentum: Hyperparameter = 0.95,
    b2: Hyperparameter = 0.95,
    *,
    nesterov: bool = True,
    ns_steps: int = 5,
    eps: Hyperparameter = 1e-7,
    norm_eps: Hyperparameter = 1e-10,
    coefficients: str = "jordan",
    bfloat16: bool = False,
) -> optax.GradientTransformation:
    """Scale gradients by NorMuon's rule, which the docstring of `normuon` gives. Each leaf has at least two axes.

    Args:
      momentum: the decay of the average of gradients. Default 0.95.
      b2: the decay of the average of squares of each neuron. Default 0.95.
      nesterov: whether to look one step of momentum ahead. Default True.
      ns_steps: the number of Newton-Schulz steps, static. Default 5.
      eps: added to the norm of the momentum before the iteration. Default 1e-7.
      norm_eps: added to the roots and norms that are divided by. Default 1e-10.
      coefficients: the name of the coefficients of `orthogonalize`, static. Default "jordan".
      bfloat16: whether to iterate in bfloat16, static. Default False.
    """
    polar = iteration(ns_steps, eps, coefficients, bfloat16)
    require_flags(nesterov=nesterov)
    require_fractions(momentum=momentum, b2=b2)
    require_positive(eps=eps, norm_eps=norm_eps)

    def init(params: optax.Params) -> NorMuonState:
        squares = jax.tree.map(lambda x: jnp.zeros(jnp.shape(x)[-1:], jnp.result_type(x)), params)
        return NorMuonState(zeros(params), squares)

    def update(
        updates: optax.Updates, state: NorMuonState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, NorMuonState]:
        del params
        mean = average(momentum, state.mean, updates)

        def of_columns(o: Array) -> Array:
            return jnp.mean(as_matrix(o) ** 2, axis=0) if o.size else jnp.zeros(o.shape[-1:], o.dtype)

        def normalize(o: Array, s: Array) -> Array:
            scaled = o / (safe_sqrt(s) + norm_eps)
            return stretch(as_matrix(o)) * scaled * (norm(o) / (norm(scaled) + norm_eps))

        turned = on_matrices(polar, look_ahead(momentum, nesterov, mean, updates))
        squares = average(b2, state.squares, jax.tree.map(of_columns, turned))
        return jax.tree.map(normalize, turned, squares), NorMuonState(mean, squares)

    return optax.GradientTransformation(init, update)


@transformation
def normuon(
    learning_rate: Hyperparameter = 0.02,
    *,
    momentum: Hyperparameter = 0.95,
    b2: Hyperparameter = 0.95,
    weight_decay: Hyperparameter = 0.0,
    nesterov: bool = True,
    ns_steps: int = 5,
    eps: Hyperparameter = 1e-7,
    norm_eps: Hyperparameter = 1e-10,
    coefficients: str = "jordan",
    bfloat16: bool = False,
    adam_ratio: Hyperparameter = 0.015,
    adam_b1: Hyperparameter = 0.9,
    adam_b2: Hyperparameter = 0.95,
    adam_eps: Hyperparameter = 1e-10,
) -> optax.GradientTransformation:
    """NorMuon: o = O(u); s <- b2 s + (1 - b2) mean(o^2); x <- x - learning_rate (c o / sqrt(s) + weight_decay x).

    Here u is Muon's momentum, O is `orthogonalize`, and the mean is over the inputs of each output: s has one value per
    neuron, a column of kernels of shape (inputs, outputs). The number c gives the update the norm that o had, times
    sqrt(max(1, outputs / inputs)). An orthogonalized update still has neurons that move far more than others; this
    evens them out over time, as Adam does, at the price of one number per neuron.

    A leaf with more than two axes is treated as a matrix of shape (all axes but the last, last axis). Leaves with fewer
    than two axes are updated by AdamW, and so should be embeddings and output layers, which `optax.partition` can
    arrange.

    Args:
      learning_rate: the step size for matrices, a number or a schedule. Default 0.02, that of the authors' code.
      momentum: the decay of the average of gradients. Default 0.95, that of the authors' code.
      b2: the decay of s, which has no bias correction: c makes up for it. Default 0.95, that of the authors' code.
      weight_decay: decoupled weight decay, scaled by the learning rate of each leaf. Default 0, that of the authors'
        code.
      nesterov: whether to look one step of momentum ahead. Default True, as in the authors' code.
      ns_steps: the number of Newton-Schulz steps. Static. Default 5, that of the authors' code.
      eps: added to the norm of u before the iteration, > 0. Default 1e-7, that of the authors' code.
      norm_eps: added to sqrt(s) and to the norm of the update, > 0. Default 1e-10, that of the authors' code.
      coefficients: the polynomials of the iteration, as in `orthogonalize`. Static. Default "jordan".
      bfloat16: whether to iterate in bfloat16, as the authors' code does. Static. Default False.
      adam_ratio: AdamW's learning rate as a multiple of learning_rate. Default 0.015, as in `muon`.
      adam_b1: AdamW's decay of the average of gradients. Default 0.9, that of the authors' code.
      adam_b2: AdamW's decay of the average of squared gradients. Default 0.95, that of the authors' code.
      adam_eps: added to the root of AdamW's second moment. Default 1e-10, that of the authors' code.

    State:
      the average of g, one value per parameter, and s, one per output, for matrices; two per parameter for others.

    Example:
      >>> optimizer = normuon(0.02, b2=0.9)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The equations are those of the authors' code and of `pytorch_optimizer.NorMuon`, whose kernels are (outputs, inputs)
    and which iterate in bfloat16. Algorithm 1 of the paper scales the update to a root mean square of 0.2 instead.

    References:
      Li, Liu, Chen and Zhao, "NorMuon: Making Muon more efficient and scalable", 2025
      (https://arxiv.org/abs/2510.05491).
    """
    scale = scale_by_normuon(
        momentum,
        b2,
        nesterov=nesterov,
        ns_steps=ns_steps,
        eps=eps,
        norm_eps=norm_eps,
        coefficients=coefficients,
        bfloat16=bfloat16,
    )
    return with_adamw(
        "normuon",
        scale,
        learning_rate,
        weight_decay,
        adam_ratio=adam_ratio,
        adam_b1=adam_b1,
        adam_b2=adam_b2,
        adam_eps=adam_eps,
    )
