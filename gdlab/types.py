"""Type aliases that the whole library uses, and a table that finds entries by name."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import optax
from jaxtyping import Array, Float, Num, Shaped

Point = Float[Array, " dim"]
"""One point of a function's domain, in the function's own units."""

Value = Shaped[Array, ""]
"""One function value: real, or complex under a complex step."""

ScalarFunction = Callable[[Num[Array, " dim"]], Value]
"""`fn(x)` maps one point to a scalar; for batches use `jax.vmap`."""

GradientFunction = Callable[[Point], Point]
"""`gradient(x)` maps one point to the gradient there, with the same shape and dtype."""

Number = float | Shaped[Array, ""] | np.ndarray | np.number
"""A numeric hyperparameter: a Python number, a 0-d array or a traced value."""

Schedule = Callable[[Array], Number]
"""`schedule(count)` returns the value of a hyperparameter after `count` steps (from 0), as in optax."""

Hyperparameter: TypeAlias = Any
"""What a numeric argument of an optimizer accepts: a `Number` or a `Schedule`.

For type checkers it is `Any`, because the function that takes it computes with it, after schedules were evaluated.
"""


Factory = Callable[..., optax.GradientTransformation]
"""A function that returns an optimizer from its hyperparameters, such as `gdlab.optimizers.adam`."""


class Grid(NamedTuple):
    """Values of a function of two variables on a rectangular grid.

    Attributes:
      x: the coordinates along the first axis of the domain.
      y: the coordinates along the second axis of the domain.
      z: the values; `z[j, i]` is the value at `(x[i], y[j])`.
    """

    x: Float[np.ndarray, " nx"]
    y: Float[np.ndarray, " ny"]
    z: Float[np.ndarray, "ny nx"]


T = TypeVar("T")


class UnknownNameError(KeyError):
    """A name that is not in a table; the message suggests the most similar names."""

    def __str__(self) -> str:
        return str(self.args[0])


def nearest(name: object, known: Iterable[str]) -> list[str]:
    """Return up to three of the known names that are spelled most like this one."""
    spelling = str(name).lower().replace("-", "_").replace(" ", "_")
    return difflib.get_close_matches(spelling, list(known), n=3, cutoff=0.5)


class NameTable(Mapping[str, T]):
    """A read-only mapping from names to entries whose error for a misspelled name suggests the most similar names.

    Args:
      kind: what the entries are, for messages ("optimizer", for example).
      entries: the mapping.
    """

    def __init__(self, kind: str, entries: Mapping[str, T]):
        self._kind = kind
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except (KeyError, TypeError):
            raise UnknownNameError(self._explain(name)) from None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"NameTable({self._kind}: {', '.join(self._entries)})"

    def _explain(self, name: object) -> str:
        near = nearest(name, self._entries)
        offer = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(self._entries)}"
        return f"no {self._kind} named {' '.join(repr(name).split())}; {offer}"
