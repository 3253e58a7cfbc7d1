"""Factories of optimizers: which hyperparameters they take, and the errors for those that they do not take."""

import functools
import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import optax

from gdlab.arguments import describe, first_line, is_optimizer, needs_gradient, require_callable, restated
from gdlab.hyperparameters.axes import Layout
from gdlab.types import Factory


def by_name(name: str, given: Any) -> dict[str, Any]:
    """Return a mapping with its keys as strings, and anything else under its own name; raise ValueError if empty."""
    if not isinstance(given, Mapping):
        label = getattr(given, "name", None) or getattr(given, "__name__", type(given).__name__)
        return {str(label): given}
    if not given:
        raise ValueError(f"{name}: expected at least one entry, got an empty mapping")
    return {str(key): value for key, value in given.items()}


def factories_by_name(given: Any, argument: str = "factory") -> dict[str, Factory]:
    """Return the factories by name; raise TypeError, which names the `argument`, for an entry that cannot be called."""
    found = by_name(argument, given)
    for name, entry in found.items():
        if not callable(entry):
            raise TypeError(
                f"{argument}: expected a function that returns an optimizer, such as gdlab.optimizers.adam, got "
                f"{describe(entry)} for {name!r}"
            )
    return found


def accepts(factory: Callable[..., Any], name: str) -> bool:
    """Return whether the factory has an argument of this name, or takes arbitrary keyword arguments."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some callables have no signature
        return True
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def given(factory: Callable[..., Any], **values: Any) -> Callable[..., Any]:
    """Fix the arguments of a factory, and ignore those that it does not have.

    One set of values can thus serve many factories: `given(factory, weight_decay=0.0, total_steps=1000)`.

    Args:
      factory: a function that returns an optimizer.
      **values: the values of arguments, by name. Those without a matching argument of `factory` are left out.

    Returns:
      The factory with the matching arguments fixed, a `functools.partial`.
    """
    require_callable("factory", factory)
    return functools.partial(factory, **{name: value for name, value in values.items() if accepts(factory, name)})


READS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""The errors that JAX raises if Python code reads the value of a traced array."""


@contextmanager
def explained(label: str, names: Sequence[str]) -> Iterator[None]:
    """Replace the errors of tracing a factory and its optimizer by one line that names the argument.

    Args:
      label: the name of the factory.
      names: the arguments that are traced.
    """
    try:
        yield
    except READS as error:
        raise TypeError(
            f"hyperparameters: {label} reads the value of an argument in Python, so it cannot be traced; sweep one of "
            f"{', '.join(names)} at a time to find it, and then run one sweep for each of its values"
        ) from error
    except Exception as error:  # an optimizer of the user may raise anything
        if re.match(r"[^\n:]+: expected [^\n]*$", str(error)):
            raise
        raise restated(error, "factory", f"an optimizer from {label} that JAX can trace") from error


def optimizer_from(label: str, factory: Factory, numbers: Mapping[str, Any]) -> optax.GradientTransformation:
    """Return `factory(**numbers)`, or raise TypeError if it is not an optimizer."""
    made = factory(**numbers)
    if not is_optimizer(made):
        raise TypeError(f"factory: expected {label} to return an optax transformation, got {describe(made)}")
    return made


def require_values(factories: Mapping[str, Factory], layout: Layout, dtype: Any) -> bool:
    """Raise an error unless every factory accepts its hyperparameters, which are traced and not checked later.

    A factory is called with concrete values of `dtype`: those of every setting, or, if there are many, settings that
    have the ends of each argument's values and some between.

    Args:
      factories: the factories by name, in the order of the layout's optimizers.
      layout: the hyperparameters.
      dtype: the dtype to which the values are converted.

    Returns:
      Whether one of the optimizers needs the gradient.

    Raises:
      ValueError: if a factory refuses a value, or `dtype` cannot hold it.
      TypeError: if a factory does not return an optimizer.
      ImportError: if a factory needs a package that is not installed.
    """
    for name, array in layout.numbers.items():
        with np.errstate(over="ignore"):
            lost = ~np.isfinite(array.values.astype(dtype))
        if lost.any():
            raise ValueError(
                f"hyperparameters[{name!r}]: expected numbers that {np.dtype(dtype)} can hold, got "
                f"{array.values[lost].flat[0]:g}"
            )
    functions = layout.categories.get("function") or [""]
    some_need = False
    for (index, (label, factory)), function in itertools.product(enumerate(factories.items()), range(len(functions))):
        lanes = layout.repeats * _some_settings(layout, index, function)
        columns = {
            name: layout.values(name, lanes, optimizer=index, function=function).astype(dtype).tolist()
            for name in layout.numbers
        }
        for place in range(len(lanes)):
            try:
                made = optimizer_from(label, factory, {name: column[place] for name, column in columns.items()})
                some_need |= needs_gradient(made)
            except ImportError:
                raise
            except Exception as error:  # a factory of the user may raise anything
                if str(error).startswith("factory: "):
                    raise
                raise ValueError(f"hyperparameters: {_reason(error)}, for {label}") from error
    return some_need


MANY = 200
"""The number of settings up to which all are tried; beyond it, as many distinct values of each argument."""


def _some_settings(layout: Layout, index: int, function: int) -> np.ndarray:
    settings = layout.lanes // layout.repeats
    if settings <= MANY:
        return np.arange(settings)
    found = [0]
    every = layout.repeats * np.arange(settings)
    for name in layout.numbers:
        _, first = np.unique(layout.values(name, every, optimizer=index, function=function), return_index=True)
        found += first[np.unique(np.linspace(0, len(first) - 1, MANY).astype(int))].tolist()
    return np.unique(found)


def _reason(error: Exception) -> str:
    return (
        str(error)
        if re.match(r"[^\n:]+: expected [^\n]*$", str(error))
        else f"expected values that are accepted, got {first_line(error)}"
    )


def require_arguments(factories: Mapping[str, Factory], numbers: Mapping[str, Any]) -> None:
    """Raise an error unless every factory takes these arguments as traced numbers, and requires no others."""
    for label, factory in factories.items():
        try:
            parameters = inspect.signature(factory).parameters
        except (TypeError, ValueError):  # some callables have no signature
            continue
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue
        takes = [name for name, p in parameters.items() if p.kind is not p.VAR_POSITIONAL]
        for name in numbers:
            if name not in takes:
                raise ValueError(f"hyperparameters: expected arguments of {label} ({', '.join(takes)}), got {name!r}")
            static = isinstance(parameters[name].default, (bool, str)) or _annotation(parameters[name]) in _STATIC
            if static:
                raise TypeError(
                    f"hyperparameters: {name!r} of {label} shapes the program and cannot be traced; run one sweep for "
                    f"each of its values, with functools.partial({label}, {name}=...), and join the datasets"
                )
        missing = [
            name
            for name, p in parameters.items()
            if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name not in numbers
        ]
        if missing:
            raise ValueError(
                f"hyperparameters: expected also {', '.join(missing)}, which {label} requires, got "
                f"{', '.join(numbers) or 'none'}"
            )


_STATIC = ("int", "bool", "str", "int | None")


def _annotation(parameter: inspect.Parameter) -> str:
    note = parameter.annotation
    return note.__name__ if isinstance(note, type) else str(note)
