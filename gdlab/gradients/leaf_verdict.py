"""The verdict on one leaf: how far the gradient under test is from the quotients, and what that proves.

A difference proves an error only if it is far beyond the uncertainty of the quotients, which must have converged; an
agreement counts only if that uncertainty is within the tolerance. Everything between is undecided.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gdlab.gradients.evidence import (
    Settled,
    cross_examine,
    find_kinks,
    is_too_small,
    observed_order,
    remaining_gap,
    rounding_noise,
    settle,
)
from gdlab.gradients.ladder import Seen
from gdlab.gradients.noise import Noise
from gdlab.gradients.report import KINK, NON_FINITE, TOO_SMALL, UNDECIDED, GradientRow
from gdlab.gradients.schemes import Scheme

PROOF = 10.0
"""A difference from the quotients proves an error beyond this multiple of their uncertainty."""


class Fault(NamedTuple):
    """A reason why a check does not pass; `proven` is false if it only makes the check undecided."""

    text: str
    proven: bool


class LeafVerdict(NamedTuple):
    """What was concluded for one leaf.

    Attributes:
      rows: one row per scheme, and one for the forward mode if that was compared.
      faults: why the leaf does not pass; empty if it does.
      error: the largest error against `scheme`, relative to the scale.
      scheme: the scheme with the least uncertainty.
      half: half the length of the interval of a noisy gradient's bias, relative to the scale; 0 without noise.
    """

    rows: list[GradientRow]
    faults: list[Fault]
    error: float
    scheme: str
    half: float = 0.0


@np.errstate(all="ignore")
def judge_leaf(
    seen: Seen,
    schemes: Sequence[Scheme],
    tolerance: float,
    eps: float,
    value: float,
    with_forward: bool,
    noise: Noise | None = None,
) -> LeafVerdict:
    """Judge the gradient of one leaf.

    Args:
      seen: what was evaluated.
      schemes: the schemes, in the order of `seen.found`.
      tolerance: the relative agreement required.
      eps: the spacing of the leaf's dtype.
      value: the value of the function at x.
      with_forward: whether `seen.forward` holds the forward mode, to be compared too.
      noise: the mean of a noisy gradient's estimates, which takes the place of `seen.exact`, and its interval.
    """
    seen = seen if noise is None else seen._replace(exact=noise.mean)
    fine = min(eps, float(np.finfo(np.float32).eps))  # narrower leaves were widened to float32
    sided_noise = rounding_noise(seen.one_sided[0], seen, fine, value)
    kinks = find_kinks(seen.one_sided, sided_noise)
    pairs = []
    for scheme, (estimates, _, _) in zip(schemes, seen.found, strict=True):
        pairs.append(settle(scheme, estimates, seen, eps, value))
    found, sharp = (cross_examine([pair[k] for pair in pairs]) for k in range(2))
    scales = [_scale(one) for one in found]
    best = min(range(len(found)), key=lambda k: _relative(found[k].doubts, scales[k]))
    sharpest = min(sharp, key=lambda one: one.doubts.max())
    own_noise = rounding_noise(seen.one_sided[0], seen, fine, value, own=True)
    bounds = PROOF * sharpest.doubts + remaining_gap(seen.one_sided, own_noise) + sharpest.hidden

    if noise is not None:  # of estimates that are all equal, rare ones of other values may have been missed
        bounds = bounds + np.where(noise.error > 0, noise.half, np.inf)

    share = 1.0 if kinks.any() else fine ** (1 / 6)  # kinks beside x may add up to small differences everywhere

    faults, shared = _what_is_seen(seen, kinks)
    refuted = _refute(seen.exact, sharpest, bounds, tolerance, share, noise)
    faults += refuted or _confirm(seen.exact, found[best], scales[best], tolerance, bool(kinks.any()), noise)
    rows = [
        _row(seen, one, scale, evaluated, fine, shared)
        for one, scale, evaluated in zip(found, scales, seen.found, strict=True)
    ]
    if with_forward:
        error, fault = _compare_modes(seen, sharpest, bounds, scales[best], tolerance, share)
        rows.append(forward_mode_row(seen.exact.size)._replace(error=error))
        faults += fault
    if noise is None:
        return LeafVerdict(rows, faults, rows[best].best_error, found[best].scheme.name)
    rows = [row._replace(standard_error=_relative(noise.error, scale)) for row, scale in zip(rows, scales, strict=True)]
    half = _relative(noise.half, scales[best])
    return LeafVerdict(rows, faults, rows[best].best_error, found[best].scheme.name, half)


def _scale(one: Settled) -> float:
    """Return the scale of the leaf: its largest quotient, or the floor if that is larger."""
    return float(max(np.abs(_finite(one.values)).max(initial=0.0), one.floor.max(initial=0.0)))


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


def _beyond_bounds(
    differences: np.ndarray, one: Settled, bounds: np.ndarray, tolerance: float, share: float
) -> np.ndarray:
    """Return along which directions the differences are beyond the bounds, and beyond the tolerance of the component.

    A component counts at its own size here, or at `share` of the leaf's scale if that is larger.
    """
    own = np.maximum(np.abs(_finite(one.values)), share * _scale(one))
    return differences > np.maximum(tolerance * own, bounds)


def _refute(
    exact: np.ndarray, one: Settled, bounds: np.ndarray, tolerance: float, share: float, noise: Noise | None
) -> list[Fault]:
    """Return the fault of the direction that differs most from the quotients of least uncertainty, if any does.

    It is proven if those quotients have converged.
    """
    differences = np.where(np.isfinite(exact), np.abs(exact - one.values), 0.0)
    wrong = _beyond_bounds(differences, one, bounds, tolerance, share)
    proven = bool((wrong & one.converged).any())
    wrong = wrong & one.converged if proven else wrong
    if not wrong.any():
        return []
    where, scale = int(np.argmax(np.where(wrong, differences, -1.0))), _scale(one)
    error, doubt = (_relative(part[where], scale) for part in (differences, one.doubts))
    if proven and noise is not None:
        deviation = _relative(noise.error[where], scale)
        text = f"is biased against {one.scheme.name} by {error:.1e} (standard error {deviation:.1e})"
        return [Fault(text, True)]
    if proven:
        return [Fault(f"differs from {one.scheme.name} by {error:.1e} (+- {doubt:.1e})", True)]
    return [Fault(f"{UNDECIDED}, because {one.scheme.name} differs by {error:.1e} but has not converged", False)]


def _confirm(
    exact: np.ndarray, one: Settled, scale: float, tolerance: float, kinked: bool, noise: Noise | None
) -> list[Fault]:
    """Return a fault that says what is undecided, unless the leaf agrees within the tolerance."""
    if kinked:
        return []  # a fault already
    differences = np.where(np.isfinite(exact), np.abs(exact - one.values), 0.0)
    error = _relative(differences, scale)
    doubt, name = _relative(one.doubts, scale), one.scheme.name
    if not doubt <= tolerance:
        return [Fault(f"{UNDECIDED}, because even {name} has an uncertainty of {doubt:.1e}", False)]
    if noise is not None and not _relative(differences + noise.half, scale) <= tolerance:
        half = _relative(noise.half, scale)
        rare = "all estimates are equal" if half == 0 else "too few estimates to tell"
        return [Fault(f"{UNDECIDED}, because the bias against {name} is {error:.1e} +- {half:.1e}: {rare}", False)]
    if not error <= tolerance:
        text = f"{UNDECIDED}, because the difference of {error:.1e} from {name} may be due to rounding or to a kink"
        return [Fault(text, False)]
    return []


def _row(
    seen: Seen, one: Settled, scale: float, evaluated: Sequence[np.ndarray], eps: float, shared: tuple[str, ...]
) -> GradientRow:
    """Return the row of one scheme."""
    estimates, used, used_steps = evaluated
    known = np.isfinite(seen.exact)
    flags = shared
    if not np.isfinite(estimates).all():
        nearest = np.min(np.where(np.isfinite(estimates), np.inf, seen.ladder))
        flags += (f"{NON_FINITE} values within {nearest:.1e} of x",)
    doubt, order = _relative(one.doubts, scale), one.scheme.order
    bearable = 100 * max(doubt, eps ** (order / (order + 1))) * scale
    steps = seen.ladder.max(axis=0)
    if one.scheme.subtractive and is_too_small(used_steps, seen.size, eps, one.noise, steps, bearable):
        flags += (TOO_SMALL,)
    return GradientRow(
        leaf="x",
        scheme=one.scheme.name,
        directions=seen.exact.size,
        step=float(used_steps.max()),
        error=_relative(np.abs(used - seen.exact)[known], scale),
        best_step=float(one.steps.max()),
        best_error=_relative(np.abs(one.values - seen.exact)[known], scale),
        uncertainty=doubt,
        order=observed_order(one.changes, one.noise),
        expected_order=order,
        flags=flags,
    )


def _compare_modes(
    seen: Seen, one: Settled, bounds: np.ndarray, scale: float, tolerance: float, share: float
) -> tuple[float, list[Fault]]:
    """Return the relative difference between the two modes, and a fault if that is beyond the tolerance."""
    known = np.isfinite(seen.exact) & np.isfinite(seen.forward)
    differences = np.where(known, np.abs(seen.exact - seen.forward), 0.0)
    error = _relative(differences, scale) if known.any() else math.nan
    if not error > tolerance:
        return error, []
    proven = bool((one.converged & _beyond_bounds(differences, one, bounds, tolerance, share)).any())
    text = f"the two modes of autodiff differ by {error:.1e}"
    text = text if proven else f"{UNDECIDED}, because {text}, within the uncertainty of {one.scheme.name}"
    return error, [Fault(text, proven)]


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
