"""Rank solvers by their scores, on one task and over several tasks.

A solver is whatever the first axis of the scores counts, such as an optimizer. Lower scores are better, as for losses
and step counts, unless `better="higher"` is given.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from gdlab.analysis.intervals import FEW, Interval, numbers, paired_seeds_interval, require_resampling
from gdlab.analysis.statistics import Better, sign_of
from gdlab.arguments import as_numbers, require_count, require_flag, require_number

__all__ = [
    "AcrossTasks",
    "Agreement",
    "Ranking",
    "average_ranks",
    "compare_rankings",
    "indistinct_groups",
    "nemenyi_difference",
    "rank_across_tasks",
    "ranking",
]


class Ranking(NamedTuple):
    """Solvers ranked by their mean score.

    Attributes:
      order: indices of the solvers in the given scores, the best solver first. All other fields are in this order.
      mean: the mean score of each solver.
      rank: the mean over samples of each solver's rank, where rank 1 is the best score.
      behind: how much worse each solver's mean is than the best solver's, with its interval.
      ahead: how much better each solver's mean is than the next solver's, with its interval; NaN for the last solver.
    """

    order: Int[np.ndarray, " solvers"]
    mean: Float[np.ndarray, " solvers"]
    rank: Float[np.ndarray, " solvers"]
    behind: Interval
    ahead: Interval


class Agreement(NamedTuple):
    """The agreement of two rankings by mean score.

    Attributes:
      tau: Kendall's tau-b; NaN if one of the rankings orders no solvers, for example because all means are equal.
      reversed: the pairs (better, worse) of solvers, as the first ranking orders them, whose order is reversed in the
        second ranking. Pairs are sorted by their places in the first ranking.
      significant: for each reversed pair, whether the intervals of its differences exclude 0 in both rankings, so
        that chance alone does not explain the reversal.
    """

    tau: float
    reversed: list[tuple[int, int]]
    significant: list[bool]


class AcrossTasks(NamedTuple):
    """Average ranks of solvers over tasks, and tests of their differences.

    Attributes:
      rank: the average rank of each solver, where rank 1 is the lowest cost, with its bootstrap interval.
      by_task: the rank of each solver on each task; `rank` averages these.
      friedman: Friedman's statistic chi^2_F and its p value, which is small if ranks differ by more than chance
        explains.
      iman_davenport: Iman and Davenport's statistic F_F and its p value, a less conservative form of Friedman's test.
      critical_difference: Nemenyi's critical difference. Average ranks that are closer are not significantly
        different.
      groups: the largest sets of solvers that are not significantly different, as lists of indices in order of rank.
    """

    rank: Interval
    by_task: Float[np.ndarray, "solvers tasks"]
    friedman: tuple[float, float]
    iman_davenport: tuple[float, float]
    critical_difference: float
    groups: list[list[int]]


def ranking(
    scores: Float[np.ndarray, "solvers samples"],
    *,
    better: Better = "lower",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Ranking:
    """Order solvers by mean score, with intervals of the differences to the best solver and to the next one.

    The intervals are those of the paired differences: Student's below 16 samples, and bootstrap intervals above
    (`gdlab.analysis.intervals.paired_seeds_interval`). Solvers of equal mean keep the given
    order.

    Args:
      scores: shape (solvers, samples). Sample i of all solvers must come from the same seed. A failed run scores inf,
        or -inf if higher is better; then so does the mean of its solver.
      better: whether "lower" (default) or "higher" scores are better.
      level: the confidence level of the intervals. Default 0.95.
      resamples: the number of bootstrap resamples. Default 2000.
      seed: the seed of the resampling. Default 0.

    Returns:
      A `Ranking`. The ends of its intervals are NaN if there is only one sample per solver.

    Raises:
      ValueError: if `scores` is not a matrix, or holds NaN.
    """
    require_resampling(level, resamples, seed)
    costs = sign_of(better) * _matrix("scores", scores)
    ranks = average_ranks(costs)
    mean = costs.mean(axis=1)
    order = np.argsort(mean, kind="stable")
    ordered = costs[order]

    def difference(first: np.ndarray, second: np.ndarray) -> Interval:
        return paired_seeds_interval(first, second, level=level, resamples=resamples, seed=seed)

    behind = difference(ordered, np.broadcast_to(ordered[:1], ordered.shape))
    ahead = difference(ordered[1:], ordered[:-1]) if len(ordered) > 1 else Interval(*[np.empty(0)] * 3)
    last = Interval(*(np.append(end, np.nan) for end in ahead))
    return Ranking(order, sign_of(better) * mean[order], ranks[order], behind, last)


def compare_rankings(
    first: Float[np.ndarray, "solvers samples"],
    second: Float[np.ndarray, "solvers others"],
    *,
    better: Better = "lower",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Agreement:
    """Compare the rankings of the same solvers by two sets of scores.

    Scores are as in `ranking`. Samples are paired between the solvers of a set, not between the two sets.

    Args:
      first: shape (solvers, samples).
      second: shape (solvers, samples); the number of samples may differ from that of `first`.
      better: whether "lower" (default) or "higher" scores are better.
      level: the confidence level of the intervals. Default 0.95.
      resamples: the number of bootstrap resamples. Default 2000.
      seed: the seed of the resampling. Default 0.

    Returns:
      An `Agreement`. No pair is significant if one of the sets has only one sample.

    Raises:
      ValueError: if the two sets have different numbers of solvers, or hold NaN.
    """
    require_resampling(level, resamples, seed)
    sets = [sign_of(better) * _matrix(name, scores) for name, scores in (("first", first), ("second", second))]
    if len(sets[0]) != len(sets[1]):
        raise ValueError(
            f"second: expected as many solvers as first, of shape {sets[0].shape}, got shape {sets[1].shape}"
        )
    means = [scores.mean(axis=1) for scores in sets]
    order = np.argsort(means[0], kind="stable").tolist()
    pairs, significant = [], []
    for place, i in enumerate(order):
        for j in order[place + 1 :]:
            if means[0][i] < means[0][j] and means[1][i] > means[1][j]:
                ends = [
                    paired_seeds_interval(scores[i], scores[j], level=level, resamples=resamples, seed=seed)
                    for scores in sets
                ]
                pairs.append((i, j))
                significant.append(bool(ends[0].high < 0 and ends[1].low > 0))  # NaN, of one sample, is neither
    return Agreement(float(stats.kendalltau(*means).statistic), pairs, significant)


def average_ranks(
    scores: Float[np.ndarray, "solvers problems"], *, better: Better = "lower"
) -> Float[np.ndarray, " solvers"]:
    """Average the ranks of solvers over problems.

    Rank 1 is the best score, and equal scores share the mean of their ranks.

    Args:
      scores: shape (solvers, problems). A failure scores inf, or -inf if higher is better.
      better: whether "lower" (default) or "higher" scores are better.

    Returns:
      The average rank of each solver.

    Raises:
      ValueError: if `scores` is not a matrix, or holds NaN.

    References:
      Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", 2006, Journal of Machine Learning
        Research 7.
    """
    costs = sign_of(better) * _matrix("scores", scores)
    return np.asarray(stats.rankdata(costs, axis=0).mean(axis=1))


def _matrix(name: str, scores: Any) -> Float[np.ndarray, "solvers problems"]:
    """Convert scores to a matrix of floats, and raise an error for another shape or NaN."""
    array = numbers(name, scores)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name}: expected numbers of shape (solvers, problems), got shape {array.shape}")
    return array


def rank_across_tasks(
    costs: Float[np.ndarray, "solvers tasks seeds"],
    *,
    level: float = 0.95,
    resample_tasks: bool = False,
    resamples: int = 2000,
    seed: int = 0,
) -> AcrossTasks:
    """Rank solvers by their mean cost on each task, and average the ranks over tasks.

    A solver with a failed run on a task has the mean cost inf there. Means that are equal to 12 digits share the mean
    of their ranks. Friedman's statistic is corrected for such ties, as SciPy's is; Demsar's formula is not.

    The intervals of the average ranks resample seeds, the same seeds of a task for all solvers: how much would other
    seeds change the ranks on these tasks? With `resample_tasks` they resample tasks as well: how would the ranks be
    on other tasks of the same kind? Friedman's test and the critical difference answer the second question. They
    assume independent tasks, and have little power if there are few.

    Args:
      costs: shape (solvers, tasks, seeds); lower is better, and inf is a failure. Every solver needs a cost for every
        task and seed, so leave out a task on which a solver was not run.
      level: the confidence level of the intervals and of the critical difference. Default 0.95.
      resample_tasks: whether the intervals resample tasks as well as seeds. Default False.
      resamples: the number of bootstrap resamples. Default 2000.
      seed: the seed of the resampling. Default 0.

    Returns:
      An `AcrossTasks`. The ends of its interval are NaN below 16 seeds or, with `resample_tasks`, below 16 tasks: of
        fewer, bootstrap intervals are too narrow, and ranks have no other.

    Raises:
      ValueError: if `costs` has another shape, has fewer than two solvers, or holds NaN or -inf.

    References:
      Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", 2006, Journal of Machine Learning
        Research 7, section 3.2.2.
    """
    require_flag("resample_tasks", resample_tasks)
    require_resampling(level, resamples, seed)
    costs = as_numbers("costs", costs, finite=False).astype(float)
    if costs.ndim != 3 or costs.shape[0] < 2 or min(costs.shape) < 1:
        raise ValueError(f"costs: expected shape (solvers, tasks, seeds) with at least 2 solvers, got {costs.shape}")
    if np.isnan(costs).any():
        raise ValueError(
            "costs: expected a number for every solver, task and seed, got NaN; leave out incomplete tasks"
        )
    if (costs == -np.inf).any():
        raise ValueError("costs: expected numbers, or inf for a failure (lower is better), got -inf")
    solvers, tasks, seeds = costs.shape
    by_task = _ranks(costs.mean(axis=2))
    average = by_task.mean(axis=1)
    if (tasks if resample_tasks else seeds) < FEW:
        low = high = np.full(solvers, np.nan)
    else:
        generator = np.random.default_rng(seed)
        drawn = np.empty((resamples, solvers))
        for row in drawn:
            columns = generator.integers(tasks, size=tasks) if resample_tasks else np.arange(tasks)
            picked = generator.integers(seeds, size=(tasks, seeds))
            means = np.take_along_axis(costs[:, columns], picked[None], axis=2).mean(axis=2)
            row[:] = _ranks(means).mean(axis=1)
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    friedman, iman_davenport = _friedman(by_task)
    difference = nemenyi_difference(solvers, tasks, level=level)
    groups = indistinct_groups(average, difference)
    return AcrossTasks(Interval(average, low, high), by_task, friedman, iman_davenport, difference, groups)


def _friedman(ranks: Float[np.ndarray, "solvers tasks"]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return Friedman's statistic (corrected for ties) and Iman and Davenport's, with p values; NaN for one task."""
    solvers, tasks = ranks.shape
    if tasks == 1:
        return (math.nan, math.nan), (math.nan, math.nan)
    average = ranks.mean(axis=1)
    ties = sum(float(np.sum(count**3 - count)) for count in (_tie_counts(column) for column in ranks.T))
    scale = 1 - ties / (tasks * (solvers**3 - solvers))
    square = 12 * tasks / (solvers * (solvers + 1)) * (np.sum(average**2) - solvers * (solvers + 1) ** 2 / 4)
    square = float(square / scale) if scale > 0 else 0.0
    rest = tasks * (solvers - 1) - square
    f = (tasks - 1) * square / rest if rest > 1e-9 else math.inf
    return (
        (square, float(stats.chi2.sf(square, solvers - 1))),
        (f, float(stats.f.sf(f, solvers - 1, (solvers - 1) * (tasks - 1)))),
    )


