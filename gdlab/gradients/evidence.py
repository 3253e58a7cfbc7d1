"""Conclusions from a ladder of difference quotients: their rounding, the most self-consistent step, its order, kinks.

For each direction and scheme the step is chosen by the consistency of the quotients D(h), never by the gradient under
test. The uncertainty of D(h) is the largest of its rounding noise, of |D(h) - D(h/2)|, and of its differences from all
finer quotients beyond their own noise; h* is the step with the least uncertainty. The finer steps expose a coarse step
at which a ripple happens to cancel. Schemes check each other in the same way.

All arrays have the shape (directions, steps) or (directions,).
"""

import math
from typing import NamedTuple

import numpy as np

from gdlab.gradients.ladder import Seen
from gdlab.gradients.schemes import Scheme

BEYOND = 5.0
"""Differences are taken seriously beyond this multiple of the noise or the uncertainty."""
ROUGH = 64.0
"""Jitter beyond this multiple of eps |f| is not taken for rounding."""


class Settled(NamedTuple):
    """The quotients of one scheme at the most self-consistent step of each direction.

    Attributes:
      scheme: the scheme.
      values: the quotients D(h*), NaN where no step gives a finite one.
      doubts: their uncertainty.
      steps: h*.
      floor: what a gradient of zero is judged relative to: eps^(1/6) times the largest slope of the leaf over a step
        of h*, or of |x| if that is less.
      hidden: how much of a slope the rounding of the function may hide, where the function is constant up to h*.
      converged: whether the quotients have stopped changing, so that their uncertainty is that of a limit.
      changes: |D(h) - D(h/2)|, the largest over the directions, of shape (steps - 1,).
      noise: the rounding noise of D(h), the largest over the directions, of shape (steps,).
    """

    scheme: Scheme
    values: np.ndarray
    doubts: np.ndarray
    steps: np.ndarray
    floor: np.ndarray
    hidden: np.ndarray
    converged: np.ndarray
    changes: np.ndarray
    noise: np.ndarray


def rounding_noise(estimates: np.ndarray, seen: Seen, eps: float, value: float, *, own: bool = False) -> np.ndarray:
    """Estimate the rounding in D(h) from eps |f| / h, from the smallest steps and from the quantum of the function.

    |f| at x + 4 h, the farthest point of a scheme, follows from the one-sided quotients. A quantum counts as rounding
    up to sqrt(eps) of what the function amounts to; a larger one is taken for a stretch where the function is constant.
    All directions share the largest jitter, unless each is to have its `own`, which is that of the very smallest steps.
    """
    shown = shown_noise(estimates, seen)
    shown = np.minimum(shown, 4 * shown_noise(estimates, seen, 3))[:, None] if own else shown.max(initial=0.0)
    known = eps * abs(value) if math.isfinite(value) else 0.0
    sided = np.abs(_finite(seen.one_sided))
    grain = rounded_by(seen, eps, value)
    slope = sided.max(axis=(0, 1))
    around = np.maximum(slope, np.maximum(_coarser(slope, 1), _coarser(slope, 2)))
    return np.maximum(shown, max(known, grain)) / seen.ladder + 4 * eps * around


def rounded_by(seen: Seen, eps: float, value: float) -> float:
    """Return the quantum of the function if that is small enough to be rounding, up to sqrt(eps) of its changes."""
    step, sizes = quantum(seen), np.abs(_finite(seen.one_sided)) * seen.ladder
    return step if step <= math.sqrt(eps) * max(abs(value), sizes.max()) else 0.0


