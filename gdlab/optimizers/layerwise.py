"""LARS, LAMB and NovoGrad: learning rates adapted to the scale of each tensor."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.numerics import safe_sqrt
from gdlab.optimizers.adam import scale_by_adam
from gdlab.optimizers.transformation import (
    decoupled_decay,
    require_fractions,
    require_non_negative,
    require_params,
    transformation,
)
from gdlab.optimizers.trees import begin, divide, norm, zeros
from gdlab.types import Hyperparameter


@transformation
def scale_by_trust_ratio() -> optax.GradientTransformation:
    """Scale the update u of each tensor by its trust ratio |x| / |u|.

    This is LAMB's rule with phi = identity (You et al. 2020). Where a tensor's parameters x or update u are all zero,
    the update passes unchanged. `update` needs the parameters.
    """

    def scale(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        params = require_params("scale_by_trust_ratio", params)

        def one(u: jax.Array, x: jax.Array) -> jax.Array:
            x_norm, u_norm = norm(x), norm(u)
            return u * jnp.where((x_norm == 0) | (u_norm == 0), 1.0, divide(x_norm, u_norm))

        return jax.tree.map(one, updates, params)

    return optax.stateless(scale)


@transformation
def lamb(
    learning_rate: Hyperparameter = 1e-3,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-6,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """LAMB: x <- x - learning_rate (|x| / |r|) r, where r = mhat / (sqrt(vhat) + eps) + weight_decay x.

    The norms are taken per tensor, and mhat and vhat are Adam's moments, with Adam's bias correction. Every tensor
    moves by the same fraction of its own norm, which keeps the training of networks with very large batches stable.

    Args:
      learning_rate: the length of each tensor's step relative to the norm of the tensor, a number or a schedule.
        Default 1e-3, torch-optimizer's; optax has none.
      b1: the decay of the average of gradients. Default 0.9, optax's.
      b2: the decay of the average of squared gradients. Default 0.999, optax's.
      eps: added to the root of the second moment. Default 1e-6, the paper's.
      weight_decay: decoupled weight decay, added to the direction before the trust ratio is computed. Default 0,
        optax's.

    State:
      m and v, two values per parameter.

    Example:
      >>> optimizer = lamb(1e-2, weight_decay=0.01)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The function phi of the paper is the identity here. A tensor that is all zeros moves by learning_rate r. Equivalent
    to `optax.lamb`. `torch_optimizer.Lamb` clamps |x| at 10 and leaves out the bias correction by default.

    References:
      You, Li, Reddi, et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", 2020, algorithm
      2 (https://arxiv.org/abs/1904.00962).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        scale_by_adam(b1, b2, eps),
        decoupled_decay("lamb", weight_decay),
        scale_by_trust_ratio(),
        optax.scale_by_learning_rate(learning_rate),
    )


