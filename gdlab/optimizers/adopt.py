"""ADOPT: Adam that normalizes by the second moment of the past only (Taniguchi et al. 2024)."""

import jax
import jax.numpy as jnp
import optax

from gdlab.numerics import safe_sqrt
from gdlab.optimizers.adam import AdamState, init_moments
from gdlab.optimizers.transformation import (
    decoupled_decay,
    require_flags,
    require_fractions,
    require_non_negative,
    transformation,
)
from gdlab.optimizers.trees import average, average_of_squares
from gdlab.types import Hyperparameter


@transformation
def scale_by_adopt(
    b1: Hyperparameter = 0.9, b2: Hyperparameter = 0.9999, eps: Hyperparameter = 1e-6, *, clip: bool = True
) -> optax.GradientTransformation:
    """m = b1 m + (1 - b1) clip(g / max(sqrt(v), eps)); hands out m; then v = b2 v + (1 - b2) g^2.

    The first step only sets v = g^2 and hands out 0. clip: to [-c, c] with c = t^(1/4), t counted from 1 at the second
    step.
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(eps=eps)
    require_flags(clip=clip)

    def update(
        updates: optax.Updates, state: AdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdamState]:
        del params
        first = state.steps == 0
        bound = jnp.maximum(state.steps, 1) ** jnp.asarray(0.25)

        def normalize(g: jax.Array, v: jax.Array) -> jax.Array:
            ratio = g / jnp.maximum(safe_sqrt(v), eps)
            return jnp.clip(ratio, -bound, bound) if clip else ratio

        # At the first step v is 0: g stands in for it, and the result is not used.
        past = jax.tree.map(lambda g, v: jnp.where(first, g**2 + 1, v), updates, state.nu)
        moved = average(b1, state.mu, jax.tree.map(normalize, updates, past))
        mu = jax.tree.map(lambda m: jnp.where(first, 0.0, m), moved)
        later = average_of_squares(b2, state.nu, updates)
        nu = jax.tree.map(lambda g, v: jnp.where(first, g**2, v), updates, later)
        return mu, AdamState(optax.safe_increment(state.steps), mu, nu)

    return optax.GradientTransformation(init_moments, update)


@transformation
def adopt(
    learning_rate: Hyperparameter = 1e-3,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.9999,
    eps: Hyperparameter = 1e-6,
    weight_decay: Hyperparameter = 0.0,
    clip: bool = True,
) -> optax.GradientTransformation:
    """ADOPT: x <- x - learning_rate (m + weight_decay x), m from `scale_by_adopt` (Taniguchi et al. 2024, algorithm 2).

    Equal to `optax.contrib.adopt`, and to pytorch-optimizer's when its clip_lambda is (step - 1)^(1/4): that counts the
    first, idle step too. eps must be positive where gradients can be 0. Defaults: the authors'. State: m and v, two
    values a parameter.
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    decay = decoupled_decay("adopt", weight_decay)
    return optax.chain(scale_by_adopt(b1, b2, eps, clip=clip), decay, optax.scale_by_learning_rate(learning_rate))
