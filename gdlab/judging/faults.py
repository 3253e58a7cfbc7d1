"""Probes for faults with which an optimizer may still descend: each raises `BrokenContractError` if it finds one."""

import math
import time

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.compute.programs import digest_jaxprs
from gdlab.compute.trees import is_key
from gdlab.judging.subject import STEPS, Steps, Subject, Tree, bowl, differ, flat, gradients, start
from gdlab.optimizers.contract.equality import to_bytes
from gdlab.optimizers.contract.report import BrokenContractError

TOLERANCE = 1e-2
"""The largest difference between parameters in float32 and float64, relative to their norm."""

CHAOS = 100
"""How many times what a rounded start changes float32 may change: each step rounds anew."""

WINDOW = 8
"""The number of steps that move the parameters among which one must use its own gradient."""

LONGEST = 64
"""The number of steps after which no further one is tried."""


def agreement(subject: Subject) -> float:
    """Return the number of decimal digits in which the ends of a descent in float32 and in float64 agree, up to 16."""
    return -math.log10(max(_distance(subject.narrow_end, subject.end), 1e-16))


def agrees_with_float64(subject: Subject) -> str:
    """Check that a descent in float32 ends where one in float64 does, unless the descent is chaotic."""
    for dtype, end in (("float64", subject.end), ("float32", subject.narrow_end)):
        if not np.isfinite(flat(end)).all():
            raise BrokenContractError(f"after {STEPS} steps on a quadratic in {dtype}, the parameters are not finite")
    digits = agreement(subject)
    distance = _distance(subject.narrow_end, subject.end)
    if subject.draws:
        return f"not applicable: it draws random numbers, other ones in float64 ({digits:.1f} digits agree)"
    if distance <= TOLERANCE:
        return f"{digits:.1f} digits of the parameters after {STEPS} steps on a quadratic"
    chaos = _distance(subject.shifted_end, subject.end)
    if distance <= CHAOS * chaos:
        return f"not applicable: the descent is chaotic, and a rounded start alone changes its end by {chaos:.1e}"
    raise BrokenContractError(
        f"after {STEPS} steps on a quadratic, the parameters in float32 and in float64 differ by {distance:.1e} "
        f"(relative); the tolerance is {TOLERANCE:g}"
    )


def _distance(a: Tree, b: Tree) -> float:
    """Return the length of the difference, relative to that of `b`."""
    return float(np.linalg.norm(flat(a) - flat(b)) / np.linalg.norm(flat(b)))


def goes_downhill(subject: Subject) -> str:
    """Check that the loss of every leaf falls, on a function in which each leaf has a loss of its own."""
    before, after, note = _losses(start()), _losses(subject.end), ""
    name, rate = subject.learning_rate
    if name and rate and not _all_fall(before, after):
        after = _losses(Steps(subject.factory, numbers={name: rate / 100}).descend(bowl(), start()))
        note = f", at a learning rate of {rate / 100:g}; the default, {rate:g}, is too large here"
    if not _all_fall(before, after):
        raise BrokenContractError(_explain_losses(before, after))
    rest = max(after[path] / before[path] for path in before)
    return f"at most {rest:.2g} times the loss of each leaf is left after {STEPS} steps{note}"


def _losses(params: Tree) -> dict[str, float]:
    """Return the loss of each leaf, by the path of the leaf."""
    function = bowl()
    losses = jax.tree.map(lambda x, c, t: float(np.sum(0.5 * c * (x - t) ** 2)), params, *function[:2])
    return {jax.tree_util.keystr(path): loss for path, loss in jax.tree_util.tree_leaves_with_path(losses)}


def _all_fall(before: dict[str, float], after: dict[str, float]) -> bool:
    return all(after[path] < before[path] for path in before)


