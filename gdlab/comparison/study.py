"""The definition of a study: the settings to try, the seeds, and the folder of each training."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optax

from gdlab.arguments import (
    as_path,
    require_callable,
    require_count,
    require_flag,
    require_instance,
    require_number,
    require_sequence,
    require_text,
)
from gdlab.comparison.problems import (
    Candidate,
    Problem,
    Setting,
    named,
    require_named,
    require_problem,
    require_traceable,
)
from gdlab.hyperparameters.factories import given
from gdlab.optimizers import one_of
from gdlab.types import Factory

_SEEDS = ("seeds", "tuning_seeds")


@dataclasses.dataclass(frozen=True)
class Study:
    """A comparison of optimizers: problems x candidates x seeds, in one folder.

    A problem is a task, the measure by which it is judged, and the numbers of epochs to train. A candidate is an
    optimizer whose hyperparameters may be tuned. A trial is a training of a candidate on a problem with one of its
    settings, for `tuning_epochs` epochs; the setting of the best trial, judged on held-out data, is chosen. A final
    run is a training of the candidate with the chosen setting, one per number of epochs and seed; results are
    reported from final runs.

    Attributes:
      folder: the folder of all trainings; a leading `~` is replaced by the home directory.
      problems: the problems. Their names are those of folders: distinct, also where case is ignored, and without
        separators.
      candidates: the candidates, whose names follow the same rules.
      seeds: the seeds of the final runs.
      tuning_seeds: the seeds of the trials. They must differ from `seeds`, so that no setting is chosen for its luck
        with a seed that is reported. Default (1000,).
      together: whether one compiled program holds all candidates, of which a number chooses one
        (`gdlab.optimizers.one_of`). A CPU compiles a network's gradient for seconds or minutes, once per program.
        Results with and without it agree up to rounding. Default True.

    Raises:
      TypeError: if an entry has a wrong type.
      ValueError: if names, seeds or lengths repeat or are missing, if a name cannot be that of a folder, or if a
        setting does not fit its candidate's factory.
    """

    folder: Path
    problems: Sequence[Problem]
    candidates: Sequence[Candidate]
    seeds: Sequence[int]
    tuning_seeds: Sequence[int] = (1000,)
    together: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", as_path("folder", self.folder))
        for name, kind in (("problems", "problems"), ("candidates", "candidates"), *((n, "seeds") for n in _SEEDS)):
            require_sequence(name, getattr(self, name), kind)
            if not len(getattr(self, name)):
                raise ValueError(f"{name}: expected at least one, got none")
        for name in _SEEDS:
            for seed in getattr(self, name):
                require_count(name, seed, low=0)
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name}: expected distinct seeds, got {', '.join(map(str, getattr(self, name)))}")
        if both := sorted(set(self.seeds) & set(self.tuning_seeds)):
            raise ValueError(f"seeds: expected none of the tuning_seeds, got {both[0]} in both")
        require_flag("together", self.together)
        for place, problem in enumerate(self.problems):
            require_instance(f"problems[{place}]", problem, Problem, "a Problem")
        for place, candidate in enumerate(self.candidates):
            require_instance(f"candidates[{place}]", candidate, Candidate, "a Candidate")
        require_named("problems", self.problems)
        require_named("candidates", self.candidates)
        for candidate in self.candidates:
            require_callable(f"candidates[{candidate.name}].factory", candidate.factory)
        for problem in self.problems:
            require_problem(problem, self.candidates)
        for candidate in self.candidates:
            for names in {frozenset(problem.trials[candidate.name][0]) for problem in self.problems}:
                require_traceable(candidate, names)

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
            require_sequence(kind, asked, "names")
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
        return self.folder.joinpath("runs", problem, candidate, tuning, named(setting), f"seed-{seed}")

    def final_folder(self, problem: str, candidate: str, epochs: int, setting: Setting, seed: int) -> Path:
        """Return the folder of a final run.

        Different settings have different folders, so that a larger tuning budget leaves existing runs in place.
        """
        return self.folder.joinpath("runs", problem, candidate, f"epochs-{epochs}", named(setting), f"seed-{seed}")


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

    def own(self, candidate: str) -> Factory:
        """Return a factory of this candidate alone, which sees parameters in the same form as in training."""
        alone = self._alone[candidate]
        return partial(one_of([alone]), 0.0) if self._study.together else alone

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
    require_sequence("momenta", momenta, "numbers")
    for value in momenta:
        require_number("momenta", value, 0.0, 1.0, open_high=True)
    if len(set(momenta)) < len(momenta):
        raise ValueError(f"momenta: expected distinct numbers, got {', '.join(map(str, momenta))}")
    require_text("momentum", momentum)
    if momentum == "learning_rate" or not momentum.isidentifier():
        raise ValueError(f"momentum: expected the name of an argument beside learning_rate, got {momentum!r}")
    found: list[Setting] = []
    for rung in range(budget):
        for place in range(min(max(len(momenta), 1), rung + 1)):
            own = {momentum: momenta[place]} if len(momenta) else {}
            found.append({"learning_rate": _rung(budget, learning_rate, factor, rung - place), **own})
        if len(found) >= budget:
            break
    return found[:budget]


def _rung(budget: int, learning_rate: float, factor: float, place: int) -> float:
    """Return `learning_rate` times the power 0, 1, -1, 2, -2, ... of `factor`."""
    power = (place + 1) // 2 * (1 if place % 2 else -1)
    least, most = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
    try:
        rate = learning_rate * factor**power
    except OverflowError:
        rate = np.inf
    if not least <= rate <= most:
        raise ValueError(
            f"budget: expected settings whose learning rates float32 can hold, got {budget} around {learning_rate:g} "
            f"with factor {factor:g}"
        )
    return rate
