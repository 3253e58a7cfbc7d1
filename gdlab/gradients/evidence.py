"""Conclusions from a ladder of difference quotients: their rounding, the most self-consistent step, its order, kinks.

For each leaf and scheme the quotient D(h) is formed for h = 1/2, 1/4, ... down to the last digits of the dtype (times
the size of x). The step of the scheme is then chosen by its own consistency, never by the gradient under test. The
uncertainty of D(h) is the largest of its rounding noise, of |D(h) - D(h/2)|, and of its differences from all finer
quotients beyond their own noise; h* is the step with the least uncertainty. The finer steps expose a coarse step at
which a ripple happens to cancel.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from gdlab.gradients.finite import Scheme
from gdlab.gradients.report import GradientRow


class Seen(NamedTuple):
    """What was evaluated for one leaf.

    All arrays have the directions as their first axis, except `one_sided`, whose first axis is its two sides.

    Attributes:
      exact: the gradient under test along each direction, of shape (directions,).
      forward: the same by forward mode, of shape (directions,).
      ladder: the steps, of shape (directions, steps).
      size: |x| along each direction, of shape (directions,).
      one_sided: the forward and backward quotients, of shape (2, directions, steps).
      found: for each scheme, its quotients of shape (directions, steps), those at the step used, and that step.
    """

    exact: Any
    forward: Any
    ladder: Any
    size: Any
    one_sided: Any
    found: list[Any]


class Ladder(NamedTuple):
    """The quotients D(h) of one scheme for all steps and directions of one leaf, and their rounding noise.

    Attributes:
      scheme: the scheme.
      estimates: the quotients, of shape (steps, directions).
      used: the quotients at the step that would be used, of shape (directions,).
      noise: the rounding noise, of shape (steps,).
    """

    scheme: Scheme
    estimates: np.ndarray
    used: np.ndarray
    noise: np.ndarray


def rounding_noise(estimates: np.ndarray, seen: Seen, eps: float, value: float) -> np.ndarray:
    """Estimate the rounding in D(h), of shape (directions, steps), from eps |f| / h and from the smallest steps."""
    slope = np.max(np.abs(np.where(np.isfinite(seen.one_sided), seen.one_sided, 0.0)), axis=(0, 1))
    changes = np.abs(np.diff(estimates, axis=1)) * seen.ladder[:, 1:]
    smallest = changes[:, -max(changes.shape[1] // 4, 3) :]
    shown = np.max(np.where(np.isfinite(smallest), smallest, 0.0), initial=0.0)
    known = eps * abs(value) if math.isfinite(value) else 0.0
    return max(shown, known) / seen.ladder + 4 * eps * slope


def carried_noise(estimates: np.ndarray, eps: float) -> np.ndarray:
    """Estimate the rounding in D(h) of a scheme that subtracts nothing: eps times the size of D(h), per estimate."""
    sizes = np.max(np.abs(np.where(np.isfinite(estimates), estimates, 0.0)), axis=0)
    return np.broadcast_to(4 * eps * sizes, estimates.shape)


def judge_ladder(rungs: Ladder, exact: np.ndarray, steps: np.ndarray, floor: float) -> tuple[GradientRow, float, float]:
    """Return the row of one scheme, and its relative uncertainty and error at the most self-consistent step."""
    changes = np.abs(np.diff(rungs.estimates, axis=0)).max(axis=1)  # (steps - 1,)
    changes = np.where(np.isfinite(changes), changes, np.inf)
    doubts = np.maximum(changes, rungs.noise[:-1])
    for finer in range(2, len(steps)):
        difference = np.abs(rungs.estimates[: finer - 1] - rungs.estimates[finer]).max(axis=1)
        beyond = np.where(np.isfinite(difference), difference - 5 * rungs.noise[finer], 0.0)
        doubts[: finer - 1] = np.maximum(doubts[: finer - 1], beyond)
    best = int(np.argmin(doubts))
    settled = rungs.estimates[best]
    scale = max(float(np.abs(settled).max()), float(np.abs(exact).max()), floor)
    scale = scale if scale > 0 and math.isfinite(scale) else 1.0
    error = float(np.abs(settled - exact).max()) / scale
    doubt = float(doubts[best]) / scale
    row = GradientRow(
        leaf="x",
        scheme=rungs.scheme.name,
        directions=exact.size,
        step=math.nan,
        error=float(np.abs(rungs.used - exact).max()) / scale,
        best_step=float(steps[best]),
        best_error=error,
        uncertainty=doubt,
        order=observed_order(changes, rungs.noise),
        expected_order=rungs.scheme.order,
        flags=(),
    )
    return row, doubt, error


def observed_order(changes: np.ndarray, noise: np.ndarray) -> float:
    """Estimate the order as log2 of |D(2h) - D(h)| / |D(h) - D(h/2)| at the smallest steps that are clear of noise.

    The last two of these ratios are extrapolated, because their deviation from the order decreases like h^2. The
    result is NaN if there are no two ratios, or if they differ by more than 0.2: the steps clear of noise are then
    too coarse for the leading term to dominate.
    """
    clear = np.append(np.isfinite(changes) & (changes > 50 * noise[1:]), False)
    start = int(np.argmax(clear))
    usable = changes[start : start + int(np.argmin(clear[start:]))]
    if usable.size < 3:
        return math.nan
    before, last = np.log2(usable[-3:-1] / usable[-2:])
    return float(last + (last - before) / 3) if abs(last - before) < 0.2 else math.nan


def find_kinks(sided: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return which directions have a kink at x: |forward - backward| does not decrease as h shrinks, down to the noise.

    For a smooth function it decreases like h f'': by a factor of 4 over the last two halvings that are clear of
    noise, and by 16 over four. The next coarser steps must show the gap too, so that a single unusually large
    rounding error is not mistaken for a kink.
    """
    gap = np.abs(sided[0] - sided[1])
    kinks = np.zeros(gap.shape[0], bool)
    for direction, gaps in enumerate(gap):
        visible = np.flatnonzero(np.isfinite(gaps) & (gaps > 40 * noise[direction]))
        if visible.size == 0 or visible[-1] < 4:
            continue
        narrow, double, fourfold, _, sixteenfold = gaps[visible[-1] - 4 : visible[-1] + 1][::-1]
        stays = narrow > 0.5 * fourfold and narrow > 0.4 * sixteenfold
        kinks[direction] = bool(stays and min(double, fourfold) > 0.4 * narrow)
    return kinks


def is_too_small(
    used: np.ndarray, size: np.ndarray, eps: float, noise: np.ndarray, steps: np.ndarray, bearable: float
) -> bool:
    """Return whether h is lost or changed when added to x, or whether rounding in the quotient at h is excessive.

    Rounding is excessive above 100 times what the scheme can reach, at its best step here or in theory,
    eps^(p / (p + 1)).
    """
    if not (np.abs(used) >= 50 * eps * np.maximum(size, eps)).all():
        return True
    rounding = noise[-1] * steps[-1] / float(used.min())  # at the smallest steps all noise grows as 1 / h
    return bool(rounding > bearable)
