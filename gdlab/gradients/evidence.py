"""What a ladder of difference quotients shows: their rounding, the most self-consistent step, its order, kinks.

For each leaf and scheme the quotient D(h) is formed for h = 1/2, 1/4, ... down to the dtype's last digits (times the
size of x). Its step is then chosen by its own consistency, never by the gradient under test: the doubt of D(h) is the
largest of its rounding noise, of |D(h) - D(h/2)|, and of what it differs from any finer quotient beyond that one's own
noise; h* is where the doubt is least. A coarse step at which a ripple happens to cancel is unmasked by the finer ones.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from gdlab.gradients.finite import Scheme
from gdlab.gradients.report import GradientRow


class Seen(NamedTuple):
    """What was evaluated for one leaf; all arrays lead with the directions, but one_sided with its two sides."""

    exact: Any  # (directions,): the gradient under test along each direction
    forward: Any  # (directions,): the same by forward mode
    ladder: Any  # (directions, steps)
    size: Any  # (directions,): |x| there
    one_sided: Any  # (2, directions, steps): forward and backward quotients
    found: list[Any]  # for each scheme: quotients (directions, steps), those at the step used, and that step


class Ladder(NamedTuple):
    """D(h) of one scheme for all steps and directions of one leaf, and the rounding noise in it."""

    scheme: Scheme
    estimates: np.ndarray  # (steps, directions)
    used: np.ndarray  # (directions,): at the step that would be used
    noise: np.ndarray  # (steps,)


def rounding_noise(estimates: np.ndarray, seen: Seen, eps: float, value: float) -> np.ndarray:
    """Rounding in D(h), of shape (directions, steps): eps |f| / h on the stencil, or what the smallest steps show."""
    slope = np.max(np.abs(np.where(np.isfinite(seen.one_sided), seen.one_sided, 0.0)), axis=(0, 1))
    changes = np.abs(np.diff(estimates, axis=1)) * seen.ladder[:, 1:]
    smallest = changes[:, -max(changes.shape[1] // 4, 3) :]
    shown = np.max(np.where(np.isfinite(smallest), smallest, 0.0), initial=0.0)
    known = eps * abs(value) if math.isfinite(value) else 0.0
    return max(shown, known) / seen.ladder + 4 * eps * slope


def carried_noise(estimates: np.ndarray, eps: float) -> np.ndarray:
    """Rounding in D(h) of a scheme that subtracts nothing, of the shape of estimates: eps times its size."""
    sizes = np.max(np.abs(np.where(np.isfinite(estimates), estimates, 0.0)), axis=0)
    return np.broadcast_to(4 * eps * sizes, estimates.shape)


def judge_ladder(rungs: Ladder, exact: np.ndarray, steps: np.ndarray, floor: float) -> tuple[GradientRow, float, float]:
    """The row of one scheme, its relative uncertainty and its relative error at the most self-consistent step."""
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
    """log2 of the ratio of successive changes |D(2h) - D(h)| / |D(h) - D(h/2)|, at the smallest steps clear of noise.

    The last two such ratios are extrapolated: what they miss of the order falls with h^2. NaN where there are no two,
    or where they differ by over 0.2: the steps clear of noise are then too coarse for the leading term to lead.
    """
    clear = np.append(np.isfinite(changes) & (changes > 50 * noise[1:]), False)
    start = int(np.argmax(clear))
    usable = changes[start : start + int(np.argmin(clear[start:]))]
    if usable.size < 3:
        return math.nan
    before, last = np.log2(usable[-3:-1] / usable[-2:])
    return float(last + (last - before) / 3) if abs(last - before) < 0.2 else math.nan


def find_kinks(sided: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Which directions have a kink at x: |forward - backward| does not fall as h shrinks, down to the noise.

    For a smooth function it falls with h f'': by 4 over the last two halvings that are clear of noise, by 16 over four.
    The next coarser steps must show the gap too, so that one unusually large rounding error is not taken for a kink.
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
    """Whether x + h is x or moves by something else than h, or whether rounding in the quotient at h is unbearable.

    Bearable is 100 times what the scheme can reach, at its best step here or in theory, eps^(p / (p + 1)).
    """
    if not (np.abs(used) >= 50 * eps * np.maximum(size, eps)).all():
        return True
    rounding = noise[-1] * steps[-1] / float(used.min())  # at the ladder's foot all noise grows as 1 / h
    return bool(rounding > bearable)
