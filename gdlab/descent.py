"""One descent: a function, an optimizer and a starting point form a pure program that jit compiles and vmap batches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from gdlab.arguments import (
    describe,
    is_optimizer,
    needs_gradient,
    require_choice,
    require_count,
    require_gradient,
    require_no_tolerance,
    require_number,
    require_scalar_function,
)
from gdlab.compute.extras import as_extras, bind
from gdlab.compute.trees import all_finite, distance, open_point
from gdlab.optimizers.protocol import take_update, with_any_arguments
from gdlab.types import Number


class Descent(NamedTuple):
    """The result of a descent; under `jax.vmap` every field has the batch axes in front.

    Attributes:
      path: the recorded points, beginning with the start: the start's array, or each array of its tree, with an axis in
        front. After a stop, the last point is repeated. With record="last" it holds the last point only.
      value: the function values at these points; those of a stochastic function as in `gdlab.compute.extras`.
      steps: the number of steps taken, including the one that met the tolerance.
      converged: whether the tolerance was met.
      diverged: whether a value, a gradient or a new point was not finite. The path then stays at the last finite
        point, or at the start, with 0 steps, if the start is not finite.
    """

    path: PyTree[Float[Array, "recorded ..."]]
    value: Float[Array, " recorded"]
    steps: Int[Array, ""]
    converged: Bool[Array, ""]
    diverged: Bool[Array, ""]

    @property
    def point(self) -> Any:
        """The last point of the descent, shaped like the start."""
        axis = self.value.ndim - 1
        return jax.tree.map(lambda path: jax.lax.index_in_dim(jnp.asarray(path), -1, axis, keepdims=False), self.path)


class _State(NamedTuple):
    point: PyTree
    optimizer: optax.OptState
    steps: Array
    converged: Array
    diverged: Array


def move(
    optimizer: optax.GradientTransformationExtraArgs,
    state: optax.OptState,
    x: Any,
    value: Array,
    gradient: Any,
    value_fn: Callable[[Any], Array],
    grad_fn: Callable[[Any], Any],
) -> tuple[Any, optax.OptState]:
    """Take one step of the optimizer; both `descend` and the lanes of a sweep use it.

    A lane is one run of the batch. What follows a step (when to stop, what to keep) differs: a descent freezes its
    state, while the lanes of a sweep leave the batch.

    Args:
      optimizer: the optax transformation.
      state: its state.
      x: the current point.
      value: the value of the function at x.
      gradient: its gradient at x.
      value_fn: the function, for optimizers that evaluate it themselves.
      grad_fn: its gradient, likewise.

    Returns:
      The new point and the new state.
    """
    updates, state = take_update(optimizer, gradient, state, x, value=value, value_fn=value_fn, grad_fn=grad_fn)
    return optax.apply_updates(x, updates), state


def descend(
    fn: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    start: PyTree,
    *,
    max_steps: int,
    tolerance: Number | None = None,
    gradient: Callable[..., Any] | None = None,
    record: str = "path",
    key: PRNGKeyArray | None = None,
    data: PyTree | None = None,
) -> Descent:
    """Descend `fn` from `start` until sum |x_new - x| < tolerance or until `max_steps` steps are taken.

    The function is pure and works under jit and vmap. Wrap it in jit, as in the example: a bare call compiles its
    loop every time. In a batch, a stopped lane (one run of the batch) keeps its state while the others continue.

    Args:
      fn: a function of one point that returns a scalar; with `key` or `data`, or both, `fn(x, key)`, `fn(x, data)` or
        `fn(x, key, data)`. For a `Function` of `gdlab.functions`, pass its `.fn`.
      optimizer: an optax transformation. To vmap over its hyperparameters, build it inside the mapped function. Its
        `update` also receives `value`, `grad`, `value_fn` and `grad_fn`, if it takes them; see
        `gdlab.optimizers.protocol`. For one of `gdlab.strategies`, no gradient is computed.
      start: one point: an array of floating-point dtype, which is the dtype of the descent, or a tree of such arrays
        (dicts, tuples, dataclasses, modules of Equinox or Flax NNX). What else a tree holds, such as activation
        functions and integers, stays as it is: `fn` receives it, the optimizer and the result have None in its place.
      max_steps: the largest number of steps, a Python integer.
      tolerance: the tolerance of the stopping rule in the units of x, >= 0; may be traced. None runs all steps. A
        small learning rate meets any tolerance at once, and so does a first update of zero (a warm-up), so a
        converged descent is not necessarily at a minimum. Default None.
      gradient: a function `gradient(x)` that returns a tree like what moves of x: any of `gdlab.gradients`, or one of
        your own. It takes the same arguments as `fn`. Default `jax.grad(fn)`.
      record: "path" keeps all max_steps + 1 points in memory and runs as a scan, which is reverse-differentiable.
        "last" keeps only the last point and stops the loop when every lane of the batch has stopped. Default "path".
      key: the random key of a stochastic function, whose step t has the key `jax.random.fold_in(key, t)`; may be
        traced. `gdlab.compute.extras` says what a value is then. Default None: the function takes no key.
      data: a tree of arrays that the function takes, which may be traced. Default None: it takes none.

    Returns:
      A `Descent`.

    Raises:
      TypeError: if `fn`, `optimizer` or `gradient` is of the wrong kind, `start` is not floating-point, or
        `max_steps` is not an integer.
      ValueError: if a value or a shape does not fit, or there is a tolerance for a strategy.

    Example:
      >>> run = jax.jit(jax.vmap(lambda x: descend(fn, adam(0.1), x, max_steps=500)))
      >>> descents = run(starts)
    """
    require_count("max_steps", max_steps)
    if isinstance(optimizer, type) or not is_optimizer(optimizer):
        hint = f"; call the factory first: {optimizer.__name__}(...)" if hasattr(optimizer, "__name__") else ""
        raise TypeError(f"optimizer: expected an optax.GradientTransformation, got {describe(optimizer)}{hint}")
    if tolerance is not None:
        require_number("tolerance", tolerance, 0.0)
    require_choice("record", record, ("path", "last"))
    require_no_tolerance(optimizer, tolerance)
    extras = as_extras(key, data)
    given = open_point("start", start)
    start, fn = given.params, given.on(fn)
    require_scalar_function("fn", fn, start, *extras.example)
    slope = jax.grad(fn) if gradient is None else given.on(gradient)
    if needs_gradient(optimizer):
        require_gradient("gradient", slope, start, *extras.example)
    else:
        slope = lambda x, *_: jax.tree.map(jnp.zeros_like, x)  # noqa: E731
    optimizer = with_any_arguments(optimizer)

    def cast_slope(x: Any, *more: Any) -> Any:
        return jax.tree.map(lambda g, leaf: g.astype(leaf.dtype), slope(x, *more), x)

    def value_at(x: Any, step: Any) -> Array:
        return fn(x, *extras.at(step))

    def running(state: _State) -> Array:
        return ~(state.converged | state.diverged) & (state.steps < max_steps)

    def step(state: _State) -> _State:
        x, now = state.point, extras.at(state.steps)
        value_fn, grad_fn = bind(fn, now), bind(cast_slope, now)
        g, value = grad_fn(x), value_fn(x)
        moved, optimizer_state = move(optimizer, state.optimizer, x, value, g, value_fn, grad_fn)
        finite = jnp.isfinite(value) & all_finite(g) & all_finite(moved)
        converged = jnp.array(False) if tolerance is None else finite & (distance(moved, x) < tolerance)
        point = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, x)
        new = _State(point, optimizer_state, state.steps + 1, converged, ~finite)
        go = running(state)

        # All dtypes follow the start, because a traced float32 hyperparameter must not widen a bfloat16 state.
        def freeze(after: Array, before: Array) -> Array:
            return jnp.where(go, after if after.dtype == before.dtype else after.astype(before.dtype), before)

        return jax.tree.map(freeze, jax.tree.map(jnp.asarray, new), state)

    lost = ~(all_finite(start) & jnp.isfinite(value_at(start, 0)))
    begun = jax.tree.map(jnp.asarray, optimizer.init(start))
    state = _State(start, begun, jnp.zeros([], jnp.int32), jnp.array(False), lost)
    if record == "path":

        def recorded_step(state: _State, _: None) -> tuple[_State, Any]:
            state = step(state)
            return state, state.point

        state, points = jax.lax.scan(recorded_step, state, length=max_steps)
        path = jax.tree.map(lambda first, later: jnp.concatenate([first[None], later]), start, points)
        steps = jnp.minimum(jnp.arange(max_steps + 1), state.steps)
    else:
        state = jax.lax.while_loop(running, step, state)
        path = jax.tree.map(lambda leaf: leaf[None], state.point)
        steps = state.steps[None]
    value = jax.vmap(value_at)(path, steps)
    return Descent(path, value, state.steps, state.converged, state.diverged | ~jnp.isfinite(value[-1]))
