"""The definition of a study: problems, candidates, the settings to try, and the folder of each training."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optax

from gdlab.analysis.statistics import Better
from gdlab.arguments import describe, require_callable, require_choice, require_count, require_number
from gdlab.hyperparameters.factories import accepts, given
from gdlab.optimizers import one_of
from gdlab.tasks import Task
from gdlab.types import Factory

Setting = Mapping[str, float]
"""The tuned hyperparameters by name: numbers with which a candidate's factory is called."""


def _as_it_is(value: Any) -> Any:
    return value


class Measure(NamedTuple):
    """A number by which runs are judged.

    Attributes:
      label: the name in tables, with its unit.
      metric: the name of the task's metric, without the part of the data, such as "accuracy".
      convert: a function from the metric's mean over examples to the number that is reported. Default: unchanged.
      digits: the number of digits after the decimal point in tables. Default 2.
      better: whether "lower" (default) or "higher" reported numbers are better.
    """

    label: str
    metric: str
    convert: Callable[[Any], Any] = _as_it_is
    digits: int = 2
    better: Better = "lower"

    @property
    def failure(self) -> float:
        """The value that a run that diverged counts as: worse than any number."""
        return np.inf if self.better == "lower" else -np.inf


class Candidate(NamedTuple):
    """An optimizer that a study compares.

    Attributes:
      name: the name in folders and selections.
      factory: a function `factory(**setting)` that returns an optimizer, for numbers that may be traced. If it has an
        argument `total_steps`, it also gets the number of steps of the whole run.
      label: the name in tables and figures. Default: `name`.
    """

    name: str
    factory: Factory
    label: str = ""

    @property
    def shown(self) -> str:
        """The name in tables and figures."""
        return self.label or self.name


class Problem(NamedTuple):
    """A task, and how long to train on it.

    Attributes:
      name: the name in folders and selections.
      make: a function without arguments that returns the `Task`. The task needs a held-out part if there are several
        settings to choose from.
      epochs: the numbers of epochs of the final runs. Each length is a run of its own, with its own schedules.
      measure: the number that is reported, and that decides among trials.
      trials: the settings of each candidate, the same number for every candidate. A single setting is used without
        a trial.
      tuning_epochs: the number of epochs of a trial. Default 1.
      wrap: a function that is applied to every optimizer, for example to add gradient clipping. Default: unchanged.
      patience: the `patience` of `train` for the final runs. Default None: no early stopping.
      about: a description of the problem, which distinguishes its runs from those of another problem of the same
        name.
      label: the name in tables and figures. Default: `name`.
    """

    name: str
    make: Callable[[], Task]
    epochs: tuple[int, ...]
    measure: Measure
    trials: Mapping[str, Sequence[Setting]]
    tuning_epochs: int = 1
    wrap: Callable[[optax.GradientTransformation], optax.GradientTransformation] = _as_it_is
    patience: int | None = None
    about: str = ""
    label: str = ""

    @property
    def shown(self) -> str:
        """The name in tables and figures."""
        return self.label or self.name

    def is_tuned(self, candidate: str) -> bool:
        """Whether trials decide among several settings of the candidate."""
        return len(self.trials[candidate]) > 1


