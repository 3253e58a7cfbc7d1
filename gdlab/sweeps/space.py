"""The space that a sweep covers: functions, optimizers, hyperparameters and starts, checked and laid out as lanes."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gdlab.arguments import (
    abstract_result,
    as_numbers,
    describe,
    require_callable,
    require_gradient,
    require_scalar_function,
)
from gdlab.compute.programs import Cache
from gdlab.compute.snapshots import kept
from gdlab.functions import Function
from gdlab.hyperparameters.axes import Form, Layout, lay_out
from gdlab.hyperparameters.factories import by_name, factories_by_name, require_arguments, require_values
from gdlab.sweeps.trees import Tree, flatten, is_tree
from gdlab.types import Factory, GradientFunction, ScalarFunction

RESULT_NAMES = (
    "optimizer",
    "function",
    "trial",
    "start",
    "step",
    "coordinate",
    "start_point",
    "value",
    "point",
    "steps",
    "converged",
    "diverged",
    "reached",
    "first_reached",
)
"""The names of a sweep's own dimensions and variables."""


class Space(NamedTuple):
    """All lanes of a sweep.

    Attributes:
      functions: the functions by name.
      gradients: the gradient of each function, or None for automatic differentiation.
      factories: the factories by name.
      named_functions: whether a mapping of functions was passed, so that the result has their dimension.
      named_factories: whether a mapping of factories was passed, so that the result has their dimension.
      layout: the hyperparameters by optimizer and function; its repeats are the starts.
      starts: the starts of each function.
      minimizers: the minimizers of each function, repeated to equal counts; None if those of any function are
        unknown.
      needs_gradient: whether one of the optimizers needs the gradient.
      tree: the tree of a point, of which all the above hold the vectors; None if points are vectors.
    """

    functions: dict[str, ScalarFunction]
    gradients: tuple[GradientFunction, ...] | None
    factories: dict[str, Factory]
    named_functions: bool
    named_factories: bool
    layout: Layout
    starts: Float[np.ndarray, "functions starts dim"]
    minimizers: Float[np.ndarray, "functions count dim"] | None
    needs_gradient: bool
    tree: Tree | None = None

    @property
    def dim(self) -> int:
        """The number of coordinates of a point."""
        return self.starts.shape[2]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the hyperparameters."""
        return tuple(self.layout.numbers)

    def points(self, function: int, lanes: Any) -> Float[np.ndarray, "lanes dim"]:
        """Return the starts of these lanes."""
        every = self.starts[function]
        first = lanes.start % len(every) if isinstance(lanes, range) else len(every)
        if first + len(lanes) <= len(every):
            return every[first : first + len(lanes)]  # consecutive starts need no copy
        return every[self.layout.repeat(lanes)]

    def values(self, factory: int, function: int, lanes: Any, length: int) -> list[np.ndarray]:
        """Return the values of each hyperparameter in the starts' dtype.

        Each is one value that all lanes share, or those of `lanes`, padded to `length`.
        """
        return self.layout.padded_values(lanes, length, self.starts.dtype, optimizer=factory, function=function)


def make_space(fn: Any, factory: Any, hyperparameters: Any, starts: Any, gradient: Any, minimizers: Any) -> Space:
    """Check and lay out everything that a sweep covers; an error states in one line what was expected and given."""
    named_functions, named_factories = isinstance(fn, Mapping), isinstance(factory, Mapping)
    functions = by_name("fn", fn)
    factories = factories_by_name(factory)
    plain = {}
    for name, entry in functions.items():
        found = entry.fn if isinstance(entry, Function) else entry
        require_callable("fn", found)
        plain[name] = found
    tree = None
    if is_tree(starts, list(plain), named_functions):
        starts, tree = flatten("starts", starts)
        plain = {name: tree.function(found) for name, found in plain.items()}
        factories = {name: tree.factory(make) for name, make in factories.items()}
        gradient = tree.gradients(gradient)
    points = lay_starts("starts", starts, list(plain), named_functions)
    one = jax.ShapeDtypeStruct(points.shape[2:], points.dtype)
    for found in plain.values():
        _once(require_scalar_function, "fn", found, one)
    categories = {"optimizer": list(factories) if named_factories else None, "function": list(plain)}
    layout = lay_out(hyperparameters, categories, Form(RESULT_NAMES), points.shape[1])
    require_arguments(factories, layout.numbers)
    slopes = require_values(factories, layout, points.dtype)
    for found in plain.values() if slopes and gradient is None else ():
        _once(_require_differentiable, "fn", found, one)
    return Space(
        plain,
        _gradients(gradient, list(plain), named_functions, one),
        factories,
        named_functions,
        named_factories,
        layout,
        points,
        lay_minimizers(functions, minimizers, named_functions, points.shape[2]),
        slopes,
        tree,
    )


CHECKED = Cache(256)
"""The checks that functions have passed, by what the functions read."""


def _once(check: Callable[[str, Any, Any], Any], name: str, function: Any, point: Any) -> None:
    """Call `check(name, function, point)`, unless the function has passed it and reads what it read then."""
    kept(CHECKED, function, (check, name, point.shape, point.dtype), lambda: check(name, function, point))


def _require_differentiable(name: str, fn: Any, point: Any) -> None:
    abstract_result(name, jax.grad(fn), point, takes="its gradient")


def _gradients(gradient: Any, names: list[str], named: bool, point: Any) -> tuple[GradientFunction, ...] | None:
    if gradient is None:
        return None
    given = by_name("gradient", gradient)
    if isinstance(gradient, Mapping) != named or (named and list(given) != names):
        raise ValueError(f"gradient: expected a gradient for each of {names}, got {list(given)}")
    for slope in given.values():
        _once(require_gradient, "gradient", slope, point)
    return tuple(given.values())


def lay_starts(name: str, starts: Any, functions: list[str], named: bool) -> Float[np.ndarray, "functions starts dim"]:
    """Return the starts of each function.

    Args:
      name: the name of the argument, for error messages.
      starts: an array of shape (starts, dim), or a mapping with such an array for each function.
      functions: the names of the functions.
      named: whether there is a mapping of functions, so that the starts may be one, too.

    Raises:
      TypeError: if the starts are not floating-point numbers.
      ValueError: if names or shapes do not fit.
    """
    if not isinstance(starts, Mapping):
        points = _points(name, starts)
        return np.broadcast_to(points, (len(functions), *points.shape))
    by_function = {str(key): points for key, points in starts.items()}
    if not named or sorted(by_function) != sorted(functions):
        raise ValueError(f"{name}: expected an array, or an array for each of {functions}, got {list(starts)}")
    arrays = [_points(name, by_function[function]) for function in functions]
    if len({array.shape for array in arrays}) > 1:
        raise ValueError(f"{name}: expected the same shape for all functions, got {[a.shape for a in arrays]}")
    return np.stack(arrays)


def _points(name: str, value: Any) -> np.ndarray:
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"{name}: expected concrete points, got a traced value; call this outside jax.jit, or use descend inside"
        )
    try:
        usual = isinstance(value, np.ndarray) and value.dtype == jax.dtypes.canonicalize_dtype(value.dtype)
        array = np.asarray(value if usual else jnp.asarray(value))
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected points of shape (starts, dim), got {describe(value)}") from None
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name}: expected floating-point numbers, got dtype {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        hint = "; one start is [[-2.0, -2.0]]" if array.ndim == 1 else ""
        raise ValueError(f"{name}: expected points of shape (starts, dim), got shape {array.shape}{hint}")
    return array


def lay_minimizers(functions: Mapping[str, Any], given: Any, named: bool, dim: int) -> np.ndarray | None:
    """Return the minimizers of each function, repeated to equal counts; None if those of any function are unknown."""
    found = []
    if given is not None and isinstance(given, Mapping) != named:
        raise ValueError("minimizers: expected an array for one function, or a mapping for a mapping of functions")
    if isinstance(given, Mapping):
        given = {str(name): points for name, points in given.items()}
    for name, entry in functions.items():
        if given is not None:
            if named and name not in given:
                raise ValueError(
                    f"minimizers: expected points for each of {list(functions)}, got points for {list(given)}"
                )
            points = as_numbers("minimizers", given[name] if named else given, shape=(None, dim), least=1)
            points = points.astype(np.float64)
        elif isinstance(entry, Function):
            points = np.asarray(entry.minimizers(dim))
        else:
            return None
        if len(points) == 0:
            return None
        found.append(points)
    most = max(map(len, found))
    return np.stack([np.resize(points, (most, dim)) for points in found])
