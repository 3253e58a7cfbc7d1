"""What runs come to: values, means and ranks, and the tables that show them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from gdlab.analysis.learning_curves import Band, bands
from gdlab.analysis.rankings import AcrossTasks, Ranking, compare_rankings, rank_across_tasks, ranking
from gdlab.analysis.statistics import Interval, mean_interval, sign_of
from gdlab.analysis.tables import Block, Table
from gdlab.comparison.results import Collected, Run
from gdlab.comparison.study import Measure, Problem, Study

Found = Mapping[str, Mapping[str, Collected]]
"""Of each problem and candidate what its folders hold, as of `collect_all`."""


def summarize(found: Float[np.ndarray, " runs"]) -> dict[str, Any]:
    """Values, mean, standard deviation over seeds and Student's interval; None where a run diverged or one is alone."""
    well = bool(found.size) and bool(np.isfinite(found).all())
    interval = mean_interval(found) if well else Interval(None, None, None)
    spread = float(found.std(ddof=1)) if well and found.size > 1 else None
    return {"values": found, "mean": interval.estimate, "sd": spread, "low": interval.low, "high": interval.high}


def number(measure: Measure, value: float | None) -> str:
    """With the measure's digits; a dash for what has no finite value."""
    return "-" if value is None or not np.isfinite(value) else f"{value:.{measure.digits}f}"


def with_interval(measure: Measure, middle: str, low: float | None, high: float | None) -> str:
    """`middle [low, high]`; without the ends where they are not finite."""
    bounded = low is not None and high is not None and np.isfinite([low, high]).all()
    return f"{middle} [{number(measure, low)}, {number(measure, high)}]" if bounded else middle


def cell(measure: Measure, values: Float[np.ndarray, " runs"], expected: int, *, interval: bool = False) -> str:
    """Mean ± standard deviation, and Student's interval if asked for.

    How many runs diverged where some did, and how many of those expected there are where some are missing.
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
    """A measure on a part of the data, "train", "valid" or "test". label: with the unit."""

    label: str
    measure: Measure
    part: str


def values(runs: Sequence[Run], measure: Measure, part: str = "test", which: str = "final") -> np.ndarray:
    """The measure of each run; see `Run.value`."""
    return np.array([run.value(measure, part, which) for run in runs])


def summary_table(
    study: Study,
    runs: Mapping[str, Sequence[Run]],
    columns: Sequence[Column],
    caption: str,
    *,
    which: str = "final",
) -> Table:
    """A row per candidate: its epochs, each column's mean ± standard deviation [interval], and the time of an epoch.

    which: at the "final" epoch of each run, or at the "best" one.
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
    head = ("optimizer", "epoch", *(each.label for each in columns), "per epoch")
    return Table(head, rows, f"{caption}: mean ± standard deviation over seeds [95% interval, Student].")


def rank_candidates(
    runs: Mapping[str, Sequence[Run]], measure: Measure, seeds: int, part: str = "test"
) -> tuple[list[str], Ranking] | None:
    """The candidates that have all their seeds, and their ranking; None where there are less than two."""
    names = [name for name, own in runs.items() if len(own) == seeds]
    if len(names) < 2:
        return None
    scores = np.stack([values(runs[name], measure, part) for name in names])
    ranked = ranking(scores, better=measure.better)
    return [names[place] for place in ranked.order], ranked


def ranking_table(study: Study, ranked: tuple[list[str], Ranking], measure: Measure, what: str) -> Table:
    """A row per candidate, the best first, with its differences to the best and to the next one."""
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
    return Table(head, rows, f"{what}: differences are paired over seeds [95% bootstrap interval].")


def rank_over_problems(study: Study, found: Found) -> tuple[AcrossTasks, list[str]] | None:
    """Over the problems on which every candidate has all its seeds, each at its longest; None: less than two."""
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
    """A row per candidate, the best first: its average rank and the rank on each problem."""
    rows = []
    for index in np.argsort(ranked.rank.estimate, kind="stable"):
        low, high = ranked.rank.low[index], ranked.rank.high[index]
        ends = f" [{low:.2f}, {high:.2f}]" if np.isfinite(low) else ""
        ranks = (f"{rank:g}" for rank in ranked.by_task[index])
        rows.append((study.candidate(names[index]).shown, f"{ranked.rank.estimate[index]:.2f}{ends}", *ranks))
    caption = (
        "Average rank over tasks [95% bootstrap interval: other seeds on these tasks; too narrow for few seeds], and "
        "the rank on each, 1 is best."
    )
    return Table(("optimizer", "average rank", *(study.problem(name).shown for name in kept)), rows, caption)


def across_words(ranked: AcrossTasks, count: int) -> str:
    """What the ranking over so many problems says."""
    groups = "no two optimizers lie so near together" if not ranked.groups else "a bar joins those that do not"
    return (
        f"Friedman's test of no difference: p = {ranked.friedman[1]:.3g} (Iman and Davenport's form "
        f"{ranked.iman_davenport[1]:.3g}). Average ranks over {count} tasks that differ by more than "
        f"{ranked.critical_difference:.2f} are told apart (Nemenyi, 5%); {groups}."
    )


