"""What a study's folder holds: final runs and trials, finished or not, read without a task or an optimizer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from gdlab.comparison.study import Problem, Setting, Study
from gdlab.runs import read_run


class Run(NamedTuple):
    """A finished training. history: of each metric its values, NaN from the epoch on in which a loss was not finite."""

    seed: int
    history: dict[str, Float[np.ndarray, " epochs"]]
    seconds: float
    config: dict[str, Any]

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite."""
        return bool(np.isnan(self.history["train_loss"][-1]))


class Collected(NamedTuple):
    """A pair of problem and candidate.

    setting: the best trial's; None while trials are missing. scores: of each trial, the measure on held-out examples,
    mean over tuning seeds, inf where one diverged, NaN where one is missing. at_the_edge: whether the chosen learning
    rate is the least or the greatest that was tried. runs: of each length in epochs the final runs at `setting`.
    missing: how many trainings, trials or final ones, are not done.
    """

    problem: str
    candidate: str
    trials: Sequence[Setting]
    scores: Float[np.ndarray, " trials"]
    setting: Setting | None
    at_the_edge: bool
    runs: dict[int, list[Run]]
    missing: int


def read_finished(folder: Path, epochs: int, seed: int) -> Run | None:
    """The run in the folder; None where there is none or it has not all its epochs."""
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
    done, diverged = len(history["train_loss"]), np.isnan(history["train_loss"][-1])
    if done > epochs or (done < epochs and not diverged):
        return None
    return Run(seed, history, float(sum(record.seconds.get("seconds", []))), record.config)


def score(problem: Problem, run: Run, part: str) -> float:
    """The problem's measure after the last epoch; inf for a run that diverged. part: "train", "valid" or "test"."""
    value = run.history[f"{part}_{problem.measure.metric}"][-1]
    converted = float(problem.measure.convert(value))
    return converted if np.isfinite(converted) else np.inf


def choose(study: Study, problem: Problem, candidate: str) -> tuple[Setting | None, np.ndarray, int]:
    """The setting with the least mean score, of equal ones the first, the means, and how many trials are missing."""
    settings = problem.trials[candidate]
    scores = np.full((len(settings), len(study.tuning_seeds)), np.nan)
    for row, setting in enumerate(settings):
        for column, seed in enumerate(study.tuning_seeds):
            folder = study.trial_folder(problem.name, candidate, setting, seed)
            run = read_finished(folder, problem.tuning_epochs, seed)
            if run is not None:
                scores[row, column] = score(problem, run, "valid")
    missing, means = int(np.isnan(scores).sum()), scores.mean(axis=1)
    return (None if missing else settings[int(np.argmin(means))]), means, missing


def collect(study: Study, problem: str, candidate: str) -> Collected:
    """What is there of the pair. Raises ValueError where its final runs are of several programs or data."""
    study.pairs([problem], [candidate])  # are there such?
    one = study.problem(problem)
    setting, scores, missing = choose(study, one, candidate)
    runs: dict[int, list[Run]] = {epochs: [] for epochs in one.epochs}
    for epochs, found in runs.items():
        for seed in study.seeds:
            run = None
            if setting is not None:
                run = read_finished(study.final_folder(problem, candidate, epochs, setting, seed), epochs, seed)
            if run is None:
                missing += 1
            else:
                found.append(run)
    for epochs, found in runs.items():
        for part in ("program", "data"):
            if len({str(run.config["identity"].get(part)) for run in found}) > 1:
                raise ValueError(
                    f"{problem}, {candidate}, {epochs} epochs: wanted final runs that differ in their seed alone, got "
                    f"some with another {part}; choose another folder"
                )
    trials = one.trials[candidate]
    rates = {trial["learning_rate"] for trial in trials}
    edge = setting is not None and len(rates) > 1 and setting["learning_rate"] in (min(rates), max(rates))
    return Collected(problem, candidate, trials, scores, setting, edge, runs, missing)
