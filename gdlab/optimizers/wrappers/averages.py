"""Averages of the parameters along the steps of any optimizer: to evaluate at, or to move along."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from gdlab.arguments import require_number
from gdlab.optimizers.evaluation import evaluation_params
from gdlab.optimizers.transformation import (
    require_flags,
    require_fractions,
    require_non_negative,
    require_params,
    transformation,
)
from gdlab.optimizers.trees import average, begin, divide, statistic, zeros
from gdlab.optimizers.wrappers.base import like, prepare, require_no_average, wide
from gdlab.types import Hyperparameter


class EmaState(NamedTuple):
    """State of `ema`.

    Attributes:
      mean: the average, shaped like the parameters.
      steps: number of completed steps.
      bias: the share that is missing in `mean` because it began at 0; 0 if it began at the start.
      blend: the weight of the average in the parameters to evaluate at.
      inner: the state of the wrapped optimizer.
    """

    mean: PyTree
    steps: Int[Array, ""]
    bias: Float[Array, ""]
    blend: Float[Array, ""]
    inner: optax.OptState

    def evaluation_params(self, params: optax.Params) -> optax.Params:
        """Return the average, blended with what the wrapped optimizer would be evaluated at."""
        last = evaluation_params(self.inner, params)
        weight = 1 - self.bias

        def blended(x: Array, mean: Array) -> Array:
            found = jnp.where(weight > 0, divide(mean, weight), x)
            return (x + self.blend * (found - x)).astype(x.dtype)

        return jax.tree.map(blended, last, self.mean)


@transformation
def ema(
    base: optax.GradientTransformation,
    *,
    decay: Hyperparameter = 0.999,
    start_step: Hyperparameter = 0.0,
    blend: Hyperparameter = 1.0,
    debias: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Average of the parameters: a <- decay a + (1 - decay) x after each step of base, where a begins at the start.

    The steps are those of base; only the point to evaluate at changes. The average has less noise than the last point,
    as if the learning rate had been decayed, and lags behind it.

    Evaluate the model at a, which `gdlab.optimizers.evaluation_params(state, params)` returns. Around an optimizer that
    keeps an average itself, such as `schedule_free`, it averages what that one would be evaluated at.

    Args:
      base: the optimizer that makes the steps.
      decay: the decay of the average, in [0, 1). Default 0.999, which averages over some 1000 steps.
      start_step: the number of steps during which a follows x, before the averaging begins, for an average over the
        last part of a run. Default 0.
      blend: the weight of a at the point to evaluate at, x + blend (a - x), in [0, 1]. Default 1.
      debias: whether a begins at 0 instead, and is divided by 1 - decay^t, so that it does not contain the start.
        Default False.

    State:
      a, one value per parameter, in float32 or wider, and that of base.

    Example:
      >>> optimizer = ema(adam(1e-3), decay=0.99)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn`, updated once before the first step,
    and with `debias` to `optax.ema` of the parameters. A decay that follows a schedule is debiased by the product of
    its values.

    References:
      Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992
      (https://doi.org/10.1137/0330046); Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, section 7.2
      (https://arxiv.org/abs/1412.6980).
    """
    base = prepare("base", base)
    require_fractions(decay=decay)
    require_non_negative(start_step=start_step)
    require_number("blend", blend, 0.0, 1.0)
    require_flags(debias=debias)

    def init(params: optax.Params) -> EmaState:
        mean = jax.tree.map(jnp.zeros_like, wide(params)) if debias else wide(params)
        bias, share = statistic(params, 1.0 if debias else 0.0), statistic(params, blend)
        return EmaState(mean, begin(), bias, share, base.init(params))

    def update(
        updates: optax.Updates, state: EmaState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, EmaState]:
        params = require_params("ema", params)
        moves, inner = base.update(updates, state.inner, params, **extra)
        after = evaluation_params(inner, jax.tree.map(jnp.add, params, moves))
        kept = jnp.where(state.steps < start_step, 0.0, decay)
        mean = average(kept, state.mean, after)
        steps = optax.safe_increment(state.steps)
        return moves, EmaState(mean, steps, kept * state.bias, jnp.asarray(blend), inner)

    return optax.GradientTransformationExtraArgs(init, update)


class EmaNesterovState(NamedTuple):
    """State of `ema_nesterov`.

    Attributes:
      drift: the average of the moves of x, shaped like the parameters.
      steps: number of completed steps.
      ahead: the multiple of the drift by which the current parameters are ahead of x.
      inner: the state of the wrapped optimizer.
    """

    drift: PyTree
    steps: Int[Array, ""]
    ahead: Float[Array, ""]
    inner: optax.OptState

    def evaluation_params(self, params: optax.Params) -> optax.Params:
        """Return x, which the parameters are ahead of."""
        return jax.tree.map(lambda y, d: (y - self.ahead * d).astype(y.dtype), params, self.drift)


@transformation
def ema_nesterov(
    base: optax.GradientTransformation,
    *,
    beta: Hyperparameter = 0.3,
    decay: Hyperparameter = 0.99,
    start_step: Hyperparameter = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """EMA-Nesterov: x <- the step of base from y = x + beta d; d <- decay d + (1 - decay) (x_new - x).

    The drift d is the average move of many steps, in which the noise of single steps cancels. Each step of base begins
    ahead of x in that direction, where the gradient is taken too.

    The parameters hold y. Evaluate the model at x, which `gdlab.optimizers.evaluation_params(state, params)` returns.

    Args:
      base: the optimizer that makes the steps.
      beta: the multiple of the drift by which y is ahead of x. Default 0.3; the authors take 0.3 or 0.6, and let it
        fall with the learning rate, which a schedule does.
      decay: the decay of the average move. Default 0.99, the authors'.
      start_step: the number of steps after which y leaves x; until then the drift is only averaged. Default 0; the
        authors have 300 to 500.

    State:
      d, one value per parameter, in float32 or wider, and that of base.

    Example:
      >>> optimizer = ema_nesterov(adam(1e-3), beta=0.6)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    It is the rule in the records 39 to 46 of the third track of modded-nanogpt.

    References:
      EMA-Nesterov, 2026 (https://arxiv.org/abs/2605.25395), and modded-nanogpt, records/track_3_optimization
      (https://github.com/KellerJordan/modded-nanogpt).
    """
    base = prepare("base", base)
    require_non_negative(beta=beta, start_step=start_step)
    require_fractions(decay=decay)

    def init(params: optax.Params) -> EmaNesterovState:
        inner = base.init(params)
        require_no_average(inner)
        return EmaNesterovState(zeros(wide(params)), begin(), statistic(params), inner)

    def update(
        updates: optax.Updates, state: EmaNesterovState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, EmaNesterovState]:
        params = require_params("ema_nesterov", params)
        moves, inner = base.update(updates, state.inner, params, **extra)
        steps = optax.safe_increment(state.steps)
        # x_new - x = (y - x) + u, and y - x is what the last step went ahead.
        moved = jax.tree.map(lambda d, u: state.ahead * d + u, state.drift, moves)
        drift = average(decay, state.drift, moved)
        ahead = jnp.where(steps < start_step, 0.0, jnp.asarray(beta))
        moves = jax.tree.map(lambda u, d: u + ahead * d, moves, drift)
        return like(moves, params), EmaNesterovState(drift, steps, ahead, inner)

    return optax.GradientTransformationExtraArgs(init, update)
