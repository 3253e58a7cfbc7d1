"""What `train` is given: the optimizer as a function of its numbers, and the learning rate that is recorded."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.arguments import (
    describe,
    require_callable,
    require_mapping,
    require_number,
    require_optimizer,
    require_text,
)
from gdlab.hyperparameters.factories import require_arguments
from gdlab.optimizers import OPTIMIZERS
from gdlab.training.guards import blamed, build
from gdlab.types import Factory

FLOAT32_MAX = float(np.finfo(np.float32).max)


def as_factory(optimizer: Any, hyperparameters: Mapping[str, float] | None) -> tuple[Factory, dict[str, np.float32]]:
    """Return the function that builds the optimizer, and its arguments."""
    if hyperparameters is None:
        if callable(optimizer) and not callable(getattr(optimizer, "update", None)):
            raise TypeError(
                f"optimizer: expected an optax transformation, such as adam(1e-3), got {describe(optimizer)}; "
                "a function needs hyperparameters too"
            )
        require_optimizer("optimizer", optimizer)
        if _numbers_can_be_passed(optimizer):  # adam(1e-3) and adam(1e-2) are one program
            construction = optimizer.construction
            return partial(construction.factory, **construction.fixed), _float32(construction.numbers)
        return lambda: optimizer, {}
    require_mapping("hyperparameters", hyperparameters, "from names to numbers")
    require_callable("optimizer", optimizer)
    for name, value in hyperparameters.items():
        require_text("hyperparameters", name)
        require_number(f"hyperparameters[{name!r}]", value)
        if isinstance(value, jax.core.Tracer) or abs(value) > FLOAT32_MAX:
            raise ValueError(f"hyperparameters[{name!r}]: expected a number that float32 can hold, got {value}")
    require_arguments({"optimizer": optimizer}, hyperparameters)
    build("optimizer", optimizer, hyperparameters)  # reject out-of-range values here: traced values are not checked
    return optimizer, _float32(hyperparameters)


def rate_at(learning_rate: Any, step: int) -> float:
    """Return the learning rate at a step, counted from 0, or raise an error that names the argument."""
    rate = learning_rate
    if callable(learning_rate):
        with blamed("learning_rate", "a schedule, which maps a step to a number"):
            rate = learning_rate(jnp.asarray(step))
    require_number("learning_rate", rate, 0.0)
    return float(rate)


def _float32(numbers: Mapping[str, float]) -> dict[str, np.float32]:
    """Convert to what a program takes, sorted by name, so that their order does not lead to another program."""
    return {name: np.float32(numbers[name]) for name in sorted(numbers)}


def _numbers_can_be_passed(optimizer: Any) -> bool:
    """Whether it is an optimizer of gdlab, whose numbers may be traced, and float32 is the precision anyway."""
    construction = getattr(optimizer, "construction", None)
    return (
        construction is not None
        and construction.factory in OPTIMIZERS.values()
        and jnp.result_type(float) == np.float32
    )
