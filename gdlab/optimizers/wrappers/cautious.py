"""Cautious steps and cautious weight decay: only where the step and the gradient, or the parameter, agree."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from gdlab.arguments import require_number
from gdlab.optimizers.transformation import require_non_negative, require_params, transformation
from gdlab.optimizers.wrappers.base import prepare
from gdlab.types import Hyperparameter


class CautiousState(NamedTuple):
    """State of `cautious` and `cautious_decay`.

    Attributes:
      inner: the state of the wrapped optimizer.
    """

    inner: optax.OptState


@transformation
def cautious(
    base: optax.GradientTransformation, *, floor: Hyperparameter = 1e-3
) -> optax.GradientTransformationExtraArgs:
    """Cautious steps: x <- x + u [u g < 0] / max(share of [u g < 0], floor), where u is the step of base.

    A coordinate moves only where that step goes downhill by the present gradient, which momentum does not guarantee.
    The division, by the share of the coordinates of a leaf that move, keeps the size of the step.

    Args:
      base: the optimizer whose steps are masked, with its weight decay; `cautious_decay` adds decay outside.
      floor: the least share by which the step is divided, in (0, 1]. Default 1e-3, that of the authors' code.

    State:
      that of base.

    Example:
      >>> optimizer = cautious(adamw(1e-3, weight_decay=0.0))
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The paper divides by (number that move + 1) / number instead; the authors' present code and timm have this floor. In
    one branch of the authors' `c_adamw.py` the mask is m m > 0, which is always true; here it is the product with g.

    References:
      Liang, Chen, Liu and Liu, "Cautious Optimizers: Improving Training with One Line of Code", 2024, algorithm 1
      (https://arxiv.org/abs/2411.16085).
    """
    base = prepare("base", base)
    require_number("floor", floor, 0.0, 1.0, open_low=True)

    def mask(u: Array, g: Array) -> Array:
        kept = (u * g < 0).astype(u.dtype)
        share = jnp.sum(kept) / max(kept.size, 1)
        return u * kept / jnp.maximum(share, floor)

    def init(params: optax.Params) -> CautiousState:
        return CautiousState(base.init(params))

    def update(
        updates: optax.Updates, state: CautiousState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, CautiousState]:
        moves, inner = base.update(updates, state.inner, params, **extra)
        return jax.tree.map(mask, moves, updates), CautiousState(inner)

    return optax.GradientTransformationExtraArgs(init, update)


@transformation
def cautious_decay(
    base: optax.GradientTransformation,
    learning_rate: Hyperparameter = 1e-3,
    *,
    weight_decay: Hyperparameter = 0.1,
) -> optax.GradientTransformationExtraArgs:
    """Cautious weight decay: x <- x + u - learning_rate weight_decay [u x <= 0] x, where u is the step of base.

    A coordinate decays only where the step does not lead away from 0, so that decay never works against the step. The
    minimizers of the loss then stay where they are.

    Args:
      base: the optimizer that makes the steps, without weight decay of its own.
      learning_rate: that of base, a number or the same schedule, by which the decay is multiplied as in AdamW. Default
        1e-3.
      weight_decay: the decay. Default 0.1.

    State:
      that of base.

    Example:
      >>> optimizer = cautious_decay(lion(1e-4), 1e-4, weight_decay=1.0)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    A coordinate whose step is 0 decays, as in the paper; modded-nanogpt's records leave it as it is.

    References:
      "Cautious Weight Decay", 2025 (https://arxiv.org/abs/2510.12402).
    """
    base = prepare("base", base)
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)

    def init(params: optax.Params) -> CautiousState:
        return CautiousState(base.init(params))

    def update(
        updates: optax.Updates, state: CautiousState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, CautiousState]:
        params = require_params("cautious_decay", params)
        moves, inner = base.update(updates, state.inner, params, **extra)
        decay = learning_rate * weight_decay
        decayed = jax.tree.map(lambda u, x: u - decay * jnp.where(u * x <= 0, x, 0.0), moves, params)
        return decayed, CautiousState(inner)

    return optax.GradientTransformationExtraArgs(init, update)
