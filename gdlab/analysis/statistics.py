"""What it takes to say how good an optimizer is: intervals, profiles, tuning curves, tunability.

Of any two numbers the lower one is better, as of losses and steps, unless `better="higher"` is given.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import special

from gdlab.arguments import describe, require_callable, require_choice, require_count, require_number

__all__ = [
    "Better",
    "Interval",
    "Quartiles",
    "Region",
    "bootstrap_interval",
    "good_region",
    "mean_interval",
    "paired_bootstrap_interval",
    "performance_profile",
    "quartiles",
    "share_interval",
    "steps_or_never",
    "tuning_curve",
]

Numbers = Shaped[np.ndarray, "..."]

Better = Literal["lower", "higher"]
"""Which of two numbers is better."""


class Interval(NamedTuple):
    """An estimate and the two ends of its confidence interval."""

    estimate: Any
    low: Any
    high: Any


class Quartiles(NamedTuple):
    """A quarter, half and three quarters of the samples are at or below these; inf where so many never arrive."""

    lower: Any
    median: Any
    upper: Any


class Region(NamedTuple):
    """The learning rates around the best one that are good enough.

    low, high: its ends. decades: log10(high / low). open_low, open_high: whether it reaches the least or greatest rate
    that was tried, so that it may be wider.
    """

    low: float
    high: float
    decades: float
    open_low: bool
    open_high: bool


def numbers(name: str, value: Any) -> np.ndarray:
    """`value` in float64. NaN is refused: it does not say what a failure is worth, and sorts as the highest score."""
    array = np.asarray(value, float)
    if np.isnan(array).any():
        raise ValueError(f"{name}: wanted numbers, got NaN; count a run that failed as inf or -inf, or leave it out")
    return array


def sign_of(better: Better) -> float:
    """What a number is multiplied with to make it a cost, of which the lower one is better."""
    require_choice("better", better, ("lower", "higher"))
    return 1.0 if better == "lower" else -1.0


def share_interval(hits: Int[np.ndarray, "..."] | int, total: int, level: float = 0.95) -> Interval:
    """Wilson's interval of the share hits / total (Wilson 1927, J. Am. Stat. Assoc. 22), elementwise over `hits`.

    The closed form is that of Newcombe 1998, Statistics in Medicine 17, as in `scipy.stats.binomtest`, to the bit.
    """
    require_count("total", total)
    require_number("level", level, 0.0, 1.0, open_low=True, open_high=True)
    counts = np.asarray(hits)
    if counts.dtype.kind not in "iu":
        raise TypeError(f"hits: wanted integers, got {describe(hits)}")
    if counts.size and (counts.min() < 0 or counts.max() > total):
        raise ValueError(f"hits: wanted counts from 0 to {total}, got {counts.min()} to {counts.max()}")
    z = special.ndtri(0.5 + 0.5 * level)
    share = counts / total
    scale = 2 * (total + z**2)
    middle = (2 * total * share + z**2) / scale
    half = z / scale * np.sqrt(4 * total * share * (1 - share) + z**2)
    low = np.where(counts == 0, 0.0, middle - half)  # exact there; rounding would leave 1e-17
    high = np.where(counts == total, 1.0, middle + half)
    return Interval(share, low[()], high[()])


def bootstrap_interval(
    samples: Float[np.ndarray, "*batch samples"],
    statistic: Callable[..., Any] = np.mean,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The percentile bootstrap interval of `statistic(samples, axis=-1)` (Efron 1979, Ann. Stat. 7).

    Percentiles, since they exist for every statistic: samples that are all equal give a point, and infinite samples
    (steps of a run that never arrived) are fine for quantiles. The same seed gives the same resamples, so intervals of
    arrays of equal length are comparable, and a row of a batch has the interval that it has alone. Raises ValueError
    for NaN samples and where the statistic of a resample is NaN, as the mean of inf and -inf is. BCa would not do: its
    acceleration is NaN with equal or infinite samples, and means nothing for quantiles.
    """
    require_callable("statistic", statistic)
    return _bootstrap(
        (numbers("samples", samples),), lambda rows, axis: statistic(rows[0], axis=axis), level, resamples, seed
    )


