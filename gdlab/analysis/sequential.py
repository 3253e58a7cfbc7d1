"""Decisions on pairs of scores that hold however often one looks: better, worse, equal, or not known yet.

The usual interval of a mean is valid for a number of pairs that was fixed in advance. Whoever looks after every pair
and stops at the first difference is wrong far more often than the level says. The intervals here cover the mean at all
numbers of pairs at once, so one may look, stop and continue at will.

References:
  Lai, "On Confidence Sequences", 1976, Annals of Statistics 4.
  Wang and Ramdas, "Anytime-Valid t-Tests and Confidence Sequences for Gaussian Means with Unknown Variance", 2023
  (https://arxiv.org/abs/2310.03722).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from gdlab.analysis.intervals import Interval, samples_of
from gdlab.arguments import require_mapping, require_number

__all__ = ["ANSWERS", "Decision", "always_valid_interval", "decide_many", "decide_pairs"]

ANSWERS = ("better", "worse", "equal", "cannot tell")
"""The answers that a decision can give."""

MOST = 100_000
"""The largest number of pairs that a decision asks for."""


class Decision(NamedTuple):
    """What pairs of scores say about a difference.

    Attributes:
      answer: "better" or "worse", if the interval excludes 0; "equal", if it lies within the margin; "cannot tell".
      mean: the mean difference.
      low: the lower end of its interval.
      high: the upper end of its interval.
      pairs: the number of pairs.
      more: how many more pairs would be needed for another answer than "cannot tell", if the mean and the spread stayed
        as they are; 0 if the answer is known, and None if more than 100,000 would be. It is an estimate.
    """

    answer: str
    mean: float
    low: float
    high: float
    pairs: int
    more: int | None


def always_valid_interval(
    differences: Float[np.ndarray, "*batch pairs"], *, alpha: float = 0.05, effect: float = 1.0
) -> Interval:
    """An interval of the mean of normal differences that is valid at all numbers of pairs at once.

    The test that it inverts mixes Student's statistics over effects (mean / standard deviation) that are normal with
    the standard deviation `effect`. With nu = n - 1, g = 1 + n effect^2 and Student's statistic T of n differences,
    its evidence against a mean is

        E = g^(-1/2) ((1 + T^2 / nu) / (1 + T^2 / (nu g)))^(n / 2),

    and the interval holds the means with E < 1 / alpha. E is bounded, so a few pairs never exclude anything: with
    alpha = 0.05 and effect = 1, at least 5 are needed.

    Args:
      differences: the differences along the last axis; other axes are a batch.
      alpha: the probability with which the interval ever misses the mean. Default 0.05.
      effect: the size of the effects for which the interval is short early. Default 1.

    Returns:
      The `Interval`, of the batch's shape; infinite where there are too few pairs, and of length 0 if the differences
      are equal and enough.

    Raises:
      TypeError: if the differences are not numbers.
      ValueError: if there is no difference, one is not finite, or an option is out of range.
    """
    found = samples_of("differences", differences)
    if not np.isfinite(found).all():
        raise ValueError("differences: expected finite numbers, got inf")
    require_number("alpha", alpha, 0.0, 1.0, open_low=True, open_high=True)
    require_number("effect", effect, 0.0, open_low=True)
    mean, width = found.mean(axis=-1), _width(found.shape[-1], alpha, effect)
    if not np.isfinite(width):
        return Interval(mean, np.full_like(mean, -np.inf)[()], np.full_like(mean, np.inf)[()])
    half = width * found.std(axis=-1, ddof=1)
    return Interval(mean, mean - half, mean + half)


def _width(count: int, alpha: float, effect: float) -> float:
    """Return half the length of the interval for a standard deviation of 1: the T at which E is 1 / alpha."""
    if count < 2:
        return np.inf
    nu, g = count - 1, 1 + count * effect**2
    bound = (np.sqrt(g) / alpha) ** (2 / count)
    if bound >= g:  # which E never reaches
        return np.inf
    return float(np.sqrt(nu * (bound - 1) / (1 - bound / g) / count))


def decide_pairs(differences: Float[np.ndarray, " pairs"], margin: float, *, alpha: float = 0.05) -> Decision:
    """Judge one difference: is it better (above 0), worse, or equal within a margin that was fixed in advance?

    Args:
      differences: one difference per pair; above 0 is better.
      margin: differences below it do not matter, so that an interval within it means "equal", even without 0.
      alpha: the probability of ever giving a wrong answer. Default 0.05.

    Returns:
      The `Decision`.

    Raises:
      TypeError: if the differences are not numbers.
      ValueError: if there is no difference, one is not finite, or an option is out of range.
    """
    found = samples_of("differences", differences)
    if found.ndim != 1:
        raise ValueError(f"differences: expected a vector, got shape {found.shape}")
    require_number("margin", margin, 0.0)
    mean, low, high = (float(each) for each in always_valid_interval(found, alpha=alpha))
    answer = _answer(low, high, margin)
    spread = float(found.std(ddof=1)) if len(found) > 1 else np.nan
    more = 0 if answer != "cannot tell" else _more(len(found), mean, spread, margin, alpha)
    return Decision(answer, mean, low, high, len(found), more)


def _answer(low: float, high: float, margin: float) -> str:
    if -margin <= low and high <= margin:
        return "equal"
    if low > 0:
        return "better"
    return "worse" if high < 0 else "cannot tell"


def _more(count: int, mean: float, spread: float, margin: float, alpha: float) -> int | None:
    """Return how many more pairs give an answer at this mean and spread: the widths fall, so halving finds it."""

    def decides(pairs: int) -> bool:
        half = _width(pairs, alpha, 1.0)
        half = half * spread if np.isfinite(half) else np.inf
        return _answer(mean - half, mean + half, margin) != "cannot tell"

    if np.isnan(spread):  # one pair has none: the fewest that could exclude anything
        return next(pairs for pairs in range(2, 100) if np.isfinite(_width(pairs, alpha, 1.0))) - count
    if not decides(MOST):
        return None
    low, high = count, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high - count


def decide_many(
    differences: Mapping[str, Sequence[float] | np.ndarray], margin: float | Mapping[str, float], *, alpha: float = 0.05
) -> dict[str, Decision]:
    """Judge several differences, such as those from several opponents, with one probability of any wrong answer.

    Holm's procedure: the clearest of m differences is judged at alpha / m, and each one after an answer at the next
    larger level, alpha / (m - 1), and so on. The first without an answer sets the level of all that are left.

    Args:
      differences: for each name, one difference per pair; above 0 is better.
      margin: see `decide_pairs`; one number, or one for each name.
      alpha: the probability of any wrong answer. Default 0.05.

    Returns:
      A `Decision` for each name, in the given order.

    Raises:
      TypeError: if the differences are not numbers.
      ValueError: if there is no difference, one is not finite, or an option is out of range.

    References:
      Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979, Scandinavian Journal of Statistics 6.
    """
    require_mapping("differences", differences, "from names to differences", least=1)
    require_number("alpha", alpha, 0.0, 1.0, open_low=True, open_high=True)
    margins = margin if isinstance(margin, Mapping) else dict.fromkeys(differences, margin)
    found: dict[str, Decision] = {}
    while waiting := [name for name in differences if name not in found]:
        level = alpha / len(waiting)
        decisions = {name: decide_pairs(np.asarray(differences[name]), margins[name], alpha=level) for name in waiting}
        known = {name: decision for name, decision in decisions.items() if decision.answer != "cannot tell"}
        found |= known or decisions
    return {name: found[name] for name in differences}
