"""AdaBelief: steps divided by how far gradients stray from their average (Zhuang et al. 2020)."""

import jax
import optax

from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.adam import AdamState, init_moments
from gdlab.optimizers.transformation import decoupled_decay, require_fractions, require_non_negative, transformation
from gdlab.optimizers.trees import average
from gdlab.types import Hyperparameter


@transformation
def scale_by_adabelief(
    b1: Hyperparameter = 0.9, b2: Hyperparameter = 0.999, eps: Hyperparameter = 1e-16
) -> optax.GradientTransformation:
    """m = b1 m + (1 - b1) g; s = b2 s + (1 - b2) (g - m)^2 + eps; hands out mhat / (sqrt(shat) + eps).

    mhat = m / (1 - b1^t), shat = s / (1 - b2^t). eps accumulates in s, as in the paper's algorithm and code.
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(eps=eps)

    def update(
        updates: optax.Updates, state: AdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdamState]:
        del params
        steps = optax.safe_increment(state.steps)
        mu = average(b1, state.mu, updates)
        nu = jax.tree.map(lambda g, m, s: b2 * s + (1 - b2) * (g - m) ** 2 + eps, updates, mu, state.nu)
        first, second = one_minus_power(b1, steps), one_minus_power(b2, steps)
        return jax.tree.map(lambda m, s: m / first / (safe_sqrt(s / second) + eps), mu, nu), AdamState(steps, mu, nu)

    return optax.GradientTransformation(init_moments, update)


@transformation
def adabelief(
    learning_rate: Hyperparameter = 1e-3,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-16,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """AdaBelief: x <- x - learning_rate (mhat / (sqrt(shat) + eps) + weight_decay x) (Zhuang et al. 2020, algorithm 2).

    The moments are those of `scale_by_adabelief`; the decay is decoupled, as in the authors' code, whose rectification
    (RAdam's) is left out here. Equal to `optax.adabelief` and to pytorch-optimizer's with rectify=False. Where the
    gradient is constant s is nothing but eps: steps grow large, which is the method. Defaults: the authors'. State: m
    and s, two values a parameter.
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        scale_by_adabelief(b1, b2, eps),
        decoupled_decay("adabelief", weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
