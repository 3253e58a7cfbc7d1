"""Step sizes from the value of the loss: backtracking (Armijo 1966) and Polyak's, around any optimizer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gdlab.arguments import require_count, require_number
from gdlab.optimizers.transformation import (
    require_flags,
    require_fractions,
    require_non_negative,
    require_params,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import divide, inner
from gdlab.optimizers.wrappers.base import prepare, require_passed, wide
from gdlab.types import Hyperparameter


class SearchedState(NamedTuple):
    """State of `backtracking`.

    Attributes:
      search: the state of optax's line search; () if there are no parameters.
      inner: the state of the wrapped optimizer.
    """

    search: optax.OptState
    inner: optax.OptState


class PolyakState(NamedTuple):
    """State of `polyak`.

    Attributes:
      inner: the state of the wrapped optimizer.
    """

    inner: optax.OptState


@transformation
def backtracking(
    base: optax.GradientTransformation,
    *,
    max_backtracking_steps: int = 15,
    slope_rtol: Hyperparameter = 1e-4,
    decrease_factor: Hyperparameter = 0.8,
    increase_factor: Hyperparameter = 1.5,
    max_learning_rate: Hyperparameter = 1.0,
) -> optax.GradientTransformationExtraArgs:
    """Backtracking: x <- x + a u, where u is the step of base and f(x + a u) <= f(x) + slope_rtol a (u . g).

    The search begins at increase_factor times the last a, at most max_learning_rate, and multiplies it by
    decrease_factor until the loss f falls enough. So the learning rate of base is no more than an upper limit. A step
    takes one gradient and one or more values of the loss.

    Args:
      base: the optimizer that gives the direction, which should go downhill.
      max_backtracking_steps: the largest number of reductions, static. Default 15.
      slope_rtol: the share of the decrease that the slope promises, in [0, 1). Default 1e-4, optax's.
      decrease_factor: the factor of each reduction, in (0, 1). Default 0.8, optax's.
      increase_factor: the factor from one step to the next, > 0. Default 1.5, optax's.
      max_learning_rate: the largest a. Default 1, optax's.

    State:
      a, and that of base.

    Example:
      >>> optimizer = backtracking(sgd(1.0))
      >>> updates, _ = optimizer.update(grads, optimizer.init(params), params, value=loss(params), value_fn=loss)

    It is `optax.scale_by_backtracking_linesearch` after base. `update` needs `value` and `value_fn`,
    which `descend`, `sweep` and `train` pass.

    References:
      Armijo, "Minimization of functions having Lipschitz continuous first partial derivatives", 1966
      (https://doi.org/10.2140/pjm.1966.16.1).
    """
    base = prepare("base", base)
    require_count("max_backtracking_steps", max_backtracking_steps)
    require_fractions(slope_rtol=slope_rtol)
    require_number("decrease_factor", decrease_factor, 0.0, 1.0, open_low=True, open_high=True)
    require_positive(increase_factor=increase_factor, max_learning_rate=max_learning_rate)
    search = optax.scale_by_backtracking_linesearch(
        max_backtracking_steps, slope_rtol, decrease_factor, increase_factor, max_learning_rate
    )

    def init(params: optax.Params) -> SearchedState:
        return SearchedState(search.init(wide(params)) if jax.tree.leaves(params) else (), base.init(params))

    def update(
        updates: optax.Updates,
        state: SearchedState,
        params: optax.Params | None = None,
        *,
        value: Any = None,
        grad: Any = None,
        value_fn: Callable[[Any], Any] | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, SearchedState]:
        params = require_params("backtracking", params)
        value = require_passed("value", value, "the loss at the parameters")
        value_fn = require_passed("value_fn", value_fn, "the loss as a function of the parameters")
        grad = updates if grad is None else grad
        moves, own = base.update(updates, state.inner, params, value=value, grad=grad, value_fn=value_fn, **extra)
        after = state.search
        if jax.tree.leaves(params):
            moves, after = search.update(moves, after, params, value=value, grad=grad, value_fn=value_fn)
        return moves, SearchedState(after, own)

    return optax.GradientTransformationExtraArgs(init, update)


@transformation
def polyak(
    base: optax.GradientTransformation,
    *,
    max_learning_rate: Hyperparameter = 1.0,
    f_min: Hyperparameter = 0.0,
    eps: Hyperparameter = 0.0,
    nonnegative: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Polyak's step size: x <- x + min((f(x) - f_min) / (||u||^2 + eps), max_learning_rate) u, u the step of base.

    Around gradient descent with learning rate 1, where u = -g, the step size needs no tuning, but the least loss must
    be known; for a model that can fit its data it is 0. On a batch, it is the stochastic Polyak step size.

    Args:
      base: the optimizer that gives the direction; u should have the size of the gradient, as that of `sgd(1.0)` has.
      max_learning_rate: the largest step size. Default 1, optax's.
      f_min: the least value of the loss. Default 0.
      eps: added to ||u||^2. Default 0, optax's.
      nonnegative: whether a loss below f_min gives the step size 0 instead of a negative one. Default False, as in
        optax.

    State:
      that of base.

    Example:
      >>> optimizer = polyak(sgd(1.0), max_learning_rate=0.5)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params, value=loss(params))

    It is the rule of `optax.scale_by_polyak`, and around `sgd(1.0)` that of `optax.polyak_sgd`. `update` needs `value`,
    which `descend`, `sweep` and `train` pass.

    References:
      Loizou, Vaswani, Laradji and Lacoste-Julien, "Stochastic Polyak Step-size for SGD: An Adaptive Learning Rate for
      Fast Convergence", 2021, equation 4 (https://arxiv.org/abs/2002.10542).
    """
    base = prepare("base", base)
    require_positive(max_learning_rate=max_learning_rate)
    require_number("f_min", f_min)
    require_non_negative(eps=eps)
    require_flags(nonnegative=nonnegative)

    def init(params: optax.Params) -> PolyakState:
        return PolyakState(base.init(params))

    def update(
        updates: optax.Updates,
        state: PolyakState,
        params: optax.Params | None = None,
        *,
        value: Any = None,
        **extra: Any,
    ) -> tuple[optax.Updates, PolyakState]:
        value = require_passed("value", value, "the loss at the parameters")
        moves, after = base.update(updates, state.inner, params, value=value, **extra)
        gap = value - jnp.asarray(f_min)
        gap = jnp.maximum(gap, 0.0) if nonnegative else gap
        rate = jnp.minimum(divide(gap, inner(moves, moves) + eps), max_learning_rate)
        return jax.tree.map(lambda u: rate * u, moves), PolyakState(after)

    return optax.GradientTransformationExtraArgs(init, update)
