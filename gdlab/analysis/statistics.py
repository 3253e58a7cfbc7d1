"""Statistics for comparing optimizers: intervals, performance profiles, tuning curves and tunability.

Lower numbers are better, as for losses and step counts, unless `better="higher"` is given.
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
    "paired_seeds_interval",
    "performance_profile",
    "quartiles",
    "seeds_interval",
    "share_interval",
    "steps_or_never",
    "tuning_curve",
]

Numbers = Shaped[np.ndarray, "..."]

Better = Literal["lower", "higher"]
"""Whether the lower or the higher of two numbers is better."""


class Interval(NamedTuple):
    """An estimate and its confidence interval.

    Attributes:
      estimate: the estimate, a scalar or an array.
      low: the lower end of the interval, of the same shape.
      high: the upper end of the interval, of the same shape.
    """

    estimate: Any
    low: Any
    high: Any


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


def numbers(name: str, value: Any) -> np.ndarray:
    """Convert `value` to float64, and raise ValueError for NaN.

    NaN is rejected because it does not say how bad a failure is, and sorts as the highest score.
    """
    array = np.asarray(value, float)
    if np.isnan(array).any():
        raise ValueError(f"{name}: expected numbers, got NaN; score a failed run as inf or -inf, or leave it out")
    return array


def sign_of(better: Better) -> float:
    """Return the factor that turns a number into a cost, for which lower is better."""
    require_choice("better", better, ("lower", "higher"))
    return 1.0 if better == "lower" else -1.0


def share_interval(hits: Int[np.ndarray, "..."] | int, total: int, level: float = 0.95) -> Interval:
    """Wilson's confidence interval of the share hits / total, elementwise over `hits`.

    The closed form is Newcombe's, and agrees with `scipy.stats.binomtest` to the bit.

    Args:
      hits: integers from 0 to `total`, of any shape.
      total: the number of trials, at least 1.
      level: the confidence level. Default 0.95.

    Returns:
      An `Interval` of the shape of `hits`.

    Raises:
      TypeError: if `hits` are not integers.
      ValueError: if an argument is out of range.

    References:
      Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927, Journal of the American
        Statistical Association 22.
      Newcombe, "Two-Sided Confidence Intervals for the Single Proportion", 1998, Statistics in Medicine 17.
    """
    require_count("total", total)
    require_number("level", level, 0.0, 1.0, open_low=True, open_high=True)
    counts = np.asarray(hits)
    if counts.dtype.kind not in "iu":
        raise TypeError(f"hits: expected integers, got {describe(hits)}")
    if counts.size and (counts.min() < 0 or counts.max() > total):
        raise ValueError(f"hits: expected counts from 0 to {total}, got {counts.min()} to {counts.max()}")
    z = special.ndtri(0.5 + 0.5 * level)
    share = counts / total
    scale = 2 * (total + z**2)
    middle = (2 * total * share + z**2) / scale
    half = z / scale * np.sqrt(4 * total * share * (1 - share) + z**2)
    low = np.where(counts == 0, 0.0, middle - half)  # exact at both ends, where rounding would leave 1e-17
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
    """The percentile bootstrap interval of `statistic(samples, axis=-1)`.

    Percentiles are used because they exist for every statistic: equal samples give an interval of length 0, and
    infinite samples (the steps of a run that never arrived) are valid for quantiles. BCa intervals would not do:
    their acceleration is NaN for equal or infinite samples, and is meaningless for quantiles. The same seed gives the
    same resamples, so the intervals of arrays of equal length are comparable, and a row of a batch has the same
    interval as alone.

    Args:
      samples: the samples along the last axis; other axes are a batch.
      statistic: a function of an array and an axis, such as `np.mean` (default) or `np.median`.
      level: the confidence level. Default 0.95.
      resamples: the number of bootstrap resamples. Default 2000.
      seed: the seed of the resampling. Default 0.

    Returns:
      An `Interval` of the batch's shape.

    Raises:
      ValueError: if a sample is NaN, or if the statistic of a resample is NaN, as the mean of inf and -inf is.

    References:
      Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979, The Annals of Statistics 7.
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
    """The percentile bootstrap interval of statistic(first) - statistic(second), resampled in pairs.

    Sample i of both arrays must come from the same start (or seed), so that what both have in common cancels. Where
    both statistics are inf (neither median arrives), the difference counts as 0: neither is ahead.

    Args:
      first: the samples along the last axis; other axes are a batch.
      second: samples of the same shape.
      statistic: a function of an array and an axis. Default `np.mean`.
      level: the confidence level. Default 0.95.
      resamples: the number of bootstrap resamples. Default 2000.
      seed: the seed of the resampling. Default 0.

    Returns:
      An `Interval` of the batch's shape.

    Raises:
      ValueError: if the shapes differ, a sample is NaN, or the difference of a resample is NaN.
    """
    require_callable("statistic", statistic)

    def difference(rows: tuple[np.ndarray, ...], axis: int) -> Any:
        return _difference(statistic(rows[0], axis=axis), statistic(rows[1], axis=axis))

    return _bootstrap(_pair(first, second), difference, level, resamples, seed)