@dataclasses.dataclass(frozen=True)
class Study:
    """A comparison of optimizers: problems x candidates x seeds, in one folder.

    A problem is a task, the measure by which it is judged, and the numbers of epochs to train. A candidate is an
    optimizer whose hyperparameters may be tuned. A trial is a training of a candidate on a problem with one of its
    settings, for `tuning_epochs` epochs; the setting of the best trial, judged on held-out data, is chosen. A final
    run is a training of the candidate with the chosen setting, one per number of epochs and seed; results are
    reported from final runs.

    Attributes:
      folder: the folder of all trainings.
      problems: the problems, with distinct names.
      candidates: the candidates, with distinct names.
      seeds: the seeds of the final runs.
      tuning_seeds: the seeds of the trials. They must differ from `seeds`, so that no setting is chosen for its luck
        with a seed that is reported. Default (1000,).
      together: whether one compiled program holds all candidates, of which a number chooses one
        (`gdlab.optimizers.one_of`). A CPU compiles a network's gradient for seconds or minutes, once per program.
        Results with and without it agree up to rounding. Default True.

    Raises:
      TypeError: if an entry has a wrong type.
      ValueError: if names, seeds or lengths repeat or are missing, or if a setting does not fit its candidate's
        factory.
    """

    folder: Path
    problems: Sequence[Problem]
    candidates: Sequence[Candidate]
    seeds: Sequence[int]
    tuning_seeds: Sequence[int] = (1000,)
    together: bool = True

    def __post_init__(self) -> None:
        for name in ("problems", "candidates", "seeds", "tuning_seeds"):
            if not getattr(self, name):
                raise ValueError(f"{name}: expected at least one, got none")
        if both := sorted(set(self.seeds) & set(self.tuning_seeds)):
            raise ValueError(f"seeds: expected none of the tuning_seeds, got {both[0]} in both")
        for seed in (*self.seeds, *self.tuning_seeds):
            require_count("seeds", seed, low=0)
        for name in ("seeds", "tuning_seeds"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name}: expected distinct seeds, got {', '.join(map(str, getattr(self, name)))}")
        if not isinstance(self.folder, Path):
            raise TypeError(f"folder: expected a Path, got {describe(self.folder)}")
        for kind, entries in (("problems", self.problems), ("candidates", self.candidates)):
            names = [entry.name for entry in entries]
            if len(set(names)) < len(names):
                raise ValueError(f"{kind}: expected distinct names, got {', '.join(names)}")
        for candidate in self.candidates:
            require_callable(f"candidates[{candidate.name}]", candidate.factory)
        for problem in self.problems:
            _require_problem(problem, self.candidates)

    def problem(self, name: str) -> Problem:
        """Return the problem of this name."""
        self.require_names([name], [])
        return next(problem for problem in self.problems if problem.name == name)

    def candidate(self, name: str) -> Candidate:
        """Return the candidate of this name."""
        self.require_names([], [name])
        return next(candidate for candidate in self.candidates if candidate.name == name)

    def require_names(self, problems: Sequence[str], candidates: Sequence[str]) -> None:
        """Raise ValueError for a name that belongs to no problem, or to no candidate."""
        for kind, asked, entries in (
            ("problems", problems, self.problems),
            ("candidates", candidates, self.candidates),
        ):
            known = [entry.name for entry in entries]
            if strange := [name for name in asked if name not in known]:
                raise ValueError(f"{kind}: expected names among {', '.join(known)}, got {strange[0]}")

    def pairs(self, problems: Sequence[str] = (), candidates: Sequence[str] = ()) -> list[tuple[str, str]]:
        """Return the selected pairs (problem, candidate) of names, in order.

        Args:
          problems: names of problems. Default: all.
          candidates: names of candidates. Default: all.

        Raises:
          ValueError: if a name is unknown.
        """
        self.require_names(problems, candidates)
        return [
            (problem.name, candidate.name)
            for problem in self.problems
            for candidate in self.candidates
            if (not problems or problem.name in problems) and (not candidates or candidate.name in candidates)
        ]

    def factory(self, problem: Problem) -> "StudyFactory":
        """Return the object that makes the problem's optimizers.

        Call it once for all runs of a problem, because each object has compiled programs of its own.
        """
        return StudyFactory(self, problem)

    def trial_folder(self, problem: str, candidate: str, setting: Setting, seed: int) -> Path:
        """Return the folder of a trial. Trials of different lengths have different folders."""
        tuning = f"tuning-{self.problem(problem).tuning_epochs}"
        return self.folder.joinpath("runs", problem, candidate, tuning, _named(setting), f"seed-{seed}")

    def final_folder(self, problem: str, candidate: str, epochs: int, setting: Setting, seed: int) -> Path:
        """Return the folder of a final run.

        Different settings have different folders, so that a larger tuning budget leaves existing runs in place.
        """
        return self.folder.joinpath("runs", problem, candidate, f"epochs-{epochs}", _named(setting), f"seed-{seed}")


class StudyFactory:
    """The factories of a problem's candidates, and the numbers with which `train` calls them.

    If the candidates share one program, its factory takes the arguments of all of them, each named
    "candidate.argument", and a choice. Candidates that are not chosen get their first setting.
    """

    def __init__(self, study: Study, problem: Problem):
        self._study, self._problem = study, problem
        self._alone = {candidate.name: self._wrapped(candidate) for candidate in study.candidates}
        self._together = one_of([self._own(candidate.name) for candidate in study.candidates])

    def _wrapped(self, candidate: Candidate) -> Factory:
        def build(total_steps: Any, **setting: Any) -> optax.GradientTransformation:
            return self._problem.wrap(given(candidate.factory, total_steps=total_steps)(**setting))

        return build

    def _own(self, name: str) -> Factory:
        def build(total_steps: Any, **arguments: Any) -> optax.GradientTransformation:
            own = {key.partition(".")[2]: value for key, value in arguments.items() if key.partition(".")[0] == name}
            return self._alone[name](total_steps, **own)

        return build

    def __call__(self, candidate: str) -> Factory:
        """Return the candidate's factory; the same object for all candidates if they share a program."""
        return self._together if self._study.together else self._alone[candidate]

    def numbers(self, candidate: str, setting: Setting, total_steps: float) -> dict[str, float]:
        """Return the arguments with which the candidate's factory is called."""
        if not self._study.together:
            return {**setting, "total_steps": total_steps}
        names = [entry.name for entry in self._study.candidates]
        found = {"total_steps": total_steps, "choice": float(names.index(candidate))}
        for each in names:
            own = setting if each == candidate else self._problem.trials[each][0]
            found |= {f"{each}.{name}": value for name, value in own.items()}
        return found