@transformation
def lars(
    learning_rate: Hyperparameter = 1.0,
    *,
    momentum: Hyperparameter = 0.9,
    weight_decay: Hyperparameter = 0.0,
    trust_coefficient: Hyperparameter = 1e-3,
    eps: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """LARS: v <- momentum v + learning_rate l (g + weight_decay x); x <- x - v.

    The local rate l = trust_coefficient |x| / (|g| + weight_decay |x| + eps) is computed per tensor; it is 1 where a
    tensor's x or g is all zeros. Every tensor takes a step in proportion to its own norm, which keeps momentum SGD
    stable with very large batches.

    Args:
      learning_rate: a factor on the local rates of all tensors, a number or a schedule. Default 1.
      momentum: the decay of the velocity v. Default 0.9, the paper's.
      weight_decay: L2 regularization, added to the gradient and counted in the denominator of l. Default 0.
      trust_coefficient: how far a tensor may move, relative to its norm. Default 1e-3, the paper's.
      eps: added to the denominator of l. Default 0.

    State:
      v, one value per parameter.

    Example:
      >>> optimizer = lars(1.0, trust_coefficient=2e-3, weight_decay=1e-4)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to pytorch-optimizer's LARS for matrices (it leaves vectors unscaled). `optax.lars` divides by
    |g + weight_decay x|, which is the same only without weight decay. `torch_optimizer.LARS` scales nothing when
    weight_decay is 0.

    References:
      You, Gitman and Ginsburg, "Large Batch Training of Convolutional Networks", 2017, algorithm 1
      (https://arxiv.org/abs/1708.03888).
    """
    require_fractions(momentum=momentum)
    require_non_negative(
        learning_rate=learning_rate, weight_decay=weight_decay, trust_coefficient=trust_coefficient, eps=eps
    )

    def scale(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        params = require_params("lars", params)

        def one(g: jax.Array, x: jax.Array) -> jax.Array:
            x_norm, g_norm = norm(x), norm(g)
            local = trust_coefficient * divide(x_norm, g_norm + weight_decay * x_norm + eps)
            local = jnp.where((x_norm == 0) | (g_norm == 0), 1.0, local)
            return local * (g + weight_decay * x)

        return jax.tree.map(one, updates, params)

    return optax.chain(optax.stateless(scale), optax.scale_by_learning_rate(learning_rate), optax.trace(momentum))


class NovoGradState(NamedTuple):
    """State of `scale_by_novograd`.

    Attributes:
      steps: number of completed steps.
      mu: the momentum m, shaped like the parameters.
      nu: the average of |g|^2, one number per tensor.
    """

    steps: Int[Array, ""]
    mu: PyTree
    nu: PyTree


@transformation
def scale_by_novograd(
    b1: Hyperparameter = 0.95,
    b2: Hyperparameter = 0.98,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Scale gradients by NovoGrad's rule: m.

    Here m <- b1 m + g / (sqrt(v) + eps) + weight_decay x, and v <- b2 v + (1 - b2) |g|^2 is one number per tensor; the
    first step sets v = |g|^2. `update` needs the parameters.

    Args:
      b1: the decay of the momentum m. Default 0.95.
      b2: the decay of v. Default 0.98.
      eps: added to the root of v. Default 1e-8.
      weight_decay: a multiple of the parameters, added to the momentum. Default 0.
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(eps=eps, weight_decay=weight_decay)

    def init(params: optax.Params) -> NovoGradState:
        return NovoGradState(begin(), zeros(params), jax.tree.map(lambda x: jnp.zeros([], jnp.result_type(x)), params))

    def update(
        updates: optax.Updates, state: NovoGradState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, NovoGradState]:
        params = require_params("novograd", params)
        decay = jnp.where(state.steps == 0, 0.0, b2)
        nu = jax.tree.map(lambda g, v: decay * v + (1 - decay) * jnp.sum(g**2), updates, state.nu)

        def push(g: jax.Array, x: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
            return b1 * m + divide(g, safe_sqrt(v) + eps) + weight_decay * x

        mu = jax.tree.map(push, updates, params, state.mu, nu)
        return mu, NovoGradState(optax.safe_increment(state.steps), mu, nu)

    return optax.GradientTransformation(init, update)


@transformation
def novograd(
    learning_rate: Hyperparameter = 1e-2,
    *,
    b1: Hyperparameter = 0.95,
    b2: Hyperparameter = 0.98,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """NovoGrad: m <- b1 m + g / (sqrt(v) + eps) + weight_decay x; x <- x - learning_rate m.

    Here v <- b2 v + (1 - b2) |g|^2 is one number per tensor; the first step sets v = |g|^2. One second moment per
    tensor, instead of one per parameter, halves Adam's memory and makes a layer's step independent of the scale of its
    gradient.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-2, the paper's.
      b1: the decay of the momentum m. Default 0.95, the paper's.
      b2: the decay of the average of squared norms. Default 0.98, the paper's.
      eps: added to the root of v. Default 1e-8.
      weight_decay: a multiple of the parameters, added to the momentum after the gradient is normalized. Default 0.

    State:
      m, one value per parameter, and v, one number per tensor.

    Example:
      >>> optimizer = novograd(1e-2, b2=0.9, weight_decay=1e-3)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `optax.novograd` and to `torch_optimizer.NovoGrad` (which keeps v in float32); both have other default
    betas.

    References:
      Ginsburg, Castonguay, Hrinchuk, et al., "Stochastic Gradient Methods with Layer-wise Adaptive Moments for Training
      of Deep Networks", 2019, algorithm 1 (https://arxiv.org/abs/1905.11286).
    """
    require_non_negative(learning_rate=learning_rate)
    return optax.chain(scale_by_novograd(b1, b2, eps, weight_decay), optax.scale_by_learning_rate(learning_rate))
