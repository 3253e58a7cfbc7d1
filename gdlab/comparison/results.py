"""Read what a study's folder holds, finished or not: final runs and trials, without a task or an optimizer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from gdlab.analysis.tables import counted
from gdlab.arguments import require_choice, require_instance
from gdlab.comparison.origins import entries, require_alike, require_place
from gdlab.comparison.problems import Measure, Problem, Setting
from gdlab.comparison.study import Study
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

    def curve(self, measure: Measure, part: str) -> Float[np.ndarray, " epochs"]:
        """Return the measure on a part of the data ("train", "valid" or "test") after each epoch."""
        return np.asarray(measure.convert(self.history[f"{part}_{measure.metric}"]), float)

    def value(self, measure: Measure, part: str, which: str = "final") -> float:
        """Return the measure on a part of the data at one epoch.

        Args:
          measure: the measure.
          part: "train", "valid" or "test".
          which: the epoch: "final" (default), "best" (that of the lowest loss, see `best_epoch`) or "peak" (that of the
            best value of the measure itself).

        Returns:
          The number to report. A run that diverged counts as a failure, except at its best epoch if it has one.

        Raises:
          ValueError: if the run has no such part or metric.
        """
        require_instance("measure", measure, Measure, "a Measure")
        require_choice("which", which, ("final", "best", "peak"))
        parts = [name.removesuffix("_loss") for name in self.history if name.endswith("_loss")]
        require_choice("part", part, tuple(parts))
        if f"{part}_{measure.metric}" not in self.history:
            known = [name.removeprefix(f"{part}_") for name in self.history if name.startswith(f"{part}_")]
            raise ValueError(f"measure: expected a metric among {', '.join(known)}, got {measure.metric!r}")
        values = self.history[f"{part}_{measure.metric}"]
        if which == "best" and self.best_epoch is not None:
            return float(measure.convert(values[self.best_epoch - 1]))
        if which == "peak" and not self.diverged:
            every = self.curve(measure, part)
            return float(every.max() if measure.better == "higher" else every.min())
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
      The run; None if there is none, if it has neither all its epochs nor a reason to end earlier, or if a file is
      damaged or holds something else than a run's. Such a run counts as not done: training it again, from its
      checkpoint if that is whole, writes these files anew.
    """
    try:
        record = read_run(folder)
        history = {name: _column(values) for name, values in record.metrics.items() if name != "epoch"}
        seconds = _column(record.seconds["seconds"])
        if not history or {len(column) for column in history.values()} != {len(seconds)}:
            return None
        run = Run(seed, history, seconds, record.config)
        stopped = patience is not None and len(seconds) - (run.best_epoch or 0) >= patience
        return run if len(seconds) == epochs or (len(seconds) < epochs and (run.diverged or stopped)) else None
    except (OSError, ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError):
        return None


def _column(values: Sequence[Any]) -> Float[np.ndarray, " epochs"]:
    """Convert the values of a metric, of which None is NaN; raise TypeError for anything that is not a number."""
    for value in values:
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise TypeError(f"expected numbers, got {value!r}")
    return np.array([np.nan if value is None else value for value in values], float)


class Choice(NamedTuple):
    """The choice among a candidate's settings.

    Attributes:
      setting: the setting of the best trial; None while trials are missing.
      scores: for each setting, the measure on held-out examples, averaged over tuning seeds.
      missing: the number of trials that are not done.
      trials: the finished trials.
    """

    setting: Setting | None
    scores: Float[np.ndarray, " trials"]
    missing: int
    trials: list[Run]


def choose(study: Study, problem: Problem, candidate: str) -> Choice:
    """Choose the candidate's setting with the best mean score over tuning seeds; of equal scores the first.

    Raises:
      ValueError: if trials come from different code or data, or from another study.
    """
    settings = problem.trials[candidate]
    scores = np.full((len(settings), len(study.tuning_seeds)), np.nan)
    if not problem.is_tuned(candidate):
        return Choice(settings[0], scores.mean(axis=1), 0, [])
    trials = []
    for row, setting in enumerate(settings):
        for column, seed in enumerate(study.tuning_seeds):
            folder = study.trial_folder(problem.name, candidate, setting, seed)
            run = read_finished(folder, problem.tuning_epochs, seed)
            if run is not None:
                require_place(folder, run.config, entries(problem, candidate, setting), None)
                scores[row, column] = run.value(problem.measure, "valid")
                trials.append(run)
    require_alike(f"{problem.name}, {candidate}", [], [run.config for run in trials])
    missing, means = scores.size - len(trials), scores.mean(axis=1)
    if missing:
        return Choice(None, means, missing, trials)
    costs = means if problem.measure.better == "lower" else -means
    return Choice(settings[int(np.argmin(costs))], means, 0, trials)


def collect(study: Study, problem: str, candidate: str) -> Collected:
    """Read what a study's folder holds for a pair of problem and candidate.

    Args:
      study: the study.
      problem: the name of the problem.
      candidate: the name of the candidate.

    Returns:
      The trials, the chosen setting and the final runs.

    Raises:
      TypeError: if an argument has a wrong type.
      ValueError: if a name is unknown; if trials and final runs come from different code or data, as far as the runs
        record it (`gdlab.comparison.origins`); or if a run belongs to another study.
    """
    require_instance("study", study, Study, "a Study")
    study.require_names([problem], [candidate])
    one = study.problem(problem)
    setting, scores, missing, tried = choose(study, one, candidate)
    runs: dict[int, list[Run]] = {epochs: [] for epochs in one.epochs}
    for epochs, found in runs.items():
        for seed in study.seeds if setting is not None else ():
            folder = study.final_folder(problem, candidate, epochs, setting or {}, seed)
            run = read_finished(folder, epochs, seed, one.patience)
            if run is not None:
                require_place(folder, run.config, entries(one, candidate, setting or {}), one.patience)
                found.append(run)
        missing += len(study.seeds) - len(found)
        label = f"{problem}, {candidate}, {counted(epochs, 'epoch')}"
        require_alike(label, [run.config for run in found], [run.config for run in tried])
        found[:] = [run.kept(one.patience) for run in found]
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
    require_instance("study", study, Study, "a Study")
    found: dict[str, dict[str, Collected]] = {}
    for problem, candidate in study.pairs((), candidates):
        found.setdefault(problem, {})[candidate] = collect(study, problem, candidate)
    return found
