"""The few shapes that everything in gdlab speaks, as type aliases, and the table that finds a thing by its name."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import optax
from jaxtyping import Array, Float, Num, Shaped

Point = Float[Array, " dim"]
"""One point of a function's domain, in the function's own units."""

Value = Shaped[Array, ""]
"""One function value; real, or complex under a complex step."""

ScalarFunction = Callable[[Num[Array, " dim"]], Value]
"""`fn(x)`: one point in, one scalar out. Batches are `jax.vmap`'s business."""

GradientFunction = Callable[[Point], Point]
"""`gradient(x)`: one point in, the gradient at it out, same shape and dtype."""

Number = float | Shaped[Array, ""] | np.ndarray | np.number
"""A numeric hyperparameter: a Python number, a 0-d array, or a value that JAX traces."""

Schedule = Callable[[Array], Number]
"""`schedule(count)`: the value of a hyperparameter after `count` steps (from 0), as in optax."""

Hyperparameter: TypeAlias = Any
"""What a numeric argument of an optimizer takes: a `Number` or a `Schedule`.

`Any` for type checkers, because the function that takes it calculates with it: schedules are evaluated at the door.
"""


Factory = Callable[..., optax.GradientTransformation]
"""A function that returns an optimizer from its hyperparameters, such as `gdlab.optimizers.adam`."""


class Grid(NamedTuple):
    """Values of a 2-D function on a rectangular grid; `z[j, i]` is the value at `(x[i], y[j])`."""

    x: Float[np.ndarray, " nx"]
    y: Float[np.ndarray, " ny"]
    z: Float[np.ndarray, "ny nx"]


T = TypeVar("T")


class UnknownNameError(KeyError):
    """A name that a table does not hold; the message offers the nearest names."""

    def __str__(self) -> str:
        return str(self.args[0])


class NameTable(Mapping[str, T]):
    """A read-only mapping from names to entries that answers a misspelt name with the nearest ones."""

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
        spelling = str(name).lower().replace("-", "_").replace(" ", "_")
        near = difflib.get_close_matches(spelling, self._entries, n=3, cutoff=0.5)
        offer = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(self._entries)}"
        return f"no {self._kind} named {name!r}; {offer}"