def nemenyi_difference(solvers: int, tasks: int, *, level: float = 0.95) -> float:
    """Nemenyi's critical difference: q sqrt(k (k + 1) / (6 N)) for k solvers on N tasks.

    Here q is the quantile of the studentized range for k means and infinitely many degrees of freedom, over sqrt(2).

    Args:
      solvers: k, at least 2.
      tasks: N, at least 1.
      level: the confidence level. Default 0.95.

    Returns:
      The critical difference of average ranks.

    Raises:
      ValueError: if an argument is out of range.

    References:
      Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", 2006, Journal of Machine Learning
        Research 7, section 3.2.2.
    """
    require_count("solvers", solvers, low=2)
    require_count("tasks", tasks)
    require_number("level", level, 0.0, 1.0, open_low=True, open_high=True)
    q = float(stats.studentized_range.ppf(level, solvers, np.inf)) / math.sqrt(2)
    return q * math.sqrt(solvers * (solvers + 1) / (6 * tasks))


def indistinct_groups(ranks: Float[np.ndarray, " solvers"], difference: float) -> list[list[int]]:
    """Find the largest sets of at least two solvers whose average ranks all lie within `difference` of each other.

    Args:
      ranks: the average rank of each solver.
      difference: the critical difference, such as `nemenyi_difference`.

    Returns:
      Lists of solver indices in order of rank, the list with the best rank first.

    Raises:
      ValueError: if `ranks` is not a vector of finite numbers, or `difference` is negative.
    """
    ranks = as_numbers("ranks", ranks, finite=False)
    if ranks.ndim != 1 or not np.isfinite(ranks).all():
        raise ValueError(f"ranks: expected a vector of finite numbers, got {ranks.tolist()}")
    require_number("difference", difference, 0.0)
    order = np.argsort(ranks, kind="stable").tolist()
    groups: list[list[int]] = []
    reached = -1
    for begin in range(len(order)):
        end = max(k for k in range(begin, len(order)) if ranks[order[k]] - ranks[order[begin]] <= difference)
        if end > begin and end > reached:
            groups.append(order[begin : end + 1])
            reached = end
    return groups


def _ranks(means: Float[np.ndarray, "solvers tasks"]) -> Float[np.ndarray, "solvers tasks"]:
    # The mean of the same numbers in another order can differ in the last digit, which must not decide a rank.
    rounded = np.reshape([float(f"{mean:.12g}") for mean in means.flat], means.shape)
    return np.asarray(stats.rankdata(rounded, axis=0), float)


def _tie_counts(ranks: Float[np.ndarray, " solvers"]) -> Float[np.ndarray, " distinct"]:
    return np.unique(ranks, return_counts=True)[1].astype(float)
