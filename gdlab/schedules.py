"""Schedules: `count -> value` of any hyperparameter of any optimizer, count from 0, every argument traceable.

Each function returns a schedule that jit, vmap and grad see through: no branch looks at a value. A horizon
(`total_steps`) is the number of steps of the run; from there on the last value stays.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array

from gdlab.arguments import describe, require_number
from gdlab.types import Number, Schedule


def _progress(count: Array, total_steps: Number) -> Array:
    """The share of the run that is done, in [0, 1], in the default float dtype."""
    return jnp.clip(jnp.asarray(count, float) / total_steps, 0.0, 1.0)


def _require_steps(**values: Number) -> None:
    for name, value in values.items():
        require_number(name, value, 0.0, open_low=True)


def constant(value: Number) -> Schedule:
    """The value at every step; for a place that wants a schedule."""
    require_number("value", value)
    return lambda count: jnp.asarray(value) + 0 * jnp.asarray(count, float)


def step(
    value: Number, total_steps: Number, *, fractions: Sequence[Number] = (0.5, 0.75), factor: Number = 0.1
) -> Schedule:
    """value, times `factor` from each of the `fractions` of the run on.

    The defaults, x 0.1 at 50% and 75%, are those of the Demon benchmark (Chen et al. 2022). A change at fraction f
    comes at the first count with count >= f total_steps.
    """
    require_number("value", value)
    _require_steps(total_steps=total_steps)
    require_number("factor", factor, 0.0)
    if not isinstance(fractions, Sequence):
        raise TypeError(f"fractions: wanted a sequence of numbers, got {describe(fractions)}")
    for fraction in fractions:
        require_number("fractions", fraction, 0.0, 1.0)

    def schedule(count: Array) -> Array:
        done = sum((jnp.asarray(count, float) >= f * total_steps for f in fractions), jnp.zeros([], jnp.int32))
        return jnp.asarray(value) * jnp.asarray(factor) ** done

    return schedule


def cosine(value: Number, total_steps: Number, *, final: Number = 0.0) -> Schedule:
    """final + (value - final) (1 + cos(pi count / total_steps)) / 2 (Loshchilov & Hutter 2017, without restarts)."""
    require_number("value", value)
    require_number("final", final)
    _require_steps(total_steps=total_steps)
    return lambda count: final + (value - final) * 0.5 * (1 + jnp.cos(jnp.pi * _progress(count, total_steps)))


def warmup_cosine(
    value: Number, total_steps: Number, warmup_steps: Number, *, initial: Number = 0.0, final: Number = 0.0
) -> Schedule:
    """From initial to value in a line over warmup_steps, then down to final along a cosine, at count total_steps.

    The peak is reached at count warmup_steps; 0 begins there. `optax.warmup_cosine_decay_schedule` branches in Python
    on its arguments, so that they cannot be traced. A warm-up longer than the run is cut off with it.
    """
    for name, number in (("value", value), ("initial", initial), ("final", final)):
        require_number(name, number)
    _require_steps(total_steps=total_steps)
    require_number("warmup_steps", warmup_steps, 0.0)

    def schedule(count: Array) -> Array:
        now = jnp.minimum(jnp.asarray(count, float), total_steps)
        rise = jnp.clip(now / jnp.maximum(warmup_steps, 1e-30), 0.0, 1.0)
        fall = jnp.clip((now - warmup_steps) / jnp.maximum(total_steps - jnp.asarray(warmup_steps), 1e-30), 0.0, 1.0)
        down = final + (value - final) * 0.5 * (1 + jnp.cos(jnp.pi * fall))
        return jnp.where(now < warmup_steps, initial + (value - initial) * rise, down)

    return schedule


def linear(value: Number, total_steps: Number, *, final: Number = 0.0) -> Schedule:
    """From value at count 0 to final at count total_steps, in a line."""
    require_number("value", value)
    require_number("final", final)
    _require_steps(total_steps=total_steps)
    return lambda count: value + (final - value) * _progress(count, total_steps)


def exponential(value: Number, steps: Number, *, factor: Number = 0.1) -> Schedule:
    """value factor^(count / steps): times `factor` every `steps` steps, smoothly and without end."""
    require_number("value", value)
    require_number("factor", factor, 0.0, open_low=True)
    _require_steps(steps=steps)
    return lambda count: value * jnp.asarray(factor) ** (jnp.asarray(count, float) / steps)


def demon(value: Number, total_steps: Number, *, delay: Number = 0.0) -> Schedule:
    """Demon's momentum: value (1 - p) / (1 - value + value (1 - p)), p = count / total_steps (Chen et al. 2022).

    What decays in a line is b / (1 - b), the weight of the past: value 0.9 gives 0.8710 at a quarter, 0.8182 at half
    and 0 at the end of the run. delay: the share of the run, in [0, 1), for which the value stays before it decays over
    the rest ("delayed Demon": 0.75).
    """
    require_number("value", value, 0.0, 1.0, open_high=True)
    require_number("delay", delay, 0.0, 1.0, open_high=True)
    _require_steps(total_steps=total_steps)

    def schedule(count: Array) -> Array:
        left = 1 - jnp.clip((_progress(count, total_steps) - delay) / (1 - delay), 0.0, 1.0)
        return jnp.asarray(value) * left / (1 - value + value * left)

    return schedule
