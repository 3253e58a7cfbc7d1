"""L-BFGS: the inverse Hessian from the last few steps, applied without ever being formed (Liu & Nocedal 1989)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from gdlab.arguments import require_count
from gdlab.numerics import safe_sqrt
from gdlab.optimizers.line_search import add_search
from gdlab.optimizers.transformation import require_non_negative, require_params, require_positive, transformation
from gdlab.optimizers.trees import begin, divide, inner, statistic, zeros
from gdlab.types import Hyperparameter


class LbfgsState(NamedTuple):
    """State of `lbfgs`.

    Attributes:
      steps: number of completed steps.
      pairs: number of pairs that were stored; the last `memory` of them are kept.
      evaluations: number of gradients that the line searches asked for.
      params: the parameters before the last step.
      gradient: the gradient there.
      moves: the last differences s of parameters, each leaf with an axis of length `memory` in front, the newest last.
      changes: the differences y of gradients, likewise.
      weights: 1 / (s . y) for each pair, and 0 for a place without one.
      scale: s . y / y . y of the last pair.
    """

    steps: Int[Array, ""]
    pairs: Int[Array, ""]
    evaluations: Int[Array, ""]
    params: PyTree
    gradient: PyTree
    moves: PyTree
    changes: PyTree
    weights: Float[Array, " memory"]
    scale: Float[Array, ""]


def _remember(state: LbfgsState, gradient: PyTree, params: PyTree) -> LbfgsState:
    """Return the state with the pair of the last step, if there was one, and if the curvature along it was positive."""
    s, y = (jax.tree.map(jnp.subtract, new, old) for new, old in ((params, state.params), (gradient, state.gradient)))
    curvature = inner(s, y).astype(state.scale.dtype)
    fits = (state.steps > 0) & (curvature > 0)

    def store(memory: Array, new: Array) -> Array:
        return jnp.where(fits, jnp.concatenate([memory[1:], new[None]]), memory)

    return state._replace(
        pairs=state.pairs + fits,
        moves=jax.tree.map(store, state.moves, s),
        changes=jax.tree.map(store, state.changes, y),
        weights=store(state.weights, divide(jnp.ones_like(curvature), jnp.where(fits, curvature, 0.0))),
        scale=jnp.where(fits, divide(curvature, inner(y, y)), state.scale),
    )


def _two_loops(state: LbfgsState, gradient: PyTree) -> PyTree:
    """Return H g, where H is the inverse Hessian that the pairs in the memory tell of."""
    pairs = (state.moves, state.changes, state.weights)

    def add(x: PyTree, factor: Array, y: PyTree) -> PyTree:
        return jax.tree.map(lambda a, b: a + (factor * b).astype(a.dtype), x, y)

    def from_new_to_old(q: PyTree, pair: tuple[PyTree, PyTree, Array]) -> tuple[PyTree, Array]:
        s, y, weight = pair
        alpha = weight * inner(s, q)
        return add(q, -alpha, y), alpha

    def from_old_to_new(r: PyTree, item: tuple[tuple[PyTree, PyTree, Array], Array]) -> tuple[PyTree, None]:
        (s, y, weight), alpha = item
        return add(r, alpha - weight * inner(y, r), s), None

    q, alphas = jax.lax.scan(from_new_to_old, gradient, pairs, reverse=True)
    # Before there is a pair, the step has the length of the gradient, or 1 if that is longer.
    first = jnp.minimum(1.0, divide(jnp.ones([]), safe_sqrt(inner(gradient, gradient))))
    scale = jnp.where(state.pairs > 0, state.scale, first)
    q = jax.tree.map(lambda leaf: scale.astype(leaf.dtype) * leaf, q)
    return jax.lax.scan(from_old_to_new, q, (pairs, alphas))[0]


@transformation
def lbfgs(
    learning_rate: Hyperparameter = 1.0, *, memory: int = 10, max_search_steps: Hyperparameter = 20
) -> optax.GradientTransformationExtraArgs:
    """L-BFGS: x <- x - a learning_rate H g, where a is found by a line search.

    Here H is the inverse Hessian that the last pairs s = x_t - x_(t-1) and y = g_t - g_(t-1) tell of: starting from
    (s . y / y . y) I, for the last pair, each pair updates H <- (I - s y^T / s . y) H (I - y s^T / s . y) +
    s s^T / s . y. Only products with H are formed, from 2 `memory` vectors. It is the method of choice for smooth
    functions without noise, of few or of many variables; noise in the gradient spoils y.

    If `update` receives `value_fn`, as it does from `gdlab.descend`, `sweep` and `train`, the length a meets the strong
    Wolfe conditions (the search is optax's, which tries 1 first). Otherwise a is 1. A pair with s . y <= 0 is not
    stored. The first step has length learning_rate, or |g| learning_rate where |g| is below 1.

    Args:
      learning_rate: the length that the search tries first, a number or a schedule. Default 1.
      memory: the number of pairs, static, because it shapes the state. Default 10, optax's and SciPy's.
      max_search_steps: the largest number of lengths that a search tries. Default 20, optax's and SciPy's.

    State:
      2 memory + 2 values per parameter.

    Example:
      >>> optimizer = lbfgs(memory=5)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params, value=loss(params), value_fn=loss)

    A step costs one gradient for each length that is tried, besides the one that it is given. Derivatives treat a as
    constant. Equal to `optax.lbfgs`, except that this stores every pair, so that its direction may lead uphill without
    a search. The search differentiates value_fn itself, also where `descend` is given another gradient.

    References:
      Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", 1989
      (https://doi.org/10.1007/BF01589116); Nocedal and Wright, "Numerical Optimization", 2006, algorithms 7.4 and 7.5.
    """
    require_count("memory", memory)
    require_non_negative(learning_rate=learning_rate)
    require_positive(max_search_steps=max_search_steps)
    search = add_search("lbfgs", learning_rate, max_search_steps)

    def init(params: optax.Params) -> LbfgsState:
        def empty(x: Any) -> Array:
            return jnp.zeros((memory, *jnp.shape(x)), jnp.result_type(x))

        moves, changes = (jax.tree.map(empty, params) for _ in range(2))
        weights = jnp.zeros(memory, statistic(params).dtype)
        counts = (begin(), begin(), begin())
        return LbfgsState(*counts, zeros(params), zeros(params), moves, changes, weights, statistic(params, 1.0))

    def update(
        updates: optax.Updates,
        state: LbfgsState,
        params: optax.Params | None = None,
        *,
        value: Array | None = None,
        value_fn: Callable[[Any], Array] | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, LbfgsState]:
        del extra
        params = require_params("lbfgs", params)
        state = _remember(state, updates, params)
        direction = jax.tree.map(jnp.negative, _two_loops(state, updates))
        moved, _, evaluations = search(direction, updates, params, value, value_fn)
        return moved, state._replace(
            steps=optax.safe_increment(state.steps),
            evaluations=state.evaluations + evaluations,
            params=params,
            gradient=updates,
        )

    return optax.GradientTransformationExtraArgs(init, update)
