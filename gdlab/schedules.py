"""Schedules `count -> value` for any hyperparameter of any optimizer; every argument can be traced.

`count` is the number of steps taken, from 0. The functions that return schedules work under jit, vmap and grad,
because they never branch on a value. `total_steps` is the number of steps of the run; after it the schedule keeps its
last value. Concrete numbers outside their range raise ValueError; traced values are not checked.
"""

import math
from collections.abc import Callable, Sequence

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
    return _rise_and_fall(
        value, total_steps, warmup_steps, initial, final, lambda fall: 0.5 * (1 + jnp.cos(jnp.pi * fall))
    )


def _rise_and_fall(
    value: Number,
    total_steps: Number,
    warmup_steps: Number,
    initial: Number,
    final: Number,
    shape: Callable[[Array], Array],
) -> Schedule:
    """Return a linear warm-up to `value`, then final + (value - final) shape(p), p the share of what follows it."""
    for name, number in (("value", value), ("initial", initial), ("final", final)):
        require_number(name, number)
    _require_steps(total_steps=total_steps)
    most = float(total_steps) if _concrete(total_steps) else math.inf
    require_number("warmup_steps", warmup_steps, 0.0, most)

    def schedule(count: Array) -> Array:
        now = jnp.minimum(_steps(count), total_steps)
        rise = jnp.clip(now / jnp.maximum(warmup_steps, 1e-30), 0.0, 1.0)
        fall = jnp.clip((now - warmup_steps) / jnp.maximum(total_steps - jnp.asarray(warmup_steps), 1e-30), 0.0, 1.0)
        down = final + (value - final) * shape(fall)
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


def warmup_linear(
    value: Number, total_steps: Number, warmup_steps: Number, *, initial: Number = 0.0, final: Number = 0.0
) -> Schedule:
    """Return a linear warm-up from `initial` to `value`, followed by a linear decay to `final`.

    A decay to 0 over the whole run beats one that ends at a tenth of the peak in the training of language models
    (Bergsma et al. 2025).

    Args:
      value: the peak value, which is reached at count warmup_steps.
      total_steps: the number of steps of the run, > 0.
      warmup_steps: the number of steps of the warm-up, in [0, total_steps].
      initial: the value at count 0. Default 0.
      final: the value at count total_steps. Default 0.

    Returns:
      The schedule, a function `count -> value`.

    References:
      Bergsma, Dey, Gosal et al., "Straight to Zero: Why Linearly Decaying the Learning Rate to Zero Works Best for
        LLMs", 2025 (https://arxiv.org/abs/2502.15938).
    """
    return _rise_and_fall(value, total_steps, warmup_steps, initial, final, lambda fall: 1 - fall)


def warmup_stable_decay(
    value: Number,
    total_steps: Number,
    warmup_steps: Number,
    *,
    cooldown: Number = 0.2,
    power: Number = 1.0,
    initial: Number = 0.0,
    final: Number = 0.0,
) -> Schedule:
    """Return a linear warm-up from `initial` to `value`, a constant, and a cooldown to `final` over the last steps.

    In the cooldown the value is final + (value - final) (1 - p^power), where p is the completed share of it. A run can
    be prolonged from before its cooldown, so that the length of training need not be fixed in advance.

    Args:
      value: the value between the warm-up and the cooldown.
      total_steps: the number of steps of the run, > 0.
      warmup_steps: the number of steps of the warm-up, in [0, total_steps].
      cooldown: the share of the run that the cooldown takes, in [0, 1]. Default 0.2. If the warm-up lasts longer than
        the rest, the cooldown begins where it ends.
      power: 1 for a linear cooldown, 0.5 for 1 - sqrt(p), which falls faster at first; > 0. Default 1.
      initial: the value at count 0. Default 0.
      final: the value at count total_steps. Default 0.

    Returns:
      The schedule, a function `count -> value`.

    References:
      Haegele, Bakouch, Kosson et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", 2024
        (https://arxiv.org/abs/2405.18392).
    """
    require_number("cooldown", cooldown, 0.0, 1.0)
    require_number("power", power, 0.0, open_low=True)

    def shape(fall: Array) -> Array:
        rest = jnp.maximum(total_steps - jnp.asarray(warmup_steps), 1e-30)
        share = jnp.minimum(jnp.asarray(cooldown) * total_steps / rest, 1.0)  # of what follows the warm-up
        done = jnp.clip((fall - (1 - share)) / jnp.maximum(share, 1e-30), 0.0, 1.0)
        return 1 - jnp.where(done > 0, jnp.where(done > 0, done, 1.0) ** power, 0.0)

    return _rise_and_fall(value, total_steps, warmup_steps, initial, final, shape)


