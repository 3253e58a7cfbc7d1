"""Optimizers that estimate their own step size from the distance walked: D-Adaptation and Prodigy."""

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
    """steps: how many were done. distance: the estimate d. numerator: its weighted sum r.

    Like the parameters: start, the first of them; weighted_sum, s; mu and nu, averages of d g and of (d g)^2.
    """

    steps: Int[Array, ""]
    distance: Float[Array, ""]
    numerator: Float[Array, ""]
    start: PyTree
    weighted_sum: PyTree
    mu: PyTree
    nu: PyTree


class DAdaptState(NamedTuple):
    """steps: how many were done. distance: the estimate d. numerator: its average r.

    Like the parameters: weighted_sum, s; mu, the average of g times its rate; nu, that of g^2.
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

    Mishchenko & Defazio 2023, algorithm 4. With d before it grows: m <- b1 m + (1 - b1) d g; v <- b2 v + (1 - b2) (d
    g)^2; r <- b3 r + d / d0 e <g, x_0 - x>; s <- b3 s + d / d0 e g; then d <- max(d, d_coef r / |s|_1), which the
    eps of this step already has, and the rate not yet. b3 None means
    sqrt(b2). bias_correction multiplies e by Adam's sqrt(1 - b2^t) / (1 - b1^t); safeguard_warmup takes d^2 / d0 g into
    s instead, without the rate.

    Equal to `prodigyopt.Prodigy` with its growth_rate infinite, as by default; `optax.contrib.prodigy` always corrects
    the bias. Leave learning_rate at 1, or give a schedule that starts there. One d serves the whole tree. Defaults: the
    authors'. State: x_0, s, m and v, four values a parameter.
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
        walked = jax.tree.map(jnp.subtract, state.start, params)
        numerator = decay * state.numerator + weight * inner(updates, walked)
        in_sum = d / d0 * d if safeguard_warmup else weight
        total = jax.tree.map(lambda s, g: decay * s + in_sum * g, state.weighted_sum, updates)
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

    Defazio & Mishchenko 2023, algorithm 5. With q = sqrt(b2), and s, v from before the step in r:
    r <- q r + (1 - q) e <g, s / (sqrt(v) + eps)>; m <- b1 m + (1 - b1) e g; v <- b2 v + (1 - b2) g^2;
    s <- q s + (1 - q) e g; then d <- max(d, r / ((1 - q) |s|_1)). bias_correction multiplies e by Adam's
    sqrt(1 - b2^t) / (1 - b1^t). weight_decay is L2, or with decoupled takes e weight_decay x from x.

    Equal to `dadaptation.DAdaptAdam` with its growth_rate infinite, as by default; `optax.contrib.dadapt_adamw` is both
    bias-corrected and decoupled. Leave learning_rate at 1, or give a schedule that starts there. One d serves the whole
    tree. Defaults: the authors'. State: s, m and v, three values a parameter.
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
        kept = rate * weight_decay if decoupled else 0.0
        moves = jax.tree.map(lambda m, v, x: -divide(m, safe_sqrt(v) + eps) - kept * x, mu, nu, params)
        return moves, DAdaptState(steps, distance, numerator, total, mu, nu)

    return optax.chain(
        optax.identity() if decoupled else add_l2(weight_decay), optax.GradientTransformation(init, update)
    )
