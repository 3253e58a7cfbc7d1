"""Which numbers a factory takes, and what is said where it does not take them."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax

from gdlab.arguments import describe
from gdlab.types import Factory


def by_name(name: str, given: Any) -> dict[str, Any]:
    """A mapping as it is, anything else under a name of its own; ValueError for an empty one."""
    if not isinstance(given, Mapping):
        label = getattr(given, "name", None) or getattr(given, "__name__", type(given).__name__)
        return {str(label): given}
    if not given:
        raise ValueError(f"{name}: wanted at least one entry, got an empty mapping")
    return {str(key): value for key, value in given.items()}


def factories_by_name(given: Any) -> dict[str, Factory]:
    """The factories of a mapping, or one under its own name; TypeError for what cannot be called."""
    found = by_name("factory", given)
    for name, entry in found.items():
        if not callable(entry):
            raise TypeError(
                f"factory: wanted a function that returns an optimizer, such as gdlab.optimizers.adam, got "
                f"{describe(entry)} for {name!r}"
            )
    return found


def accepts(factory: Callable[..., Any], name: str) -> bool:
    """Whether the factory has an argument of this name, or takes any."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some callables have none
        return True
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def given(factory: Callable[..., Any], **values: Any) -> Callable[..., Any]:
    """The factory with those of the values fixed that it has an argument for; the others are left out.

    So one set of values serves many factories: `given(factory, weight_decay=0.0, total_steps=1000)`.
    """
    return functools.partial(factory, **{name: value for name, value in values.items() if accepts(factory, name)})


@contextmanager
def explained(label: str, names: Sequence[str]) -> Iterator[None]:
    """Turn the error of a factory that reads a traced argument's value into one that says what to do instead.

    label: of the factory. names: of the arguments that are traced.
    """
    try:
        yield
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        raise TypeError(
            f"hyperparameters: {label} reads the value of an argument in Python, so it cannot be traced; sweep one of "
            f"{', '.join(names)} at a time to find it, and make one sweep for each of its values"
        ) from error


def require_arguments(factories: Mapping[str, Factory], numbers: Mapping[str, Any]) -> None:
    """Raise unless every factory takes these arguments as traced numbers, and needs no others."""
    for label, factory in factories.items():
        try:
            parameters = inspect.signature(factory).parameters
        except (TypeError, ValueError):  # some callables have none
            continue
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue
        takes = [name for name, p in parameters.items() if p.kind is not p.VAR_POSITIONAL]
        for name in numbers:
            if name not in takes:
                raise ValueError(f"hyperparameters: {label} takes {', '.join(takes)}; got {name!r}")
            static = isinstance(parameters[name].default, (bool, str)) or _annotation(parameters[name]) in _STATIC
            if static:
                raise TypeError(
                    f"hyperparameters: {name!r} of {label} shapes the program and cannot be traced; make one sweep for "
                    f"each of its values, with functools.partial({label}, {name}=...), and join the datasets"
                )
        missing = [
            name
            for name, p in parameters.items()
            if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name not in numbers
        ]
        if missing:
            raise ValueError(
                f"hyperparameters: {label} needs {', '.join(missing)} too; got {', '.join(numbers) or 'none'}"
            )


_STATIC = ("int", "bool", "str")


def _annotation(parameter: inspect.Parameter) -> str:
    note = parameter.annotation
    return note.__name__ if isinstance(note, type) else str(note)
