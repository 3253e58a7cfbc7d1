"""Trainings as a section of a page: one run's folder, or all runs of a study."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from gdlab.analysis.intervals import mean_interval
from gdlab.analysis.landscapes import is_logarithmic
from gdlab.records import read_json, read_run
from gdlab.reporting.pieces import Column, Curve, Curves, DotAxis, Dots, Piece, Rows, Section, in_words

MEDIANS = "Lines are medians over seeds, and bands contain all seeds."


class Trained(NamedTuple):
    """What a run's folder holds.

    Attributes:
      folder: the folder.
      problem: the name of the problem, or of the task.
      candidate: the name of the optimizer, or of the folder.
      trial: whether it is a trial, which decides among settings.
      setting: the hyperparameters.
      seed: the seed.
      epochs: the number of epochs that it should have.
      history: the metrics by name, one value per epoch; NaN where it is not finite.
      seconds: the duration of all epochs.
    """

    folder: Path
    problem: str
    candidate: str
    trial: bool
    setting: dict[str, float]
    seed: int
    epochs: int
    history: dict[str, Float[np.ndarray, " epochs"]]
    seconds: float

    @property
    def done(self) -> int:
        """The number of epochs that are done."""
        return len(next(iter(self.history.values()), ()))

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite."""
        return bool(self.done and np.isnan(self.history.get("train_loss", np.zeros(1))[-1]))

    @property
    def what(self) -> str:
        """The optimizer with its hyperparameters."""
        words = ", ".join(f"{name} {value:.4g}" for name, value in self.setting.items())
        return f"{self.candidate} ({words})" if words else self.candidate


def read_trained(folder: Path) -> Trained:
    """Read a run's folder.

    Raises:
      OSError, ValueError: if it cannot be read.
    """
    record = read_run(folder)
    config = record.config
    history = {
        name: np.array([np.nan if value is None else value for value in values], float)
        for name, values in record.metrics.items()
        if name != "epoch"
    }
    try:
        task = config.get("task", {})
        given = config["identity"].get("hyperparameters", {}).items()
        setting = config.get("setting", {name: value for name, value in given if name != "total_steps"})
        return Trained(
            folder,
            str(config.get("problem", task.get("name", "training"))),
            str(config.get("candidate", folder.name)),
            any(part.startswith("tuning-") for part in folder.parts),
            {name: float(value) for name, value in setting.items()},
            int(config["identity"]["seed"]),
            int(config["epochs"]),
            history,
            float(np.nansum([value or 0.0 for value in record.seconds.get("seconds", [])])),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError(
            f"{folder / 'config.json'}: expected the configuration of a training, got another one"
        ) from None


def training_sections(runs: Sequence[Trained], place: Path) -> list[Section]:
    """Return a section for each problem of these runs.

    Args:
      runs: the runs, at least one.
      place: the folder in which they were found.
    """
    problems = dict.fromkeys(run.problem for run in runs)
    return [_section(name, [run for run in runs if run.problem == name], place) for name in problems]


def _section(problem: str, runs: Sequence[Trained], place: Path) -> Section:
    finals = [run for run in runs if not run.trial and run.done]
    trials = [run for run in runs if run.trial and run.done]
    pieces: list[Piece] = []
    if finals:
        pieces += [_results(finals), _curves(finals)]
    if trials:
        pieces.append(_trials(trials))
    made: dict[str, str] = {"folder": str(place), "trainings": f"{len(finals)} runs and {len(trials)} trials"}
    return Section(problem, pieces, made | _environment(runs[0].folder), _unfinished(runs))


def _environment(folder: Path) -> dict[str, str]:
    try:
        return in_words(read_json(folder / "environment.json")["starts"][-1])
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return {"environment": "not known"}


def _unfinished(runs: Sequence[Trained]) -> tuple[str, ...]:
    """Say of the runs that have fewer epochs than they should, and did not diverge, when they were last written."""
    found = [run for run in runs if run.done < run.epochs and not run.diverged]
    if not found:
        return ()
    last = max(_changed(run.folder) for run in found)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last))
    done, asked = (sum(getattr(run, name) for run in found) for name in ("done", "epochs"))
    count = f"{len(found)} of {len(runs)} trainings"
    return (f"Partial: {count} ended early or are still going ({done} of their {asked} epochs; last written {when}).",)


def _changed(folder: Path) -> float:
    files = [path for path in (folder / "metrics.jsonl", folder / "config.json") if path.exists()]
    return max((path.stat().st_mtime for path in files), default=0.0)


def _groups(runs: Sequence[Trained]) -> dict[tuple[str, int], list[Trained]]:
    found: dict[tuple[str, int], list[Trained]] = {}
    for run in runs:
        found.setdefault((run.what, run.epochs), []).append(run)
    return found


