"""Adan: adaptive Nesterov momentum from differences of gradients (Xie et al. 2022)."""

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
    """steps: how many were done. Averages of g, of its differences, of squares; the previous g. All like parameters."""

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
    """d = g - g_previous (0 at first); hands out (mhat + b2 vhat) / (sqrt(nhat) + eps).

    m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) d; n = b3 n + (1 - b3) (g + b2 d)^2; each divided by 1 - b^t. The betas
    are 1 minus those of the paper. `optax.scale_by_adan` (0.2.8) has 1 - b2 in the two places of b2: with betas of this
    convention, which are its defaults, that weighs d by 0.08 instead of 0.92.
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
    """Adan: x <- (x - learning_rate u) / (1 + learning_rate weight_decay), u from `scale_by_adan` (Xie et al. 2022).

    The decay is proximal: the division comes last (algorithm 1). Equal to pytorch-optimizer's Adan; `optax.adan` weighs
    differences of gradients otherwise (see `scale_by_adan`) and its decay is added to u. Defaults: the authors' code.
    State: four values a parameter.
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
