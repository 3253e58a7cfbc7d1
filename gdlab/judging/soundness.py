"""Whether an optimizer is sound: the contract of all optimizers, common faults, and what a step costs."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gdlab.arguments import first_line
from gdlab.judging.costs import bytes_per_parameter, relative_time
from gdlab.judging.faults import (
    agreement,
    agrees_with_float64,
    goes_downhill,
    moves_its_state,
    reads_nothing_outside,
    uses_its_gradient,
)
from gdlab.judging.formulas import corrects_bias, decays_once
from gdlab.judging.subject import Subject
from gdlab.optimizers.contract import check_contract
from gdlab.optimizers.contract.report import BrokenContractError, Check
from gdlab.optimizers.protocol import take_update, with_any_arguments
from gdlab.types import Factory

Probe = Callable[[Subject], str]
"""`probe(subject)` returns a note on what was measured; it raises `BrokenContractError` if it finds a fault."""

PROBES: dict[str, Probe] = {
    "float32 agrees with float64": agrees_with_float64,
    "every leaf goes downhill": goes_downhill,
    "a step uses its gradient": uses_its_gradient,
    "the state moves on": moves_its_state,
    "weight decay is applied once": decays_once,
    "bias correction": corrects_bias,
    "nothing from outside": reads_nothing_outside,
}


class Soundness(NamedTuple):
    """What `examine` found.

    Attributes:
      checks: the results of the checks, first those of the contract.
      agreement: the number of decimal digits in which the parameters in float32 agree with those in float64 after 200
        steps; NaN if the steps raise an error. It says nothing of an optimizer that draws random numbers, which are
        other ones in float64.
      bytes_per_parameter: the size of the state; NaN if the optimizer raises an error.
      relative_time: the time of a step relative to that of Adam, both compiled; NaN if the step raises an error.
    """

    checks: tuple[Check, ...]
    agreement: float
    bytes_per_parameter: float
    relative_time: float

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def examine(factory: Factory, *, contract_steps: int = 20) -> Soundness:
    """Examine whether an optimizer is sound: whether it keeps the contract, and has none of the common faults.

    These are the properties that are checked besides those of `gdlab.optimizers.check_contract`, all at the default
    hyperparameters and on a few small arrays:

    - float32 agrees with float64: a descent ends at the same parameters, to a hundredth, unless it draws random numbers
      or is chaotic, so that rounding the start alone changes its end as much.
    - every leaf goes downhill: the loss of each leaf falls, so no sign is flipped.
    - a step uses its gradient, not the one before.
    - the state moves on: `update` does not return the state that it was given.
    - weight decay is applied once, if the factory takes `weight_decay`.
    - bias correction: steps that point where Adam's point do not have the lengths that a wrong correction gives.
    - nothing from outside: the step reads no clock, no random numbers of Python, and nothing else that changes.

    An error that the optimizer raises fails the check in which it is raised. The optimizer may ask for all that
    `gdlab.optimizers.protocol` provides. The check of the order of leaves is left out for an optimizer that draws
    random numbers.

    Args:
      factory: a function that returns an optax transformation, with a default for every argument. The learning rate
        is the argument `learning_rate` or `lr`.
      contract_steps: the number of steps of each run of the contract's checks, at least 4. Default 20.

    Returns:
      The `Soundness`.

    Raises:
      TypeError: if `factory` is not callable or has an argument without a default.
      ValueError: if `contract_steps` is below 4.

    Example:
      >>> found = examine(gdlab.optimizers.adam)
      >>> assert found.ok, [check for check in found.checks if not check.passed]
    """
    subject = Subject(factory)
    skip = ("order of leaves",) if subject.draws else ()
    contract = check_contract(_with_loss(factory) if subject.needs_loss else factory, steps=contract_steps, skip=skip)
    checks = tuple(run_probe(name, subject) for name in PROBES)
    return Soundness(
        (*contract.checks, *checks),
        _number(lambda: agreement(subject)),
        _number(lambda: bytes_per_parameter(factory)),
        _number(lambda: relative_time(factory)),
    )


def _with_loss(factory: Factory) -> Factory:
    """Return the factory for a check whose gradients come without a loss: a quadratic with these gradients is added."""

    @functools.wraps(factory)
    def build(*arguments: Any, **named: Any) -> optax.GradientTransformation:
        inner = with_any_arguments(factory(*arguments, **named))

        def update(gradient: Any, state: Any, params: Any) -> tuple[Any, Any]:
            def loss(x: Any) -> jax.Array:
                parts = jax.tree.map(lambda x, p, g: jnp.sum(0.5 * (x - p + g) ** 2), x, params, gradient)
                return sum(jax.tree.leaves(parts), jnp.zeros([]))

            return take_update(
                inner, gradient, state, params, value=loss(params), value_fn=loss, grad_fn=jax.grad(loss)
            )

        return optax.GradientTransformation(inner.init, update)

    return build


def run_probe(name: str, subject: Subject) -> Check:
    """Return the outcome of the probe of this name, in which an exception counts as a failure."""
    try:
        with np.errstate(all="ignore"):
            return Check(name, True, PROBES[name](subject))
    except BrokenContractError as broken:
        return Check(name, False, str(broken))
    except Exception as error:  # an optimizer of the user may raise anything
        return Check(name, False, first_line(error)[:200])


def _number(measure: Callable[[], float]) -> float:
    """Return what is measured, or NaN if the optimizer raises an error."""
    try:
        with np.errstate(all="ignore"):
            return measure()
    except Exception:  # a check has reported it
        return math.nan
