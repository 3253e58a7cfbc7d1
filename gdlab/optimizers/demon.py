"""Demon: momentum that decays to zero over the run."""

from typing import NamedTuple

import jax
import optax
from jaxtyping import Array, Float, Int, PyTree

from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.transformation import (
    add_l2,
    require_flags,
    require_fractions,
    require_non_negative,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import average_of_squares, begin, statistic, zeros
from gdlab.schedules import demon as demon_schedule
from gdlab.types import Hyperparameter


class DemonAdamState(NamedTuple):
    """State of Demon Adam.

    Attributes:
      steps: number of completed steps.
      mu: first moment, shaped like the parameters.
      nu: second moment, shaped like the parameters.
      mu_product: the product of all momenta so far, for the exact bias correction.
    """

    steps: Int[Array, ""]
    mu: PyTree
    nu: PyTree
    mu_product: Float[Array, ""]


@transformation
def scale_by_demon_adam(
    momentum: Hyperparameter = 0.9, b2: Hyperparameter = 0.999, eps: Hyperparameter = 1e-8, *, damped: bool = False
) -> optax.GradientTransformation:
    """Scale gradients by Adam's rule with a momentum b_t that changes from step to step: m / (sqrt(vhat) + eps).

    Here v and its bias correction are Adam's.

    Args:
      momentum: b_t, a number or, as Demon intends, a schedule (`gdlab.schedules.demon`). Default 0.9.
      b2: the decay of the average of squared gradients. Default 0.999.
      eps: a constant added to the denominator. Default 1e-8.
      damped: the form of the first moment. False: m <- b_t m + g, without a correction, since its first gradient
        already has weight 1. True: m <- b_t m + (1 - b_t) g, divided by 1 - b_1 ... b_t, the sum of the weights in
        it. Static. Default False.

    Third-party code corrects the damped form by 1 - b_t^t, which is the sum of the weights only while b_t is
    constant, and which is 1 when b_t reaches 0.
    """
    require_fractions(momentum=momentum, b2=b2)
    require_non_negative(eps=eps)
    require_flags(damped=damped)

    def init(params: optax.Params) -> DemonAdamState:
        return DemonAdamState(begin(), zeros(params), zeros(params), statistic(params, 1.0))

    def update(
        updates: optax.Updates, state: DemonAdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, DemonAdamState]:
        del params
        steps = optax.safe_increment(state.steps)
        product = state.mu_product * momentum
        weight = 1 - momentum if damped else 1.0
        mu = jax.tree.map(lambda m, g: momentum * m + weight * g, state.mu, updates)
        nu = average_of_squares(b2, state.nu, updates)
        first, second = 1 - product if damped else 1.0, one_minus_power(b2, steps)
        scaled = jax.tree.map(lambda m, v: m / first / (safe_sqrt(v / second) + eps), mu, nu)
        return scaled, DemonAdamState(steps, mu, nu, product)

    return optax.GradientTransformation(init, update)


@transformation
def demon_sgdm(
    learning_rate: Hyperparameter = 1e-3,
    *,
    total_steps: Hyperparameter,
    momentum: Hyperparameter = 0.9,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Demon SGDM: v <- b_t v + learning_rate g; x <- x - v.

    Here b_t = momentum (1 - t / T) / (1 - momentum + momentum (1 - t / T)), with T = total_steps and t from 0, and
    b_t = 0 from step T on; this is the schedule `gdlab.schedules.demon`. The momentum decays over the run, which
    takes the place of a decaying learning rate.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, this library's choice, which needs tuning.
      total_steps: the length T of the run, in steps. It has no default, because the method is defined by its
        horizon.
      momentum: the momentum at the first step. Default 0.9, the paper's.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0.

    State:
      v, one value per parameter.

    Example:
      >>> optimizer = demon_sgdm(0.1, total_steps=1000)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    This is the classical form of heavy ball, in which v contains the learning rate. PyTorch's form, v <- b_t v + g
    and x <- x - learning_rate v, differs from it when the learning rate changes.

    References:
      Chen, Wolfe, Li and Kyrillidis, "Demon: Improved Neural Network Training with Momentum Decay", 2019, ICASSP
      2022, algorithm 1 (https://arxiv.org/abs/1910.04952).
    """
    _require(learning_rate, total_steps, momentum, weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
        transformation(optax.trace)(demon_schedule(momentum, total_steps)),
    )


@transformation
def demon_adam(
    learning_rate: Hyperparameter = 1e-3,
    *,
    total_steps: Hyperparameter,
    momentum: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.0,
    damped: bool = False,
) -> optax.GradientTransformation:
    """Demon Adam: m <- b_t m + g; x <- x - learning_rate m / (sqrt(vhat) + eps).

    Here b_t decays from momentum to 0 over total_steps, as in `demon_sgdm`; v and its bias correction are Adam's.
    The momentum decays over the run, which takes the place of a decaying learning rate.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, Adam's.
      total_steps: the length of the run, in steps. It has no default, because the method is defined by its horizon.
      momentum: the momentum at the first step. Default 0.9, the paper's.
      b2: the decay of the average of squared gradients. Default 0.999, Adam's.
      eps: a constant added to the denominator. Default 1e-8, Adam's.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0.
      damped: the form of the first moment: False is the paper's equation, True the moving average
        m <- b_t m + (1 - b_t) g with the exact bias correction of `scale_by_demon_adam`. Static. Default False.

    State:
      m and v, two values per parameter.

    Example:
      >>> optimizer = demon_adam(1e-3, total_steps=1000, damped=True)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Both published forms are available. In the paper's, m is not damped by 1 - b_t, so that early in the run steps
    grow up to 1 / (1 - momentum) times as long as Adam's and later shrink with b_t. The paper writes a hat over m
    without defining it; since the undamped m has no bias towards 0, none is corrected. The damped form is that of
    third-party code, but with the exact correction; for a constant momentum it is Adam.

    References:
      Chen, Wolfe, Li and Kyrillidis, "Demon: Improved Neural Network Training with Momentum Decay", 2019, ICASSP
      2022, algorithm 2 (https://arxiv.org/abs/1910.04952).
    """
    _require(learning_rate, total_steps, momentum, weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        scale_by_demon_adam(demon_schedule(momentum, total_steps), b2, eps, damped=damped),
        optax.scale_by_learning_rate(learning_rate),
    )


def _require(
    learning_rate: Hyperparameter, total_steps: Hyperparameter, momentum: Hyperparameter, weight_decay: Hyperparameter
) -> None:
    require_fractions(momentum=momentum)
    require_positive(total_steps=total_steps)
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
