"""Adagrad and what followed from it: steps divided by the size of past gradients, coordinate by coordinate."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.numerics import safe_sqrt
from gdlab.optimizers.transformation import (
    add_l2,
    require_flags,
    require_fractions,
    require_non_negative,
    transformation,
)
from gdlab.types import Hyperparameter


class AdagradState(NamedTuple):
    """steps: how many were done. sum_of_squares: of all gradients so far, shaped like the parameters."""

    steps: Int[Array, ""]
    sum_of_squares: PyTree


class RMSState(NamedTuple):
    """Moving averages, shaped like the parameters: of g^2, and of g where centered (else None)."""

    squares: PyTree
    means: PyTree


@transformation
def scale_by_adagrad(
    eps: Hyperparameter = 1e-10, initial_accumulator_value: Hyperparameter = 0.0, lr_decay: Hyperparameter = 0.0
) -> optax.GradientTransformation:
    """s = s + g^2; hands out g / (sqrt(s) + eps) / (1 + (t - 1) lr_decay), t from 1."""
    require_non_negative(eps=eps, initial_accumulator_value=initial_accumulator_value, lr_decay=lr_decay)

    def init(params: optax.Params) -> AdagradState:
        start = jax.tree.map(lambda x: jnp.full_like(x, initial_accumulator_value), params)
        return AdagradState(jnp.zeros([], jnp.int32), start)

    def update(
        updates: optax.Updates, state: AdagradState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdagradState]:
        del params
        decay = 1 + state.steps * jnp.asarray(lr_decay)
        total = jax.tree.map(lambda g, s: s + g**2, updates, state.sum_of_squares)
        scaled = jax.tree.map(lambda g, s: g / (safe_sqrt(s) + eps) / decay.astype(g.dtype), updates, total)
        return scaled, AdagradState(optax.safe_increment(state.steps), total)

    return optax.GradientTransformation(init, update)


@transformation
def scale_by_rms(
    decay: Hyperparameter = 0.99, eps: Hyperparameter = 1e-8, *, centered: bool = False
) -> optax.GradientTransformation:
    """v = decay v + (1 - decay) g^2; hands out g / (sqrt(v) + eps), with v - a^2 in the root where centered.

    a = decay a + (1 - decay) g. Equal to optax's `scale_by_rms` and `scale_by_stddev` with eps_in_sqrt=False, but for
    two things: a gradient of 0 can be differentiated through, and v - a^2, a variance, is kept from falling below 0 by
    rounding, where PyTorch and optax return NaN under a gradient that stays constant for long.
    """
    require_fractions(decay=decay)
    require_flags(centered=centered)
    require_non_negative(eps=eps)

    def init(params: optax.Params) -> RMSState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return RMSState(zeros, zeros if centered else None)

    def update(
        updates: optax.Updates, state: RMSState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, RMSState]:
        del params
        squares = jax.tree.map(lambda g, v: decay * v + (1 - decay) * g**2, updates, state.squares)
        means, under = None, squares
        if centered:
            means = jax.tree.map(lambda g, a: decay * a + (1 - decay) * g, updates, state.means)
            under = jax.tree.map(lambda v, a: jnp.maximum(v - a**2, 0), squares, means)
        scaled = jax.tree.map(lambda g, v: g / (safe_sqrt(v) + eps), updates, under)
        return scaled, RMSState(squares, means)

    return optax.GradientTransformation(init, update)


@transformation
def adagrad(
    learning_rate: Hyperparameter = 1e-2,
    *,
    lr_decay: Hyperparameter = 0.0,
    initial_accumulator_value: Hyperparameter = 0.0,
    eps: Hyperparameter = 1e-10,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Adagrad: s <- s + g^2; x <- x - learning_rate / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps).

    Duchi, Hazan & Singer 2011, diagonal form. Equal to `torch.optim.Adagrad`. Defaults: PyTorch's; `optax.adagrad`
    starts s at 0.1, has eps = 1e-7 inside the root and neither lr_decay nor weight_decay. State: s, one value a
    parameter.
    """
    require_non_negative(
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )
    return optax.chain(
        add_l2(weight_decay),
        scale_by_adagrad(eps, initial_accumulator_value, lr_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


@transformation
def adadelta(
    learning_rate: Hyperparameter = 1.0,
    *,
    rho: Hyperparameter = 0.9,
    eps: Hyperparameter = 1e-6,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Adadelta: d = g sqrt(D + eps) / sqrt(E + eps); x <- x - learning_rate d (Zeiler 2012, algorithm 1).

    E <- rho E + (1 - rho) g^2 before the step is formed, D <- rho D + (1 - rho) d^2 after it, as in
    `optax.scale_by_adadelta`. Equal to `torch.optim.Adadelta`. Defaults: PyTorch's; the paper has rho = 0.95 and no
    learning rate; `optax.adadelta` without a learning rate climbs, since it then skips the change of sign too. State: E
    and D, two values a parameter.
    """
    require_fractions(rho=rho)
    require_non_negative(learning_rate=learning_rate, eps=eps, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        optax.scale_by_adadelta(rho, eps),
        optax.scale_by_learning_rate(learning_rate),
    )


@transformation
def rmsprop(
    learning_rate: Hyperparameter = 1e-2,
    *,
    decay: Hyperparameter = 0.99,
    eps: Hyperparameter = 1e-8,
    momentum: Hyperparameter | None = None,
    centered: bool = False,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """RMSprop: v <- decay v + (1 - decay) g^2; x <- x - learning_rate g / (sqrt(v) + eps) (Tieleman & Hinton 2012).

    momentum: b <- momentum b + g / (sqrt(v) + eps); x <- x - learning_rate b. None keeps no b; 0.0 keeps it, so that it
    can be traced beside other values. centered: the variance v - a^2 under the root, a the average of g.

    Equal to `torch.optim.RMSprop`, whose `alpha` is `decay` here. Defaults: PyTorch's (the lecture: 0.9 and 1e-3);
    `optax.rmsprop` has decay 0.9, eps inside the root, and scales by the learning rate before the momentum. State: v,
    with momentum b and centered a: one to three values a parameter.
    """
    if momentum is not None:
        require_fractions(momentum=momentum)
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        scale_by_rms(decay, eps, centered=centered),
        optax.identity() if momentum is None else optax.trace(momentum),
        optax.scale_by_learning_rate(learning_rate),
    )
