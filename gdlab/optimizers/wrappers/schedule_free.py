"""Schedule-Free around any optimizer: an average of its iterates in place of a schedule (Defazio et al. 2024)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from gdlab.arguments import require_number
from gdlab.optimizers.schedule_free import move_between, share_of_average
from gdlab.optimizers.transformation import require_non_negative, require_params, transformation
from gdlab.optimizers.trees import begin, statistic
from gdlab.optimizers.wrappers.base import prepare, require_no_average
from gdlab.types import Hyperparameter


class AroundState(NamedTuple):
    """State of `schedule_free`.

    Attributes:
      z: the iterate, shaped like the parameters.
      steps: number of completed steps.
      momentum: the b with which the current parameters y = (1 - b) z + b x were made.
      weight_sum: the sum of the weights in the average x.
      largest_rate: the largest learning rate so far.
      inner: the state of the wrapped optimizer.
    """

    z: PyTree
    steps: Int[Array, ""]
    momentum: Float[Array, ""]
    weight_sum: Float[Array, ""]
    largest_rate: Float[Array, ""]
    inner: optax.OptState

    def evaluation_params(self, params: optax.Params) -> optax.Params:
        """Return the average x = z + (y - z) / b, where y are the parameters."""
        return jax.tree.map(lambda y, z: (z + (y - z) / self.momentum).astype(y.dtype), params, self.z)


@transformation
def schedule_free(
    base: optax.GradientTransformation,
    learning_rate: Hyperparameter = 1.0,
    *,
    momentum: Hyperparameter = 0.9,
    r: Hyperparameter = 0.0,
    weight_lr_power: Hyperparameter = 2.0,
) -> optax.GradientTransformationExtraArgs:
    """Schedule-Free: z <- z + u, the step of base; x <- (1 - c) x + c z; y = (1 - b) z + b x.

    Here b is the momentum, and c = w / (sum of all w so far) with w = t^r (largest learning_rate)^weight_lr_power, so x
    is the plain mean of the iterates z while the learning rate is constant. The gradient is taken at y, and base
    receives y as the parameters. The average has the effect of a decaying learning rate without fixing the length of
    training in advance.

    The parameters hold y. Evaluate the model at x, which `gdlab.optimizers.evaluation_params(state, params)` returns.

    Args:
      base: the optimizer that moves z. It should have no momentum of its own, which b takes the place of.
      learning_rate: that of base, which only weighs the iterates. Where base has a schedule, such as a warm-up, give
        the same; any constant gives the same steps. Default 1.
      momentum: the weight b of the average x in y, in (0, 1). Default 0.9, the authors'.
      r: the power of t in the weights of the average. Default 0, the authors'.
      weight_lr_power: the power of the largest learning rate in the weights of the average. Default 2, the authors'.

    State:
      z, one value per parameter, and that of base.

    Example:
      >>> optimizer = schedule_free(rmsprop(1e-3), momentum=0.95)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Around `sgd` it is `schedule_free_sgd`, and around `adam` with b1 = 0 it is `schedule_free_adamw` without decay. It
    is `optax.contrib.schedule_free`, with r. Weight decay of base acts at y there and here; that of the authors'
    `ScheduleFreeWrapper` acts at z.

    References:
      Defazio, Yang, Mehta, et al., "The Road Less Scheduled", 2024, equations 3 to 5
      (https://arxiv.org/abs/2405.15682).
    """
    base = prepare("base", base)
    require_number("momentum", momentum, 0.0, 1.0, open_low=True, open_high=True)
    require_non_negative(learning_rate=learning_rate, r=r, weight_lr_power=weight_lr_power)

    def init(params: optax.Params) -> AroundState:
        inner, zero = base.init(params), statistic(params)
        require_no_average(inner)
        return AroundState(params, begin(), statistic(params, momentum), zero, zero, inner)

    def update(
        updates: optax.Updates, state: AroundState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, AroundState]:
        params = require_params("schedule_free", params)
        steps = optax.safe_increment(state.steps)
        share, total, largest = share_of_average(
            state.weight_sum, state.largest_rate, steps, learning_rate, r, weight_lr_power
        )
        moves, inner = base.update(updates, state.inner, params, **extra)
        downhill = jax.tree.map(jnp.negative, moves)
        moves, z = move_between(params, state.z, downhill, 1.0, share, momentum)
        return moves, AroundState(z, steps, jnp.asarray(momentum), total, largest, inner)

    return optax.GradientTransformationExtraArgs(init, update)