def inverse_square_root(value: Number, warmup_steps: Number, *, initial: Number = 0.0) -> Schedule:
    """Return a linear warm-up from `initial` to `value`, followed by value sqrt(warmup_steps / count), without end.

    It is the schedule of the first Transformers: value min(count / warmup_steps, sqrt(warmup_steps / count)).

    Args:
      value: the peak value, which is reached at count warmup_steps.
      warmup_steps: the number of steps of the warm-up, > 0.
      initial: the value at count 0. Default 0.

    Returns:
      The schedule, a function `count -> value`.

    References:
      Vaswani, Shazeer, Parmar et al., "Attention Is All You Need", 2017, equation 3 (https://arxiv.org/abs/1706.03762).
    """
    require_number("value", value)
    require_number("initial", initial)
    _require_steps(warmup_steps=warmup_steps)

    def schedule(count: Array) -> Array:
        now = _steps(count)
        rise = initial + (value - initial) * jnp.minimum(now / warmup_steps, 1.0)
        return jnp.where(now < warmup_steps, rise, value * jnp.sqrt(warmup_steps / jnp.maximum(now, warmup_steps)))

    return schedule


def one_cycle(
    value: Number, total_steps: Number, *, rise: Number = 0.3, divisor: Number = 25.0, final_divisor: Number = 1e4
) -> Schedule:
    """Return one cycle: from value / divisor up to `value`, then down to value / (divisor final_divisor), by cosines.

    Large learning rates in the middle of the run regularize and shorten the training of networks ("super-convergence").

    Args:
      value: the peak value, which is reached at count rise total_steps.
      total_steps: the number of steps of the run, > 0.
      rise: the share of the run in which the value rises, in [0, 1]. Default 0.3, PyTorch's.
      divisor: the peak over the value at count 0, >= 1. Default 25, PyTorch's.
      final_divisor: the value at count 0 over that at count total_steps, >= 1. Default 1e4, PyTorch's.

    Returns:
      The schedule, a function `count -> value`. PyTorch's `OneCycleLR` reaches its extremes one step earlier.

    References:
      Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates", 2018
        (https://arxiv.org/abs/1708.07120).
    """
    require_number("value", value)
    require_number("rise", rise, 0.0, 1.0)
    require_number("divisor", divisor, 1.0)
    require_number("final_divisor", final_divisor, 1.0)
    _require_steps(total_steps=total_steps)

    def between(start: Number, end: Number, share: Array) -> Array:
        return jnp.asarray(end) + (start - end) * 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(share, 0.0, 1.0)))

    def schedule(count: Array) -> Array:
        done, low = _progress(count, total_steps), jnp.asarray(value) / divisor
        up = between(low, value, done / jnp.maximum(rise, 1e-30))
        down = between(value, low / final_divisor, (done - rise) / jnp.maximum(1 - jnp.asarray(rise), 1e-30))
        return jnp.where(done < rise, up, down)

    return schedule


def cosine_restarts(
    value: Number, period: Number, *, growth: Number = 2.0, factor: Number = 1.0, final: Number = 0.0
) -> Schedule:
    """Cosine decays with warm restarts: final + (peak - final) (1 + cos(pi p)) / 2, without end.

    Here p is the completed share of the present period. The first period lasts `period` steps, and each next one is
    `growth` times as long, from a peak that is `factor` times as high. The points at the ends of the periods are good
    solutions of different basins, for ensembles, and the run may end with any of them.

    Args:
      value: the value at count 0.
      period: the number of steps of the first period, > 0.
      growth: the length of a period over that of the one before, >= 1. Default 2, one of the authors'.
      factor: the multiplier of the peak at each restart, > 0. Default 1.
      final: the value at which each period ends. Default 0.

    Returns:
      The schedule, a function `count -> value`.

    References:
      Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017
        (https://arxiv.org/abs/1608.03983).
    """
    for name, number in (("value", value), ("final", final)):
        require_number(name, number)
    require_number("growth", growth, 1.0)
    require_number("factor", factor, 0.0, open_low=True)
    _require_steps(period=period)

    def start_of(number: Array, ratio: Array) -> Array:
        """Return the count at which a period begins: period (1 + growth + ... + growth^(number - 1))."""
        return jnp.asarray(period) * jnp.where(grows, (ratio**number - 1) / (ratio - 1), number)

    grows = jnp.asarray(growth) > 1 + 1e-6

    def schedule(count: Array) -> Array:
        now = _steps(count)
        ratio = jnp.where(grows, growth, 2.0)  # any number that causes no division by 0 where it is not used
        counted = jnp.where(grows, jnp.log1p(now * (ratio - 1) / period) / jnp.log(ratio), now / period)
        number = jax.lax.stop_gradient(jnp.floor(counted))
        # The logarithm may be off by a rounding where a period ends, so compare with the starts themselves.
        number = number + (now >= start_of(number + 1, ratio)) - (now < start_of(number, ratio))
        length = period * jnp.where(grows, ratio**number, 1.0)
        share = jnp.clip((now - start_of(number, ratio)) / length, 0.0, 1.0)
        peak = jnp.asarray(value) * jnp.asarray(factor) ** number
        return jnp.asarray(final) + (peak - final) * 0.5 * (1 + jnp.cos(jnp.pi * share))

    return schedule
