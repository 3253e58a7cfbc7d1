"""Schedule-Free: an average of the iterates in place of a learning-rate schedule (Defazio et al. 2024)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from gdlab.arguments import require_number
from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.transformation import (
    decoupled_decay,
    require_fractions,
    require_non_negative,
    require_params,
    transformation,
)
from gdlab.optimizers.trees import average_of_squares, begin, divide, statistic, zeros
from gdlab.types import Hyperparameter


class ScheduleFreeState(NamedTuple):
    """State of `schedule_free_sgd` and `schedule_free_adamw`; z and nu are shaped like the parameters.

    Attributes:
      steps: number of completed steps.
      z: the iterate.
      nu: the average of g^2 for AdamW, None for SGD.
      momentum: the b with which the current parameters y = (1 - b) z + b x were made.
      weight_sum: the sum of the weights in the average x.
      largest_rate: the largest learning rate so far.
    """

    steps: Int[Array, ""]
    z: PyTree
    nu: PyTree
    momentum: Float[Array, ""]
    weight_sum: Float[Array, ""]
    largest_rate: Float[Array, ""]

    def evaluation_params(self, params: optax.Params) -> optax.Params:
        """Return the average x = z + (y - z) / b, where y are the parameters."""
        return jax.tree.map(lambda y, z: (z + (y - z) / self.momentum).astype(y.dtype), params, self.z)


def share_of_average(
    weight_sum: Array, largest_rate: Array, steps: Array, rate: Hyperparameter, r: Hyperparameter, power: Hyperparameter
) -> tuple[Array, Array, Array]:
    """Return the share c of the newest iterate in the average, the new sum of weights and the largest rate so far."""
    largest = jnp.maximum(largest_rate, rate)
    weight = jnp.asarray(steps, float) ** r * largest**power
    total = weight_sum + weight
    return divide(weight, total), total, largest


def move_between(
    y: PyTree, z: PyTree, direction: PyTree, rate: Hyperparameter, share: Array, momentum: Hyperparameter
) -> tuple[PyTree, PyTree]:
    """Return the move of y and the new z <- z - rate direction."""
    # Move y directly, because forming x would cost a third copy of the parameters. The direction is used once, since
    # one that two outputs need would be written to memory.
    new = jax.tree.map(lambda z, d: z - rate * d, z, direction)
    own = 1 - momentum * (1 - share)
    return jax.tree.map(lambda y, z, new: share * (z - y) + own * (new - z), y, z, new), new


def _schedule_free(
    learning_rate: Hyperparameter,
    momentum: Hyperparameter,
    b2: Hyperparameter | None,
    eps: Hyperparameter,
    weight_decay: Hyperparameter,
    warmup_steps: Hyperparameter,
    r: Hyperparameter,
    weight_lr_power: Hyperparameter,
) -> optax.GradientTransformation:
    """Build either form; with b2 = None the gradient stays unscaled (SGD)."""
    require_non_negative(
        learning_rate=learning_rate,
        eps=eps,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        r=r,
        weight_lr_power=weight_lr_power,
    )

    decay = decoupled_decay("schedule_free", weight_decay)

    def init(params: optax.Params) -> ScheduleFreeState:
        nu = None if b2 is None else zeros(params)
        zero = statistic(params)
        return ScheduleFreeState(begin(), params, nu, statistic(params, momentum), zero, zero)

    def update(
        updates: optax.Updates, state: ScheduleFreeState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, ScheduleFreeState]:
        params = require_params("schedule_free", params)
        steps = optax.safe_increment(state.steps)
        rate = learning_rate * jnp.minimum(1.0, steps / jnp.maximum(warmup_steps, 1.0))
        share, total, largest = share_of_average(state.weight_sum, state.largest_rate, steps, rate, r, weight_lr_power)

        nu, direction = None, updates
        if b2 is not None:
            second = one_minus_power(b2, steps)
            nu = average_of_squares(b2, state.nu, updates)
            direction = jax.tree.map(lambda g, v: g / (safe_sqrt(v / second) + eps), updates, nu)
        direction, _ = decay.update(direction, optax.EmptyState(), params)

        moves, z = move_between(params, state.z, direction, rate, share, momentum)
        return moves, ScheduleFreeState(steps, z, nu, jnp.asarray(momentum), total, largest)

    return optax.GradientTransformation(init, update)


@transformation
def schedule_free_sgd(
    learning_rate: Hyperparameter = 1.0,
    *,
    momentum: Hyperparameter = 0.9,
    weight_decay: Hyperparameter = 0.0,
    warmup_steps: Hyperparameter = 0.0,
    r: Hyperparameter = 0.0,
    weight_lr_power: Hyperparameter = 2.0,
) -> optax.GradientTransformation:
    """Schedule-Free SGD: z <- z - e (g(y) + weight_decay y); x <- (1 - c) x + c z; y = (1 - b) z + b x.

    Here b is the momentum, e = learning_rate min(1, t / warmup_steps) with t from 1, and c = w / (sum of all w so far)
    with w = t^r (largest e)^weight_lr_power, so x is the plain mean of the iterates z while e is constant. The gradient
    is taken between the iterate and its average, which has the effect of a decaying learning rate without fixing the
    length of training in advance.

    The parameters hold y, where the gradient is taken. Evaluate the model at x, which
    `gdlab.optimizers.evaluation_params(state, params)` returns.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1, the authors'.
      momentum: the weight b of the average x in y, in (0, 1). Default 0.9, the authors'.
      weight_decay: L2 regularization at y, added to the gradient. Default 0, the authors'.
      warmup_steps: the number of steps over which the learning rate rises linearly. Default 0, the authors'.
      r: the power of t in the weights of the average. Default 0, the authors'.
      weight_lr_power: the power of the largest learning rate in the weights of the average. Default 2, the authors'.

    State:
      z, one value per parameter.

    Example:
      >>> optimizer = schedule_free_sgd(0.5, momentum=0.95, warmup_steps=100)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `schedulefree.SGDScheduleFree`. `optax.contrib.schedule_free_sgd` has no r, needs a static
    warmup_steps and starts its warm-up at a learning rate of 0.

    References:
      Defazio, Yang, Mehta, et al., "The Road Less Scheduled", 2024, equations 3 to 5
      (https://arxiv.org/abs/2405.15682).
    """
    require_number("momentum", momentum, 0.0, 1.0, open_low=True, open_high=True)
    return _schedule_free(learning_rate, momentum, None, 0.0, weight_decay, warmup_steps, r, weight_lr_power)


@transformation
def schedule_free_adamw(
    learning_rate: Hyperparameter = 2.5e-3,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.0,
    warmup_steps: Hyperparameter = 0.0,
    r: Hyperparameter = 0.0,
    weight_lr_power: Hyperparameter = 2.0,
) -> optax.GradientTransformation:
    """Schedule-Free AdamW: z <- z - e (g / (sqrt(vhat) + eps) + weight_decay y), where y = (1 - b1) z + b1 x.

    Here g is the gradient at y, v <- b2 v + (1 - b2) g^2, vhat = v / (1 - b2^t), and x <- (1 - c) x + c z; e and c are
    those of `schedule_free_sgd`. The gradient is taken between the iterate and its average, which gives AdamW the
    effect of a decaying learning rate without fixing the length of training in advance.

    The parameters hold y, where the gradient is taken. Evaluate the model at x, which
    `gdlab.optimizers.evaluation_params(state, params)` returns.

    Args:
      learning_rate: the step size, a number or a schedule. Default 2.5e-3, the authors'.
      b1: the weight of the average x in y, in (0, 1). Default 0.9, the authors'.
      b2: the decay of the average of squared gradients. Default 0.999, the authors'.
      eps: added to the root of the second moment. Default 1e-8, the authors'.
      weight_decay: a multiple of y, added to the scaled gradient. Default 0, the authors'.
      warmup_steps: the number of steps over which the learning rate rises linearly. Default 0, the authors'.
      r: the power of t in the weights of the average. Default 0, the authors'.
      weight_lr_power: the power of the largest learning rate in the weights of the average. Default 2, the authors'.

    State:
      z and v, two values per parameter.

    Example:
      >>> optimizer = schedule_free_adamw(2.5e-3, warmup_steps=100)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `schedulefree.AdamWScheduleFree`. `optax.contrib.schedule_free_adamw` has no r, needs a static
    warmup_steps and starts its warm-up at a learning rate of 0.

    References:
      Defazio, Yang, Mehta, et al., "The Road Less Scheduled", 2024, algorithm 1 (https://arxiv.org/abs/2405.15682).
    """
    require_number("b1", b1, 0.0, 1.0, open_low=True, open_high=True)
    require_fractions(b2=b2)
    return _schedule_free(learning_rate, b1, b2, eps, weight_decay, warmup_steps, r, weight_lr_power)
