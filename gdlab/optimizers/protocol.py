"""The protocol of an optimizer: everything that its `update` may ask for.

`descend`, `sweep`, `train` and `train_many` take a step as

    updates, state = optimizer.update(gradient, state, params, value=..., grad=..., value_fn=..., grad_fn=...)

with these keyword arguments:

- value: the loss at `params`, on the batch of this step.
- grad: its gradient, which is also the first argument; transformations in a chain change that one.
- value_fn: `value_fn(params)` returns the loss at any other parameters, on the same batch and with the same random
  key. Line searches, Polyak steps and gradient-free methods need it.
- grad_fn: `grad_fn(params)` returns the gradient there. SAM needs it. A second argument is ignored: `optax.contrib.sam`
  passes the number of its step.

The function of `descend` and `sweep` may take a random key and data (`gdlab.compute.extras`); `value_fn` and `grad_fn`
then have the key of the step and the data, and still are functions of the parameters alone.

An optimizer receives those that its `update` names, or all of them if it takes any keyword argument. What it does not
ask for costs nothing in a compiled program.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array


def with_any_arguments(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Return the optimizer with an `update` that takes any keyword argument, and passes on those that it knows."""
    full = optax.with_extra_args_support(optimizer)
    try:
        parameters = inspect.signature(full.update).parameters.values()
    except (TypeError, ValueError):  # a callable that does not say what it takes
        return full
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return full
    known = {each.name for each in parameters}

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        return full.update(updates, state, params, **{name: each for name, each in extra.items() if name in known})

    return optax.GradientTransformationExtraArgs(full.init, update)


def take_update(
    optimizer: optax.GradientTransformationExtraArgs,
    gradient: optax.Updates,
    state: optax.OptState,
    params: optax.Params,
    *,
    value: Array,
    value_fn: Callable[[Any], Array],
    grad_fn: Callable[[Any], Any],
) -> tuple[optax.Updates, optax.OptState]:
    """Return the updates and the new state, from `update` with all that it may ask for."""

    def value_at(params: optax.Params, *, grad_fn: Any = None) -> Array:
        # optax's line searches pass `value_fn` what they receive, and refuse what it does not take.
        return value_fn(params)

    def gradient_at(params: optax.Params, *_: Any) -> optax.Updates:
        return grad_fn(params)

    return optimizer.update(gradient, state, params, value=value, grad=gradient, value_fn=value_at, grad_fn=gradient_at)


def extra_gradients(optimizer: optax.GradientTransformation, params: optax.Params) -> int:
    """Return how many gradients a step asks for through `grad_fn`, besides the one that it is given: 1 for SAM.

    Nothing is computed, since the step is only traced. Evaluations through `value_fn`, as those of line searches, are
    not counted, because their number depends on the function.

    Args:
      optimizer: the optimizer.
      params: parameters, or their shapes and dtypes.
    """
    count = 0

    def gradient_at(params: optax.Params) -> optax.Updates:
        nonlocal count
        count += 1
        return params

    def total(params: optax.Params) -> Array:
        return jnp.asarray(sum(jnp.sum(leaf) for leaf in jax.tree.leaves(params)))

    def step(params: optax.Params) -> optax.Updates:
        return take_update(
            with_any_arguments(optimizer),
            params,
            optimizer.init(params),
            params,
            value=total(params),
            value_fn=total,
            grad_fn=gradient_at,
        )[0]

    jax.eval_shape(step, params)
    return count