def _explain_losses(before: dict[str, float], after: dict[str, float]) -> str:
    """Return what is wrong with losses that do not all fall."""
    if not np.isfinite(list(after.values())).all():
        return f"the parameters are not finite after {STEPS} steps"
    still = [path for path in before if after[path] == before[path]]
    rising = [path for path in before if after[path] > before[path]]
    if len(still) == len(before):
        return f"the parameters do not move in {STEPS} steps"
    if not rising:
        return f"the loss of {', '.join(still)} stays the same while that of the others falls: its updates are 0"
    path = rising[0]
    change = f"the loss of {path} rises from {before[path]:.3g} to {after[path]:.3g}"
    if len(rising) == len(before):
        return f"{change}, and that of every other leaf rises: the updates, which are added, point uphill"
    too = f", and that of {', '.join(rising[1:])} rises," if rising[1:] else ""
    return f"{change}{too} while that of the others falls: its sign looks flipped"


def uses_its_gradient(subject: Subject) -> str:
    """Check that one of several consecutive steps changes with the sign of its gradient, the first step aside."""
    if subject.has("residual_fn"):
        return "not applicable: it takes the residuals in place of the gradient"
    steps, params = subject.steps, start()
    given = gradients(LONGEST)
    opposite = [jax.tree.map(np.negative, gradient) for gradient in given]
    _, following, state = steps.follow(params, steps.begin(params), given[0])
    before = steps.follow(params, steps.begin(params), opposite[0])[2]
    by_size = by_last = moved = 0
    for k in range(1, LONGEST):
        params = following
        updates, following, after = steps.follow(params, state, given[k])
        reversed_updates, _, reversed_after = steps.follow(params, state, opposite[k])
        if differ(updates, reversed_updates):
            return f"step {k + 1} depends on its gradient"
        by_size += differ(updates, steps.follow(params, state, given[0])[0])
        by_last += differ(updates, steps.follow(params, before, given[k])[0])
        moved += bool(np.any(flat(updates)))
        if moved == WINDOW:
            break
        state, before = after, reversed_after
    if not moved:
        raise BrokenContractError(f"the parameters do not move in {LONGEST} steps, whatever the gradients are")
    part = "the sign of the gradient" if by_size else "the gradient"
    reason = "it uses the one before (stale momentum)" if by_last else "it ignores those before as well"
    raise BrokenContractError(f"the step does not depend on {part} that it is given: {reason}")


def moves_its_state(subject: Subject) -> str:
    """Check that the state changes while the gradients do, and that not only its counters change."""
    steps, params = subject.steps, start()
    state = first = steps.begin(params)
    changed = [False] * len(jax.tree.leaves(first))
    for gradient in gradients(2 * WINDOW):
        _, params, state = steps.follow(params, state, gradient)
        pairs = zip(to_bytes(first), to_bytes(state), strict=True)
        changed = [already or a != b for already, (a, b) in zip(changed, pairs, strict=True)]
    if not changed:
        return "it has no state"
    if not any(changed):
        raise BrokenContractError(
            "the state never changes: update returns the state that it was given (momentum is stale)"
        )
    arrays = [_is_array_of_floats(leaf) for leaf in jax.tree.leaves(first)]
    if any(arrays) and not any(c for c, array in zip(changed, arrays, strict=True) if array):
        raise BrokenContractError(
            "only the counters of the state change: update returns the arrays that it was given (momentum is stale)"
        )
    return f"{sum(changed)} of {len(changed)} arrays of the state change in {2 * WINDOW} steps"


def _is_array_of_floats(leaf: jax.Array) -> bool:
    return not is_key(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.size > 1


def reads_nothing_outside(subject: Subject) -> str:
    """Check that an optimizer that is built and traced anew is the same program, and gives the same bits."""
    fresh = Steps(subject.factory)
    programs = [subject.steps.jaxpr()]
    time.sleep(0.05)  # so that a clock shows another time
    programs.append(fresh.jaxpr())
    digests = [digest_jaxprs([program]) for program in programs]
    if None in digests:
        raise BrokenContractError("the step calls back into Python, so its result may depend on anything")
    if digests[0] != digests[1]:
        raise BrokenContractError(
            "two traces of the same step differ: the factory reads a clock, Python's random numbers or a global that "
            "changes"
        )
    ends = [steps.stay(start(), gradients(5)) for steps in (subject.steps, fresh)]
    if to_bytes(ends[0]) != to_bytes(ends[1]):
        raise BrokenContractError("two optimizers that are built anew give different updates for the same gradients")
    return "two traces are the same program, and two runs have identical bits"
