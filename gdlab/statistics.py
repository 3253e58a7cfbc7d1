"""What it takes to say that one optimizer is better than another: intervals, profiles, tuning curves, tunability."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import special, stats

from gdlab.arguments import describe, require_callable, require_choice, require_count, require_number

__all__ = [
    "Agreement",
    "Interval",
    "Quartiles",
    "Ranking",
    "Region",
    "average_ranks",
    "bootstrap_interval",
    "compare_rankings",
    "good_region",
    "mean_interval",
    "paired_bootstrap_interval",
    "performance_profile",
    "quartiles",
    "ranking",
    "share_interval",
    "steps_or_never",
    "tuning_curve",
]

Numbers = Shaped[np.ndarray, "..."]


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


class Ranking(NamedTuple):
    """Solvers by their mean score, the best first; every field is in this order.

    order: places in the given scores. mean: of the scores. rank: mean over samples of the rank, 1 for the highest
    score. behind: the best one's mean less a solver's own. ahead: its own less that of the next one, NaN for the last.
    """

    order: Int[np.ndarray, " solvers"]
    mean: Float[np.ndarray, " solvers"]
    rank: Float[np.ndarray, " solvers"]
    behind: Interval
    ahead: Interval


class Agreement(NamedTuple):
    """How far two rankings by mean score agree.

    tau: Kendall's (b), NaN where a ranking has no order. reversed: the pairs (better, worse) of solvers in the first
    ranking whose order the second one turns round, the first one's best first. told: of each pair, whether the
    intervals of its differences exclude 0 in both, so that more than chance turned it round.
    """

    tau: float
    reversed: list[tuple[int, int]]
    told: list[bool]


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


def _numbers(name: str, value: Any) -> np.ndarray:
    """`value` in float64. NaN is refused: it does not say what a failure is worth, and sorts as the highest score."""
    array = np.asarray(value, float)
    if np.isnan(array).any():
        raise ValueError(f"{name}: wanted numbers, got NaN; count a run that failed as inf or -inf, or leave it out")
    return array


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
        (_numbers("samples", samples),), lambda rows, axis: statistic(rows[0], axis=axis), level, resamples, seed
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
    pair = _numbers("first", first), _numbers("second", second)
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
    samples = _numbers("samples", samples)
    if samples.ndim == 0 or samples.shape[-1] == 0 or np.isinf(samples).any():
        raise ValueError(f"samples: wanted at least one finite number, got shape {samples.shape} or infinity")
    count, mean = samples.shape[-1], samples.mean(axis=-1)
    if count == 1:
        return Interval(mean, mean * np.nan, mean * np.nan)
    half = special.stdtrit(count - 1, 0.5 + 0.5 * level) * samples.std(axis=-1, ddof=1) / np.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def ranking(
    scores: Float[np.ndarray, "solvers samples"], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Ranking:
    """Solvers ordered by mean score, with paired-bootstrap intervals of the differences to the best and to the next.

    Higher is better; -inf is a failure, and a solver that failed once has the mean -inf. Sample i of all solvers comes
    from the same seed. Equal means keep the given order. One sample has no interval: the ends are NaN.
    """
    scores = np.asarray(scores, float)
    ranks = average_ranks(scores)
    mean = scores.mean(axis=1)
    order = np.argsort(-mean, kind="stable")
    ordered = scores[order]

    def difference(first: np.ndarray, second: np.ndarray) -> Interval:
        found = paired_bootstrap_interval(first, second, level=level, resamples=resamples, seed=seed)
        return found if scores.shape[1] > 1 else found._replace(low=found.low * np.nan, high=found.high * np.nan)

    behind = difference(np.broadcast_to(ordered[:1], ordered.shape), ordered)
    ahead = difference(ordered[:-1], ordered[1:]) if len(ordered) > 1 else Interval(*[np.empty(0)] * 3)
    return Ranking(order, mean[order], ranks[order], behind, Interval(*(np.append(end, np.nan) for end in ahead)))


def compare_rankings(
    first: Float[np.ndarray, "solvers samples"],
    second: Float[np.ndarray, "solvers others"],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Agreement:
    """Whether the same solvers rank alike in two sets of scores, higher being better, as in `ranking`.

    Samples are paired between solvers, not between the sets. With one sample in a set no pair is told.
    """
    sets = [np.asarray(scores, float) for scores in (first, second)]
    if sets[0].ndim != 2 or sets[1].ndim != 2 or len(sets[0]) != len(sets[1]):
        raise ValueError(f"second: wanted as many solvers as first, {sets[0].shape}, got shape {sets[1].shape}")
    means = [_numbers("scores", scores).mean(axis=1) for scores in sets]
    order = np.argsort(-means[0], kind="stable").tolist()
    pairs, told = [], []
    for place, i in enumerate(order):
        for j in order[place + 1 :]:
            if means[0][i] > means[0][j] and means[1][i] < means[1][j]:
                ends = [
                    paired_bootstrap_interval(scores[i], scores[j], level=level, resamples=resamples, seed=seed)
                    for scores in sets
                ]
                pairs.append((i, j))
                few = min(scores.shape[1] for scores in sets) < 2
                told.append(bool(not few and ends[0].low > 0 and ends[1].high < 0))
    return Agreement(float(stats.kendalltau(*means).statistic), pairs, told)


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
    found = np.quantile(_numbers("samples", samples), [0.25, 0.5, 0.75], axis=-1, method="inverted_cdf")
    return Quartiles(*found)


def performance_profile(
    costs: Float[np.ndarray, "solvers problems"], ratios: Float[np.ndarray, " ratios"]
) -> Float[np.ndarray, "solvers ratios"]:
    """The share of problems that a solver solves within `ratio` times the best solver's cost (Dolan & More 2002).

    costs: positive; inf where a solver fails. A problem that none solves counts as failed for all. A ratio of inf gives
    the share that is solved at all.
    """
    ratios = _numbers("ratios", ratios)
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
    scores: Float[np.ndarray, "*batch trials"], budgets: Int[np.ndarray, " budgets"], *, better: str = "higher"
) -> Float[np.ndarray, "*batch budgets"]:
    """The expected best score of k random trials, for each k in `budgets`: what tuning with that budget brings.

    Exact, over all choices of k of the n trials: the i-th of the sorted scores is the best in (i-1 choose k-1) of the
    (n choose k) choices. (Dodge et al. 2019, arXiv:1909.03004, draw with replacement, whose estimate is too low:
    Tang et al. 2020, arXiv:2004.13705.) A trial that failed has a score of inf on the worse side, and the curve does
    too until k trials cannot all fail.
    """
    require_choice("better", better, ("higher", "lower"))
    scores, budgets = _numbers("scores", scores), np.asarray(budgets)
    if scores.ndim == 0:
        raise ValueError("scores: wanted one for each trial, got one number")
    count = scores.shape[-1]
    if budgets.dtype.kind not in "iu" or budgets.ndim != 1:
        raise TypeError(f"budgets: wanted a vector of integers, got {describe(budgets)}")
    if budgets.size == 0 or budgets.min() < 1 or budgets.max() > count:
        raise ValueError(f"budgets: wanted integers from 1 to {count}, the number of trials, got {budgets.tolist()}")
    order = np.sort(scores, axis=-1)
    if better == "lower":
        order = order[..., ::-1]
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
    rates, scores = _numbers("rates", rates), _numbers("scores", scores)
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


def average_ranks(scores: Float[np.ndarray, "solvers problems"]) -> Float[np.ndarray, " solvers"]:
    """The mean over problems of a solver's rank, 1 for the highest score; equal scores share their ranks' mean.

    Demsar 2006, Journal of Machine Learning Research 7. A failure has the score -inf.
    """
    scores = np.asarray(scores, float)
    if scores.ndim != 2 or np.isnan(scores).any():
        raise ValueError(f"scores: wanted numbers of shape (solvers, problems), got shape {scores.shape} or NaN")
    return np.asarray(stats.rankdata(-scores, axis=0).mean(axis=1))


def steps_or_never(first: Int[np.ndarray, "..."]) -> Numbers:
    """Steps to a target as numbers: `first`, and inf where it is negative: never."""
    return np.where(np.asarray(first) < 0, np.inf, np.asarray(first, float))
