"""Schedule-Free: a gradient at a mean of the iterate and its average, in place of a schedule (Defazio et al. 2024)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from gdlab.arguments import require_number
from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.transformation import require_fractions, require_non_negative, require_params, transformation
from gdlab.optimizers.trees import average_of_squares, begin, divide, statistic, zeros
from gdlab.types import Hyperparameter


class ScheduleFreeState(NamedTuple):
    """steps: how many were done. z: the iterate. nu: average of g^2 (AdamW's form; else None). All like the parameters.

    momentum: the b with which the parameters y = (1 - b) z + b x were made. weight_sum: of the weights in the average
    x. largest_rate: so far.
    """

    steps: Int[Array, ""]
    z: PyTree
    nu: PyTree
    momentum: Float[Array, ""]
    weight_sum: Float[Array, ""]
    largest_rate: Float[Array, ""]

    def evaluation_params(self, params: optax.Params) -> optax.Params:
        """The average x = z + (y - z) / b."""
        return jax.tree.map(lambda y, z: (z + (y - z) / self.momentum).astype(y.dtype), params, self.z)


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
    """Both forms; b2 None leaves the gradient unscaled."""
    require_non_negative(
        learning_rate=learning_rate,
        eps=eps,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        r=r,
        weight_lr_power=weight_lr_power,
    )

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
        largest = jnp.maximum(state.largest_rate, rate)
        weight = jnp.asarray(steps, float) ** r * largest**weight_lr_power
        total = state.weight_sum + weight
        share = divide(weight, total)

        nu, direction = None, updates
        if b2 is not None:
            second = one_minus_power(b2, steps)
            nu = average_of_squares(b2, state.nu, updates)
            direction = jax.tree.map(lambda g, v: g / (safe_sqrt(v / second) + eps), updates, nu)
        direction = jax.tree.map(lambda d, y: d + weight_decay * y, direction, params)

        # y moves without x being formed: x would cost a third copy of the parameters.
        moves = jax.tree.map(
            lambda y, z, d: share * (z - y) + rate * (momentum * (1 - share) - 1) * d, params, state.z, direction
        )
        z = jax.tree.map(lambda z, d: z - rate * d, state.z, direction)
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

    Defazio et al. 2024, eq. 5 to 7; b is momentum, in (0, 1). e = learning_rate min(1, t / warmup_steps), t from 1;
    c = w / (sum of all w so far) with w = t^r (largest e)^weight_lr_power: a plain mean while e is constant. The
    parameters hold y, where the gradient is taken; evaluate at x, which `gdlab.optimizers.evaluation_params(state,
    params)` hands out.

    Equal to `schedulefree.SGDScheduleFree`; `optax.contrib.schedule_free_sgd` has no r, needs a static warmup_steps and
    begins its warm-up at rate 0. Defaults: the authors'. State: z, one value a parameter.
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
    """Schedule-Free AdamW: as `schedule_free_sgd`, b = b1, with g / (sqrt(vhat) + eps) in place of g.

    Defazio et al. 2024, algorithm 1; v <- b2 v + (1 - b2) g^2, vhat = v / (1 - b2^t). Equal to
    `schedulefree.AdamWScheduleFree`; differences from optax as in `schedule_free_sgd`. Evaluate at
    `gdlab.optimizers.evaluation_params(state, params)`. Defaults: the authors'. State: z and v, two values a parameter.
    """
    require_number("b1", b1, 0.0, 1.0, open_low=True, open_high=True)
    require_fractions(b2=b2)
    return _schedule_free(learning_rate, b1, b2, eps, weight_decay, warmup_steps, r, weight_lr_power)
