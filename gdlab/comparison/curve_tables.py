"""What learning curves say beyond their ends: the best value, epochs to a target, and what stopping early would do."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from gdlab.analysis.intervals import mean_interval
from gdlab.analysis.tables import Table, counted
from gdlab.comparison.problems import Problem
from gdlab.comparison.results import Run
from gdlab.comparison.study import Study
from gdlab.comparison.summaries import Column, cell, number, rank_candidates, ranking_table, values, with_interval


class Stop(NamedTuple):
    """Where early stopping would end a run.

    Attributes:
      after: the number of epochs that are done.
      kept: the epoch whose model is kept, counted from 1: the one with the lowest loss until then.
    """

    after: int
    kept: int


def early_stop(losses: Float[np.ndarray, " epochs"], patience: int) -> Stop:
    """Return where a run stops if its watched loss may fail to improve for `patience` epochs in a row.

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
      share: the part of the best value of any run that counts as a target. Default 0.8.
      patience: the number of epochs without improvement after which a run would have stopped. Default 5.

    Returns:
      The tables by name: a ranking by the best value over all epochs, the epochs to the target, and early stopping. The
      names begin with the problem's name, as a folder.
    """
    tables = {}
    ranked = rank_candidates(runs, column.measure, len(study.seeds), column.part, which="peak")
    if ranked is not None:
        caption = f"Ranking by the best {column.label} over all epochs"
        tables["ranking_peak"] = ranking_table(study, ranked, column.measure, caption)
    tables["epochs_to_target"] = _target_table(study, runs, column, share)
    tables["early_stopping"] = _stopping_table(study, runs, column, patience)
    return {f"{problem.name}/{name}": table for name, table in tables.items()}


def epochs_to(
    runs: Mapping[str, Sequence[Run]], column: Column, share: float
) -> tuple[float, dict[str, Float[np.ndarray, " runs"]]]:
    """Return a target, and the first epoch at which each run reaches it; infinite for a run that does not.

    Args:
      runs: the runs of each candidate.
      column: the measure, of which more is better, and the part of the data.
      share: the target, as a part of the best value of any run.

    Returns:
      The target, and the epochs by candidate.
    """
    curves = {name: [_curve(run, column) for run in own] for name, own in runs.items()}
    best = max(
        (float(np.max(curve, where=np.isfinite(curve), initial=-np.inf)) for own in curves.values() for curve in own),
        default=-np.inf,
    )
    target = share * best
    return target, {name: np.array([_first(curve >= target) for curve in own]) for name, own in curves.items()}


def _curve(run: Run, column: Column) -> Float[np.ndarray, " epochs"]:
    found = column.measure.convert(run.history[f"{column.part}_{column.measure.metric}"])
    return np.asarray(found, float)


def _first(reached: np.ndarray) -> float:
    return float(reached.argmax()) + 1 if reached.any() else np.inf


def _target_table(study: Study, runs: Mapping[str, Sequence[Run]], column: Column, share: float) -> Table:
    target, found = epochs_to(runs, column, share)
    rows = []
    for name in sorted(found, key=lambda name: found[name].mean() if found[name].size else np.inf):
        epochs = found[name]
        arrived = epochs[np.isfinite(epochs)]
        spread = f" ± {arrived.std(ddof=1):.1f}" if arrived.size > 1 else ""
        rows.append(
            (
                study.candidate(name).shown,
                f"{arrived.mean():.1f}{spread}" if arrived.size else "-",
                f"{arrived.size} of {epochs.size}",
            )
        )
    caption = (
        f"Epochs until {column.label} reaches {number(column.measure, target)}, which is {100 * share:g}% of the best "
        "value of any run: mean ± standard deviation over the seeds that arrive."
    )
    return Table(("optimizer", "epochs", "seeds that arrive"), rows, caption)


def _stopping_table(study: Study, runs: Mapping[str, Sequence[Run]], column: Column, patience: int) -> Table:
    measure, rows = column.measure, []
    held = any("valid_loss" in run.history for own in runs.values() for run in own)
    for name, own in runs.items():
        whole = [run for run in own if not run.diverged]
        if not whole:
            rows.append((study.candidate(name).shown, *["-"] * 4))
            continue
        stops = [early_stop(run.history["valid_loss" if held else "test_loss"], patience) for run in whole]
        done = np.array([len(run.seconds) for run in whole])
        saved = 1 - np.array([stop.after for stop in stops]) / done
        kept = np.array([_curve(run, column)[stop.kept - 1] for run, stop in zip(whole, stops, strict=True)])
        gained = kept - values(whole, measure, column.part)
        middle = with_interval(measure, f"{gained.mean():+.{measure.digits}f}", *mean_interval(gained)[1:])
        rows.append(
            (
                study.candidate(name).shown,
                f"{np.mean([stop.after for stop in stops]):.1f}",
                f"{100 * saved.mean():.0f}%",
                cell(measure, kept, len(study.seeds)),
                middle,
            )
        )
    watched = "held-out" if held else "test"
    caption = (
        f"Had each run stopped when its {watched} loss had not improved for {counted(patience, 'epoch')}, and kept the "
        "epoch with the lowest one: the epochs done and saved, the value kept, and its difference from that after the "
        f"last epoch (Student's 95% interval)."
    )
    if not held:
        caption += " The loss that stops a run is that of the test set, so the kept values are a little too good."
    return Table(("optimizer", "epochs", "saved", f"{column.label} kept", "kept minus final"), rows, caption)
