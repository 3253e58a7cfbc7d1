"""A lane as JAX has traced it, which decides both the program of a scan and the identity of its results."""

import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from gdlab.arguments import describe, restated
from gdlab.compute.programs import Cache, digest_jaxprs
from gdlab.compute.snapshots import kept, snapshot
from gdlab.compute.trees import is_key
from gdlab.hyperparameters.factories import READS

TRACES = Cache(256)
"""Traced lanes, by everything that their functions read."""

LIBRARIES = ("chex", "contextlib", "equinox", "flax", "gdlab", "jax", "jaxlib", "numpy", "optax")
"""Modules in whose folders no line is the place of a user's mistake."""


class Trace(NamedTuple):
    """A traced lane.

    Attributes:
      closed: takes (seed, *numbers) and returns the results.
      results: the shape and dtype of each result, by name and in order.
      digest: a digest of the lane; None if it calls back into Python.
    """

    closed: core.ClosedJaxpr
    results: dict[str, jax.ShapeDtypeStruct]
    digest: str | None


def trace_lane(
    fn: Callable[..., Any], names: tuple[str, ...], dtypes: tuple[Any, ...], static: Mapping[str, Any]
) -> Trace:
    """Trace `fn(key, **numbers, **static)`, or return the trace that was made while all it reads was the same.

    Call this in the thread in which the caller's JAX settings apply.

    Raises:
      TypeError: if the function reads a traced value in Python, keeps one, or does not return a dict of arrays.
      ValueError: if it raises another error, or a result cannot have its name.
    """

    def make() -> Trace:
        return _trace(fn, names, dtypes, static)

    found: Trace = kept(TRACES, (fn, tuple(static.values())), (names, dtypes, tuple(static)), make)
    return found


def _trace(fn: Callable[..., Any], names: tuple[str, ...], dtypes: tuple[Any, ...], static: Mapping[str, Any]) -> Trace:
    labels: list[str] = []

    def lane(seed: Any, numbers: list[Any]) -> list[Any]:
        found = _called(fn, jax.random.key(seed), {**dict(zip(names, numbers, strict=True)), **static}, names)
        labels.extend(found)
        return list(found.values())

    before = snapshot(fn)
    shapes = [jax.ShapeDtypeStruct((), dtype) for dtype in dtypes]
    closed, results = jax.make_jaxpr(lane, return_shape=True)(jax.ShapeDtypeStruct((), np.uint32), shapes)
    leaked = any(isinstance(value, jax.core.Tracer) for value in closed.consts)
    if leaked or (before is not None and snapshot(fn) is None):
        raise TypeError(
            "fn: expected a function without side effects, got one that keeps a traced value, such as in a list "
            f"outside of it, at {place_of(fn)}; return what is to be kept"
        )
    return Trace(closed, dict(zip(labels, results, strict=True)), _digest(closed))


def _digest(closed: core.ClosedJaxpr) -> str | None:
    try:
        return digest_jaxprs([closed])
    except Exception:  # a rule of the user's own for vmap, by which lanes cannot be mapped
        return None


def _called(fn: Callable[..., Any], key: Any, arguments: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return `fn(key, **arguments)` as a dict of arrays, or raise one line that says what is wrong with it."""
    try:
        found = fn(key, **arguments)
    except Exception as error:  # the user's function may raise anything
        raise _explained(error, fn, names) from error
    where = f"at {place_of(fn)}"
    if not isinstance(found, Mapping) or not found or not all(isinstance(name, str) for name in found):
        raise TypeError(f"fn: expected a function that returns a dict of arrays, got {describe(found)}, {where}")
    arrays = {}
    for name, value in found.items():
        try:
            arrays[name] = jnp.asarray(value if value is not None else "nothing")
        except (TypeError, ValueError):
            raise TypeError(f"fn: expected an array as result {name!r}, got {describe(value)}, {where}") from None
        if is_key(arrays[name]):
            raise TypeError(f"fn: expected numbers as result {name!r}, got random keys, {where}")
    return arrays


def _explained(error: Exception, fn: Callable[..., Any], names: Sequence[str]) -> Exception:
    """Return the error of tracing a function as one line that names the place, and what to do."""
    where = place_of(fn, error)
    text = str(error)
    if isinstance(error, jax.errors.UnexpectedTracerError):
        return TypeError(
            "fn: expected a function without side effects, got one that uses a traced value of an earlier call, "
            f"at {where}"
        )
    if not isinstance(error, READS) and not ("concrete" in text and isinstance(error, TypeError)):
        return restated(error, "fn", "a function that JAX can trace", after=f", at {where}")
    said = [names[int(place)] for place in dict.fromkeys(re.findall(r"numbers\[(\d+)\]", text))] or list(names)
    if not said or ("argument seed" in text and "numbers[" not in text):
        return TypeError(
            "fn: expected a function that JAX can trace, got one that reads a value that depends on the random key in "
            f"Python, at {where}; compute with jnp.where or jax.lax.cond"
        )
    one = f"the value of {said[0]!r}" if len(said) == 1 else f"one of the values of {', '.join(map(repr, said))}"
    return TypeError(
        f"fn: expected a function that JAX can trace, got one that reads {one} in Python, at {where}; compute with "
        f"jnp.where or jax.lax.cond, or pass static={{{said[0]!r}: [...]}}, which compiles a program for each value"
    )


def place_of(fn: Callable[..., Any], error: BaseException | None = None) -> str:
    """Return the file and the line of the user's code in which an error was raised, or where the function begins."""
    frames = traceback.extract_tb(error.__traceback__) if error is not None else []
    own = [frame for frame in frames if not _is_library(frame.filename)]
    if own:
        return f"{own[-1].filename}:{own[-1].lineno}"
    while not hasattr(fn, "__code__") and (inner := getattr(fn, "__wrapped__", getattr(fn, "func", None))) is not None:
        fn = inner
    code: Any = getattr(fn, "__code__", None) or getattr(vars(type(fn)).get("__call__"), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else describe(fn)


def _is_library(file: str) -> bool:
    places = [getattr(sys.modules.get(name), "__file__", None) for name in LIBRARIES]
    return file.startswith("<frozen") or any(Path(file).is_relative_to(Path(place).parent) for place in places if place)
