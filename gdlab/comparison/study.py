"""What is compared: problems, candidates, the settings that each may try, and where each training lies."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optax

from gdlab.arguments import describe, require_callable, require_count, require_number
from gdlab.optimizers import one_of
from gdlab.tasks import Task

Setting = Mapping[str, float]
"""The hyperparameters that are tuned, by name: numbers that a candidate's function is called with."""


class Measure(NamedTuple):
    """What a problem is judged by. convert: from the metric's mean over examples to the number reported, lower better.

    label: with its unit. digits: after the point in tables.
    """

    label: str
    metric: str
    convert: Callable[[Any], Any]
    digits: int = 2


class Candidate(NamedTuple):
    """An optimizer: `build(learning_rate, momentum, total_steps)`, all of which may be traced numbers."""

    name: str
    build: Callable[..., optax.GradientTransformation]


class Problem(NamedTuple):
    """A task and how long to train on it.

    make() -> Task, with a part held out. epochs: the lengths of the final runs, each with schedules of its own.
    tuning_epochs: of a trial. trials: of each candidate its settings, as many for one as for any other. wrap: put
    around every optimizer, such as gradient clipping; about: what it is, in words, so that runs with another are told.
    """

    name: str
    make: Callable[[], Task]
    epochs: tuple[int, ...]
    tuning_epochs: int
    measure: Measure
    trials: Mapping[str, Sequence[Setting]]
    wrap: Callable[[optax.GradientTransformation], optax.GradientTransformation] = lambda optimizer: optimizer
    about: str = ""


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
            require_callable(f"candidates[{candidate.name}]", candidate.build)
        for problem in self.problems:
            _require_problem(problem, [candidate.name for candidate in self.candidates])

    def problem(self, name: str) -> Problem:
        """The problem of this name."""
        self.pairs([name])
        return next(problem for problem in self.problems if problem.name == name)

    def pairs(self, problems: Sequence[str] = (), candidates: Sequence[str] = ()) -> list[tuple[str, str]]:
        """(problem, candidate), in order; none named: all."""
        for kind, asked, entries in (
            ("problems", problems, self.problems),
            ("candidates", candidates, self.candidates),
        ):
            known = [entry.name for entry in entries]
            if strange := [name for name in asked if name not in known]:
                raise ValueError(f"{kind}: wanted names among {', '.join(known)}, got {strange[0]}")
        return [
            (problem.name, candidate.name)
            for problem in self.problems
            for candidate in self.candidates
            if (not problems or problem.name in problems) and (not candidates or candidate.name in candidates)
        ]

    def factories(self, problem: Problem) -> dict[str, tuple[Callable[..., Any], dict[str, float]]]:
        """Of each candidate a function that returns its optimizer for the problem, and the numbers that choose it."""
        builds = [_wrapped(problem, candidate.build) for candidate in self.candidates]
        names = [candidate.name for candidate in self.candidates]
        if not self.together:
            return {name: (build, {}) for name, build in zip(names, builds, strict=True)}
        every = one_of(builds)
        return {name: (every, {"choice": float(place)}) for place, name in enumerate(names)}

    def trial_folder(self, problem: str, candidate: str, setting: Setting, seed: int) -> Path:
        """Of a trial's run; one of another length has another folder."""
        tuning = f"tuning-{self.problem(problem).tuning_epochs}"
        return self.folder.joinpath("runs", problem, candidate, tuning, _named(setting), f"seed-{seed}")

    def final_folder(self, problem: str, candidate: str, epochs: int, setting: Setting, seed: int) -> Path:
        """Of a final run; another setting has another folder, so that a larger budget disturbs nothing."""
        return self.folder.joinpath("runs", problem, candidate, f"epochs-{epochs}", _named(setting), f"seed-{seed}")


def _wrapped(problem: Problem, build: Callable[..., Any]) -> Callable[..., Any]:
    return lambda learning_rate, momentum, total_steps: problem.wrap(
        build(learning_rate=learning_rate, momentum=momentum, total_steps=total_steps)
    )


def _named(setting: Setting) -> str:
    return "_".join(f"{name}-{value:.6g}" for name, value in setting.items())


def _require_problem(problem: Problem, candidates: Sequence[str]) -> None:
    name = problem.name
    require_callable(f"problems[{name}].make", problem.make)
    for epochs in (*problem.epochs, problem.tuning_epochs):
        require_count(f"problems[{name}].epochs", epochs)
    if len(set(problem.epochs)) < len(problem.epochs):
        raise ValueError(f"problems[{name}].epochs: wanted each once, got {problem.epochs}")
    if not problem.epochs:
        raise ValueError(f"problems[{name}].epochs: wanted at least one length, got none")
    if missing := [each for each in candidates if each not in problem.trials]:
        raise ValueError(f"problems[{name}].trials: wanted settings for {missing[0]}, got none")
    budgets = {each: len(problem.trials[each]) for each in candidates}
    if len(set(budgets.values())) > 1 or 0 in budgets.values():
        raise ValueError(f"problems[{name}].trials: wanted as many for each candidate, one at least, got {budgets}")
    for each in candidates:
        if len({_named(setting) for setting in problem.trials[each]}) < len(problem.trials[each]):
            raise ValueError(f"problems[{name}].trials: wanted settings that differ for {each}, got some twice")
        for setting in problem.trials[each]:
            if set(setting) != {"learning_rate", "momentum"}:
                raise ValueError(f"trials: wanted learning_rate and momentum, got {', '.join(setting) or 'none'}")
            require_number("learning_rate", setting["learning_rate"], 0.0, open_low=True)
            require_number("momentum", setting["momentum"], 0.0, 1.0, open_high=True)


def ladder(
    budget: int, learning_rate: float, *, momenta: Sequence[float] = (0.9, 0.95, 0.99), factor: float = 10**0.5
) -> list[Setting]:
    """`budget` settings around a learning rate: nearest ones first, so that a larger budget only adds settings.

    Rates are learning_rate times the powers 0, 1, -1, 2, -2, ... of `factor`, one more in each rung, at the first of
    the momenta; each further momentum enters one rung later with the same rates. So two settings are two rates at the
    first momentum, three try the second momentum too, and six the third.
    """
    require_count("budget", budget)
    require_number("learning_rate", learning_rate, 0.0, open_low=True)
    require_number("factor", factor, 1.0, open_low=True)
    if not momenta:
        raise ValueError("momenta: wanted at least one, got none")
    for momentum in momenta:
        require_number("momenta", momentum, 0.0, 1.0, open_high=True)
    powers = [(k + 1) // 2 * (1 if k % 2 else -1) for k in range(budget)]
    found: list[Setting] = []
    for rung in range(budget):
        for place, momentum in enumerate(momenta):
            if (k := rung - place) >= 0:
                found.append({"learning_rate": learning_rate * factor ** powers[k], "momentum": momentum})
    return found[:budget]
