"""Summaries of runs: values, means and ranks, and the tables that show them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from gdlab.analysis.intervals import Interval, mean_interval
from gdlab.analysis.learning_curves import Band, bands
from gdlab.analysis.rankings import AcrossTasks, Ranking, compare_rankings, rank_across_tasks, ranking
from gdlab.analysis.statistics import sign_of
from gdlab.analysis.tables import Block, Table, counted
from gdlab.comparison.problems import Measure, Problem
from gdlab.comparison.results import Collected, Run
from gdlab.comparison.study import Study

Found = Mapping[str, Mapping[str, Collected]]
"""What the folders hold for each problem and candidate, as `collect_all` returns it."""


def summarize(found: Float[np.ndarray, " runs"]) -> dict[str, Any]:
    """Summarize the values of runs for a JSON file.

    The entries are the values, their mean, their standard deviation over seeds, and Student's interval. All but the
    values are None if a run diverged or there is no run. A single run has no standard deviation and no interval.
    """
    well = bool(found.size) and bool(np.isfinite(found).all())
    interval = mean_interval(found) if well else Interval(None, None, None)
    spread = float(found.std(ddof=1)) if well and found.size > 1 else None
    return {"values": found, "mean": interval.estimate, "sd": spread, "low": interval.low, "high": interval.high}


def number(measure: Measure, value: float | None) -> str:
    """Format a value with the measure's digits, or as a dash if it is missing or not finite."""
    return "-" if value is None or not np.isfinite(value) else f"{value:.{measure.digits}f}"


def with_interval(measure: Measure, middle: str, low: float | None, high: float | None) -> str:
    """Return `middle [low, high]`, or only `middle` if an end is missing or not finite."""
    bounded = low is not None and high is not None and np.isfinite([low, high]).all()
    return f"{middle} [{number(measure, low)}, {number(measure, high)}]" if bounded else middle


def cell(measure: Measure, values: Float[np.ndarray, " runs"], expected: int, *, interval: bool = False) -> str:
    """Format values as mean ± standard deviation, followed by Student's interval if `interval` is True.

    If runs diverged, the cell says how many. If runs are missing, it says how many of the expected runs there are.
    """
    if not values.size:
        return "-"
    if failed := int(np.isinf(values).sum()):
        return f"{failed} of {values.size} diverged"
    spread = f" ± {number(measure, values.std(ddof=1))}" if values.size > 1 else ""
    middle = number(measure, values.mean()) + spread
    if interval:
        middle = with_interval(measure, middle, *mean_interval(values)[1:])
    return middle + (f" ({values.size} of {expected})" if values.size < expected else "")


class Column(NamedTuple):
    """A column of a table: a measure on one part of the data.

    Attributes:
      label: the heading, with the unit.
      measure: the measure.
      part: "train", "valid" or "test".
    """

    label: str
    measure: Measure
    part: str


def values(runs: Sequence[Run], measure: Measure, part: str = "test", which: str = "final") -> np.ndarray:
    """Return the measure of each run, as `Run.value` calculates it."""
    return np.array([run.value(measure, part, which) for run in runs])


def summary_table(
    study: Study,
    runs: Mapping[str, Sequence[Run]],
    columns: Sequence[Column],
    caption: str,
    *,
    which: str = "final",
) -> Table:
    """Make a table with one row per candidate: its epochs, the columns, and the time per epoch.

    Args:
      study: the study.
      runs: the final runs of each candidate.
      columns: the columns, each shown as mean ± standard deviation [interval].
      caption: the beginning of the caption.
      which: "final" (default) or "best": the epoch of each run whose values are shown.

    Returns:
      The table.
    """
    rows = []
    for name, own in runs.items():
        epochs = [len(run.seconds) if which == "final" else run.best_epoch or 0 for run in own]
        span = f"{min(epochs)}" + (f" to {max(epochs)}" if max(epochs) > min(epochs) else "") if own else "-"
        cells = [
            cell(each.measure, values(own, each.measure, each.part, which), len(study.seeds), interval=True)
            for each in columns
        ]
        pace = f"{np.median(np.concatenate([run.seconds for run in own])):.1f} s" if own else "-"
        rows.append((study.candidate(name).shown, span, *cells, pace))
    head = ("optimizer", "epoch", *(each.label for each in columns), "time per epoch")
    return Table(head, rows, f"{caption}: mean ± standard deviation over seeds [Student's 95% interval].")


def rank_candidates(
    runs: Mapping[str, Sequence[Run]], measure: Measure, seeds: int, part: str = "test", which: str = "final"
) -> tuple[list[str], Ranking] | None:
    """Rank the candidates that have all their seeds, by the measure at the epoch `which` of `Run.value`.

    Returns:
      The names of the candidates, the best first, and their `Ranking`; None if there are fewer than two.
    """
    names = [name for name, own in runs.items() if len(own) == seeds]
    if len(names) < 2:
        return None
    scores = np.stack([values(runs[name], measure, part, which) for name in names])
    ranked = ranking(scores, better=measure.better)
    return [names[place] for place in ranked.order], ranked


