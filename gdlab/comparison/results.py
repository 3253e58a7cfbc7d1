"""Read what a study's folder holds, finished or not: final runs and trials, without a task or an optimizer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from gdlab.analysis.tables import counted
from gdlab.comparison.study import Measure, Problem, Setting, Study
from gdlab.records.runs import read_run


class Run(NamedTuple):
    """A finished training.

    Attributes:
      seed: the seed.
      history: the values of each metric, one per epoch; NaN from the epoch in which a loss was not finite.
      seconds: the duration of each epoch.
      config: the configuration that the run's folder records.
    """

    seed: int
    history: dict[str, Float[np.ndarray, " epochs"]]
    seconds: Float[np.ndarray, " epochs"]
    config: dict[str, Any]

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite."""
        return bool(np.isnan(self.history["train_loss"][-1]))

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the lowest loss, counted from 1; None if no loss is a number.

        The loss is that of the held-out examples, or of the test set if none are held out.
        """
        watched = self.history.get("valid_loss", self.history["test_loss"])
        return None if np.isnan(watched).all() else int(np.nanargmin(watched)) + 1

    def rows(self) -> list[dict[str, float]]:
        """Return a dictionary per epoch: its number, its seconds and its metrics."""
        return [
            {"epoch": place + 1, "seconds": seconds} | {name: column[place] for name, column in self.history.items()}
            for place, seconds in enumerate(self.seconds.tolist())
        ]

    def kept(self, patience: int | None) -> "Run":
        """Return the run up to the epoch whose model counts: with early stopping the best one, otherwise the last."""
        if patience is None or self.diverged:
            return self
        epochs = slice(self.best_epoch)
        history = {name: values[epochs] for name, values in self.history.items()}
        return self._replace(history=history, seconds=self.seconds[epochs])

    def value(self, measure: Measure, part: str, which: str = "final") -> float:
        """Return the measure on a part of the data at one epoch.

        Args:
          measure: the measure.
          part: "train", "valid" or "test".
          which: "final" (default) or "best": the epoch.

        Returns:
          The number to report. A run that diverged counts as a failure, except at its best epoch if it has one.
        """
        values = self.history[f"{part}_{measure.metric}"]
        if which == "best" and self.best_epoch is not None:
            return float(measure.convert(values[self.best_epoch - 1]))
        converted = float(measure.convert(values[-1]))
        return measure.failure if self.diverged or not np.isfinite(converted) else converted


class Collected(NamedTuple):
    """What a study's folder holds for a pair of problem and candidate.

    Attributes:
      problem: the name of the problem.
      candidate: the name of the candidate.
      trials: the candidate's settings.
      scores: for each trial, the measure on held-out examples, averaged over tuning seeds: a failure if one of its
        runs diverged, and NaN if one is missing or if the setting is used without a trial.
      setting: the setting of the best trial; None while trials are missing.
      at_the_edge: whether the chosen learning rate is the lowest or the highest that was tried.
      runs: for each number of epochs, the final runs at `setting`, cut after the epoch that counts if they stop
        early.
      missing: the number of trainings (trials and final runs) that are not done.
    """

    problem: str
    candidate: str
    trials: Sequence[Setting]
    scores: Float[np.ndarray, " trials"]
    setting: Setting | None
    at_the_edge: bool
    runs: dict[int, list[Run]]
    missing: int


def read_finished(folder: Path, epochs: int, seed: int, patience: int | None = None) -> Run | None:
    """Read the run in the folder.

    Returns:
      The run; None if there is none, or if it has neither all its epochs nor a reason to end earlier.
    """
    try:
        record = read_run(folder)
    except (OSError, ValueError):
        return None
    history = {
        name: np.array([np.nan if value is None else value for value in values], float)
        for name, values in record.metrics.items()
        if name != "epoch"
    }
    if not history:
        return None
    run = Run(seed, history, np.array(record.seconds.get("seconds", []), float), record.config)
    done = len(history["train_loss"])
    stopped = patience is not None and done - (run.best_epoch or 0) >= patience
    return run if done == epochs or (done < epochs and (run.diverged or stopped)) else None


def choose(study: Study, problem: Problem, candidate: str) -> tuple[Setting | None, np.ndarray, int]:
    """Choose the candidate's setting with the best mean score over tuning seeds; of equal scores the first.

    Returns:
      The setting (None while trials are missing), the mean scores, and the number of missing trials.
    """
    settings = problem.trials[candidate]
    scores = np.full((len(settings), len(study.tuning_seeds)), np.nan)
    if not problem.is_tuned(candidate):
        return settings[0], scores.mean(axis=1), 0
    for row, setting in enumerate(settings):
        for column, seed in enumerate(study.tuning_seeds):
            folder = study.trial_folder(problem.name, candidate, setting, seed)
            run = read_finished(folder, problem.tuning_epochs, seed)
            if run is not None:
                scores[row, column] = run.value(problem.measure, "valid")
    missing, means = int(np.isnan(scores).sum()), scores.mean(axis=1)
    if missing:
        return None, means, missing
    costs = means if problem.measure.better == "lower" else -means
    return settings[int(np.argmin(costs))], means, missing


def collect(study: Study, problem: str, candidate: str) -> Collected:
    """Read what a study's folder holds for a pair of problem and candidate.

    Args:
      study: the study.
      problem: the name of the problem.
      candidate: the name of the candidate.

    Returns:
      The trials, the chosen setting and the final runs.

    Raises:
      ValueError: if a name is unknown, or if final runs come from different programs or different data.
    """
    study.require_names([problem], [candidate])
    one = study.problem(problem)
    setting, scores, missing = choose(study, one, candidate)
    runs: dict[int, list[Run]] = {epochs: [] for epochs in one.epochs}
    for epochs, found in runs.items():
        for seed in study.seeds:
            run = None
            if setting is not None:
                folder = study.final_folder(problem, candidate, epochs, setting, seed)
                run = read_finished(folder, epochs, seed, one.patience)
            if run is None:
                missing += 1
            else:
                found.append(run.kept(one.patience))
        for part in ("program", "data"):
            if len({str(run.config["identity"].get(part)) for run in found}) > 1:
                raise ValueError(
                    f"{problem}, {candidate}, {counted(epochs, 'epoch')}: expected final runs that differ only in "
                    f"their seed, got some with another {part}; choose another folder"
                )
    trials = one.trials[candidate]
    rates = {trial["learning_rate"] for trial in trials if "learning_rate" in trial}
    edge = setting is not None and len(rates) > 1 and setting["learning_rate"] in (min(rates), max(rates))
    return Collected(problem, candidate, trials, scores, setting, edge, runs, missing)


def collect_all(study: Study, candidates: Sequence[str] = ()) -> dict[str, dict[str, Collected]]:
    """Read what a study's folder holds for all its problems.

    Args:
      study: the study.
      candidates: names of candidates. Default: all.

    Returns:
      The `Collected` of each problem and candidate, as nested dictionaries.

    Raises:
      ValueError: as `collect` does.
    """
    found: dict[str, dict[str, Collected]] = {}
    for problem, candidate in study.pairs((), candidates):
        found.setdefault(problem, {})[candidate] = collect(study, problem, candidate)
    return found