def _named(setting: Setting) -> str:
    return "_".join(f"{name}-{value:.6g}" for name, value in setting.items()) or "defaults"


def _require_problem(problem: Problem, candidates: Sequence[Candidate]) -> None:
    place = f"problems[{problem.name}]"
    require_callable(f"{place}.make", problem.make)
    require_choice(f"{place}.measure.better", problem.measure.better, ("lower", "higher"))
    for epochs in (*problem.epochs, problem.tuning_epochs):
        require_count(f"{place}.epochs", epochs)
    if len(set(problem.epochs)) < len(problem.epochs):
        raise ValueError(f"{place}.epochs: expected distinct lengths, got {problem.epochs}")
    if not problem.epochs:
        raise ValueError(f"{place}.epochs: expected at least one length, got none")
    if problem.patience is not None:
        require_count(f"{place}.patience", problem.patience)
    if missing := [each.name for each in candidates if each.name not in problem.trials]:
        raise ValueError(f"{place}.trials: expected settings for {missing[0]}, got none")
    budgets = {each.name: len(problem.trials[each.name]) for each in candidates}
    if len(set(budgets.values())) > 1 or 0 in budgets.values():
        raise ValueError(
            f"{place}.trials: expected the same number of settings for every candidate, at least one, got {budgets}"
        )
    for each in candidates:
        _require_settings(f"{place}.trials[{each.name}]", each, problem.trials[each.name])


def _require_settings(place: str, candidate: Candidate, settings: Sequence[Setting]) -> None:
    if len({_named(setting) for setting in settings}) < len(settings):
        raise ValueError(f"{place}: expected distinct settings, got one twice")
    for setting in settings:
        if set(setting) != set(settings[0]):
            raise ValueError(
                f"{place}: expected the same arguments in every setting, got {', '.join(settings[0]) or 'none'} and "
                f"{', '.join(setting) or 'none'}"
            )
        for name, value in setting.items():
            require_number(f"{place}: {name}", value)
            if name == "total_steps" or not accepts(candidate.factory, name):
                raise ValueError(f"{place}: expected arguments of the factory, got {name!r}")
        given(candidate.factory, total_steps=1000.0)(**setting)  # numbers out of range raise here


def ladder(
    budget: int,
    learning_rate: float,
    *,
    momenta: Sequence[float] = (0.9, 0.95, 0.99),
    factor: float = 10**0.5,
    momentum: str = "momentum",
) -> list[Setting]:
    """Return `budget` settings around a learning rate, the nearest first, so that a larger budget only adds settings.

    The rates are `learning_rate` times the powers 0, 1, -1, 2, -2, ... of `factor`. Each rung of the ladder adds the
    next rate at the first momentum; each further momentum enters one rung later, with the same rates. So two settings
    are two rates at the first momentum, three settings include the second momentum, and six include the third.

    Args:
      budget: the number of settings.
      learning_rate: the middle learning rate.
      momenta: the values of the momentum, in [0, 1). Empty for a factory that is tuned by its learning rate alone.
        Default (0.9, 0.95, 0.99).
      factor: the ratio of neighboring rates. Default sqrt(10).
      momentum: the name of the factory's argument, such as "b1" for `adam`. Default "momentum".

    Returns:
      The settings.

    Raises:
      ValueError: if a number is out of range.
    """
    require_count("budget", budget)
    require_number("learning_rate", learning_rate, 0.0, open_low=True)
    require_number("factor", factor, 1.0, open_low=True)
    for value in momenta:
        require_number("momenta", value, 0.0, 1.0, open_high=True)
    powers = [(k + 1) // 2 * (1 if k % 2 else -1) for k in range(budget)]
    found: list[Setting] = []
    for rung in range(budget):
        for place in range(max(len(momenta), 1)):
            if (k := rung - place) >= 0:
                own = {momentum: momenta[place]} if momenta else {}
                found.append({"learning_rate": learning_rate * factor ** powers[k], **own})
    return found[:budget]
