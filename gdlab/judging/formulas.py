"""Probes that compare an optimizer with known formulas: weight decay that is applied twice, a wrong bias correction.

They raise only if what is measured is what a known fault gives. Anything else is perhaps a method that is not known
here, and passes.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from gdlab.judging.subject import Steps, Subject, Tree, flat, gradients, start
from gdlab.optimizers.adam import adam
from gdlab.optimizers.contract.report import BrokenContractError

DECAY = 0.5
"""The weight decay of the measurement, so large that the decay weighs as much as a gradient."""

CLOSE = 1e-4
"""The largest difference between updates that agree, relative to their norm."""


class Decay(NamedTuple):
    """The updates of one leaf in a few steps at the same parameters.

    Attributes:
      both: those with weight decay.
      regularized: those without weight decay whose gradient has 0, 1 or 2 times weight_decay x params added.
      shrinking: learning_rate x weight_decay x params.
    """

    both: np.ndarray
    regularized: Sequence[np.ndarray]
    shrinking: np.ndarray

    def is_l2(self, times: int) -> bool:
        """Return whether the decay acts as part of the gradient, so many times."""
        return _close(self.both, self.regularized[times])

    def is_decoupled(self, times: int) -> bool:
        """Return whether the decay is subtracted from the parameters, so many times."""
        return _close(self.both, self.regularized[0] - times * self.shrinking)

    def is_mixed(self) -> bool:
        """Return whether the decay acts as part of the gradient, and is subtracted as well."""
        return _close(self.both, self.regularized[1] - self.shrinking)


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.linalg.norm(a - b) <= CLOSE * np.linalg.norm(b))


def decays_once(subject: Subject) -> str:
    """Check that weight decay is not applied twice, to the gradient or to the parameters."""
    if not subject.has("weight_decay"):
        return "it takes no weight_decay"
    kinds = set()
    for path, leaf in measure_decay(subject).items():
        if leaf.is_l2(0):
            kinds.add("not applied")
        elif leaf.is_l2(1) or leaf.is_decoupled(1):
            kinds.add("part of the gradient" if leaf.is_l2(1) else "decoupled")
        elif leaf.is_mixed():
            raise BrokenContractError(f"{path}: it is applied twice: as part of the gradient, and decoupled")
        elif leaf.is_l2(2):
            raise BrokenContractError(f"{path}: it is applied twice: 2.00 x weight_decay x params joins the gradient")
        elif leaf.is_decoupled(2):
            raise BrokenContractError(
                f"{path}: a step shrinks the parameters by 2.00 x learning_rate x weight_decay: it is applied twice"
            )
        else:
            kinds.add("of a kind of its own")
    return " or ".join(sorted(kinds))


def measure_decay(subject: Subject) -> dict[str, Decay]:
    """Return the updates of each leaf with and without weight decay, by the path of the leaf."""
    params, sequence = start(), gradients(3)
    decayed = Steps(subject.factory, numbers={"weight_decay": DECAY}).stay(params, sequence)
    plain = Steps(subject.factory, numbers={"weight_decay": 0.0})

    def regularized(times: int) -> list[Tree]:
        return plain.stay(params, [jax.tree.map(lambda g, x: g + times * DECAY * x, g, params) for g in sequence])

    runs = [decayed, *(regularized(times) for times in range(3))]
    _, rate = subject.learning_rate
    found = {}
    for name in params:
        both, *others = (np.stack([updates[name] for updates in run]) for run in runs)
        shrinking = np.stack([(rate or np.nan) * DECAY * params[name]] * len(sequence))
        found[jax.tree_util.keystr((jax.tree_util.DictKey(name),))] = Decay(both, others, shrinking)
    return found


Factors = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""`factors(first, second)` is what multiplies m / sqrt(v), from 1 - b1^t and 1 - b2^t at each step t."""

WRONG: dict[str, Factors] = {
    "is left out": lambda first, second: np.ones_like(first),
    "is left out for the second moment": lambda first, second: 1 / first,
    "is left out for the first moment": lambda first, second: np.sqrt(second),
    "has b1 in place of b2": lambda first, second: np.sqrt(first) / first,
    "has b2 in place of b1": lambda first, second: np.sqrt(second) / second,
    "has b1 and b2 swapped": lambda first, second: np.sqrt(first) / second,
    "lacks the root": lambda first, second: second / first,
    "counts one step too many": lambda first, second: np.append((np.sqrt(second) / first)[1:], np.nan),
}
"""Wrong bias corrections of Adam, as what they multiply m / sqrt(v) by."""

STEPS = 100
"""The number of steps whose lengths are compared."""


def corrects_bias(subject: Subject) -> str:
    """Check that an optimizer whose steps point where Adam's point has no wrong bias correction."""
    b1, b2 = subject.number("b1", "beta1") or 0.9, subject.number("b2", "beta2") or 0.999
    own = Steps(subject.factory, numbers={"weight_decay": 0.0}) if subject.has("weight_decay") else subject.steps
    reference = _adam(subject.learning_rate[1] or 1e-3, b1, b2)
    for count in (10, STEPS):
        ratios = _ratios(own.stay(start(), gradients(count)), reference[:count])
        if ratios is None:
            return "not applicable: its steps do not point where Adam's point"
    assert ratios is not None
    lengths = f"{ratios[0]:.3g} times as long at step 1 and {ratios[-1]:.3g} times at step {STEPS}"
    if np.ptp(ratios) <= 0.05 * ratios[-1]:
        return f"its steps are {ratios[-1]:.3g} times as long as Adam's from the first on"
    fault = _find_fault(ratios, b1, b2)
    if fault is not None:
        raise BrokenContractError(
            f"its steps point where Adam's point, but are {lengths}: check the bias correction, which {fault}"
        )
    return f"its steps point where Adam's point, and are {lengths}, which no known wrong bias correction gives"


@functools.lru_cache(maxsize=16)
def _adam(learning_rate: float, b1: float, b2: float) -> list[Tree]:
    """Return the updates of Adam for the gradients of the comparison."""
    numbers = {"learning_rate": learning_rate, "b1": b1, "b2": b2}
    return Steps(adam, numbers=numbers).stay(start(), gradients(STEPS))


def _ratios(own: list[Tree], reference: list[Tree]) -> np.ndarray | None:
    """Return the lengths of the steps relative to those of the reference, or None if a direction differs."""
    a, b = (np.stack([flat(updates) for updates in run]) for run in (own, reference))
    lengths, known = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    if not np.all(np.sum(a * b, axis=1) > 0.999 * lengths * known) or not np.isfinite(lengths).all():
        return None
    return lengths / known


def _find_fault(ratios: np.ndarray, b1: float, b2: float) -> str | None:
    """Return the wrong bias correction that gives these lengths, up to a constant that is not tiny, if any does."""
    t = np.arange(1, len(ratios) + 1)
    first, second = 1 - b1**t, 1 - b2**t
    for fault, factors in WRONG.items():
        constant = (ratios * (np.sqrt(second) / first) / factors(first, second))[:-1]
        if np.ptp(constant) <= 0.02 * constant[0] and 1e-2 <= constant[0] <= 1e2:
            return fault
    return None
