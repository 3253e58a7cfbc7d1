"""Statistics for comparing optimizers: quartiles, performance profiles, tuning curves and tunability.

Lower numbers are better, as for losses and step counts, unless `better="higher"` is given.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from gdlab.analysis.intervals import numbers, samples_of
from gdlab.arguments import as_numbers, describe, require_choice, require_number

__all__ = [
    "Better",
    "Quartiles",
    "Region",
    "good_region",
    "performance_profile",
    "quartiles",
    "steps_or_never",
    "tuning_curve",
]

Numbers = Shaped[np.ndarray, "..."]

Better = Literal["lower", "higher"]
"""Whether the lower or the higher of two numbers is better."""


class Quartiles(NamedTuple):
    """The quartiles of samples. A quartile is inf if too few samples arrive to reach it.

    Attributes:
      lower: a quarter of the samples are at or below it.
      median: half of the samples are at or below it.
      upper: three quarters of the samples are at or below it.
    """

    lower: Any
    median: Any
    upper: Any


class Region(NamedTuple):
    """The learning rates around the best one that are good enough.

    Attributes:
      low: the lower end.
      high: the upper end.
      decades: log10(high / low).
      open_low: whether the region reaches the lowest rate that was tried, so that it may extend further.
      open_high: whether the region reaches the highest rate that was tried, so that it may extend further.
    """

    low: float
    high: float
    decades: float
    open_low: bool
    open_high: bool


def sign_of(better: Better) -> float:
    """Return the factor that turns a number into a cost, for which lower is better."""
    require_choice("better", better, ("lower", "higher"))
    return 1.0 if better == "lower" else -1.0


def quartiles(samples: Float[np.ndarray, "*batch samples"]) -> Quartiles:
    """The quartiles along the last axis, each one of the samples, so that inf (never arrived) keeps its meaning.

    Args:
      samples: the samples along the last axis; other axes are a batch.

    Returns:
      The `Quartiles`, of the batch's shape.

    Raises:
      TypeError: if the samples are not numbers.
      ValueError: if there is no sample, or a sample is NaN.
    """
    found = np.quantile(samples_of("samples", samples), [0.25, 0.5, 0.75], axis=-1, method="inverted_cdf")
    return Quartiles(*found)


def performance_profile(
    costs: Float[np.ndarray, "solvers problems"], ratios: Float[np.ndarray, " ratios"]
) -> Float[np.ndarray, "solvers ratios"]:
    """The share of problems that each solver solves within given ratios of the best solver's cost.

    A problem that no solver solves counts as failed for all of them.

    Args:
      costs: positive costs, shape (solvers, problems); inf is a failure.
      ratios: a vector of numbers of at least 1. The ratio inf gives the share of problems that are solved at all.

    Returns:
      The shares, shape (solvers, ratios).

    Raises:
      ValueError: if a shape is wrong or a number is out of range.

    References:
      Dolan and More, "Benchmarking Optimization Software with Performance Profiles", 2002, Mathematical Programming
        91.
    """
    ratios = numbers("ratios", ratios)
    if ratios.ndim != 1 or ratios.size == 0 or (ratios < 1).any():
        raise ValueError(f"ratios: expected a vector of numbers of at least 1, got {ratios.tolist()}")
    costs = as_numbers("costs", costs, finite=False).astype(float)
    if costs.ndim != 2 or costs.size == 0:
        raise ValueError(f"costs: expected shape (solvers, problems), got {costs.shape}")
    if np.isnan(costs).any() or (costs <= 0).any():
        raise ValueError("costs: expected positive numbers, or inf for a failure, got NaN, zero or less")
    best = costs.min(axis=0)
    solved = np.isfinite(best)
    relative = np.where(solved, costs / np.where(solved, best, 1.0), np.inf)
    return np.mean((relative[:, :, None] <= ratios) & np.isfinite(costs)[:, :, None], axis=1)


def tuning_curve(
    scores: Float[np.ndarray, "*batch trials"], budgets: Int[np.ndarray, " budgets"], *, better: Better = "lower"
) -> Float[np.ndarray, "*batch budgets"]:
    """The expected best score of k random trials, for each k in `budgets`: what tuning with that budget achieves.

    The expectation is exact, over all choices of k of the n trials: with scores sorted from worst to best, the i-th
    is the best in (i-1 choose k-1) of the (n choose k) choices. Dodge et al. draw with replacement instead, which
    gives an estimate that is too low (Tang et al.).

    Args:
      scores: one score per trial along the last axis; other axes are a batch. A failed trial scores inf, or -inf if
        higher is better; the curve is infinite as long as k trials can all fail.
      budgets: a vector of integers from 1 to the number of trials.
      better: whether "lower" (default) or "higher" scores are better.

    Returns:
      The curve, with one value per budget along the last axis.

    Raises:
      TypeError: if `budgets` is not a vector of integers.
      ValueError: if a budget is out of range, or a score is NaN.

    References:
      Dodge et al., "Show Your Work: Improved Reporting of Experimental Results", 2019
        (https://arxiv.org/abs/1909.03004).
      Tang et al., "Showing Your Work Doesn't Always Work", 2020 (https://arxiv.org/abs/2004.13705).
    """
    sign = sign_of(better)
    scores, budgets = samples_of("scores", scores), as_numbers("budgets", budgets)
    count = scores.shape[-1]
    if budgets.dtype.kind not in "iu" or budgets.ndim != 1:
        raise TypeError(f"budgets: expected a vector of integers, got {describe(budgets)}")
    if budgets.size == 0 or budgets.min() < 1 or budgets.max() > count:
        raise ValueError(f"budgets: expected integers from 1 to {count}, the number of trials, got {budgets.tolist()}")
    order = -sign * np.sort(sign * -scores, axis=-1)  # the best score is last
    # Binomials overflow, and their logarithms lose digits. Instead, the weight of the best score is k / n, and from
    # there down weight i = (weight i+1) (i - k + 1) / i.
    i = np.arange(count - 1, 0, -1)[:, None]
    factors = np.maximum((i - budgets + 1) / i, 0.0)
    weights = np.cumprod(np.vstack([budgets / count, factors]), axis=0)[::-1]
    with np.errstate(invalid="ignore"):  # 0 * inf, which np.where discards
        return np.asarray(np.where(weights > 0, order[..., None] * weights, 0.0).sum(axis=-2))


def good_region(
    rates: Float[np.ndarray, " rates"], scores: Float[np.ndarray, " rates"], *, share: float = 0.9
) -> Region | None:
    """The learning rates around the best one whose score is at least `share` of the best score.

    The width of this region says how far off a learning rate may be. Between neighboring rates, the score is
    interpolated linearly in the logarithm of the rate; the region ends where the score first falls below the bound.
    If several rates share the best score, the widest region counts. A bad rate between good ones cuts the region, so
    average scores over seeds first.

    Args:
      rates: positive learning rates, in any order.
      scores: one score per rate, at least 0; higher is better.
      share: the share of the best score that is good enough, in (0, 1]. Default 0.9.

    Returns:
      A `Region`, or None if no score is above 0.

    Raises:
      ValueError: if shapes differ or numbers are out of range.
    """
    require_number("share", share, 0.0, 1.0, open_low=True)
    rates, scores = samples_of("rates", rates), samples_of("scores", scores)
    if rates.shape != scores.shape or rates.ndim != 1:
        raise ValueError(f"scores: expected one score per rate, got shapes {rates.shape} and {scores.shape}")
    if (wrong := rates[(rates <= 0) | np.isinf(rates)]).size:
        raise ValueError(f"rates: expected finite numbers above 0, got {wrong[0]:g}")
    if (wrong := scores[(scores < 0) | np.isinf(scores)]).size:
        raise ValueError(f"scores: expected finite numbers of at least 0, got {wrong[0]:g}")
    order = np.argsort(rates)
    logs, scores = np.log10(rates[order]), scores[order]
    if scores.max() == 0:
        return None
    bound = share * scores.max()

    def end(place: int, step: int) -> tuple[float, bool]:
        while 0 <= place + step < len(scores):
            after = place + step
            if scores[after] < bound:
                part = (scores[place] - bound) / (scores[place] - scores[after])
                return float(logs[place] + part * (logs[after] - logs[place])), False
            place = after
        return float(logs[place]), True

    regions = []
    for peak in np.flatnonzero(scores == scores.max()).tolist():
        (low, open_low), (high, open_high) = end(peak, -1), end(peak, 1)
        regions.append(Region(10**low, 10**high, high - low, open_low, open_high))
    return max(regions, key=lambda region: region.decades)


def steps_or_never(first: Int[np.ndarray, "..."]) -> Numbers:
    """Convert steps to a target to float numbers: `first`, with inf (never) in place of negative values.

    Args:
      first: whole numbers of steps, of any shape.

    Returns:
      The steps, of the same shape.

    Raises:
      TypeError: if `first` is not made of numbers.
      ValueError: if a number is not whole.
    """
    steps = as_numbers("first", first).astype(float)
    if (parts := steps[steps != np.floor(steps)]).size:
        raise ValueError(f"first: expected whole numbers of steps, got {parts.flat[0]:g}")
    return np.where(steps < 0, np.inf, steps)
