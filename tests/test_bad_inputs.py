"""A wrong argument of any public callable gives one line that names it, from gdlab's own code, before any work.

Each test makes all calls of one callable in which exactly one argument is wrong.
"""

import importlib
import inspect
import pkgutil
import re
import traceback
from pathlib import Path

import jax
import numpy as np
import pytest

import gdlab
from gdlab import tasks
from gdlab.optimizers import OPTIMIZERS
from tests.public_calls import CALLS, NOT_CALLED, THROUGH, public_callables
from tests.samples import blank, write_text
from tests.wrong_values import ALIASES, FREE, kind_of, wrong_values

PACKAGE = str(Path(gdlab.__file__).parent)
CALLABLES = public_callables()
CHECKED = sorted(path for path in CALLABLES if path not in FREE)
LEAST = 4000
COMPILED = "/jax/core/compile/backend_compile_duration"
compilations: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: compilations.append(event) if event == COMPILED else None
)


def parameters(path):
    """The arguments of a callable; positional ones of any number have no name to call."""
    found = inspect.signature(CALLABLES[path]).parameters
    return {name: one for name, one in found.items() if one.kind is not one.VAR_POSITIONAL}


def cases(path):
    """All pairs of an argument and a wrong value of it, except those that take anything."""
    for name, parameter in parameters(path).items():
        if f"{path}.{name}" not in FREE:
            keyword = parameter.kind is parameter.VAR_KEYWORD
            for value in wrong_values(f"{path}.{name}", parameter):
                yield ("nonsense" if keyword else name), value


def valid(path):
    """The arguments of a valid call."""
    return CALLS.get(path, dict)()


def complaint(path, name, value):
    """Make the call and say what is wrong with its outcome, or return None if it is one line that names the argument.

    A call that compiles is made again: operations on single numbers are compiled once, and a loop or a model each time.
    """
    before = len(compilations)
    found = outcome(path, name, value)
    if found is None and len(compilations) > before:
        before = len(compilations)
        outcome(path, name, value)
        return (
            f"compiled {len(compilations) - before} programs before it raised" if len(compilations) > before else None
        )
    return found


def outcome(path, name, value):
    """Make the call and say what is wrong with its outcome, whatever it compiles."""
    arguments = valid(path) | {name: value}
    try:
        result = THROUGH.get(path, CALLABLES[path])(**arguments)
        if hasattr(result, "__enter__"):
            with result:
                pass
    except Exception as error:
        found, message = error, str(error)
        place = traceback.extract_tb(error.__traceback__)[-1].filename
    else:
        return "no error"
    if not place.startswith(PACKAGE):
        return f"raised by {Path(place).name}: {type(found).__name__}: {message}"
    if not isinstance(found, (TypeError, ValueError, LookupError, OSError)):
        return f"an unusual error, {type(found).__name__}: {message}"
    if "\n" in message:
        return f"more than one line: {message}"
    if re.search(r"\bno [\w -]+ named\b", message):  # a name that is not in a table, with the nearest names
        return None
    named = ALIASES.get(f"{path}.{name}", name.removesuffix("s"))
    if not re.search(rf"\b{named}s?\b", message):
        return f"does not name the argument: {message}"
    if not re.search(r"\bexpected\b.*\bgot\b", message):
        return f"does not say what was expected and what came: {message}"
    return None


def shown(value):
    """A value in a message."""
    text = f"array{np.shape(value)}" if isinstance(value, (np.ndarray, jax.Array)) else repr(value)
    return re.sub(r" at 0x\w+", "", text)[:60]


def complaints(path):
    """What is wrong with the outcomes of all calls of one callable, one line each."""
    found = []
    for name, value in cases(path):
        if wrong := complaint(path, name, value):
            found.append(f"{path}({name}={shown(value)}): {wrong.splitlines()[0][:200]}")
    return found


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Work in a folder of one's own, since calls read and write files of given names."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Let every task find small data in the folder of the test."""
    provide_data(tmp_path / "data", monkeypatch)


def provide_data(folder, patch):
    """Let every task find small data."""
    write_text(folder)
    patch.setenv("GDLAB_DATA_DIR", str(folder))
    for one in pkgutil.iter_modules(tasks.__path__):
        module = importlib.import_module(f"gdlab.tasks.{one.name}")
        if hasattr(module, "load"):
            patch.setattr(module, "load", blank)


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("path", CHECKED)
def test_a_wrong_argument_gives_one_line_that_names_it(path):
    found = complaints(path)
    assert not found, f"{len(found)} of {len(list(cases(path)))} cases:\n" + "\n".join(found)


@pytest.mark.parametrize("path", CHECKED)
def test_the_call_that_is_made_wrong_is_complete(path):
    inspect.signature(CALLABLES[path]).bind(**valid(path))


@pytest.mark.thorough
@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("path", [path for path in CHECKED if path not in NOT_CALLED])
def test_the_call_that_is_made_wrong_is_right(path):
    result = THROUGH.get(path, CALLABLES[path])(**valid(path))
    if hasattr(result, "__enter__"):
        with result:
            pass


def test_every_exception_and_every_call_belongs_to_a_public_callable():
    assert {path for path in FREE if path in CALLABLES or path.rpartition(".")[0] in CALLABLES} == set(FREE)
    assert set(CALLS) | set(NOT_CALLED) | set(THROUGH) <= set(CALLABLES)
    assert not set(FREE) & set(CALLS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_traced_vector_is_no_hyperparameter(name):
    path = f"optimizers.{name}"
    for argument, parameter in parameters(path).items():
        if kind_of(f"{path}.{argument}", parameter) == "hyperparameter":
            vector = jax.ShapeDtypeStruct((2,), np.float32)
            with pytest.raises(ValueError, match=rf"^{argument}: expected one number, got an array of shape \(2,\)"):
                jax.eval_shape(lambda traced, argument=argument: build(path, argument, traced), vector)


def build(path, argument, value):
    """Build an optimizer, and return nothing."""
    CALLABLES[path](**valid(path) | {argument: value})


def test_enough_cases_are_tried():
    assert sum(len(list(cases(path))) for path in CHECKED) >= LEAST