def tuned_table(study: Study, found: Found, caption: str = "") -> Table:
    """Of each candidate and problem the setting of the best trial."""

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
        f"Learning rate, and what else is tuned, of the best of {trials} trials (* the least or greatest rate tried)."
    )
    return Table(("optimizer", *(problem.shown for problem in problems)), rows, f"{text} {caption}".strip())


def orders_compared(
    first: Mapping[str, Sequence[Run]], second: Mapping[str, Sequence[Run]], column: Column
) -> dict[str, Any]:
    """Whether the candidates rank alike by a column in two sets of runs, such as those of two problems.

    survives: "no" where a pair of candidates is reversed and its intervals exclude 0 in both; "yes" where no pair is
    reversed, nor is there one seed alone; else "cannot be told".
    """
    scores = [np.stack([values(runs[name], column.measure, column.part) for name in first]) for runs in (first, second)]
    agreement = compare_rankings(*scores, better=column.measure.better)
    names = list(first)
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
    untold = bool(swapped) or min(len(each[0]) for each in scores) < 2
    survives = "no" if any(agreement.significant) else "cannot be told" if untold else "yes"
    pairs = len(names) * (len(names) - 1) // 2
    return {"survives": survives, "kendall_tau": agreement.tau, "pairs": pairs, "reversed": swapped}


def orders_words(study: Study, compared: Mapping[str, Any], question: str) -> list[Block]:
    """The answer to a question that `orders_compared` decides, and the pairs that are reversed."""
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
        f"{question} {compared['survives'].capitalize()}. Kendall's tau is {compared['kendall_tau']:.2f}; "
        f"{len(pairs)} of {compared['pairs']} pairs are reversed. (No: a pair is reversed, and its intervals exclude 0 "
        "in both. Yes: no pair is reversed.)"
    )
    head = ("pair, in its first order", "neighbours", "significant in both")
    return [words, *([Table(head, pairs, "Pairs whose order differs.")] if pairs else [])]


def problem_tables(
    study: Study,
    problem: Problem,
    runs: Mapping[str, Sequence[Run]],
    columns: Sequence[Column],
    rank_by: Sequence[Column],
) -> dict[str, Table]:
    """Of one problem the columns at the end of each run and at its best epoch, and a ranking by each of `rank_by`.

    runs: of each candidate. The tables' names begin with the problem's, as a folder.
    """
    held = any("valid_loss" in run.history for own in runs.values() for run in own)
    best = f"At each run's epoch of least {'validation' if held else 'test'} loss"
    tables = {
        "final": summary_table(study, runs, columns, "At the end of each run"),
        "best": summary_table(study, runs, columns, best, which="best"),
    }
    for column in rank_by:
        ranked = rank_candidates(runs, column.measure, len(study.seeds), column.part)
        if ranked is not None:
            name = f"ranking_{column.part}_{column.measure.metric}"
            tables[name] = ranking_table(study, ranked, column.measure, f"By final {column.label}")
    return {f"{problem.name}/{name}": table for name, table in tables.items()}


def panels_of(study: Study, runs: Mapping[str, Sequence[Run]], columns: Sequence[Column]) -> dict[str, dict[str, Band]]:
    """Of each column's label the candidates' curves over epochs, for `gdlab.plots.learning_panels`."""
    return {
        column.label: bands(
            {
                study.candidate(name).shown: [
                    column.measure.convert(run.history[f"{column.part}_{column.measure.metric}"]) for run in own
                ]
                for name, own in runs.items()
                if own
            }
        )
        for column in columns
    }


def seeds_note(study: Study) -> str:
    """What a picture of the study's curves shows."""
    count = len(study.seeds)
    return "one seed" if count == 1 else f"mean of {count} seeds, shaded: 95% bootstrap interval"


def published_beside(
    study: Study,
    found: Found,
    names: Sequence[str],
    published: Callable[[str, str, int], str | None],
    caption: str,
) -> Table:
    """A row per candidate, a column per problem and length, and beside each what is published, where something is.

    published(problem, candidate, epochs): in words, or None. The least mean of a column has a star.
    """
    head, columns = ["optimizer"], []
    for problem in study.problems:
        for epochs in problem.epochs:
            own = {name: values(found[problem.name][name].runs[epochs], problem.measure) for name in names}
            costs = {
                name: sign_of(problem.measure.better) * each.mean() if each.size == len(study.seeds) else np.inf
                for name, each in own.items()
            }
            least = min(costs.values())
            head.append(f"{problem.shown}, {problem.measure.label}, {epochs} epochs")
            columns.append(
                [
                    cell(problem.measure, own[name], len(study.seeds))
                    + ("*" if np.isfinite(least) and costs[name] == least else "")
                    for name in names
                ]
            )
            theirs = [published(problem.name, name, epochs) for name in names]
            if any(theirs):
                head.append(f"{problem.shown}, published, {epochs} epochs")
                columns.append([text or "-" for text in theirs])
    rows = [(study.candidate(name).shown, *cells) for name, *cells in zip(names, *columns, strict=True)]
    return Table(head, rows, caption)
