"""Demon: momentum that decays to zero over the run (Chen, Wolfe, Li & Kyrillidis 2019, ICASSP 2022)."""

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
    """steps: how many were done. mu, nu: moments. mu_product: of all momenta so far, for the exact bias correction."""

    steps: Int[Array, ""]
    mu: PyTree
    nu: PyTree
    mu_product: Float[Array, ""]


@transformation
def scale_by_demon_adam(
    momentum: Hyperparameter = 0.9, b2: Hyperparameter = 0.999, eps: Hyperparameter = 1e-8, *, damped: bool = False
) -> optax.GradientTransformation:
    """Adam's rule for a momentum b_t that changes from step to step: m / (sqrt(vhat) + eps).

    momentum: a number or, as Demon means it, a schedule (`gdlab.schedules.demon`).
    damped False: m = b_t m + g, uncorrected: its first term already has weight 1.
    damped True: m = b_t m + (1 - b_t) g, divided by 1 - b_1 ... b_t, the sum of the weights in it. (1 - b_t^t, which
    third-party code uses, is that sum only while b_t is constant, and 1 when it reaches 0.)
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
    """Demon SGDM: v <- b_t v + learning_rate g; x <- x - v (Chen et al. 2022, algorithm 1).

    b_t = momentum (1 - t / T) / (1 - momentum + momentum (1 - t / T)), T = total_steps and t from 0, is
    `gdlab.schedules.demon`; 0 from step T on. The classical form of heavy ball: with a momentum that changes it is not
    PyTorch's. total_steps has no default: the method is defined by its horizon. weight_decay is L2. Defaults: the
    paper's momentum; the rate is ours, to be tuned. State: v, one value a parameter.
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
    """Demon Adam: m <- b_t m + g; x <- x - learning_rate m / (sqrt(vhat) + eps) (Chen et al. 2022, algorithm 2).

    b_t decays from momentum to 0 over total_steps, as in `demon_sgdm`; v and its correction are Adam's. Both published
    forms are here: damped=False, the default, is the paper's equation, whose m is not damped by 1 - b_t, so that steps
    begin 1 / (1 - momentum) times as long as Adam's and shrink with b_t; damped=True is the moving average of
    third-party code, with the exact correction (`scale_by_demon_adam`), and Adam for a constant momentum. The paper
    writes a hat over m and does not define it; the undamped m has no bias towards 0, and none is corrected.
    weight_decay is L2. Defaults: the paper's momentum, Adam's others. State: m and v, two values a parameter.
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