def ranking_table(study: Study, ranked: tuple[list[str], Ranking], measure: Measure, what: str) -> Table:
    """Make a table with one row per candidate, the best first, with its differences to the best and to the next one."""
    names, found = ranked

    def difference(interval: Interval, place: int) -> str:
        middle, low, high = (end[place] for end in interval)
        return with_interval(measure, number(measure, middle), low, high)

    rows = [
        (
            str(place + 1),
            study.candidate(name).shown,
            number(measure, found.mean[place]) if np.isfinite(found.mean[place]) else "diverged",
            f"{found.rank[place]:.2f}",
            difference(found.behind, place) if place else "-",
            difference(found.ahead, place),
        )
        for place, name in enumerate(names)
    ]
    head = ("place", "optimizer", measure.label, "mean rank", "behind the best", "ahead of the next")
    return Table(head, rows, f"{what}: differences are paired over seeds [95% interval].")


def rank_over_problems(study: Study, found: Found) -> tuple[AcrossTasks, list[str]] | None:
    """Rank the candidates over the problems on which every candidate has all its seeds.

    Each problem counts with its longest final runs.

    Returns:
      The average ranks, and the names of the problems; None if there are fewer than two problems or candidates.
    """
    kept, costs = [], []
    for problem in study.problems:
        own = found[problem.name]
        measured = [values(one.runs[max(problem.epochs)], problem.measure) for one in own.values()]
        if all(each.size == len(study.seeds) for each in measured):
            kept.append(problem.name)
            costs.append(sign_of(problem.measure.better) * np.stack(measured))
    if len(kept) < 2 or len(costs[0]) < 2:
        return None
    return rank_across_tasks(np.stack(costs, axis=1)), kept


def across_table(study: Study, ranked: AcrossTasks, kept: Sequence[str], names: Sequence[str]) -> Table:
    """Make a table with one row per candidate, the best first: its average rank, and its rank on each problem."""
    rows = []
    for index in np.argsort(ranked.rank.estimate, kind="stable"):
        low, high = ranked.rank.low[index], ranked.rank.high[index]
        ends = f" [{low:.2f}, {high:.2f}]" if np.isfinite(low) else ""
        ranks = (f"{rank:g}" for rank in ranked.by_task[index])
        rows.append((study.candidate(names[index]).shown, f"{ranked.rank.estimate[index]:.2f}{ends}", *ranks))
    caption = (
        "Average rank over tasks [95% bootstrap interval over seeds, from 16 seeds on], and the rank on each task; "
        "rank 1 is the best."
    )
    return Table(("optimizer", "average rank", *(study.problem(name).shown for name in kept)), rows, caption)


def across_words(ranked: AcrossTasks, count: int) -> str:
    """Describe the significance of a ranking over `count` problems."""
    groups = "in a rank diagram a bar joins optimizers that do not" if ranked.groups else "all pairs of optimizers do"
    return (
        f"Friedman's test of the hypothesis that the optimizers do not differ: p = {ranked.friedman[1]:.3g} (in Iman "
        f"and Davenport's form, p = {ranked.iman_davenport[1]:.3g}). Average ranks over {count} tasks differ "
        f"significantly if they are more than {ranked.critical_difference:.2f} apart (Nemenyi's test at the 5% level); "
        f"{groups}."
    )


def tuned_table(study: Study, found: Found, caption: str = "") -> Table:
    """Make a table of the setting of the best trial, for each candidate and problem."""

    def setting(one: Collected) -> str:
        if one.setting is None:
            return "-"
        cells = [f"{name} {value:.3g}" for name, value in one.setting.items()]
        return ", ".join(cells).replace("learning_rate ", "") + ("*" if one.at_the_edge else "")

    problems = [problem for problem in study.problems if problem.name in found]
    names = list(found[problems[0].name])
    rows = [
        (study.candidate(name).shown, *(setting(found[problem.name][name]) for problem in problems)) for name in names
    ]
    trials = len(problems[0].trials[names[0]])
    text = (
        f"Learning rate and other tuned values of the best of {counted(trials, 'trial')} (*: the lowest or highest "
        "rate tried)."
    )
    return Table(("optimizer", *(problem.shown for problem in problems)), rows, f"{text} {caption}".strip())


