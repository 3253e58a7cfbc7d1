"""What a study's folder holds: final runs and trials, finished or not, read without a task or an optimizer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from gdlab.comparison.study import Measure, Problem, Setting, Study
from gdlab.records.runs import read_run


class Run(NamedTuple):
    """A finished training. history: of each metric its values, NaN from the epoch on in which a loss was not finite.

    seconds: of each epoch. config: what the run's folder says of it.
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
        """From 1, the epoch with the least loss on held-out examples, or on the test set where none are held out."""
        watched = self.history.get("valid_loss", self.history["test_loss"])
        return None if np.isnan(watched).all() else int(np.nanargmin(watched)) + 1

    def rows(self) -> list[dict[str, float]]:
        """An epoch's metrics, number and seconds each."""
        return [
            {"epoch": place + 1, "seconds": seconds} | {name: column[place] for name, column in self.history.items()}
            for place, seconds in enumerate(self.seconds.tolist())
        ]

    def kept(self, patience: int | None) -> "Run":
        """The run up to the epoch whose model counts: with early stopping the best one, else the last."""
        if patience is None or self.diverged:
            return self
        epochs = slice(self.best_epoch)
        history = {name: values[epochs] for name, values in self.history.items()}
        return self._replace(history=history, seconds=self.seconds[epochs])

    def value(self, measure: Measure, part: str, which: str = "final") -> float:
        """The measure on a part, "train", "valid" or "test", at the "final" or the "best" epoch.

        A run that diverged counts as a failure, but at its best epoch, where it has one.
        """
        values = self.history[f"{part}_{measure.metric}"]
        if which == "best" and self.best_epoch is not None:
            return float(measure.convert(values[self.best_epoch - 1]))
        converted = float(measure.convert(values[-1]))
        return measure.failure if self.diverged or not np.isfinite(converted) else converted


class Collected(NamedTuple):
    """A pair of problem and candidate.

    setting: the best trial's; None while trials are missing. scores: of each trial, the measure on held-out examples,
    mean over tuning seeds, a failure where one diverged, NaN where one is missing, and NaN for a setting that was taken
    without a trial. at_the_edge: whether the chosen learning rate is the least or the greatest that was tried. runs: of
    each length in epochs the final runs at `setting`, as far as they count where they are stopped early. missing: how
    many trainings, trials or final ones, are not done.
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
    """The run in the folder; None where there is none or it has neither all its epochs nor a reason to end before."""
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
    """The setting with the best mean score, of equal ones the first, the means, and how many trials are missing."""
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
    """What is there of the pair. Raises ValueError where its final runs are of several programs or data."""
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
                    f"{problem}, {candidate}, {epochs} epochs: wanted final runs that differ in their seed alone, got "
                    f"some with another {part}; choose another folder"
                )
    trials = one.trials[candidate]
    rates = {trial["learning_rate"] for trial in trials if "learning_rate" in trial}
    edge = setting is not None and len(rates) > 1 and setting["learning_rate"] in (min(rates), max(rates))
    return Collected(problem, candidate, trials, scores, setting, edge, runs, missing)


def collect_all(study: Study, candidates: Sequence[str] = ()) -> dict[str, dict[str, Collected]]:
    """Of each problem and candidate what is there; none named: of all candidates."""
    found: dict[str, dict[str, Collected]] = {}
    for problem, candidate in study.pairs((), candidates):
        found.setdefault(problem, {})[candidate] = collect(study, problem, candidate)
    return found
