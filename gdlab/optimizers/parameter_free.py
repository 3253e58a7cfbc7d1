"""D-Adaptation and Prodigy: optimizers that estimate their own step size from the distance traveled."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.transformation import (
    add_l2,
    require_flags,
    require_fractions,
    require_non_negative,
    require_params,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import average, average_of_squares, begin, divide, inner, statistic, zeros
from gdlab.types import Hyperparameter


class ProdigyState(NamedTuple):
    """State of `prodigy`; start, weighted_sum, mu and nu are shaped like the parameters.

    Attributes:
      steps: number of completed steps.
      distance: the estimate d of the distance to the solution.
      numerator: the weighted sum r, the numerator of the estimate.
      start: the initial parameters x_0.
      weighted_sum: the weighted sum s of the gradients.
      mu: the average of d g.
      nu: the average of (d g)^2.
    """

    steps: Int[Array, ""]
    distance: Float[Array, ""]
    numerator: Float[Array, ""]
    start: PyTree
    weighted_sum: PyTree
    mu: PyTree
    nu: PyTree


class DAdaptState(NamedTuple):
    """State of `dadapt_adam`; weighted_sum, mu and nu are shaped like the parameters.

    Attributes:
      steps: number of completed steps.
      distance: the estimate d of the distance to the solution.
      numerator: the average r, the numerator of the estimate.
      weighted_sum: the weighted average s of the gradients.
      mu: the average of the gradient times its rate.
      nu: the average of g^2.
    """

    steps: Int[Array, ""]
    distance: Float[Array, ""]
    numerator: Float[Array, ""]
    weighted_sum: PyTree
    mu: PyTree
    nu: PyTree


def _absolute_sum(tree: PyTree) -> Array:
    return sum((jnp.sum(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree)), jnp.zeros([]))


def _adam_correction(b1: Hyperparameter, b2: Hyperparameter, steps: Array) -> Array:
    return safe_sqrt(one_minus_power(b2, steps)) / one_minus_power(b1, steps)


@transformation
def prodigy(
    learning_rate: Hyperparameter = 1.0,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    b3: Hyperparameter | None = None,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.0,
    d0: Hyperparameter = 1e-6,
    d_coef: Hyperparameter = 1.0,
    bias_correction: bool = False,
    safeguard_warmup: bool = False,
) -> optax.GradientTransformation:
    """Prodigy: x <- x - e (m / (sqrt(v) + d eps) + weight_decay x), with the rate e = learning_rate d.

    The method estimates the distance d from the start x_0 to a solution and uses it as the step size, so that no
    learning rate needs to be tuned. In each step, with the old d on all right-hand sides:

    - m <- b1 m + (1 - b1) d g, and v <- b2 v + (1 - b2) (d g)^2;
    - r <- b3 r + (d / d0) e <g, x_0 - x>, and s <- b3 s + (d / d0) e g;
    - d <- max(d, d_coef r / |s|_1).

    The new d scales eps in the same step already, but the rate e only from the next step on. One d serves the whole
    tree.

    Args:
      learning_rate: a factor on d. Leave it at 1, or give a schedule that starts there. Default 1, the authors'.
      b1: the decay of the average of gradients. Default 0.9, the authors'.
      b2: the decay of the average of squared gradients. Default 0.999, the authors'.
      b3: the decay of r and s. Default None, which means sqrt(b2), as the authors have it.
      eps: added, times d, to the root of the second moment. Default 1e-8, the authors'.
      weight_decay: decoupled weight decay. Default 0, the authors'.
      d0: the initial value of d. Default 1e-6, the authors'.
      d_coef: a factor on the estimate of d. Default 1, the authors'.
      bias_correction: whether to multiply e by Adam's sqrt(1 - b2^t) / (1 - b1^t). Default False, the authors'.
      safeguard_warmup: whether s accumulates (d^2 / d0) g instead of (d / d0) e g, so without the learning rate.
        Default False, the authors'.

    State:
      x_0, s, m and v, four values per parameter.

    Example:
      >>> optimizer = prodigy(d_coef=0.5, weight_decay=0.01)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `prodigyopt.Prodigy` with an infinite growth_rate, its default. `optax.contrib.prodigy` always
    corrects the bias.

    References:
      Mishchenko and Defazio, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner", 2023, algorithm 4
      (https://arxiv.org/abs/2306.06101).
    """
    require_flags(bias_correction=bias_correction, safeguard_warmup=safeguard_warmup)
    require_fractions(b1=b1, b2=b2)
    if b3 is not None:
        require_fractions(b3=b3)
    require_positive(d0=d0, d_coef=d_coef)
    require_non_negative(learning_rate=learning_rate, eps=eps, weight_decay=weight_decay)

    def init(params: optax.Params) -> ProdigyState:
        distance, zero = statistic(params, d0), statistic(params)
        return ProdigyState(begin(), distance, zero, params, zeros(params), zeros(params), zeros(params))

    def update(
        updates: optax.Updates, state: ProdigyState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, ProdigyState]:
        params = require_params("prodigy", params)
        steps, d = optax.safe_increment(state.steps), state.distance
        decay = safe_sqrt(jnp.asarray(b2)) if b3 is None else b3
        rate = learning_rate * d
        if bias_correction:
            rate = rate * _adam_correction(b1, b2, steps)
        weight = d / d0 * rate
        displacement = jax.tree.map(jnp.subtract, state.start, params)
        numerator = decay * state.numerator + weight * inner(updates, displacement)
        sum_weight = d / d0 * d if safeguard_warmup else weight
        total = jax.tree.map(lambda s, g: decay * s + sum_weight * g, state.weighted_sum, updates)
        scaled = jax.tree.map(lambda g: d * g, updates)
        mu, nu = average(b1, state.mu, scaled), average_of_squares(b2, state.nu, scaled)
        estimate = d_coef * divide(numerator, _absolute_sum(total))
        distance = jnp.maximum(d, jnp.where(jnp.isfinite(estimate), estimate, d))
        moves = jax.tree.map(
            lambda m, v, x: -rate * (divide(m, safe_sqrt(v) + distance * eps) + weight_decay * x), mu, nu, params
        )
        return moves, ProdigyState(steps, distance, numerator, state.start, total, mu, nu)

    return optax.GradientTransformation(init, update)


@transformation
def dadapt_adam(
    learning_rate: Hyperparameter = 1.0,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.0,
    d0: Hyperparameter = 1e-6,
    bias_correction: bool = False,
    decoupled: bool = False,
) -> optax.GradientTransformation:
    """D-Adapt Adam: x <- x - m / (sqrt(v) + eps), with the rate e = learning_rate d inside m.

    The method estimates the distance d from the start to a solution and uses it as the step size, so that no learning
    rate needs to be tuned; `prodigy` is its successor. In each step, with q = sqrt(b2) and the old s and v in r:

    - r <- q r + (1 - q) e <g, s / (sqrt(v) + eps)>;
    - m <- b1 m + (1 - b1) e g, and v <- b2 v + (1 - b2) g^2;
    - s <- q s + (1 - q) e g;
    - d <- max(d, r / ((1 - q) |s|_1)), which e uses from the next step on.

    One d serves the whole tree.

    Args:
      learning_rate: a factor on d. Leave it at 1, or give a schedule that starts there. Default 1, the authors'.
      b1: the decay of the average of gradients. Default 0.9, the authors'.
      b2: the decay of the average of squared gradients. Default 0.999, the authors'.
      eps: added to the root of the second moment. Default 1e-8, the authors'.
      weight_decay: L2 regularization, added to the gradient before anything else. With `decoupled`, e weight_decay x is
        subtracted from x instead. Default 0, the authors'.
      d0: the initial value of d. Default 1e-6, the authors'.
      bias_correction: whether to multiply e by Adam's sqrt(1 - b2^t) / (1 - b1^t). Default False, the authors'.
      decoupled: whether the weight decay is decoupled. Default False, the authors'.

    State:
      s, m and v, three values per parameter.

    Example:
      >>> optimizer = dadapt_adam(weight_decay=0.01, decoupled=True)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `dadaptation.DAdaptAdam` with an infinite growth_rate, its default. `optax.contrib.dadapt_adamw` is
    both bias-corrected and decoupled.

    References:
      Defazio and Mishchenko, "Learning-Rate-Free Learning by D-Adaptation", 2023, algorithm 5
      (https://arxiv.org/abs/2301.07733).
    """
    require_flags(bias_correction=bias_correction, decoupled=decoupled)
    require_fractions(b1=b1, b2=b2)
    require_positive(d0=d0)
    require_non_negative(learning_rate=learning_rate, eps=eps, weight_decay=weight_decay)

    def init(params: optax.Params) -> DAdaptState:
        return DAdaptState(
            begin(), statistic(params, d0), statistic(params), zeros(params), zeros(params), zeros(params)
        )

    def update(
        updates: optax.Updates, state: DAdaptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, DAdaptState]:
        params = require_params("dadapt_adam", params)
        steps, d = optax.safe_increment(state.steps), state.distance
        q = safe_sqrt(jnp.asarray(b2))
        rate = learning_rate * d
        if bias_correction:
            rate = rate * _adam_correction(b1, b2, steps)
        before = jax.tree.map(lambda s, v: divide(s, safe_sqrt(v) + eps), state.weighted_sum, state.nu)
        numerator = q * state.numerator + (1 - q) * rate * inner(updates, before)
        stepped = jax.tree.map(lambda g: rate * g, updates)
        mu, nu = average(b1, state.mu, stepped), average_of_squares(b2, state.nu, updates)
        total = average(q, state.weighted_sum, stepped)
        estimate = divide(numerator, (1 - q) * _absolute_sum(total))
        distance = jnp.maximum(d, jnp.where(jnp.isfinite(estimate), estimate, d))
        decay = rate * weight_decay if decoupled else 0.0
        moves = jax.tree.map(lambda m, v, x: -divide(m, safe_sqrt(v) + eps) - decay * x, mu, nu, params)
        return moves, DAdaptState(steps, distance, numerator, total, mu, nu)

    return optax.chain(
        optax.identity() if decoupled else add_l2(weight_decay), optax.GradientTransformation(init, update)
    )
