"""One descent: a function, an optimizer and a start become one pure program that jit compiles and vmap batches."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from gdlab.arguments import (
    as_point,
    describe,
    require_choice,
    require_count,
    require_gradient,
    require_number,
    require_scalar_function,
)
from gdlab.types import GradientFunction, Number, ScalarFunction


class Descent(NamedTuple):
    """What a descent reports; under vmap every field has the batch's axes in front.

    path: the recorded points, start first; after a stop the last point is repeated. With record="last" only that one.
    value: the function at them. steps: how many were taken, the one that met the tolerance included.
    converged: whether the tolerance was met. diverged: whether a value, a gradient or a new point was not finite; the
    path then stays at the last finite point (or at a start that is not finite, with 0 steps).
    """

    path: Float[Array, "recorded dim"]
    value: Float[Array, " recorded"]
    steps: Int[Array, ""]
    converged: Bool[Array, ""]
    diverged: Bool[Array, ""]

    @property
    def point(self) -> Array:
        """Where the descent ended, of shape (dim,)."""
        return self.path[..., -1, :]


class _State(NamedTuple):
    point: Array
    optimizer: optax.OptState
    steps: Array
    converged: Array
    diverged: Array


def move(
    optimizer: optax.GradientTransformationExtraArgs,
    state: optax.OptState,
    x: Array,
    value: Array,
    gradient: Array,
    value_fn: ScalarFunction,
) -> tuple[Array, optax.OptState]:
    """The point after one step of the optimizer, and its state: what `descend` and the lanes of a sweep both do.

    value, gradient: of the function at x. What follows a step (when to stop, what to keep) differs: a descent freezes
    what it carries, while the lanes of a sweep leave the batch.
    """
    updates, state = optimizer.update(gradient, state, x, value=value, grad=gradient, value_fn=value_fn)
    return optax.apply_updates(x, updates), state


def descend(
    fn: ScalarFunction,
    optimizer: optax.GradientTransformation,
    start: Any,
    *,
    max_steps: int,
    tolerance: Number | None = None,
    gradient: GradientFunction | None = None,
    record: str = "path",
) -> Descent:
    """Descend `fn` from `start` until sum |x_new - x| < tolerance or max_steps; pure, jittable and vmappable.

    fn: takes one point of shape (dim,), returns a scalar; of a `Function` of `gdlab.functions`, its `.fn`.
    optimizer: an optax transformation; build it inside the mapped function to vmap over its hyperparameters. It is
        handed `value`, `grad` and `value_fn` too, for those that ask for them (line searches, Polyak steps); those that
        ask for more (SAM, Sophia) cannot be used here.
    start: one point of shape (dim,), floating. Its dtype is the descent's.
    tolerance: in the units of x, >= 0, may be traced; None runs all steps. A small learning rate meets any tolerance
        at once, and so does a first update of zero (a warm-up): a converged descent is not yet at a minimum.
    gradient: `gradient(x)`; default `jax.grad(fn)`. Any of `gdlab.gradients`, or one of your own.
    record: "path" keeps all max_steps + 1 points in memory and runs as a scan (reverse-differentiable); "last" keeps
        the last point only and stops the loop when every lane of the batch has stopped.

    Wrap it: `jax.jit(jax.vmap(lambda x: descend(fn, adam(0.1), x, max_steps=500)))(starts)`. Called bare it runs too,
    but compiles its loop at every call. A stopped lane keeps its state frozen while the others go on.
    """
    require_count("max_steps", max_steps)
    if isinstance(optimizer, type) or not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        hint = f"; call the factory first: {optimizer.__name__}(...)" if hasattr(optimizer, "__name__") else ""
        raise TypeError(f"optimizer: wanted an optax.GradientTransformation, got {describe(optimizer)}{hint}")
    if tolerance is not None:
        require_number("tolerance", tolerance, 0.0)
    require_choice("record", record, ("path", "last"))
    start = as_point("start", start)
    require_scalar_function("fn", fn, start)
    slope = jax.grad(fn) if gradient is None else gradient
    require_gradient("gradient", slope, start)
    optimizer = optax.with_extra_args_support(optimizer)

    def running(state: _State) -> Array:
        return ~(state.converged | state.diverged) & (state.steps < max_steps)

    def step(state: _State) -> _State:
        x = state.point
        g, value = slope(x).astype(x.dtype), fn(x)
        moved, optimizer_state = move(optimizer, state.optimizer, x, value, g, fn)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(g)) & jnp.all(jnp.isfinite(moved))
        converged = jnp.array(False) if tolerance is None else finite & (jnp.sum(jnp.abs(moved - x)) < tolerance)
        new = _State(jnp.where(finite, moved, x), optimizer_state, state.steps + 1, converged, ~finite)
        go = running(state)

        # Dtypes are those of the start: a traced float32 hyperparameter must not widen a bfloat16 state.
        def freeze(after: Array, before: Array) -> Array:
            return jnp.where(go, after if after.dtype == before.dtype else after.astype(before.dtype), before)

        return jax.tree.map(freeze, jax.tree.map(jnp.asarray, new), state)

    lost = ~(jnp.all(jnp.isfinite(start)) & jnp.isfinite(fn(start)))
    begun = jax.tree.map(jnp.asarray, optimizer.init(start))
    state = _State(start, begun, jnp.zeros([], jnp.int32), jnp.array(False), lost)
    if record == "path":

        def recorded_step(state: _State, _: None) -> tuple[_State, Array]:
            state = step(state)
            return state, state.point

        state, points = jax.lax.scan(recorded_step, state, length=max_steps)
        path = jnp.concatenate([start[None], points])
    else:
        state = jax.lax.while_loop(running, step, state)
        path = state.point[None]
    value = jax.vmap(fn)(path)
    return Descent(path, value, state.steps, state.converged, state.diverged | ~jnp.isfinite(value[-1]))
