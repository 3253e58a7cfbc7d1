"""What is compared: problems, candidates, the settings that each may try, and where each training lies."""

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
"""The hyperparameters that are tuned, by name: numbers that a candidate's factory is called with."""


def _as_it_is(value: Any) -> Any:
    return value


class Measure(NamedTuple):
    """A number that runs are judged by. convert: from the metric's mean over examples to the number that is reported.

    label: with its unit. metric: of the task, without its part. digits: after the point in tables. better: which of two
    reported numbers is, the "lower" or the "higher" one.
    """

    label: str
    metric: str
    convert: Callable[[Any], Any] = _as_it_is
    digits: int = 2
    better: Better = "lower"

    @property
    def failure(self) -> float:
        """What a run that diverged counts as: worse than any number."""
        return np.inf if self.better == "lower" else -np.inf


class Candidate(NamedTuple):
    """An optimizer. factory(**setting) -> optimizer, of numbers that may be traced.

    A factory that has an argument `total_steps` is given the steps of the whole run too. label: in tables and pictures;
    default the name.
    """

    name: str
    factory: Factory
    label: str = ""

    @property
    def shown(self) -> str:
        """The name in tables and pictures."""
        return self.label or self.name


class Problem(NamedTuple):
    """A task and how long to train on it.

    make() -> Task; where there are several settings to choose from, with a part held out. epochs: the lengths of the
    final runs, each with schedules of its own. measure: what is reported, and what decides among trials. trials: of
    each candidate its settings, as many for one as for any other; a single one is taken without a trial. tuning_epochs:
    of a trial. wrap: put around every optimizer, such as gradient clipping. patience: of `train`, for the final runs.
    about: what it is, in words, so that runs with another are told apart. label: in tables; default the name.
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
        """The name in tables and pictures."""
        return self.label or self.name

    def is_tuned(self, candidate: str) -> bool:
        """Whether trials decide among several settings."""
        return len(self.trials[candidate]) > 1


@dataclasses.dataclass(frozen=True)
class Study:
    """Problems x candidates x seeds, in one folder.

    tuning_seeds: of the trials; the final runs have others, so that none is chosen by its luck. together: whether one
    compiled program holds all candidates, of which a number chooses (`gdlab.optimizers.one_of`): a CPU compiles a
    network's gradient for seconds or minutes, once for each program. The numbers agree up to rounding.
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
                raise ValueError(f"{name}: wanted at least one, got none")
        if both := sorted(set(self.seeds) & set(self.tuning_seeds)):
            raise ValueError(f"seeds: wanted others than the tuning_seeds, got {both[0]} in both")
        for seed in (*self.seeds, *self.tuning_seeds):
            require_count("seeds", seed, low=0)
        for name in ("seeds", "tuning_seeds"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name}: wanted each once, got {', '.join(map(str, getattr(self, name)))}")
        if not isinstance(self.folder, Path):
            raise TypeError(f"folder: wanted a Path, got {describe(self.folder)}")
        for kind, entries in (("problems", self.problems), ("candidates", self.candidates)):
            names = [entry.name for entry in entries]
            if len(set(names)) < len(names):
                raise ValueError(f"{kind}: wanted names that differ, got {', '.join(names)}")
        for candidate in self.candidates:
            require_callable(f"candidates[{candidate.name}]", candidate.factory)
        for problem in self.problems:
            _require_problem(problem, self.candidates)

    def problem(self, name: str) -> Problem:
        """The problem of this name."""
        self.require_names([name], [])
        return next(problem for problem in self.problems if problem.name == name)

    def candidate(self, name: str) -> Candidate:
        """The candidate of this name."""
        self.require_names([], [name])
        return next(candidate for candidate in self.candidates if candidate.name == name)

    def require_names(self, problems: Sequence[str], candidates: Sequence[str]) -> None:
        """Raise ValueError for a name that no problem, or no candidate, has."""
        for kind, asked, entries in (
            ("problems", problems, self.problems),
            ("candidates", candidates, self.candidates),
        ):
            known = [entry.name for entry in entries]
            if strange := [name for name in asked if name not in known]:
                raise ValueError(f"{kind}: wanted names among {', '.join(known)}, got {strange[0]}")

    def pairs(self, problems: Sequence[str] = (), candidates: Sequence[str] = ()) -> list[tuple[str, str]]:
        """(problem, candidate), in order; none named: all."""
        self.require_names(problems, candidates)
        return [
            (problem.name, candidate.name)
            for problem in self.problems
            for candidate in self.candidates
            if (not problems or problem.name in problems) and (not candidates or candidate.name in candidates)
        ]

    def factory(self, problem: Problem) -> "StudyFactory":
        """What makes the problem's optimizers. It is to be called once for all runs, whose program it decides."""
        return StudyFactory(self, problem)

    def trial_folder(self, problem: str, candidate: str, setting: Setting, seed: int) -> Path:
        """Of a trial's run; one of another length has another folder."""
        tuning = f"tuning-{self.problem(problem).tuning_epochs}"
        return self.folder.joinpath("runs", problem, candidate, tuning, _named(setting), f"seed-{seed}")

    def final_folder(self, problem: str, candidate: str, epochs: int, setting: Setting, seed: int) -> Path:
        """Of a final run; another setting has another folder, so that a larger budget disturbs nothing."""
        return self.folder.joinpath("runs", problem, candidate, f"epochs-{epochs}", _named(setting), f"seed-{seed}")


class StudyFactory:
    """The factories of a problem's candidates, and the numbers that `train` is to call them with.

    Where candidates share one program, its factory takes the arguments of all of them, each under
    "candidate.argument", and a choice; those of the candidates that are not chosen are their first settings.
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
        """The factory of the candidate; the same object for all of them where they share a program."""
        return self._together if self._study.together else self._alone[candidate]

    def numbers(self, candidate: str, setting: Setting, total_steps: float) -> dict[str, float]:
        """What the candidate's factory is called with."""
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
        raise ValueError(f"{place}.epochs: wanted each once, got {problem.epochs}")
    if not problem.epochs:
        raise ValueError(f"{place}.epochs: wanted at least one length, got none")
    if problem.patience is not None:
        require_count(f"{place}.patience", problem.patience)
    if missing := [each.name for each in candidates if each.name not in problem.trials]:
        raise ValueError(f"{place}.trials: wanted settings for {missing[0]}, got none")
    budgets = {each.name: len(problem.trials[each.name]) for each in candidates}
    if len(set(budgets.values())) > 1 or 0 in budgets.values():
        raise ValueError(f"{place}.trials: wanted as many for each candidate, one at least, got {budgets}")
    for each in candidates:
        _require_settings(f"{place}.trials[{each.name}]", each, problem.trials[each.name])


def _require_settings(place: str, candidate: Candidate, settings: Sequence[Setting]) -> None:
    if len({_named(setting) for setting in settings}) < len(settings):
        raise ValueError(f"{place}: wanted settings that differ, got some twice")
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
    """`budget` settings around a learning rate: nearest ones first, so that a larger budget only adds settings.

    Rates are learning_rate times the powers 0, 1, -1, 2, -2, ... of `factor`, one more in each rung, at the first of
    the momenta; each further momentum enters one rung later with the same rates. So two settings are two rates at the
    first momentum, three try the second momentum too, and six the third. momentum: the name of the factory's argument,
    such as "b1" of `adam`. momenta: none for a factory that is tuned by its learning rate alone.
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