def shown_noise(estimates: np.ndarray, seen: Seen, count: int | None = None) -> np.ndarray:
    """Return by how much the function jitters over so many smallest steps, or a quarter of all, in its own units."""
    changes = np.abs(np.diff(estimates, axis=1)) * seen.ladder[:, 1:]
    return np.max(_finite(changes[:, -(count or max(changes.shape[1] // 4, 3)) :]), axis=1, initial=0.0)


def quantum(seen: Seen) -> float:
    """Return the smallest change of the function if the smallest steps change it in no direction; 0 otherwise.

    The function is then constant around x, or it was rounded more coarsely on the way than its value suggests.
    """
    changes = np.abs(seen.one_sided) * seen.ladder
    changes = np.max(np.where(np.isnan(changes), np.inf, changes), axis=0)
    moved = changes > 0
    if not moved.any() or moved[:, -1].any():
        return 0.0
    last = moved.shape[1] - 1 - np.argmax(moved[:, ::-1], axis=1)
    least = np.where(moved.any(axis=1), changes[np.arange(len(changes)), last], np.inf).min()
    return float(least) if math.isfinite(least) else 0.0


def carried_noise(estimates: np.ndarray, eps: float) -> np.ndarray:
    """Estimate the rounding in D(h) of a scheme that subtracts nothing: eps times the size of D(h), per estimate."""
    sizes = np.max(np.abs(_finite(estimates)), axis=0)
    return np.broadcast_to(4 * eps * sizes, estimates.shape)


def settle(scheme: Scheme, estimates: np.ndarray, seen: Seen, eps: float, value: float) -> tuple[Settled, Settled]:
    """Find h* of one scheme along each direction, with the uncertainty there.

    Args:
      scheme: the scheme.
      estimates: its quotients.
      seen: what was evaluated.
      eps: the spacing of the leaf's own dtype. Rounding x by it changes the gradient by eps |x| times the curvature,
        so no quotient is more certain than that.
      value: the value of the function at x.

    Returns:
      The quotients with the least uncertainty relative to the scale of the leaf at the same step (its largest quotient,
      or `floor` if that is larger), which can confirm a gradient, and those with the least absolute uncertainty, which
      can refute one. The latter include a drift that noise nearly hides, which may be due to kinks beside x.
    """
    fine = min(eps, float(np.finfo(np.float32).eps))  # narrower leaves were widened to float32
    noise, spread, doubts = _uncertainty(scheme, estimates, seen, eps, value)
    _, severe_spread, severe_doubts = _uncertainty(scheme, estimates, seen, eps, value, drift=True)
    every = np.arange(len(doubts))
    sharpest = np.argmin(severe_doubts, axis=1)
    rough = is_rough(estimates, estimates[every, sharpest], seen, fine, value)
    sizes = np.abs(_finite(seen.one_sided)).max(axis=0)
    floor = (0.0 if rough.any() else fine ** (1 / 6)) * _slopes_nearby(seen, noise)
    scale = np.maximum(np.abs(_finite(estimates)).max(axis=0), floor)[:-1]
    relative = np.where(doubts > 0, doubts / np.maximum(scale, 1e-300), 0.0)

    def settled(steps: np.ndarray, spread: np.ndarray, doubts: np.ndarray) -> Settled:
        at = every, steps
        doubt = doubts[at]
        calm = (spread[at] <= BEYOND * noise[at]) | (doubt <= 0.1 * sizes[at])
        return Settled(
            scheme=scheme,
            values=np.where(np.isfinite(doubt), estimates[at], np.nan),
            doubts=doubt,
            steps=seen.ladder[at],
            floor=floor[steps],
            hidden=np.where(sizes[at] == 0, quantum(seen) / seen.ladder[at], 0.0),
            converged=np.isfinite(doubt) & calm & ~rough,
            changes=_changes(estimates).max(axis=0),
            noise=noise.max(axis=0),
        )

    confirming = settled(np.argmin(relative, axis=1), spread, doubts)
    return confirming, settled(sharpest, severe_spread, severe_doubts)


def _uncertainty(
    scheme: Scheme, estimates: np.ndarray, seen: Seen, eps: float, value: float, drift: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the noise of all quotients, by how much those at other steps differ, and the uncertainty in all.

    With `drift`, the next four finer quotients count beyond their noise itself, not only beyond 5 times that.
    """
    fine = min(eps, float(np.finfo(np.float32).eps))
    if scheme.subtractive:
        noise, own = (rounding_noise(estimates, seen, fine, value, own=own) for own in (False, True))
    else:
        noise = own = carried_noise(estimates, fine)
    spread = np.maximum(_changes(estimates), _beyond_finer(estimates, BEYOND * own)[:, :-1])
    for finer in range(2, 6) if drift else ():
        differences = np.abs(estimates[:, finer:] - estimates[:, :-finer]) - own[:, finer:]
        spread[:, : differences.shape[1]] = np.maximum(spread[:, : differences.shape[1]], _finite(differences))
    gap = np.abs(_finite(seen.one_sided[0] - seen.one_sided[1]))
    carried = 2 * eps * np.max(seen.size[:, None] * gap / seen.ladder, axis=0)
    doubts = np.maximum(spread, np.maximum(noise, carried)[:, :-1])
    constant = is_constant(seen, rounded_by(seen, fine, value))
    return noise, spread, np.where(constant[:-1] & (estimates[:, :-1] == 0), 0.0, doubts)


def is_rough(estimates: np.ndarray, values: np.ndarray, seen: Seen, eps: float, value: float) -> np.ndarray:
    """Return along which directions the smallest steps show more than rounding: the function varies below them.

    Rounding is a multiple of eps times |f| nearby, or times |x D| for a function that rounds its argument. Jitter that
    decreases like h^2 is the curvature of a smooth function.
    """
    changes = np.abs(_finite(seen.one_sided)) * seen.ladder
    near = seen.ladder.max(axis=0) <= (seen.size.max() or 1.0)
    size = np.maximum(max(abs(value), changes[:, :, near].max(initial=0.0)), np.abs(_finite(values)) * seen.size)
    rough = np.zeros(size.shape, bool)
    for quotients in (estimates, *seen.one_sided):
        jitter = _finite(np.abs(np.diff(quotients, axis=1)) * seen.ladder[:, 1:])
        finest, next_finest = jitter[:, -3:].max(axis=1), jitter[:, -6:-3].max(axis=1)
        rough |= (finest > ROUGH * eps * size) & (finest > next_finest / 16)
    return rough


def is_constant(seen: Seen, grain: float) -> np.ndarray:
    """Return at which steps h the function is constant around x: it changes along no direction up to 4 h.

    This is believed of a wide stretch, of 1/32 times the scale of the ladder or more. What looks like a narrow one may
    be a function that was rounded coarsely on the way, by `grain`.
    """
    moved = np.flatnonzero((seen.one_sided != 0).any(axis=(0, 1)))
    still = np.arange(seen.ladder.shape[1]) > (moved[-1] + 2 if moved.size else -1)
    return still & (moved.size == 0 or (grain == 0 and moved[-1] < 5))


def _slopes_nearby(seen: Seen, noise: np.ndarray) -> np.ndarray:
    """Return, per step, the largest one-sided quotient beyond its noise at that step, or at |x| if the step is larger.

    It is 0 if all steps are larger than |x|. A leaf of zeros counts as one of size 1.
    """
    size = seen.size.max() or 1.0
    slopes = np.maximum(np.abs(_finite(seen.one_sided)) - BEYOND * noise, 0.0).max(axis=(0, 1))
    fits = np.flatnonzero(seen.ladder.max(axis=0) <= size)
    return slopes[np.maximum(np.arange(slopes.size), fits[0])] if fits.size else np.zeros_like(slopes)


def cross_examine(found: list[Settled]) -> list[Settled]:
    """Raise the uncertainty of each scheme to its differences from the others beyond their own uncertainty."""
    checked = []
    for one in found:
        differences = [np.abs(one.values - other.values) - BEYOND * other.doubts for other in found]
        checked.append(one._replace(doubts=np.max([one.doubts, *map(_finite, differences)], axis=0)))
    return checked


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
    rounding error is not mistaken for a kink. And there must be no finer step at which the gap would be clear of
    noise but is not seen: then the kink lies beside x.
    """
    gap = np.abs(sided[0] - sided[1])
    kinks = np.zeros(gap.shape[0], bool)
    for direction, gaps in enumerate(gap):
        clear = np.isfinite(gaps) & (gaps > 40 * noise[direction])
        visible = np.flatnonzero(clear)
        if visible.size == 0 or visible[-1] < 4:
            continue
        narrow, double, fourfold, _, sixteenfold = gaps[visible[-1] - 4 : visible[-1] + 1][::-1]
        stays = narrow > 0.5 * fourfold and narrow > 0.4 * sixteenfold
        gone = narrow > 80 * noise[direction, visible[-1] + 1 :]
        kinks[direction] = bool(stays and min(double, fourfold) > 0.4 * narrow and not gone.any())
    return kinks


def remaining_gap(sided: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Bound the difference between the slopes on both sides of x, which is 0 unless x is at a kink.

    The gap J + c h of the one-sided quotients is extrapolated to h = 0, as 2 gap(h/2) - gap(h). The bound is the least
    over the steps, each with the noise there and with what all finer steps show beyond theirs. It is infinite if the
    function is finite on one side only.
    """
    gap = sided[0] - sided[1]
    jump = np.abs(2 * gap[:, 1:] - gap[:, :-1])
    uncertain = BEYOND * noise[:, 1:]
    shown = np.where(np.isfinite(jump), jump - uncertain, 0.0)
    shown = np.maximum.accumulate(shown[:, ::-1], axis=1)[:, ::-1]
    bounds = np.where(np.isfinite(jump), np.maximum(shown, 0.0) + 2 * uncertain, np.inf)
    return bounds.min(axis=1, initial=np.inf)


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


def _changes(estimates: np.ndarray) -> np.ndarray:
    """|D(h) - D(h/2)|, infinite where one of them is not finite."""
    changes = np.abs(np.diff(estimates, axis=1))
    return np.where(np.isfinite(changes), changes, np.inf)


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, 0.0)


def _coarser(per_step: np.ndarray, by: int) -> np.ndarray:
    """The values at 2^by times each step."""
    return np.concatenate([np.repeat(per_step[:1], by), per_step[:-by]])


def _beyond_finer(estimates: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The largest difference of each quotient from any finer one, beyond the noise of the finer one; 0 if none."""
    finite = np.isfinite(estimates) & np.isfinite(noise)
    least = np.where(finite, estimates - noise, -np.inf)[:, ::-1]
    most = np.where(finite, estimates + noise, np.inf)[:, ::-1]
    lower = np.maximum.accumulate(least, axis=1)[:, ::-1]  # the limit is at least this, by this or a finer step
    upper = np.minimum.accumulate(most, axis=1)[:, ::-1]
    beyond = np.maximum(lower - estimates, estimates - upper)
    return np.where(np.isfinite(beyond), np.maximum(beyond, 0.0), 0.0)
