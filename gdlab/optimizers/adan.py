"""Adan: adaptive steps with Nesterov's momentum, estimated from differences of successive gradients."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.transformation import require_fractions, require_non_negative, require_params, transformation
from gdlab.optimizers.trees import average, average_of_squares, begin, zeros
from gdlab.types import Hyperparameter


class AdanState(NamedTuple):
    """State of Adan. All fields but `steps` are shaped like the parameters.

    Attributes:
      steps: number of completed steps.
      mu: moving average of g.
      differences: moving average of the differences d of successive gradients.
      nu: moving average of (g + b2 d)^2.
      previous: the gradient of the previous step.
    """

    steps: Int[Array, ""]
    mu: PyTree
    differences: PyTree
    nu: PyTree
    previous: PyTree


@transformation
def scale_by_adan(
    b1: Hyperparameter = 0.98,
    b2: Hyperparameter = 0.92,
    b3: Hyperparameter = 0.99,
    eps: Hyperparameter = 1e-8,
) -> optax.GradientTransformation:
    """Scale gradients by Adan's rule: (mhat + b2 vhat) / (sqrt(nhat) + eps).

    Here d = g - g_previous (0 at the first step), m <- b1 m + (1 - b1) g, v <- b2 v + (1 - b2) d and
    n <- b3 n + (1 - b3) (g + b2 d)^2; the hats divide each of them by 1 - b^t with its own beta b.

    Args:
      b1: the decay of the average of gradients. Default 0.98.
      b2: the decay of the average of differences, and their weight in the step. Default 0.92.
      b3: the decay of the average of squares. Default 0.99.
      eps: a constant added to the denominator. Default 1e-8.

    The betas are 1 minus those of the paper. `optax.scale_by_adan` (0.2.8) has 1 - b2 in the two places of b2: with
    betas of the present convention, which are its defaults, it weights d by 0.08 instead of 0.92.
    """
    require_fractions(b1=b1, b2=b2, b3=b3)
    require_non_negative(eps=eps)

    def init(params: optax.Params) -> AdanState:
        return AdanState(begin(), zeros(params), zeros(params), zeros(params), zeros(params))

    def update(
        updates: optax.Updates, state: AdanState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdanState]:
        del params
        steps = optax.safe_increment(state.steps)
        change = jax.tree.map(lambda g, last: jnp.where(state.steps == 0, 0.0, g - last), updates, state.previous)
        mu = average(b1, state.mu, updates)
        differences = average(b2, state.differences, change)
        nu = average_of_squares(b3, state.nu, jax.tree.map(lambda g, d: g + b2 * d, updates, change))
        first, second, third = (one_minus_power(b, steps) for b in (b1, b2, b3))
        scaled = jax.tree.map(
            lambda m, v, n: (m / first + b2 * v / second) / (safe_sqrt(n / third) + eps), mu, differences, nu
        )
        return scaled, AdanState(steps, mu, differences, nu, updates)

    return optax.GradientTransformation(init, update)


@transformation
def adan(
    learning_rate: Hyperparameter = 1e-3,
    *,
    b1: Hyperparameter = 0.98,
    b2: Hyperparameter = 0.92,
    b3: Hyperparameter = 0.99,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Adan: x <- (x - learning_rate (mhat + b2 vhat) / (sqrt(nhat) + eps)) / (1 + learning_rate weight_decay).

    Here d = g - g_previous (0 at the first step), m <- b1 m + (1 - b1) g, v <- b2 v + (1 - b2) d and
    n <- b3 n + (1 - b3) (g + b2 d)^2; the hats divide each of them by 1 - b^t with its own beta b. The average
    difference of gradients anticipates the next gradient, which gives Adam's steps Nesterov's momentum without a
    gradient at a second point.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, that of the authors' code.
      b1: the decay of the average of gradients, 1 minus the paper's. Default 0.98, that of the authors' code.
      b2: the decay of the average of differences and their weight in the step, 1 minus the paper's. Default 0.92,
        that of the authors' code.
      b3: the decay of the average of squares, 1 minus the paper's. Default 0.99, that of the authors' code.
      eps: a constant added to the denominator. Default 1e-8, that of the authors' code.
      weight_decay: proximal weight decay: the division by 1 + learning_rate weight_decay comes last, as in
        algorithm 1. Default 0.

    State:
      m, v, n and the previous gradient, four values per parameter.

    Example:
      >>> optimizer = adan(1e-3, b2=0.9, weight_decay=0.02)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to pytorch-optimizer's Adan. `optax.adan` weights differences of gradients differently (see
    `scale_by_adan`) and adds its decay to the direction (mhat + b2 vhat) / (sqrt(nhat) + eps).

    References:
      Xie et al., "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models", 2022, algorithm 1
      (https://arxiv.org/abs/2208.06677).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)

    def decayed(moves: optax.Updates, params: optax.Params | None) -> optax.Updates:
        params = require_params("adan", params)
        shrink = 1 + learning_rate * weight_decay
        return jax.tree.map(lambda move, x: (move - learning_rate * weight_decay * x) / shrink, moves, params)

    return optax.chain(
        scale_by_adan(b1, b2, b3, eps),
        optax.scale_by_learning_rate(learning_rate),
        optax.stateless(decayed),
    )
