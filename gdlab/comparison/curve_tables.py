"""What learning curves say beyond their ends: the best value, epochs to a target, and what stopping early would do."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from gdlab.analysis.intervals import mean_interval
from gdlab.analysis.tables import Table, counted
from gdlab.arguments import require_count, require_number
from gdlab.comparison.problems import Problem
from gdlab.comparison.results import Run
from gdlab.comparison.study import Study
from gdlab.comparison.summaries import (
    Column,
    cell,
    number,
    rank_candidates,
    ranking_table,
    values,
    watched_loss,
    with_interval,
)


class Stop(NamedTuple):
    """Where early stopping would end a run.

    Attributes:
      after: the number of epochs that are done.
      kept: the epoch whose model is kept, counted from 1: the one with the lowest loss until then.
    """

    after: int
    kept: int


def early_stop(losses: Float[np.ndarray, " epochs"], patience: int) -> Stop:
    """Return where a run stops once its watched loss has not improved for `patience` epochs in a row.

    Args:
      losses: the watched loss after each epoch. NaN is no improvement.
      patience: the number of epochs.

    Returns:
      The `Stop`; a run whose patience lasts has all epochs.
    """
    best, least = 0, np.inf
    for epoch, loss in enumerate(losses, start=1):
        if loss < least:
            best, least = epoch, loss
        if epoch - best >= patience:
            return Stop(epoch, max(best, 1))
    return Stop(len(losses), max(best, 1))


def curve_tables(
    study: Study,
    problem: Problem,
    runs: Mapping[str, Sequence[Run]],
    column: Column,
    *,
    share: float = 0.8,
    patience: int = 5,
) -> dict[str, Table]:
    """Make the tables of one problem that need whole learning curves.

    Args:
      study: the study.
      problem: the problem.
      runs: the problem's final runs of each candidate, none of which has stopped early.
      column: the measure, of which more is better, and the part of the data.
      share: the part of the best value of any run that counts as a target, from 0 to 1. Default 0.8.
      patience: the number of epochs without improvement after which a run would have stopped. Default 5.

    Returns:
      The tables by name: a ranking by the best value over all epochs, the epochs to the target, and early stopping. The
      names begin with the problem's name, as a folder.

    Raises:
      ValueError: if less of the measure is better, or a number is out of range.
    """
    require_number("share", share, 0.0, 1.0)
    require_count("patience", patience)
    if column.measure.better != "higher":
        raise ValueError(f"column: expected a measure of which more is better, got {column.label}")
    tables = {}
    ranked = rank_candidates(runs, column.measure, len(study.seeds), column.part, which="peak")
    if ranked is not None:
        caption = f"Ranking by the best {column.label} over all epochs"
        caption += ", which is a little too good, since it is chosen by the test set" if column.part == "test" else ""
        tables["ranking_peak"] = ranking_table(study, ranked, column.measure, caption)
    tables["epochs_to_target"] = _target_table(study, runs, column, share)
    tables["early_stopping"] = _stopping_table(study, runs, column, patience)
    return {f"{problem.name}/{name}": table for name, table in tables.items()}


def epochs_to(
    runs: Mapping[str, Sequence[Run]], column: Column, share: float
) -> tuple[float, dict[str, Float[np.ndarray, " runs"]]]:
    """Return a target, and the first epoch at which each run reaches it; infinite for a run that does not.

    Args:
      runs: the runs of each candidate. Those that diverged count up to their last finite epoch.
      column: the measure, of which more is better, and the part of the data.
      share: the target, as a part of the best value of any run.

    Returns:
      The target, and the epochs by candidate.
    """
    curves = {name: [run.curve(column.measure, column.part) for run in own] for name, own in runs.items()}
    every = np.concatenate([curve for own in curves.values() for curve in own] or [np.empty(0)])
    target = share * float(np.max(every, where=np.isfinite(every), initial=-np.inf))
    return target, {name: np.array([_first(curve >= target) for curve in own]) for name, own in curves.items()}


def _first(reached: np.ndarray) -> float:
    return float(reached.argmax()) + 1 if reached.any() else np.inf


def _target_table(study: Study, runs: Mapping[str, Sequence[Run]], column: Column, share: float) -> Table:
    target, found = epochs_to(runs, column, share)
    arrived = {name: epochs[np.isfinite(epochs)] for name, epochs in found.items()}
    order = sorted(arrived, key=lambda name: (-arrived[name].size, arrived[name].mean() if arrived[name].size else 0))
    rows = []
    for name in order:
        own = arrived[name]
        spread = f" ± {own.std(ddof=1):.1f}" if own.size > 1 else ""
        epochs = f"{own.mean():.1f}{spread}" if own.size else "-"
        rows.append((study.candidate(name).shown, epochs, f"{own.size} of {len(study.seeds)}"))
    caption = (
        f"Epochs until {column.label} reaches {number(column.measure, target)}, which is {100 * share:g}% of the best "
        "value of any run: mean ± standard deviation over the seeds that arrive."
    )
    return Table(("optimizer", "epochs", "seeds that arrive"), rows, caption)


def _stopping_table(study: Study, runs: Mapping[str, Sequence[Run]], column: Column, patience: int) -> Table:
    metric, word = watched_loss(runs)
    rows = [
        (study.candidate(name).shown, *_stopping_cells(study, own, column, metric, patience))
        for name, own in runs.items()
    ]
    caption = (
        f"Had each run stopped once its {word} had not improved for {counted(patience, 'epoch')}, and kept the epoch "
        "with the lowest loss: the epochs done and saved, the value kept, and its difference from that after the last "
        "epoch (Student's 95% interval; without the runs that diverged later)."
    )
    if metric == "test_loss":
        caption += " The loss that stops a run is that of the test set, so the kept values are a little too good."
    return Table(("optimizer", "epochs", "saved", f"{column.label} kept", "kept minus final"), rows, caption)


def _stopping_cells(
    study: Study, runs: Sequence[Run], column: Column, metric: str, patience: int
) -> tuple[str, str, str, str]:
    if not runs:
        return "-", "-", "-", "-"
    measure = column.measure
    stops = [early_stop(run.history[metric], patience) for run in runs]
    after = np.array([stop.after for stop in stops])
    saved = 1 - after / np.array([len(run.seconds) for run in runs])
    kept = np.array(
        [run.curve(column.measure, column.part)[stop.kept - 1] for run, stop in zip(runs, stops, strict=True)]
    )
    kept = np.where(np.isfinite(kept), kept, measure.failure)
    whole = np.array([not run.diverged for run in runs]) & np.isfinite(kept)
    gained = kept[whole] - values(runs, measure, column.part)[whole]
    difference = "-"
    if gained.size:
        difference = with_interval(measure, f"{gained.mean():+.{measure.digits}f}", *mean_interval(gained)[1:])
    return f"{after.mean():.1f}", f"{100 * saved.mean():.0f}%", cell(measure, kept, len(study.seeds)), difference
