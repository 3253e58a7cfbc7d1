"""Schedules: numbers that change with the step count."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from gdlab.optimizers.contract.bowl import make_params, slope
from gdlab.optimizers.contract.case import Case
from gdlab.optimizers.contract.compilation import quick_jit
from gdlab.optimizers.contract.equality import TIGHT, require_close


def follows_schedules(case: Case) -> str:
    """Check that an optimizer built from schedules equals one that is rebuilt at every step from their values."""

    def falling(value: float) -> Callable[[Any], Array]:
        return lambda count: value * (1 - 0.01 * jnp.asarray(count, float))

    schedules = [falling(value) for value in case.numbers.values()]
    scheduled, _ = quick_jit(lambda: case.run(schedules, make_params("float64")))()

    def rebuilt() -> PyTree:
        def step(carry: tuple[PyTree, PyTree], count: Array) -> tuple[tuple[PyTree, PyTree], None]:
            x, state = carry
            now = case.build([schedule(count) for schedule in schedules])
            updates, state = now.update(slope(x), state, x)
            return (optax.apply_updates(x, updates), state), None

        x = make_params("float64")
        first = case.build([schedule(0) for schedule in schedules])
        return jax.lax.scan(step, (x, first.init(x)), jnp.arange(case.steps))[0][0]

    what = "runs with schedules and runs that are rebuilt at every step"
    return "largest deviation " + require_close(what, scheduled, quick_jit(rebuilt)(), TIGHT)
