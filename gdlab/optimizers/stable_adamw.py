"""StableAdamW: AdamW whose learning rate falls where the second moment lags behind the gradient."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.adam import AdamState, init_moments
from gdlab.optimizers.transformation import (
    require_fractions,
    require_non_negative,
    require_params,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import average, average_of_squares
from gdlab.types import Hyperparameter


@transformation
def scale_by_stable_adamw(
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.99,
    eps: Hyperparameter = 1e-6,
    *,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Scale gradients by StableAdamW's rule: (mhat / (sqrt(vhat) + eps) + weight_decay x) / max(1, r).

    Here r is the root mean square of g / max(sqrt(vhat), eps) over the tensor; mhat and vhat are Adam's.

    Args:
      b1: the decay of the average of gradients. Default 0.9.
      b2: the decay of the average of squared gradients. Default 0.99.
      eps: added to the root of the second moment, and the lower bound of that root in r. Default 1e-6.
      weight_decay: decoupled weight decay; `update` needs the parameters for it. Default 0.
    """
    require_fractions(b1=b1, b2=b2)
    require_positive(eps=eps)
    require_non_negative(weight_decay=weight_decay)
    plain = isinstance(weight_decay, (int, float)) and weight_decay == 0

    def update(
        updates: optax.Updates, state: AdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdamState]:
        count = optax.safe_increment(state.steps)
        mu, nu = average(b1, state.mu, updates), average_of_squares(b2, state.nu, updates)
        first, second = 1 / one_minus_power(b1, count), 1 / one_minus_power(b2, count)
        held = updates if plain else require_params("stable_adamw", params)

        def scale(g: Array, m: Array, v: Array, x: Array) -> Array:
            squares = v * second.astype(v.dtype)
            direction = (m * first.astype(m.dtype)) / (safe_sqrt(squares) + eps)
            direction = direction if plain else direction + weight_decay * x
            # An empty leaf has no mean.
            excess = safe_sqrt(jnp.sum(g**2 / jnp.maximum(squares, eps**2)) / max(g.size, 1))
            return direction / jnp.maximum(excess, 1.0)

        return jax.tree.map(scale, updates, mu, nu, held), AdamState(count, mu, nu)

    return optax.GradientTransformation(init_moments, update)


@transformation
def stable_adamw(
    learning_rate: Hyperparameter = 1e-3,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.99,
    eps: Hyperparameter = 1e-6,
    weight_decay: Hyperparameter = 1e-2,
) -> optax.GradientTransformation:
    """StableAdamW: x <- x - learning_rate / max(1, r) (mhat / (sqrt(vhat) + eps) + weight_decay x).

    Here mhat and vhat are Adam's moments, and r is the root mean square of g / max(sqrt(vhat), eps) over the tensor.
    If gradients suddenly grow, the second moment lags behind, and Adam's step is too long; r exceeds 1 then. With this
    clipping, borrowed from Adafactor, large models train without spikes of the loss, and need no gradient clipping.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, pytorch-optimizer's; optimi has none.
      b1: the decay of the average of gradients. Default 0.9, optimi's.
      b2: the decay of the average of squared gradients. Default 0.99, optimi's.
      eps: added to the root of the second moment, and the lower bound of that root in r; > 0. Default 1e-6, optimi's.
      weight_decay: decoupled weight decay, which r divides too. Default 1e-2, optimi's.

    State:
      m and v, two values per parameter.

    Example:
      >>> optimizer = stable_adamw(3e-4, weight_decay=0.1)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The paper's decays that grow with t are Adam's bias correction, written differently. r measures one tensor, so
    how parameters are divided into tensors matters. Equivalent to pytorch-optimizer's and optimi's StableAdamW.

    References:
      Wortsman, Dettmers, Zettlemoyer, et al., "Stable and low-precision training for large-scale vision-language
      models", 2023, algorithm 2 (https://arxiv.org/abs/2304.13013).
    """
    require_non_negative(learning_rate=learning_rate)
    return optax.chain(
        scale_by_stable_adamw(b1, b2, eps, weight_decay=weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
