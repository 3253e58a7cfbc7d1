"""The judgement on one leaf: how far the gradient under test is from the quotients, and what that proves.

A difference proves an error only if it is far beyond the uncertainty of the quotients, which must have converged; an
agreement counts only if that uncertainty is within the tolerance. Everything between is undecided.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gdlab.gradients.evidence import (
    Settled,
    carried_noise,
    cross_examine,
    find_kinks,
    is_too_small,
    observed_order,
    remaining_gap,
    rounding_noise,
    settle,
)
from gdlab.gradients.finite import Scheme
from gdlab.gradients.ladder import Seen
from gdlab.gradients.report import KINK, NON_FINITE, TOO_SMALL, UNDECIDED, GradientRow

PROOF = 10.0
"""A difference from the quotients proves an error beyond this multiple of their uncertainty."""


class Fault(NamedTuple):
    """A reason why a check does not pass; `proven` is false if it only makes the check undecided."""

    text: str
    proven: bool


class Judgement(NamedTuple):
    """What was concluded for one leaf.

    Attributes:
      rows: one row per scheme, and one for the forward mode if that was compared.
      faults: why the leaf does not pass; empty if it does.
      error: the largest error against `scheme`, relative to the scale.
      scheme: the scheme with the least uncertainty.
    """

    rows: list[GradientRow]
    faults: list[Fault]
    error: float
    scheme: str


class Scale(NamedTuple):
    """What errors are relative to, along each direction: `leaf` for agreement, `own` for the proof of an error."""

    leaf: float
    own: np.ndarray


def judge(
    seen: Seen, schemes: Sequence[Scheme], tolerance: float, eps: float, value: float, with_forward: bool
) -> Judgement:
    """Judge the gradient of one leaf.

    Args:
      seen: what was evaluated.
      schemes: the schemes, in the order of `seen.found`.
      tolerance: the relative agreement required.
      eps: the spacing of the leaf's dtype.
      value: the value of the function at x.
      with_forward: whether `seen.forward` holds the forward mode, to be compared too.
    """
    with np.errstate(all="ignore"):
        return _judge(seen, schemes, tolerance, eps, value, with_forward)


def _judge(
    seen: Seen, schemes: Sequence[Scheme], tolerance: float, eps: float, value: float, with_forward: bool
) -> Judgement:
    fine = min(eps, float(np.finfo(np.float32).eps))  # narrower leaves were widened to float32
    sided_noise = rounding_noise(seen.one_sided[0], seen, fine, value)
    kinks = find_kinks(seen.one_sided, sided_noise)
    found = []
    for scheme, (estimates, _, _) in zip(schemes, seen.found, strict=True):
        noise = rounding_noise(estimates, seen, fine, value) if scheme.subtractive else carried_noise(estimates, fine)
        found.append(settle(scheme, estimates, seen, noise, eps))
    found = cross_examine(found)
    scales = [_scale(one, fine) for one in found]
    best = min(range(len(found)), key=lambda k: _relative(found[k].doubts, scales[k].leaf))
    gap = remaining_gap(seen.one_sided, sided_noise)

    faults, shared = _what_is_seen(seen, kinks)
    faults += _compare(seen.exact, found[best], scales[best], gap, tolerance, bool(kinks.any()))
    rows = [
        _row(seen, one, scale, found_by, fine, shared)
        for one, scale, found_by in zip(found, scales, seen.found, strict=True)
    ]
    if with_forward:
        row, fault = _compare_modes(seen, found[best], scales[best], tolerance)
        rows.append(row)
        faults += fault
    return Judgement(rows, faults, rows[best].best_error, found[best].scheme.name)


def _scale(one: Settled, eps: float) -> Scale:
    """Return the scale of the leaf, its largest quotient or floor, and that of each component, eps^(1/6) of it or more."""
    sizes = np.abs(_finite(one.values))
    leaf = max(sizes.max(initial=0.0), one.floor.max(initial=0.0))
    return Scale(float(leaf), np.maximum(sizes, eps ** (1 / 6) * leaf))


def _what_is_seen(seen: Seen, kinks: np.ndarray) -> tuple[list[Fault], tuple[str, ...]]:
    """Return the faults that need no comparison, and the flags that all schemes share."""
    faults: list[Fault] = []
    flags: tuple[str, ...] = ()
    bad, kinked, all_of_them = int(np.sum(~np.isfinite(seen.exact))), int(np.sum(kinks)), seen.exact.size
    if bad:
        faults.append(Fault(f"the gradient is not finite in {bad} of {all_of_them} directions", True))
        flags += (f"{NON_FINITE} gradient",)
    if kinked:
        text = f"{UNDECIDED}, because the function is not differentiable in {kinked} of {all_of_them} directions (kink)"
        faults.append(Fault(text, False))
        flags += (f"{KINK} in {kinked} of {all_of_them}",)
    return faults, flags


def _compare(
    exact: np.ndarray, one: Settled, scale: Scale, gap: np.ndarray, tolerance: float, kinked: bool
) -> list[Fault]:
    """Return the fault, if any, that the scheme with the least uncertainty finds."""
    differences = np.where(np.isfinite(exact), np.abs(exact - one.values), 0.0)
    wrong = one.converged & (differences > np.maximum(tolerance * scale.own, PROOF * one.doubts + gap + one.hidden))
    error, doubt = _relative(differences, scale.leaf), _relative(one.doubts, scale.leaf)
    name = one.scheme.name
    if wrong.any():
        where = int(np.argmax(np.where(wrong, differences, -1.0)))
        error, doubt = (_relative(part[where], scale.leaf) for part in (differences, one.doubts))
        return [Fault(f"differs from {name} by {error:.1e} (+- {doubt:.1e})", True)]
    if kinked:
        return []
    if not doubt <= tolerance:
        return [Fault(f"{UNDECIDED}, because even {name} has an uncertainty of {doubt:.1e}", False)]
    if not error <= tolerance:
        text = f"{UNDECIDED}, because the difference of {error:.1e} from {name} may be due to rounding or to a kink"
        return [Fault(text, False)]
    return []


def _row(
    seen: Seen, one: Settled, scale: Scale, found: tuple[np.ndarray, np.ndarray, np.ndarray], eps: float,
    shared: tuple[str, ...],
) -> GradientRow:  # fmt: skip
    """Return the row of one scheme."""
    estimates, used, used_steps = found
    known = np.isfinite(seen.exact)
    flags = shared
    if not np.isfinite(estimates).all():
        nearest = np.min(np.where(np.isfinite(estimates), np.inf, seen.ladder))
        flags += (f"{NON_FINITE} values within {nearest:.1e} of x",)
    doubt, order = _relative(one.doubts, scale.leaf), one.scheme.order
    bearable = 100 * max(doubt, eps ** (order / (order + 1))) * scale.leaf
    steps = seen.ladder.max(axis=0)
    if one.scheme.subtractive and is_too_small(used_steps, seen.size, eps, one.noise, steps, bearable):
        flags += (TOO_SMALL,)
    return GradientRow(
        leaf="x",
        scheme=one.scheme.name,
        directions=seen.exact.size,
        step=float(used_steps.max()),
        error=_relative(np.abs(used - seen.exact)[known], scale.leaf),
        best_step=float(one.steps.max()),
        best_error=_relative(np.abs(one.values - seen.exact)[known], scale.leaf),
        uncertainty=doubt,
        order=observed_order(one.changes, one.noise),
        expected_order=order,
        flags=flags,
    )


def _compare_modes(
    seen: Seen, one: Settled, scale: Scale, tolerance: float
) -> tuple[GradientRow, list[Fault]]:
    """Return the row of the forward mode, along the same directions, and a fault if the two modes differ."""
    known = np.isfinite(seen.exact) & np.isfinite(seen.forward)
    differences = np.where(known, np.abs(seen.exact - seen.forward), 0.0)
    error = _relative(differences, scale.leaf) if known.any() else math.nan
    row = forward_mode_row(seen.exact.size)._replace(error=error)
    if not error > tolerance:
        return row, []
    proven = bool((one.converged & (differences > np.maximum(tolerance * scale.own, PROOF * one.doubts))).any())
    text = f"the two modes of autodiff differ by {error:.1e}"
    text = text if proven else f"{UNDECIDED}, because {text}, within the uncertainty of {one.scheme.name}"
    return row, [Fault(text, proven)]


def forward_mode_row(directions: int) -> GradientRow:
    """Return the row of the forward mode before anything is known about it."""
    nan = math.nan
    return GradientRow("x", "forward mode", directions, nan, nan, nan, nan, nan, nan, nan, ())


def _relative(differences: np.ndarray, scale: float) -> float:
    """Return the largest difference relative to the scale; 0 if all are 0, even if the scale is."""
    largest = float(np.max(differences, initial=0.0))
    return largest / scale if scale > 0 else largest and math.inf


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, 0.0)