def paired_bootstrap_interval(
    first: Float[np.ndarray, "*batch samples"],
    second: Float[np.ndarray, "*batch samples"],
    statistic: Callable[..., Any] = np.mean,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The percentile bootstrap interval of statistic(first) - statistic(second), the same resampled pairs in both.

    Sample i of both comes from the same start (or seed), so that what is common to both cancels. Where both statistics
    are inf (neither median arrives) the difference counts as 0: neither is ahead.
    """
    require_callable("statistic", statistic)
    pair = numbers("first", first), numbers("second", second)
    if pair[0].shape != pair[1].shape:
        raise ValueError(f"second: wanted the shape of first, {pair[0].shape}, got {pair[1].shape}")

    def difference(rows: tuple[np.ndarray, ...], axis: int) -> Any:
        one, other = statistic(rows[0], axis=axis), statistic(rows[1], axis=axis)
        return np.where(one == other, 0.0, one - other)[()]

    return _bootstrap(pair, difference, level, resamples, seed)


def mean_interval(samples: Float[np.ndarray, "*batch samples"], *, level: float = 0.95) -> Interval:
    """Student's interval of the mean (1908), exact for normal samples however few; NaN ends for one sample alone.

    The bootstrap's is far too narrow for few samples: of intervals for 95% over 3 normal ones 75% hold the mean.
    """
    require_number("level", level, 0.0, 1.0, open_low=True, open_high=True)
    samples = numbers("samples", samples)
    if samples.ndim == 0 or samples.shape[-1] == 0 or np.isinf(samples).any():
        raise ValueError(f"samples: wanted at least one finite number, got shape {samples.shape} or infinity")
    count, mean = samples.shape[-1], samples.mean(axis=-1)
    if count == 1:
        return Interval(mean, mean * np.nan, mean * np.nan)
    half = special.stdtrit(count - 1, 0.5 + 0.5 * level) * samples.std(axis=-1, ddof=1) / np.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def _bootstrap(
    rows: tuple[np.ndarray, ...], statistic: Callable[..., Any], level: float, resamples: int, seed: int
) -> Interval:
    require_count("resamples", resamples)
    require_number("level", level, 0.0, 1.0, open_low=True, open_high=True)
    for row in rows:
        if row.ndim == 0 or row.shape[-1] == 0:
            raise ValueError(f"samples: wanted at least one along the last axis, got shape {row.shape}")
    count = rows[0].shape[-1]
    generator = np.random.default_rng(seed)
    with np.errstate(invalid="ignore"):  # inf - inf is told below
        estimate = statistic(rows, -1)
        drawn = np.stack(
            [
                statistic(tuple(np.take(row, picked, axis=-1) for row in rows), -1)
                for picked in (generator.integers(count, size=count) for _ in range(resamples))
            ]
        )
    if np.isnan(drawn).any() or np.isnan(estimate).any():
        raise ValueError("statistic: wanted a number on every resample, got NaN; with inf a median has one, a mean not")
    # Resampled values, as many beyond one end as beyond the other: interpolation between infinities is NaN.
    low = np.quantile(drawn, (1 - level) / 2, axis=0, method="lower")
    high = np.quantile(drawn, (1 + level) / 2, axis=0, method="higher")
    # The mean of equal numbers depends on rounding, so on how they lie in memory.
    equal = np.all([(row == row[..., :1]).all(axis=-1) for row in rows], axis=0)
    return Interval(estimate, np.where(equal, estimate, low)[()], np.where(equal, estimate, high)[()])


def quartiles(samples: Float[np.ndarray, "*batch samples"]) -> Quartiles:
    """The quartiles along the last axis, each one of the samples, so that inf (never arrived) keeps its meaning."""
    found = np.quantile(numbers("samples", samples), [0.25, 0.5, 0.75], axis=-1, method="inverted_cdf")
    return Quartiles(*found)


def performance_profile(
    costs: Float[np.ndarray, "solvers problems"], ratios: Float[np.ndarray, " ratios"]
) -> Float[np.ndarray, "solvers ratios"]:
    """The share of problems that a solver solves within `ratio` times the best solver's cost (Dolan & More 2002).

    costs: positive; inf where a solver fails. A problem that none solves counts as failed for all. A ratio of inf gives
    the share that is solved at all.
    """
    ratios = numbers("ratios", ratios)
    if ratios.ndim != 1 or (ratios < 1).any():
        raise ValueError(f"ratios: wanted a vector of numbers of at least 1, got {ratios.tolist()}")
    costs = np.asarray(costs, float)
    if costs.ndim != 2 or costs.size == 0:
        raise ValueError(f"costs: wanted shape (solvers, problems), got {costs.shape}")
    if np.isnan(costs).any() or (costs <= 0).any():
        raise ValueError("costs: wanted positive numbers, inf for a failure; got NaN, zero or less")
    best = costs.min(axis=0)
    solved = np.isfinite(best)
    relative = np.where(solved, costs / np.where(solved, best, 1.0), np.inf)
    return np.mean((relative[:, :, None] <= ratios) & np.isfinite(costs)[:, :, None], axis=1)


def tuning_curve(
    scores: Float[np.ndarray, "*batch trials"], budgets: Int[np.ndarray, " budgets"], *, better: Better = "lower"
) -> Float[np.ndarray, "*batch budgets"]:
    """The expected best score of k random trials, for each k in `budgets`: what tuning with that budget brings.

    Exact, over all choices of k of the n trials: the i-th of the sorted scores is the best in (i-1 choose k-1) of the
    (n choose k) choices. (Dodge et al. 2019, arXiv:1909.03004, draw with replacement, whose estimate is too low:
    Tang et al. 2020, arXiv:2004.13705.) A trial that failed has a score of inf on the worse side, and the curve does
    too until k trials cannot all fail.
    """
    sign = sign_of(better)
    scores, budgets = numbers("scores", scores), np.asarray(budgets)
    if scores.ndim == 0:
        raise ValueError("scores: wanted one for each trial, got one number")
    count = scores.shape[-1]
    if budgets.dtype.kind not in "iu" or budgets.ndim != 1:
        raise TypeError(f"budgets: wanted a vector of integers, got {describe(budgets)}")
    if budgets.size == 0 or budgets.min() < 1 or budgets.max() > count:
        raise ValueError(f"budgets: wanted integers from 1 to {count}, the number of trials, got {budgets.tolist()}")
    order = -sign * np.sort(sign * -scores, axis=-1)  # the best last
    # Binomials overflow, and logarithms of them lose digits. From the best down, the weights are k / n and then
    # weight i = (weight i+1) (i - k + 1) / i.
    i = np.arange(count - 1, 0, -1)[:, None]
    factors = np.maximum((i - budgets + 1) / i, 0.0)
    weights = np.cumprod(np.vstack([budgets / count, factors]), axis=0)[::-1]
    with np.errstate(invalid="ignore"):  # 0 * inf, which is not taken
        return np.asarray(np.where(weights > 0, order[..., None] * weights, 0.0).sum(axis=-2))


def good_region(
    rates: Float[np.ndarray, " rates"], scores: Float[np.ndarray, " rates"], *, share: float = 0.9
) -> Region | None:
    """The learning rates around the best one whose score is at least `share` of its own: how far off one may be.

    Scores are >= 0, higher is better. Between neighbouring rates the score is taken as linear in the logarithm of the
    rate; the region ends where it first falls below the bound. None where no score is above 0. Of several best rates
    the one with the widest region counts. A bad rate between good ones cuts the region: average over seeds before.
    """
    require_number("share", share, 0.0, 1.0, open_low=True)
    rates, scores = numbers("rates", rates), numbers("scores", scores)
    if rates.shape != scores.shape or rates.ndim != 1 or rates.size == 0:
        raise ValueError(f"scores: wanted one for each rate, got shapes {rates.shape} and {scores.shape}")
    if (rates <= 0).any() or (scores < 0).any() or np.isinf([rates, scores]).any():
        raise ValueError("rates, scores: wanted rates above 0 and scores of at least 0, both finite")
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
    """Steps to a target as numbers: `first`, and inf where it is negative: never."""
    return np.where(np.asarray(first) < 0, np.inf, np.asarray(first, float))
