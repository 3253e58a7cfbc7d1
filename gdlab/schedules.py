"""Schedules `count -> value` for any hyperparameter of any optimizer; every argument can be traced.

`count` is the number of steps taken, from 0. The functions that return schedules work under jit, vmap and grad,
because they never branch on a value. `total_steps` is the number of steps of the run; after it the schedule keeps its
last value. Concrete numbers outside their range raise ValueError; traced values are not checked.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gdlab.arguments import as_array, require_number, require_sequence
from gdlab.types import Number, Schedule


def _steps(count: Array) -> Array:
    """Return the number of steps taken in the default float dtype."""
    return jnp.asarray(as_array("count", count, (jnp.floating, jnp.integer)), float)


def _progress(count: Array, total_steps: Number) -> Array:
    """Return the completed share of the run, in [0, 1], in the default float dtype."""
    return jnp.clip(_steps(count) / total_steps, 0.0, 1.0)


def _require_steps(**values: Number) -> None:
    for name, value in values.items():
        require_number(name, value, 0.0, open_low=True)


def _concrete(*values: Number) -> bool:
    return not any(isinstance(value, jax.core.Tracer) for value in values)


def constant(value: Number) -> Schedule:
    """Return a constant schedule, for use where a schedule is required.

    Args:
      value: the value.

    Returns:
      The schedule, a function `count -> value`.
    """
    require_number("value", value)
    return lambda count: jnp.asarray(value) + 0 * _steps(count)


def step(
    value: Number, total_steps: Number, *, fractions: Sequence[Number] = (0.5, 0.75), factor: Number = 0.1
) -> Schedule:
    """Return a step schedule: `value`, multiplied by `factor` at each of the given fractions of the run.

    The defaults, a factor of 0.1 at 50% and at 75%, are those of the Demon benchmark (Chen et al. 2022).

    Args:
      value: the value at count 0.
      total_steps: the number of steps of the run, > 0.
      fractions: shares of the run, ascending, each in [0, 1]. A change at fraction f takes effect at the first count
        with count >= f total_steps. Default (0.5, 0.75).
      factor: the multiplier of each change, >= 0. Default 0.1.

    Returns:
      The schedule, a function `count -> value`.

    References:
      Chen, Wolfe, Li and Kyrillidis, "Demon: Improved Neural Network Training with Momentum Decay", 2022
        (https://arxiv.org/abs/1910.04952).
    """
    require_number("value", value)
    _require_steps(total_steps=total_steps)
    require_number("factor", factor, 0.0)
    require_sequence("fractions", fractions, "a sequence of numbers")
    reached: Number = 0.0
    for fraction in fractions:
        require_number("fractions", fraction, 0.0, 1.0)
        if _concrete(fraction, reached) and fraction < reached:
            raise ValueError(f"fractions: expected ascending shares of the run, got {fraction:g} after {reached:g}")
        reached = fraction

    def schedule(count: Array) -> Array:
        done = sum((_steps(count) >= f * total_steps for f in fractions), jnp.zeros([], jnp.int32))
        return jnp.asarray(value) * jnp.asarray(factor) ** done

    return schedule


def cosine(value: Number, total_steps: Number, *, final: Number = 0.0) -> Schedule:
    """final + (value - final) (1 + cos(pi count / total_steps)) / 2, without restarts.

    Args:
      value: the value at count 0.
      total_steps: the number of steps of the run, > 0.
      final: the value at count total_steps. Default 0.

    Returns:
      The schedule, a function `count -> value`.

    References:
      Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017
        (https://arxiv.org/abs/1608.03983).
    """
    require_number("value", value)
    require_number("final", final)
    _require_steps(total_steps=total_steps)
    return lambda count: final + (value - final) * 0.5 * (1 + jnp.cos(jnp.pi * _progress(count, total_steps)))


def warmup_cosine(
    value: Number, total_steps: Number, warmup_steps: Number, *, initial: Number = 0.0, final: Number = 0.0
) -> Schedule:
    """Return a linear warm-up from `initial` to `value`, followed by a cosine decay to `final`.

    The peak is reached at count warmup_steps; with `warmup_steps` 0 the schedule begins at the peak. If the warm-up
    is longer than the run, which only traced numbers can be, it ends with the run.
    `optax.warmup_cosine_decay_schedule` branches in Python on its arguments, so they cannot be traced.

    Args:
      value: the peak value.
      total_steps: the number of steps of the run, > 0.
      warmup_steps: the number of steps of the warm-up, in [0, total_steps].
      initial: the value at count 0. Default 0.
      final: the value at count total_steps. Default 0.

    Returns:
      The schedule, a function `count -> value`.
    """
    for name, number in (("value", value), ("initial", initial), ("final", final)):
        require_number(name, number)
    _require_steps(total_steps=total_steps)
    most = float(total_steps) if _concrete(total_steps) else math.inf
    require_number("warmup_steps", warmup_steps, 0.0, most)

    def schedule(count: Array) -> Array:
        now = jnp.minimum(_steps(count), total_steps)
        rise = jnp.clip(now / jnp.maximum(warmup_steps, 1e-30), 0.0, 1.0)
        fall = jnp.clip((now - warmup_steps) / jnp.maximum(total_steps - jnp.asarray(warmup_steps), 1e-30), 0.0, 1.0)
        down = final + (value - final) * 0.5 * (1 + jnp.cos(jnp.pi * fall))
        return jnp.where(now < warmup_steps, initial + (value - initial) * rise, down)

    return schedule


def linear(value: Number, total_steps: Number, *, final: Number = 0.0) -> Schedule:
    """Return a linear schedule from `value` at count 0 to `final` at count total_steps.

    Args:
      value: the value at count 0.
      total_steps: the number of steps of the run, > 0.
      final: the value at count total_steps. Default 0.

    Returns:
      The schedule, a function `count -> value`.
    """
    require_number("value", value)
    require_number("final", final)
    _require_steps(total_steps=total_steps)
    return lambda count: value + (final - value) * _progress(count, total_steps)


def exponential(value: Number, steps: Number, *, factor: Number = 0.1) -> Schedule:
    """value factor^(count / steps): multiplied by `factor` every `steps` steps, smoothly and without end.

    Args:
      value: the value at count 0.
      steps: the number of steps over which the value is multiplied by `factor`, > 0.
      factor: the multiplier, > 0. Default 0.1.

    Returns:
      The schedule, a function `count -> value`.
    """
    require_number("value", value)
    require_number("factor", factor, 0.0, open_low=True)
    _require_steps(steps=steps)
    return lambda count: value * jnp.asarray(factor) ** (_steps(count) / steps)


def demon(value: Number, total_steps: Number, *, delay: Number = 0.0) -> Schedule:
    """Demon's momentum: value (1 - p) / (1 - value + value (1 - p)), p = count / total_steps.

    The ratio b / (1 - b), which is the weight of the past gradients under momentum b, decays linearly. A value of 0.9
    gives 0.8710 after a quarter of the run, 0.8182 after half of it and 0 at its end.

    Args:
      value: the initial momentum, in [0, 1).
      total_steps: the number of steps of the run, > 0.
      delay: the share of the run, in [0, 1), during which the value is constant before it decays over the rest.
        "Delayed Demon" uses 0.75. Default 0.

    Returns:
      The schedule, a function `count -> value`.

    References:
      Chen, Wolfe, Li and Kyrillidis, "Demon: Improved Neural Network Training with Momentum Decay", 2022
        (https://arxiv.org/abs/1910.04952).
    """
    require_number("value", value, 0.0, 1.0, open_high=True)
    require_number("delay", delay, 0.0, 1.0, open_high=True)
    _require_steps(total_steps=total_steps)

    def schedule(count: Array) -> Array:
        left = 1 - jnp.clip((_progress(count, total_steps) - delay) / (1 - delay), 0.0, 1.0)
        return jnp.asarray(value) * left / (1 - value + value * left)

    return schedule
