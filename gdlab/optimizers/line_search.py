"""Line searches for optimizers with a direction of their own: how far to go along it.

A length is found in a loop whose number of rounds is not known beforehand, so derivatives treat it as a constant.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from gdlab.optimizers.transformation import require_params
from gdlab.optimizers.trees import inner, statistic
from gdlab.types import Hyperparameter

ValueFn = Callable[[Any], Array]
"""`value_fn(params)` returns the loss; see `gdlab.optimizers.protocol`."""


def wolfe_length(
    params: optax.Params,
    direction: optax.Updates,
    gradient: optax.Updates,
    value: Array | None,
    value_fn: ValueFn,
    max_search_steps: Hyperparameter,
) -> tuple[Array, Array]:
    """Return a length a that meets the strong Wolfe conditions, and the number of gradients that it took to find it.

    These are f(x + a d) <= f(x) + c1 a g.d and |g(x + a d).d| <= c2 |g.d|, with c1 = 1e-4 and c2 = 0.9. The search is
    that of `optax.scale_by_zoom_linesearch`, which tries a = 1 first. If it does not succeed in max_search_steps, the
    length is the best that it saw, or that of its last trial.
    """
    one = statistic(params, 1.0)
    if not jax.tree.leaves(params):
        return one, jnp.zeros([], jnp.int32)
    search = optax.scale_by_zoom_linesearch(max_search_steps, initial_guess_strategy="one")
    params, direction, gradient = jax.lax.stop_gradient((params, direction, gradient))
    value = value_fn(params) if value is None else value
    _, found = search.update(
        direction,
        search.init(params),
        params,
        value=jax.lax.stop_gradient(jnp.asarray(value, one.dtype)),
        grad=gradient,
        value_fn=lambda x: value_fn(x).astype(one.dtype),
    )
    return jax.lax.stop_gradient(found.learning_rate).astype(one.dtype), found.info.num_linesearch_steps


def armijo_length(
    params: optax.Params,
    direction: optax.Updates,
    gradient: optax.Updates,
    value: Array | None,
    value_fn: ValueFn,
    max_search_steps: Hyperparameter,
) -> Array:
    """Return the first of 1, 1/2, 1/4, ... with f(x + a d) <= f(x) + 1e-4 a g.d, or 0 if none of them has it.

    Where rounding hides the difference between f and f(x), it must not decide: 8 units in the last place are let pass.
    At most max_search_steps lengths are tried.
    """
    one = statistic(params, 1.0)
    params, direction, gradient = jax.lax.stop_gradient((params, direction, gradient))
    start = jax.lax.stop_gradient(jnp.asarray(value_fn(params) if value is None else value, one.dtype))
    slope = inner(gradient, direction)
    slack = 8 * jnp.finfo(one.dtype).eps * jnp.abs(start)

    def too_long(length: Array) -> Array:
        there = value_fn(jax.tree.map(lambda x, d: x + length.astype(x.dtype) * d, params, direction))
        return ~(there <= start + 1e-4 * length * slope + slack)

    def searching(carry: tuple[Array, Array, Array]) -> Array:
        tried, _, failed = carry
        return failed & (tried < max_search_steps)

    def halve(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        tried, length, _ = carry
        length = jnp.where(tried == 0, 1.0, length / 2).astype(one.dtype)
        return tried + 1, length, too_long(length)

    begun = (jnp.zeros([], jnp.int32), one, jnp.asarray(True))
    _, length, failed = jax.lax.while_loop(searching, halve, begun)
    return jax.lax.stop_gradient(jnp.where(failed, 0.0, length).astype(one.dtype))


def add_search(name: str, learning_rate: Hyperparameter, max_search_steps: Hyperparameter) -> Callable[..., Any]:
    """Return `step(direction, gradient, params, value, value_fn) -> (updates, length, evaluations)`.

    The trial that comes first is learning_rate times the direction, and without `value_fn` it is the step. `name` is
    the optimizer's, for the error message.
    """

    def step(
        direction: optax.Updates,
        gradient: optax.Updates,
        params: optax.Params | None,
        value: Array | None,
        value_fn: ValueFn | None,
    ) -> tuple[optax.Updates, Array, Array]:
        params = require_params(name, params)
        first = jax.tree.map(lambda d: learning_rate * d, direction)
        length, evaluations = statistic(params, 1.0), jnp.zeros([], jnp.int32)
        if value_fn is not None:
            length, evaluations = wolfe_length(params, first, gradient, value, value_fn, max_search_steps)
        moved = jax.tree.map(lambda d: length.astype(d.dtype) * d, first)
        return moved, learning_rate * length, evaluations

    return step
