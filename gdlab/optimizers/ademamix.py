"""AdEMAMix: Adam with a second, slow average of gradients."""

from typing import NamedTuple

import jax
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.transformation import decoupled_decay, require_fractions, require_non_negative, transformation
from gdlab.optimizers.trees import average, average_of_squares, begin, zeros
from gdlab.types import Hyperparameter


class AdEMAMixState(NamedTuple):
    """State of AdEMAMix. All fields but `steps` are shaped like the parameters.

    Attributes:
      steps: number of completed steps.
      mu: fast moving average of g.
      slow: slow moving average of g.
      nu: moving average of g^2.
    """

    steps: Int[Array, ""]
    mu: PyTree
    slow: PyTree
    nu: PyTree


@transformation
def scale_by_ademamix(
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    b3: Hyperparameter = 0.9999,
    alpha: Hyperparameter = 5.0,
    eps: Hyperparameter = 1e-8,
) -> optax.GradientTransformation:
    """Scale gradients by AdEMAMix's rule: (mhat + alpha s) / (sqrt(vhat) + eps).

    Here s <- b3 s + (1 - b3) g, without bias correction; mhat and vhat are Adam's.

    Args:
      b1: the decay of the fast average of gradients. Default 0.9.
      b2: the decay of the average of squared gradients. Default 0.999.
      b3: the decay of the slow average of gradients. Default 0.9999.
      alpha: the weight of the slow average. Default 5.
      eps: a constant added to the denominator. Default 1e-8.
    """
    require_fractions(b1=b1, b2=b2, b3=b3)
    require_non_negative(alpha=alpha, eps=eps)

    def init(params: optax.Params) -> AdEMAMixState:
        return AdEMAMixState(begin(), zeros(params), zeros(params), zeros(params))

    def update(
        updates: optax.Updates, state: AdEMAMixState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdEMAMixState]:
        del params
        steps = optax.safe_increment(state.steps)
        mu, slow = average(b1, state.mu, updates), average(b3, state.slow, updates)
        nu = average_of_squares(b2, state.nu, updates)
        first, second = one_minus_power(b1, steps), one_minus_power(b2, steps)
        scaled = jax.tree.map(lambda m, s, v: (m / first + alpha * s) / (safe_sqrt(v / second) + eps), mu, slow, nu)
        return scaled, AdEMAMixState(steps, mu, slow, nu)

    return optax.GradientTransformation(init, update)


@transformation
def ademamix(
    learning_rate: Hyperparameter = 1e-3,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    b3: Hyperparameter = 0.9999,
    alpha: Hyperparameter = 5.0,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """AdEMAMix: x <- x - learning_rate ((mhat + alpha s) / (sqrt(vhat) + eps) + weight_decay x).

    Here s <- b3 s + (1 - b3) g is a slow average, without bias correction; mhat and vhat are Adam's. Gradients that
    are thousands of steps old still contribute through s beside Adam's fast average, which is meant for long
    trainings.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, the paper's.
      b1: the decay of the fast average of gradients. Default 0.9, the paper's.
      b2: the decay of the average of squared gradients. Default 0.999, the paper's.
      b3: the decay of the slow average of gradients. Default 0.9999, the paper's, but without its warm-up from b1;
        pass a schedule to have one.
      alpha: the weight of the slow average. Default 5, the paper's, but without its warm-up from 0; pass a schedule
        to have one.
      eps: a constant added to the denominator. Default 1e-8, the paper's.
      weight_decay: decoupled weight decay. Default 0.

    State:
      m, s and v, three values per parameter.

    Example:
      >>> optimizer = ademamix(1e-3, alpha=linear(0.0, 1000, final=5.0))
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `optax.contrib.ademamix` and to pytorch-optimizer's AdEMAMix.

    References:
      Pagliardini, Ablin and Grangier, "The AdEMAMix Optimizer: Better, Faster, Older", 2024, algorithm 1
      (https://arxiv.org/abs/2409.03137).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        scale_by_ademamix(b1, b2, b3, alpha, eps),
        decoupled_decay("ademamix", weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
