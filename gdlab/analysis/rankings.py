"""Solvers ranked by their scores: on one task, and over several.

Of two scores the lower one is better, as of losses and steps, unless `better="higher"` is given.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from gdlab.analysis.statistics import Better, Interval, numbers, paired_bootstrap_interval, sign_of
from gdlab.arguments import require_count, require_number

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
    """Solvers by their mean score, the best first; every field is in this order.

    order: places in the given scores. mean: of the scores. rank: mean over samples of the rank, 1 for the best score.
    behind: by how much a solver's mean is worse than the best one's. ahead: by how much it is better than the next
    one's, NaN for the last.
    """

    order: Int[np.ndarray, " solvers"]
    mean: Float[np.ndarray, " solvers"]
    rank: Float[np.ndarray, " solvers"]
    behind: Interval
    ahead: Interval


class Agreement(NamedTuple):
    """How far two rankings by mean score agree.

    tau: Kendall's (b), NaN where a ranking has no order. reversed: the pairs (better, worse) of solvers in the first
    ranking whose order the second one turns round, the first one's best first. significant: of each
    pair, whether the intervals of its differences exclude 0 in both, so that more than chance turned it round.
    """

    tau: float
    reversed: list[tuple[int, int]]
    significant: list[bool]


class AcrossTasks(NamedTuple):
    """Average ranks over tasks, 1 for the least cost, and what they say.

    rank: of each solver, with its bootstrap interval. by_task: the ranks that were averaged. friedman: the statistic
    chi^2_F and its p value; iman_davenport: F_F and its p value, which is less conservative; both small where ranks
    differ by more than chance. critical_difference: Nemenyi's; solvers whose average ranks differ by less are not told
    apart. groups: the largest sets of such solvers, as places, in order of rank.
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
    """Solvers ordered by mean score, with paired-bootstrap intervals of the differences to the best and to the next.

    A failure is inf, or -inf where higher is better, and so is the mean of a solver that failed once. Sample i of all
    solvers comes from the same seed. Equal means keep the given order. One sample has no interval: the ends are NaN.
    """
    costs = sign_of(better) * np.asarray(scores, float)
    ranks = average_ranks(costs)
    mean = costs.mean(axis=1)
    order = np.argsort(mean, kind="stable")
    ordered = costs[order]

    def difference(first: np.ndarray, second: np.ndarray) -> Interval:
        found = paired_bootstrap_interval(first, second, level=level, resamples=resamples, seed=seed)
        return found if costs.shape[1] > 1 else found._replace(low=found.low * np.nan, high=found.high * np.nan)

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
    """Whether the same solvers rank alike in two sets of scores, as in `ranking`.

    Samples are paired between solvers, not between the sets. With one sample in a set no pair is significant.
    """
    sets = [sign_of(better) * np.asarray(scores, float) for scores in (first, second)]
    if sets[0].ndim != 2 or sets[1].ndim != 2 or len(sets[0]) != len(sets[1]):
        raise ValueError(f"second: wanted as many solvers as first, {sets[0].shape}, got shape {sets[1].shape}")
    means = [numbers("scores", scores).mean(axis=1) for scores in sets]
    order = np.argsort(means[0], kind="stable").tolist()
    pairs, significant = [], []
    for place, i in enumerate(order):
        for j in order[place + 1 :]:
            if means[0][i] < means[0][j] and means[1][i] > means[1][j]:
                ends = [
                    paired_bootstrap_interval(scores[i], scores[j], level=level, resamples=resamples, seed=seed)
                    for scores in sets
                ]
                pairs.append((i, j))
                few = min(scores.shape[1] for scores in sets) < 2
                significant.append(bool(not few and ends[0].high < 0 and ends[1].low > 0))
    return Agreement(float(stats.kendalltau(*means).statistic), pairs, significant)


