"""Lookahead: slow weights that follow the steps of any optimizer (Zhang et al. 2019)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.arguments import require_number
from gdlab.optimizers.transformation import require_params, transformation
from gdlab.optimizers.trees import begin
from gdlab.optimizers.wrappers.base import is_due, like, prepare, require_no_average, wide
from gdlab.types import Hyperparameter


class LookaheadState(NamedTuple):
    """State of `lookahead`.

    Attributes:
      slow: the slow weights, shaped like the parameters.
      steps: number of completed steps.
      inner: the state of the wrapped optimizer.
    """

    slow: PyTree
    steps: Int[Array, ""]
    inner: optax.OptState

    def evaluation_params(self, params: optax.Params) -> optax.Params:
        """Return the slow weights, whatever the parameters are."""
        return jax.tree.map(lambda x, slow: slow.astype(x.dtype), params, self.slow)


@transformation
def lookahead(
    base: optax.GradientTransformation, *, sync_period: Hyperparameter = 5, alpha: Hyperparameter = 0.5
) -> optax.GradientTransformationExtraArgs:
    """Lookahead: every sync_period steps of base, s <- s + alpha (x - s) and x <- s.

    The slow weights s begin at the first parameters. The base explores with its fast weights x, of which the slow
    weights take an average step, which damps its oscillations; so it may have a larger learning rate.

    The parameters hold x. Evaluate the model at s, which `gdlab.optimizers.evaluation_params(state, params)` returns.

    Args:
      base: the optimizer that makes the steps; its state stays as it is when x returns to s.
      sync_period: the number of steps between two returns, >= 1. Default 5, the authors'.
      alpha: the step size of the slow weights, in [0, 1]. Default 0.5, the authors'.

    State:
      s, one value per parameter, and that of base.

    Example:
      >>> optimizer = lookahead(adam(1e-3), sync_period=10)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The parameters are one tree, so it takes the place of any other optimizer; `optax.lookahead` needs pairs of fast and
    slow parameters. Equivalent to pytorch-optimizer's `Lookahead`. Other implementations return for the first time
    after step 1, or set s to x then; here it is after step sync_period, as in the paper.

    References:
      Zhang, Lucas, Hinton and Ba, "Lookahead Optimizer: k steps forward, 1 step back", 2019, algorithm 1
      (https://arxiv.org/abs/1907.08610).
    """
    base = prepare("base", base)
    require_number("sync_period", sync_period, 1.0)
    require_number("alpha", alpha, 0.0, 1.0)

    def init(params: optax.Params) -> LookaheadState:
        inner = base.init(params)
        require_no_average(inner)
        return LookaheadState(wide(params), begin(), inner)

    def update(
        updates: optax.Updates, state: LookaheadState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, LookaheadState]:
        params = require_params("lookahead", params)
        steps = optax.safe_increment(state.steps)
        due = is_due(steps, sync_period)
        moves, inner = base.update(updates, state.inner, params, **extra)
        ahead = jax.tree.map(lambda slow, x, u: slow + alpha * (x + u - slow), state.slow, params, moves)
        slow = jax.tree.map(lambda new, old: jnp.where(due, new, old), ahead, state.slow)
        moves = jax.tree.map(lambda new, x, u: jnp.where(due, new - x, u), slow, params, moves)
        return like(moves, params), LookaheadState(slow, steps, inner)

    return optax.GradientTransformationExtraArgs(init, update)