def mean_interval(samples: Float[np.ndarray, "*batch samples"], *, level: float = 0.95) -> Interval:
    """Student's confidence interval of the mean, which is exact for any number of normal samples.

    The bootstrap's interval is far too narrow for few samples: of its 95% intervals over 3 normal samples, only 75%
    contain the mean.

    Args:
      samples: finite samples along the last axis; other axes are a batch.
      level: the confidence level. Default 0.95.

    Returns:
      An `Interval` of the batch's shape. Its ends are NaN if there is only one sample.

    Raises:
      ValueError: if there is no sample, or a sample is not finite.

    References:
      Student, "The Probable Error of a Mean", 1908, Biometrika 6.
    """
    samples = numbers("samples", samples)
    if samples.ndim == 0 or samples.shape[-1] == 0 or np.isinf(samples).any():
        raise ValueError(f"samples: expected at least one finite number, got shape {samples.shape} or infinity")
    return _student(samples.mean(axis=-1), samples, level)


FEW = 16
"""Below this many seeds, intervals are Student's: the percentile bootstrap's are too narrow (`seeds_interval`)."""


def seeds_interval(
    samples: Float[np.ndarray, "*batch samples"], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The confidence interval of a mean over seeds: Student's below 16 samples, and the percentile bootstrap's above.

    Of the bootstrap's 95% intervals of normal samples, 51% contain the mean at 2 samples, 75% at 3, 83% at 5, 88% at
    8 and 93% at 16; of Student's, 95% at every number.

    Args:
      samples: the samples along the last axis; other axes are a batch. A failed run scores inf or -inf.
      level: the confidence level. Default 0.95.
      resamples: the number of bootstrap resamples. Default 2000.
      seed: the seed of the resampling. Default 0.

    Returns:
      An `Interval` of the batch's shape. Its ends are NaN if there is only one sample. Below 16 samples they are -inf
      and inf if some samples are infinite, unless all are equal.

    Raises:
      ValueError: if there is no sample, or a sample is NaN.
    """
    samples = numbers("samples", samples)
    if samples.ndim and samples.shape[-1] >= FEW:
        return bootstrap_interval(samples, level=level, resamples=resamples, seed=seed)
    _require_samples(samples)
    return _student(samples.mean(axis=-1), samples, level)


def paired_seeds_interval(
    first: Float[np.ndarray, "*batch samples"],
    second: Float[np.ndarray, "*batch samples"],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The confidence interval of mean(first) - mean(second), as `seeds_interval` has it of the paired differences.

    Sample i of both arrays must come from the same seed. Where both means are inf, the difference counts as 0.

    Args:
      first: the samples along the last axis; other axes are a batch.
      second: samples of the same shape.
      level: the confidence level. Default 0.95.
      resamples: the number of bootstrap resamples. Default 2000.
      seed: the seed of the resampling. Default 0.

    Returns:
      An `Interval` of the batch's shape.

    Raises:
      ValueError: if the shapes differ, if there is no sample, or if a sample is NaN.
    """
    first, second = _pair(first, second)
    if first.ndim and first.shape[-1] >= FEW:
        return paired_bootstrap_interval(first, second, level=level, resamples=resamples, seed=seed)
    _require_samples(first)
    estimate = _difference(first.mean(axis=-1), second.mean(axis=-1))
    return _student(estimate, _difference(first, second), level)


def _pair(first: Any, second: Any) -> tuple[np.ndarray, np.ndarray]:
    """Convert paired samples to arrays of one shape."""
    pair = numbers("first", first), numbers("second", second)
    if pair[0].shape != pair[1].shape:
        raise ValueError(f"second: expected the shape of first, {pair[0].shape}, got {pair[1].shape}")
    return pair


def _difference(one: Any, other: Any) -> Any:
    """Return one - other, which is 0 where both are the same infinity."""
    with np.errstate(invalid="ignore"):  # inf - inf, which is replaced
        return np.where(one == other, 0.0, one - other)[()]


def _require_samples(samples: np.ndarray) -> None:
    if samples.ndim == 0 or samples.shape[-1] == 0:
        raise ValueError(f"samples: expected at least one sample along the last axis, got shape {samples.shape}")


def _student(estimate: Any, samples: np.ndarray, level: float) -> Interval:
    """Student's interval around an estimate of the mean; infinitely wide if some samples are infinite."""
    require_number("level", level, 0.0, 1.0, open_low=True, open_high=True)
    count = samples.shape[-1]
    if count == 1:
        unknown = np.full(np.shape(estimate), np.nan)[()]
        return Interval(estimate, unknown, unknown)
    equal = (samples == samples[..., :1]).all(axis=-1)
    finite = np.isfinite(samples).all(axis=-1)
    spread = np.where(finite[..., None], samples, 0.0).std(axis=-1, ddof=1)
    half = np.where(finite, special.stdtrit(count - 1, 0.5 + 0.5 * level) * spread / np.sqrt(count), np.inf)
    with np.errstate(invalid="ignore"):  # inf - inf, which is replaced
        low = np.where(equal, estimate, np.where(finite, estimate - half, -np.inf))[()]
        high = np.where(equal, estimate, np.where(finite, estimate + half, np.inf))[()]
    return Interval(estimate, low, high)


def _bootstrap(
    rows: tuple[np.ndarray, ...], statistic: Callable[..., Any], level: float, resamples: int, seed: int
) -> Interval:
    require_count("resamples", resamples)
    require_number("level", level, 0.0, 1.0, open_low=True, open_high=True)
    for row in rows:
        _require_samples(row)
    count = rows[0].shape[-1]
    generator = np.random.default_rng(seed)
    with np.errstate(invalid="ignore"):  # inf - inf raises below
        estimate = statistic(rows, -1)
        drawn = np.stack(
            [
                statistic(tuple(np.take(row, picked, axis=-1) for row in rows), -1)
                for picked in (generator.integers(count, size=count) for _ in range(resamples))
            ]
        )
    if np.isnan(drawn).any() or np.isnan(estimate).any():
        raise ValueError("statistic: expected a number on every resample, got NaN; for infinite samples use the median")
    # The ends are resampled values, with equally many beyond each, because interpolating infinities gives NaN.
    low = np.quantile(drawn, (1 - level) / 2, axis=0, method="lower")
    high = np.quantile(drawn, (1 + level) / 2, axis=0, method="higher")
    # The mean of equal numbers depends on rounding, and so on their layout in memory.
    equal = np.all([(row == row[..., :1]).all(axis=-1) for row in rows], axis=0)
    return Interval(estimate, np.where(equal, estimate, low)[()], np.where(equal, estimate, high)[()])


def quartiles(samples: Float[np.ndarray, "*batch samples"]) -> Quartiles:
    """The quartiles along the last axis, each one of the samples, so that inf (never arrived) keeps its meaning.

    Args:
      samples: the samples along the last axis; other axes are a batch.

    Returns:
      The `Quartiles`, of the batch's shape.

    Raises:
      ValueError: if a sample is NaN.
    """
    found = np.quantile(numbers("samples", samples), [0.25, 0.5, 0.75], axis=-1, method="inverted_cdf")
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
    if ratios.ndim != 1 or (ratios < 1).any():
        raise ValueError(f"ratios: expected a vector of numbers of at least 1, got {ratios.tolist()}")
    costs = np.asarray(costs, float)
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
    scores, budgets = numbers("scores", scores), np.asarray(budgets)
    if scores.ndim == 0:
        raise ValueError("scores: expected one score per trial, got a single number")
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
    rates, scores = numbers("rates", rates), numbers("scores", scores)
    if rates.shape != scores.shape or rates.ndim != 1 or rates.size == 0:
        raise ValueError(f"scores: expected one score per rate, got shapes {rates.shape} and {scores.shape}")
    if (rates <= 0).any() or (scores < 0).any() or np.isinf([rates, scores]).any():
        raise ValueError("rates, scores: expected rates above 0 and scores of at least 0, both finite, got others")
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
    """Convert steps to a target to float numbers: `first`, with inf (never) in place of negative values."""
    return np.where(np.asarray(first) < 0, np.inf, np.asarray(first, float))