def orders_compared(
    first: Mapping[str, Sequence[Run]], second: Mapping[str, Sequence[Run]], column: Column
) -> dict[str, Any]:
    """Compare how two sets of runs, such as those of two problems, rank the candidates that have all runs in both.

    Args:
      first: the runs of each candidate.
      second: the runs of the same candidates in the other set.
      column: the measure and part of the data to rank by.

    Returns:
      A dictionary for a JSON file: survives, kendall_tau (None if fewer than two candidates have all runs), pairs
        (their number) and reversed (the reversed pairs). The
        entry survives is "no" if a pair of candidates is reversed and its intervals exclude 0 in both sets, "yes" if
        no pair is reversed and both sets have more than one seed, and otherwise "undecided".
    """
    most = max(len(own) for runs in (first, second) for own in runs.values())
    names = [name for name in first if len(first[name]) == len(second[name]) == most > 0]
    if len(names) < 2:
        return {"survives": "undecided", "kendall_tau": None, "pairs": 0, "reversed": []}
    scores = [np.stack([values(runs[name], column.measure, column.part) for name in names]) for runs in (first, second)]
    agreement = compare_rankings(*scores, better=column.measure.better)
    order = ranking(scores[0], better=column.measure.better).order.tolist()
    swapped = [
        {
            "better": names[i],
            "worse": names[j],
            "neighbours": order.index(j) - order.index(i) == 1,
            "significant": significant,
        }
        for (i, j), significant in zip(agreement.reversed, agreement.significant, strict=True)
    ]
    undecided = bool(swapped) or min(len(each[0]) for each in scores) < 2
    survives = "no" if any(agreement.significant) else "undecided" if undecided else "yes"
    pairs = len(names) * (len(names) - 1) // 2
    return {"survives": survives, "kendall_tau": agreement.tau, "pairs": pairs, "reversed": swapped}


def orders_words(study: Study, compared: Mapping[str, Any], question: str) -> list[Block]:
    """Answer a question that `orders_compared` decides, and list the reversed pairs."""
    if compared["kendall_tau"] is None:
        return [f"{question} Undecided: runs are missing."]
    answer = ("no", "yes")
    pairs = [
        (
            f"{study.candidate(pair['better']).shown}, {study.candidate(pair['worse']).shown}",
            answer[pair["neighbours"]],
            answer[pair["significant"]],
        )
        for pair in compared["reversed"]
    ]
    words = (
        f"{question} {compared['survives'].capitalize()}. Kendall's tau is {compared['kendall_tau']:.2f}; reversed "
        f"pairs: {len(pairs)} of {compared['pairs']}. (No: a pair is reversed, and its intervals exclude 0 in both "
        "rankings. Yes: no pair is reversed.)"
    )
    head = ("pair (better, worse) in the first ranking", "adjacent", "significant in both")
    return [words, *([Table(head, pairs, "Pairs whose order differs between the rankings.")] if pairs else [])]


def watched_loss(runs: Mapping[str, Sequence[Run]]) -> tuple[str, str]:
    """Return the metric by which the best epoch of a run is known, and its name in words."""
    held = any("valid_loss" in run.history for own in runs.values() for run in own)
    return ("valid_loss", "held-out loss") if held else ("test_loss", "test loss")


def problem_tables(
    study: Study,
    problem: Problem,
    runs: Mapping[str, Sequence[Run]],
    columns: Sequence[Column],
    rank_by: Sequence[Column],
) -> dict[str, Table]:
    """Make the tables of one problem: the columns at the end and at the best epoch of each run, and rankings.

    Args:
      study: the study.
      problem: the problem.
      runs: the problem's final runs of each candidate.
      columns: the columns of the first two tables.
      rank_by: the columns that each give a ranking of the candidates.

    Returns:
      The tables by name. The names begin with the problem's name, as a folder.
    """
    best = f"At each run's epoch of lowest {watched_loss(runs)[1]}"
    tables = {
        "final": summary_table(study, runs, columns, "At the end of each run"),
        "best": summary_table(study, runs, columns, best, which="best"),
    }
    for column in rank_by:
        ranked = rank_candidates(runs, column.measure, len(study.seeds), column.part)
        if ranked is not None:
            name = f"ranking_{column.part}_{column.measure.metric}"
            tables[name] = ranking_table(study, ranked, column.measure, f"Ranking by final {column.label}")
    return {f"{problem.name}/{name}": table for name, table in tables.items()}


def panels_of(study: Study, runs: Mapping[str, Sequence[Run]], columns: Sequence[Column]) -> dict[str, dict[str, Band]]:
    """Return the candidates' curves over epochs by column label, as `gdlab.plots.learning_panels` takes them."""
    return {
        column.label: bands(
            {
                study.candidate(name).shown: [run.curve(column.measure, column.part) for run in own]
                for name, own in runs.items()
                if own
            }
        )
        for column in columns
    }


def scores_across(
    study: Study, runs: Mapping[str, Mapping[str, Sequence[Run]]], column: Column
) -> dict[str, Float[np.ndarray, "problems 3"]]:
    """Return the final score of each candidate on several problems, as `gdlab.plots.slopes` draws them.

    Args:
      study: the study.
      runs: the final runs of each candidate, by problem.
      column: the measure and part of the data.

    Returns:
      For each candidate that has all its seeds on all problems, none of which diverged, the mean and Student's interval
      on each problem, by the name that is shown.
    """
    found = {}
    for name in next(iter(runs.values())):
        scores = [values(own[name], column.measure, column.part) for own in runs.values()]
        if all(each.size == len(study.seeds) and np.isfinite(each).all() for each in scores):
            found[study.candidate(name).shown] = np.array([mean_interval(each) for each in scores], float)
    return found


def seeds_note(study: Study, intervals: str = "shaded") -> str:
    """Describe the means in a figure of the study, and its intervals, which are "shaded" or drawn otherwise."""
    count = len(study.seeds)
    return "one seed" if count == 1 else f"mean of {count} seeds; {intervals}: 95% interval"
