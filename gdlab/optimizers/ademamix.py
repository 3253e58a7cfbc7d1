"""AdEMAMix: Adam with a second, slow average of gradients (Pagliardini, Ablin & Grangier 2024)."""

from typing import NamedTuple

import jax
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.transformation import decoupled_decay, require_fractions, require_non_negative, transformation
from gdlab.optimizers.trees import average, average_of_squares, begin, zeros
from gdlab.types import Hyperparameter


class AdEMAMixState(NamedTuple):
    """steps: how many were done. mu, slow: fast and slow average of g. nu: average of g^2. All like the parameters."""

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
    """s = b3 s + (1 - b3) g; hands out (mhat + alpha s) / (sqrt(vhat) + eps), mhat and vhat being Adam's."""
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

    Pagliardini et al. 2024, algorithm 1; s is the slow average of `scale_by_ademamix`. Equal to
    `optax.contrib.ademamix` and to pytorch-optimizer's. The paper warms alpha up from 0 and b3 from b1: give schedules
    for them. Defaults: the paper's, without the warm-up and with no decay. State: m, s and v, three values a parameter.
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        scale_by_ademamix(b1, b2, b3, alpha, eps),
        decoupled_decay("ademamix", weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
