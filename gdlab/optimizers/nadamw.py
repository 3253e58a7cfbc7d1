"""NAdamW: AdamW with Nesterov's look-ahead in its first moment, as AlgoPerf's baseline has it."""

import jax
import optax

from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.adam import AdamState, init_moments
from gdlab.optimizers.transformation import (
    decoupled_decay,
    require_fractions,
    require_non_negative,
    transformation,
)
from gdlab.optimizers.trees import average, average_of_squares
from gdlab.types import Hyperparameter


@transformation
def scale_by_nadamw(
    b1: Hyperparameter = 0.9, b2: Hyperparameter = 0.999, eps: Hyperparameter = 1e-8
) -> optax.GradientTransformation:
    """Scale gradients by NAdamW's rule: n / (sqrt(vhat) + eps), where n = (b1 m + (1 - b1) g) / (1 - b1^t).

    Here m <- b1 m + (1 - b1) g and v <- b2 v + (1 - b2) g^2, with vhat = v / (1 - b2^t) and t from 1.

    Args:
      b1: the decay of the average of gradients. Default 0.9.
      b2: the decay of the average of squared gradients. Default 0.999.
      eps: a constant added to the denominator. Default 1e-8.
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(eps=eps)

    def update(
        updates: optax.Updates, state: AdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdamState]:
        del params
        count = optax.safe_increment(state.steps)
        mu, nu = average(b1, state.mu, updates), average_of_squares(b2, state.nu, updates)
        ahead = average(b1, mu, updates)
        first, second = 1 / one_minus_power(b1, count), 1 / one_minus_power(b2, count)
        scaled = jax.tree.map(
            lambda n, v: (n * first.astype(n.dtype)) / (safe_sqrt(v * second.astype(v.dtype)) + eps), ahead, nu
        )
        return scaled, AdamState(count, mu, nu)

    return optax.GradientTransformation(init_moments, update)


@transformation
def nadamw(
    learning_rate: Hyperparameter = 1e-3,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """NAdamW: x <- x - learning_rate (n / (sqrt(vhat) + eps) + weight_decay x), n = (b1 m + (1 - b1) g) / (1 - b1^t).

    Here m <- b1 m + (1 - b1) g and v <- b2 v + (1 - b2) g^2, and vhat = v / (1 - b2^t). The average of gradients is
    moved one more step towards the newest gradient, which reacts faster to a change of direction. This is the baseline
    that AlgoPerf compares training algorithms with.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3; AlgoPerf has none and searches 1e-4 to 1e-2,
        with a warm-up over 5% of the steps and a cosine decay to 0.
      b1: the decay of the average of gradients. Default 0.9, AlgoPerf's.
      b2: the decay of the average of squared gradients. Default 0.999, AlgoPerf's.
      eps: a constant added to the denominator. Default 1e-8, AlgoPerf's.
      weight_decay: decoupled weight decay. Default 0, AlgoPerf's.

    State:
      m and v, two values per parameter.

    Example:
      >>> optimizer = nadamw(3e-3, weight_decay=0.1)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Both terms of n are divided by the same correction. `optax.nadamw` divides m by that of the next step, and
    `torch.optim.NAdam` (`nadam` here) has a schedule of momenta.

    References:
      Dahl, Schneider, Nado, et al., "Benchmarking Neural Network Training Algorithms", 2023
      (https://arxiv.org/abs/2306.07179).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        scale_by_nadamw(b1, b2, eps),
        decoupled_decay("nadamw", weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