def _results(runs: Sequence[Trained]) -> Rows:
    groups = _groups(runs)
    metrics = [name for name in _by_interest(runs[0].history) if name.startswith(("test_", "valid_"))]
    metrics = metrics or list(runs[0].history)
    columns = [
        Column("optimizer", "text", [what for what, _ in groups]),
        Column("epochs", "number", [epochs for _, epochs in groups]),
    ]
    for name in metrics:
        cells = [_interval([run.history.get(name, np.full(1, np.nan))[-1] for run in each]) for each in groups.values()]
        columns.append(Column(name.replace("_", " "), "interval", cells))
    columns += [
        Column("seeds", "number", [len(each) for each in groups.values()]),
        Column("diverged", "number", [sum(run.diverged for run in each) for each in groups.values()]),
        Column("minutes", "number", [np.mean([run.seconds for run in each]) / 60 for each in groups.values()]),
        Column(
            metrics[0].replace("_", " ") + " by epoch",
            "sparkline",
            [_quantiles(_table(each, metrics[0]))[1] for each in groups.values()],
        ),
    ]
    note = "Means after the last epoch over the seeds that did not diverge, with Student's intervals at 95%."
    return Rows("Results", columns, note)


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of the finite values with its interval, which one value does not have."""
    finite = np.array([value for value in values if np.isfinite(value)])
    if finite.size < 2:
        return (float(finite[0]) if finite.size else np.nan, np.nan, np.nan)
    found = mean_interval(finite)
    return float(found.estimate), float(found.low), float(found.high)


def _table(runs: Sequence[Trained], name: str) -> Float[np.ndarray, "runs epochs"]:
    """Return a metric of the runs that have it; NaN after the end of a run."""
    rows = [run.history[name] for run in runs if name in run.history]
    table = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return table


def _quantiles(table: Float[np.ndarray, "runs points"]) -> Float[np.ndarray, "3 points"]:
    """Return the least, the median and the greatest of the finite numbers at each point."""
    known = np.where(np.isfinite(table), table, np.nan)
    some = ~np.isnan(known).all(axis=0)
    found = np.full((3, table.shape[1]), np.nan)
    if some.any():
        found[:, some] = np.nanquantile(known[:, some], [0, 0.5, 1], axis=0)
    return found


def curve_of(name: str, x: np.ndarray, table: Float[np.ndarray, "runs points"]) -> Curve:
    """Return the curve of the medians of some runs, with a band from the least to the greatest."""
    low, middle, high = _quantiles(table)
    return Curve(name, x, middle, low, high)


def _curves(runs: Sequence[Trained]) -> Curves:
    groups = _groups(runs)
    several = len({epochs for _, epochs in groups}) > 1
    panels: dict[str, list[Curve]] = {}
    for metric in _by_interest(runs[0].history):
        for (what, epochs), each in groups.items():
            table = _table(each, metric)
            if not len(table):
                continue
            label = f"{what}, {epochs} epochs" if several else what
            curve = curve_of(label, np.arange(1, table.shape[1] + 1), table)
            panels.setdefault(metric.replace("_", " "), []).append(curve)
    return Curves("Learning curves", "epoch", panels, MEDIANS)


def _by_interest(history: Mapping[str, Any]) -> list[str]:
    return sorted(history, key=lambda name: ("test" not in name, "valid" not in name, "loss" not in name, name))


def _trials(runs: Sequence[Trained]) -> Piece:
    metric = next((name for name in ("valid_loss", "test_loss", "train_loss") if name in runs[0].history), "")
    metric = metric or next(iter(runs[0].history))
    names = list(dict.fromkeys(name for run in runs for name in run.setting))
    score = (
        f"{metric.replace('_', ' ')} after {runs[0].epochs} epochs" if runs[0].epochs > 1 else metric.replace("_", " ")
    )
    columns = [
        Column("optimizer", "text", [run.candidate for run in runs]),
        *(Column(name, "number", [run.setting.get(name, np.nan) for run in runs]) for name in names),
        Column("seed", "number", [run.seed for run in runs]),
        Column(score, "number", [run.history[metric][-1] if metric in run.history else np.nan for run in runs]),
        Column("folder", "text", [run.folder.name for run in runs]),
    ]
    varied = [name for name in names if len({run.setting.get(name) for run in runs}) > 1]
    if not varied:
        return Rows("Trials", columns)
    values = {name: np.unique([run.setting[name] for run in runs if name in run.setting]) for name in varied}
    axes = [DotAxis(name, is_logarithmic(values[name])) for name in varied]
    repeat = f"gdlab.train(task, factory, hyperparameters={{setting}}, epochs={runs[0].epochs}, seed={{seed}})"
    note = "One dot for each trial; those that diverged lie on the upper edge."
    settings = Column("setting", "text", [str({k: float(f"{v:.10g}") for k, v in run.setting.items()}) for run in runs])
    return Dots("Trials", [*columns, settings], axes, score, "optimizer", "lower", repeat, note)
