"""Solvers ranked over several tasks: average ranks, how sure they are, and which of them are not told apart."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from gdlab.arguments import require_count, require_number
from gdlab.statistics import Interval

__all__ = ["AcrossTasks", "critical_difference", "indistinct_groups", "rank_across_tasks"]


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
    if tasks > 1:
        ties = sum(float(np.sum(count**3 - count)) for count in (_tie_counts(column) for column in by_task.T))
        scale = 1 - ties / (tasks * (solvers**3 - solvers))
        square = 12 * tasks / (solvers * (solvers + 1)) * (np.sum(average**2) - solvers * (solvers + 1) ** 2 / 4)
        square = float(square / scale) if scale > 0 else 0.0
        friedman = square, float(stats.chi2.sf(square, solvers - 1))
        rest = tasks * (solvers - 1) - square
        f = (tasks - 1) * square / rest if rest > 1e-9 else math.inf
        iman_davenport = f, float(stats.f.sf(f, solvers - 1, (solvers - 1) * (tasks - 1)))
    else:
        friedman = iman_davenport = (math.nan, math.nan)
    difference = critical_difference(solvers, tasks, level=level)
    groups = indistinct_groups(average, difference)
    return AcrossTasks(Interval(average, low, high), by_task, friedman, iman_davenport, difference, groups)


def critical_difference(solvers: int, tasks: int, *, level: float = 0.95) -> float:
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
