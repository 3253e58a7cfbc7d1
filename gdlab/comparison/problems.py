"""What a study compares: candidates on problems, judged by measures; and the checks of their definitions."""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from gdlab.analysis.statistics import Better
from gdlab.arguments import (
    abstract_result,
    first_line,
    require_callable,
    require_choice,
    require_count,
    require_instance,
    require_mapping,
    require_number,
    require_optimizer,
    require_sequence,
    require_text,
    restated,
)
from gdlab.hyperparameters.factories import accepts, given
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


_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
"""Names that Windows keeps for devices."""

_LONGEST = 200
"""The largest number of bytes in the name of a folder; systems allow 255, and files beside it have longer names."""


def require_named(kind: str, entries: Sequence[Any]) -> None:
    """Raise ValueError unless the entries' names are distinct, and can be those of folders on every system."""
    for place, entry in enumerate(entries):
        require_folder_name(f"{kind}[{place}].name", entry.name)
        require_line(f"{kind}[{entry.name}].label", entry.label)
    names = [entry.name for entry in entries]
    if len(set(names)) < len(names):
        raise ValueError(f"{kind}: expected distinct names, got {', '.join(names)}")
    seen: dict[str, str] = {}
    for name in names:
        twin = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if twin != name:  # one folder on systems that ignore case
            raise ValueError(f"{kind}: expected names that differ in more than case, got {twin} and {name}")


def require_folder_name(place: str, name: Any) -> None:
    """Raise unless `name` can be the name of one folder on every system."""
    require_text(place, name)
    fits = (
        not any(character in "/\\" or unicodedata.category(character) in ("Cc", "Cs") for character in name)
        and name == name.strip()
        and not name.startswith(".")
        and not name.endswith(".")
        and name.partition(".")[0].casefold() not in _RESERVED
    )
    if not fits:
        raise ValueError(f"{place}: expected a name that a folder can have, without separators, got {name!r}")
    if len(name.encode()) > _LONGEST:
        raise ValueError(f"{place}: expected a name of at most {_LONGEST} bytes, got one of {len(name.encode())}")


def require_line(place: str, value: Any, *, empty: bool = True) -> None:
    """Raise unless `value` is one line of text, which may be empty only if `empty` is set."""
    require_text(place, value, empty=empty)
    if value.splitlines() not in ([], [value]):
        raise ValueError(f"{place}: expected one line of text, got {value!r}")


def require_measure(place: str, measure: Any) -> None:
    """Raise unless `measure` is a `Measure` whose fields are of the right kind."""
    require_instance(place, measure, Measure, "a Measure")
    require_line(f"{place}.label", measure.label, empty=False)
    require_text(f"{place}.metric", measure.metric)
    require_callable(f"{place}.convert", measure.convert)
    require_count(f"{place}.digits", measure.digits, low=0)
    require_choice(f"{place}.better", measure.better, ("lower", "higher"))
    try:
        float(measure.convert(np.float64(0.5)))
    except Exception as error:  # the user's function may raise anything
        raise ValueError(
            f"{place}.convert: expected a function that returns a number for a metric of 0.5, got {first_line(error)}"
        ) from error


def require_problem(problem: Problem, candidates: Sequence[Candidate]) -> None:
    """Raise unless the fields of the problem are of the right kind, and its settings fit the candidates."""
    place = f"problems[{problem.name}]"
    require_callable(f"{place}.make", problem.make)
    require_callable(f"{place}.wrap", problem.wrap)
    require_measure(f"{place}.measure", problem.measure)
    require_text(f"{place}.about", problem.about, empty=True)
    require_sequence(f"{place}.epochs", problem.epochs, "numbers of epochs")
    for epochs in problem.epochs:
        require_count(f"{place}.epochs", epochs)
    require_count(f"{place}.tuning_epochs", problem.tuning_epochs)
    if len(set(problem.epochs)) < len(problem.epochs):
        raise ValueError(f"{place}.epochs: expected distinct lengths, got {problem.epochs}")
    if not len(problem.epochs):
        raise ValueError(f"{place}.epochs: expected at least one length, got none")
    if problem.patience is not None:
        require_count(f"{place}.patience", problem.patience)
    require_mapping(f"{place}.trials", problem.trials, "from candidates to settings")
    if missing := [each.name for each in candidates if each.name not in problem.trials]:
        raise ValueError(f"{place}.trials: expected settings for {missing[0]}, got none")
    for each in candidates:
        require_sequence(f"{place}.trials[{each.name}]", problem.trials[each.name], "settings")
    budgets = {each.name: len(problem.trials[each.name]) for each in candidates}
    if len(set(budgets.values())) > 1 or 0 in budgets.values():
        raise ValueError(
            f"{place}.trials: expected the same number of settings for every candidate, at least one, got {budgets}"
        )
    for each in candidates:
        _require_settings(f"{place}.trials[{each.name}]", problem, each)


def _require_settings(place: str, problem: Problem, candidate: Candidate) -> None:
    settings = problem.trials[candidate.name]
    for setting in settings:
        require_mapping(place, setting, "from arguments to numbers")
        if set(setting) != set(settings[0]):
            raise ValueError(
                f"{place}: expected the same arguments in every setting, got {_listed(settings[0])} and "
                f"{_listed(setting)}"
            )
        for name, value in setting.items():
            require_number(f"{place}: {name}", value)
            if name == "total_steps" or not str(name).isidentifier() or not accepts(candidate.factory, name):
                raise ValueError(f"{place}: expected arguments of the factory, got {name!r}")
        if len(named(setting).encode()) > _LONGEST:
            raise ValueError(f"{place}: expected settings that the name of a folder can list, got {named(setting)}")
        _require_built(place, problem, candidate, setting)
    if len({named(setting) for setting in settings}) < len(settings):
        raise ValueError(f"{place}: expected distinct settings (to six digits), got one twice")


def require_traceable(candidate: Candidate, names: Iterable[str]) -> None:
    """Raise unless the candidate's factory takes these arguments as traced numbers; `train` calls it in this way."""
    numbers = dict.fromkeys((*names, "total_steps"), jax.ShapeDtypeStruct((), np.float32))
    abstract_result(
        f"candidates[{candidate.name}].factory",
        lambda found: (given(candidate.factory, **found)(), ())[1],
        numbers,
        takes=f"the numbers {', '.join(numbers)}",
    )


def _require_built(place: str, problem: Problem, candidate: Candidate, setting: Setting) -> None:
    """Raise unless the factory accepts the setting; numbers out of range are found here, before any training."""
    try:
        optimizer = given(candidate.factory, total_steps=1000.0)(**setting)
    except Exception as error:  # the user's function may raise anything
        expected = f"arguments with which the factory of {candidate.name} can be called"
        raise restated(error, place, expected, before=f"{named(setting)}: ") from error
    require_optimizer(f"candidates[{candidate.name}].factory", optimizer)
    try:
        wrapped = problem.wrap(optimizer)
    except Exception as error:  # the user's function may raise anything
        raise ValueError(
            f"problems[{problem.name}].wrap: expected a function of an optimizer that returns one, got "
            f"{first_line(error)}"
        ) from error
    require_optimizer(f"problems[{problem.name}].wrap", wrapped)


def _listed(setting: Setting) -> str:
    return ", ".join(map(str, setting)) or "none"


def named(setting: Setting) -> str:
    """Return the setting as the name of a folder."""
    return "_".join(f"{name}-{value:.6g}" for name, value in setting.items()) or "defaults"
