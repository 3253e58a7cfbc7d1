"""The space that a scan covers: hyperparameters, static values and seeds, checked and laid out as lanes."""

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gdlab.arguments import describe, require_callable, require_count, require_mapping, require_sequence
from gdlab.hyperparameters.axes import Form, Layout, lay_out

RESULT_NAMES = ("seed", "trial")
"""The names of a scan's own dimensions."""

REMEDY = "pass static={{{name!r}: {values}}}, which compiles a program for each value"
"""What to do about values that cannot be traced."""


class Space(NamedTuple):
    """All lanes of a scan.

    Attributes:
      layout: the hyperparameters that are traced; its repeats are the seeds.
      static: for each static argument, its values; a single value that is no sequence has no dimension.
      seeds: the seeds.
    """

    layout: Layout
    static: dict[str, "StaticAxis"]
    seeds: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the hyperparameters that are traced."""
        return tuple(self.layout.numbers)

    @property
    def dtypes(self) -> tuple[Any, ...]:
        """The dtype of each of them: int32, or JAX's default floating-point type."""
        floating = jax.dtypes.canonicalize_dtype(np.float64)
        return tuple(floating if v.dtype.kind == "f" else np.dtype(np.int32) for v in self.layout.numbers.values())

    @property
    def sizes(self) -> dict[str, int]:
        """The dimensions of every result, with their lengths: static values, hyperparameters and seeds."""
        static = {name: len(axis.values) for name, axis in self.static.items() if axis.named}
        return static | self.layout.axes | {"seed": len(self.seeds)}

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Yield the static arguments of each program, by name."""
        for values in itertools.product(*(axis.values for axis in self.static.values())):
            yield dict(zip(self.static, values, strict=True))

    def values(self, lanes: range) -> list[np.ndarray]:
        """Return the values of each hyperparameter in these lanes, in the dtype in which it is traced."""
        found = (self.layout.values(name, lanes) for name in self.names)
        return [values.astype(dtype) for values, dtype in zip(found, self.dtypes, strict=True)]

    def seeds_of(self, lanes: range) -> np.ndarray:
        """Return the seed of each of these lanes."""
        return self.seeds[self.layout.repeat(lanes)]

    def coordinates(self) -> dict[str, Any]:
        """Return the coordinates of the result."""
        found: dict[str, Any] = {"seed": self.seeds.astype(np.int64)}
        for name, axis in self.static.items():
            found[name] = (name, axis.labels()) if axis.named else axis.labels()[0]
        return found | self.layout.coordinates([])


class StaticAxis(NamedTuple):
    """The values of a static argument, and whether they are a dimension of the result."""

    values: tuple[Any, ...]
    named: bool

    def labels(self) -> list[Any]:
        """Return flags, numbers and texts as they are if all are of one kind, and otherwise the names of all values."""
        kinds = {type(value) for value in self.values}
        if kinds in ({bool}, {int}, {float}, {str}):
            return list(self.values)
        if kinds == {int, float}:
            return [float(value) for value in self.values]
        return [str(getattr(value, "__name__", value)) for value in self.values]


def make_space(fn: Any, space: Any, static: Any, seeds: Any) -> Space:
    """Check and lay out everything that a scan covers; an error states in one line what was expected and given."""
    require_callable("fn", fn)
    numbers = as_seeds(seeds)
    fixed = _static(static)
    twice = [name for name in fixed if isinstance(space, Mapping) and name in space]
    if twice:
        raise ValueError(f"static: expected other arguments than those of space, got {twice[0]!r} in both")
    form = Form((*RESULT_NAMES, *fixed), "space", "function", REMEDY, keeps_integers=True)
    layout = lay_out(space, {}, form, len(numbers))
    require_taken(fn, tuple(layout.numbers), tuple(fixed))
    found = Space(layout, fixed, numbers)
    for name, array, dtype in zip(found.names, layout.numbers.values(), found.dtypes, strict=True):
        with np.errstate(over="ignore"):
            lost = ~np.isfinite(array.values.astype(dtype))
        if lost.any():
            raise ValueError(
                f"space[{name!r}]: expected numbers that {dtype} can hold, got {array.values[lost].flat[0]:g}"
            )
    return found


def as_seeds(seeds: Any) -> np.ndarray:
    """Convert a number of seeds (0, 1, ...) or a sequence of seeds to an array of them."""
    if isinstance(seeds, (int, np.integer)):
        require_count("seeds", seeds)
        seeds = range(int(seeds))
    require_sequence("seeds", seeds, "a number of seeds, or a sequence of seeds")
    seeds = [*seeds]
    for seed in seeds:
        require_count("seeds", seed, low=0)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds: expected at least one seed and no duplicates, got {seeds}")
    return np.array(seeds, np.uint32)


def _static(given: Any) -> dict[str, StaticAxis]:
    if given is None:
        return {}
    require_mapping("static", given, "from arguments to values")
    found = {}
    for name, values in given.items():
        if not isinstance(name, str) or name in RESULT_NAMES:
            raise ValueError(f"static: expected a name that is not reserved for the result, got {name!r}")
        several = isinstance(values, (list, tuple, range)) or (isinstance(values, np.ndarray) and values.ndim == 1)
        axis = StaticAxis(tuple(_plain(value) for value in values) if several else (_plain(values),), several)
        if not axis.values:
            raise ValueError(f"static[{name!r}]: expected at least one value, got none")
        for value in axis.values:
            try:
                hash(value)
            except TypeError:
                raise TypeError(
                    f"static[{name!r}]: expected values that can be hashed, got {describe(value)}"
                ) from None
        labels = axis.labels()
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise ValueError(f"static[{name!r}]: expected values with different names, got {twice!r} more than once")
        found[name] = axis
    return found


def _plain(value: Any) -> Any:
    """Return NumPy's numbers as Python's, because shapes are made of these."""
    return value.item() if isinstance(value, np.generic) else value


def require_taken(fn: Callable[..., Any], traced: Sequence[str], static: Sequence[str]) -> None:
    """Raise an error unless `fn(key, ...)` takes these arguments, and requires no others."""
    try:
        parameters = inspect.signature(fn).parameters
    except (TypeError, ValueError):  # some callables have no signature
        return
    label = getattr(fn, "__name__", type(fn).__name__)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    every = list(parameters.values())
    if not every or every[0].kind not in (*positional, inspect.Parameter.VAR_POSITIONAL):
        raise TypeError(f"fn: expected a function of a random key and hyperparameters, got {label} without arguments")
    first, others = every[0], every[1:]
    taken = [p.name for p in others if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    anything = any(p.kind is p.VAR_KEYWORD for p in others)
    for argument, names in (("space", traced), ("static", static)):
        for name in names:
            if name == first.name or (name not in taken and not anything):
                key = f"; its first argument, {first.name}, is the random key" if name == first.name else ""
                raise ValueError(
                    f"{argument}: expected arguments of {label} ({', '.join(taken) or 'none'}), got {name!r}{key}"
                )
    required = [p.name for p in others if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    missing = [name for name in required if name not in (*traced, *static)]
    if missing:
        given = ", ".join((*traced, *static)) or "none"
        raise ValueError(f"space: expected also {', '.join(missing)}, which {label} requires, got {given}")
