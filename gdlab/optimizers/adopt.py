"""ADOPT: Adam with gradients that are normalized by the second moment of past gradients only."""

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
    """Scale gradients by ADOPT's rule: m <- b1 m + (1 - b1) clip(g / max(sqrt(v), eps)).

    The output is m, after which v <- b2 v + (1 - b2) g^2. The first step only sets v = g^2, and its output is 0.

    Args:
      b1: the decay of the average of normalized gradients. Default 0.9.
      b2: the decay of the average of squared gradients. Default 0.9999.
      eps: the lower bound of sqrt(v). Default 1e-6.
      clip: whether to limit the normalized gradient to [-c, c] with c = t^(1/4), where t is 1 at the second step.
        Static. Default True.
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(eps=eps)
    require_flags(clip=clip)

    def update(
        updates: optax.Updates, state: AdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdamState]:
        del params
        # The first step leaves m at 0 and sets v = g^2. Choosing the decays does that; no array is chosen from.
        first = state.steps == 0
        bound = jnp.maximum(state.steps, 1) ** jnp.asarray(0.25)
        least = jnp.where(first, 1.0, eps)

        def normalize(g: jax.Array, v: jax.Array) -> jax.Array:
            ratio = g / jnp.maximum(safe_sqrt(v), least.astype(v.dtype))
            return jnp.clip(ratio, -bound, bound) if clip else ratio

        mu = average(jnp.where(first, 1.0, b1), state.mu, jax.tree.map(normalize, updates, state.nu))
        nu = average_of_squares(jnp.where(first, 0.0, b2), state.nu, updates)
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
    """ADOPT: x <- x - learning_rate (m + weight_decay x).

    Here m <- b1 m + (1 - b1) clip(g / max(sqrt(v), eps)), and after the step v <- b2 v + (1 - b2) g^2; the first
    step leaves m at 0 and sets v = g^2. The second moment that normalizes a gradient does not contain this
    gradient, and the momentum is formed after the normalization, which gives convergence for any b2, unlike in
    Adam.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, the authors'.
      b1: the decay of the average of normalized gradients. Default 0.9, the authors'.
      b2: the decay of the average of squared gradients. Default 0.9999, the authors'.
      eps: the lower bound of sqrt(v). It must be positive where gradients can be 0. Default 1e-6, the authors'.
      weight_decay: decoupled weight decay. Default 0, the authors'.
      clip: whether to limit the normalized gradient to [-c, c] with c = t^(1/4), where t is 1 at the second step.
        Static. Default True, the authors'.

    State:
      m and v, two values per parameter.

    Example:
      >>> optimizer = adopt(1e-3, clip=False)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `optax.contrib.adopt`, and to pytorch-optimizer's ADOPT if its clip_lambda is (step - 1)^(1/4),
    because its step also counts the first step, at which m is 0.

    References:
      Taniguchi et al., "ADOPT: Modified Adam Can Converge with Any beta2 with the Optimal Rate", 2024, algorithm 2
      (https://arxiv.org/abs/2411.02853).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    decay = decoupled_decay("adopt", weight_decay)
    return optax.chain(scale_by_adopt(b1, b2, eps, clip=clip), decay, optax.scale_by_learning_rate(learning_rate))