def average_ranks(
    scores: Float[np.ndarray, "solvers problems"], *, better: Better = "lower"
) -> Float[np.ndarray, " solvers"]:
    """The mean over problems of a solver's rank, 1 for the best score; equal scores share their ranks' mean.

    Demsar 2006, Journal of Machine Learning Research 7. A failure has the score inf, or -inf where higher is better.
    """
    scores = sign_of(better) * np.asarray(scores, float)
    if scores.ndim != 2 or np.isnan(scores).any():
        raise ValueError(f"scores: wanted numbers of shape (solvers, problems), got shape {scores.shape} or NaN")
    return np.asarray(stats.rankdata(scores, axis=0).mean(axis=1))


def rank_across_tasks(
    costs: Float[np.ndarray, "solvers tasks seeds"],
    *,
    level: float = 0.95,
    resample_tasks: bool = False,
    resamples: int = 2000,
    seed: int = 0,
) -> AcrossTasks:
    """Rank solvers by their mean cost in each task, and average the ranks (Demsar 2006, JMLR 7, section 3.2.2).

    Lower is better; inf is a failure, and a solver that failed once in a task has the mean inf there. Equal means (to
    12 digits) share their ranks' mean; Friedman's statistic is corrected for such ties, as SciPy's is and Demsar's
    formula is not. A solver that was not run on a task has no rank there: NaN is refused, leave the task out.

    The interval resamples seeds, the same ones of a task for all solvers: how much would other seeds change the ranks
    on these tasks? With resample_tasks tasks are resampled too: how would they be on other tasks of the kind? Of one
    seed, or of one task where tasks are resampled, there is no interval: NaN ends. Friedman's test and the critical
    difference ask the latter question and take tasks as independent; with few tasks they tell little.
    """
    costs = np.asarray(costs, float)
    if costs.ndim != 3 or costs.shape[0] < 2 or min(costs.shape) < 1:
        raise ValueError(f"costs: wanted shape (solvers, tasks, seeds) with 2 solvers at least, got {costs.shape}")
    if np.isnan(costs).any():
        raise ValueError("costs: wanted a number for every solver, task and seed, got NaN; leave out what is missing")
    if (costs == -np.inf).any():
        raise ValueError("costs: wanted numbers, and inf for a failure, since lower is better; got -inf")
    require_number("level", level, 0.0, 1.0, open_low=True, open_high=True)
    require_count("resamples", resamples)
    solvers, tasks, seeds = costs.shape
    by_task = _ranks(costs.mean(axis=2))
    average = by_task.mean(axis=1)
    if (tasks if resample_tasks else seeds) == 1:
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
    """Friedman's statistic, corrected for ties, and Iman and Davenport's, each with its p value; NaN for one task."""
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
    """Nemenyi's: q sqrt(k (k + 1) / (6 N)) for k solvers on N tasks (Demsar 2006, section 3.2.2).

    q is the quantile of the studentized range for k means and infinitely many degrees of freedom, over sqrt(2).
    """
    require_count("solvers", solvers, low=2)
    require_count("tasks", tasks)
    require_number("level", level, 0.0, 1.0, open_low=True, open_high=True)
    q = float(stats.studentized_range.ppf(level, solvers, np.inf)) / math.sqrt(2)
    return q * math.sqrt(solvers * (solvers + 1) / (6 * tasks))


def indistinct_groups(ranks: Float[np.ndarray, " solvers"], difference: float) -> list[list[int]]:
    """The largest sets of at least two solvers whose average ranks all lie within `difference`, the best first."""
    if np.ndim(ranks) != 1 or not np.isfinite(ranks).all():
        raise ValueError(f"ranks: wanted a vector of finite numbers, got {np.asarray(ranks).tolist()}")
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
    # The same seeds' numbers in another order have a mean that differs in the last digit, which is no better rank.
    rounded = np.reshape([float(f"{mean:.12g}") for mean in means.flat], means.shape)
    return np.asarray(stats.rankdata(rounded, axis=0), float)


def _tie_counts(ranks: Float[np.ndarray, " solvers"]) -> Float[np.ndarray, " distinct"]:
    return np.unique(ranks, return_counts=True)[1].astype(float)
