"""Starts that are trees: a lane holds all numbers of its point in one vector; functions and optimizers see the tree.

So everything else in a sweep, from the compiled program to blocks of results, deals with vectors only.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gdlab.arguments import describe, needs_gradient
from gdlab.compute.trees import divide, is_array_like, is_floating, join
from gdlab.optimizers.protocol import take_update, with_any_arguments
from gdlab.types import Factory


class Tree(NamedTuple):
    """The tree of a point.

    Attributes:
      structure: its structure.
      stays: for each leaf, what it is if it does not move, or None.
      names: for each leaf that moves, its place, such as "layer/kernel"; empty for a single array.
      shapes: for each leaf that moves, its shape.
    """

    structure: Any
    stays: tuple[Any, ...]
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def parts(self) -> Iterator[tuple[str, tuple[int, ...], slice]]:
        """Return the name, the shape and the place in the vector of each leaf that moves."""
        low = 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            high = low + math.prod(shape)
            yield name, shape, slice(low, high)
            low = high

    def params(self, vector: jax.Array) -> Any:
        """Return the tree of a vector, with None in place of what does not move."""
        return self._tree(vector, whole=False)

    def whole(self, vector: jax.Array) -> Any:
        """Return the tree of a vector, with everything in its place."""
        return self._tree(vector, whole=True)

    def _tree(self, vector: jax.Array, *, whole: bool) -> Any:
        moves = [vector[part].reshape(shape) for _, shape, part in self.parts()]
        return join(self.structure, moves, self.stays, whole=whole)

    def vector(self, params: Any) -> jax.Array:
        """Return the numbers of a tree as one vector."""
        return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(params)])

    def function(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of trees as a function of vectors."""
        return lambda vector, *given: fn(self.whole(vector), *given)

    def gradient(self, slope: Callable[..., Any]) -> Callable[..., Any]:
        """Return a gradient of a function of trees as one of vectors."""
        return lambda vector, *given: self.vector(slope(self.whole(vector), *given))

    def gradients(self, given: Any) -> Any:
        """Return the argument `gradient` of a sweep, one function or a mapping, for vectors."""
        if isinstance(given, Mapping):
            return {name: self.gradients(slope) for name, slope in given.items()}
        return self.gradient(given) if callable(given) else given

    def factory(self, make: Factory) -> Factory:
        """Return a factory whose optimizers take vectors, from one whose optimizers take trees."""

        @functools.wraps(make)
        def build(*arguments: Any, **numbers: Any) -> optax.GradientTransformation:
            made = make(*arguments, **numbers)
            if not needs_gradient(made):  # a strategy sees one vector anyway
                return made
            inner = with_any_arguments(made)

            def init(x: jax.Array) -> optax.OptState:
                return inner.init(self.params(x))

            def update(g: Any, state: Any, x: Any = None, *, value: Any, value_fn: Any, grad_fn: Any, **_: Any) -> Any:
                moves, state = take_update(
                    inner,
                    self.params(g),
                    state,
                    self.params(x),
                    value=value,
                    value_fn=lambda params: value_fn(self.vector(params)),
                    grad_fn=lambda params: self.params(grad_fn(self.vector(params))),
                )
                return self.vector(moves), state

            return optax.GradientTransformationExtraArgs(init, update)

        return build


def is_tree(starts: Any, functions: Sequence[str], named: bool) -> bool:
    """Return whether starts are a tree of arrays or an array of matrices, not vectors or a mapping of these."""
    if named and isinstance(starts, Mapping) and set(map(str, starts)) & set(functions):
        return False
    rows = isinstance(starts, list) or is_array_like(starts)
    return getattr(starts, "ndim", 0) > 2 or not rows


def flatten(name: str, starts: Any) -> tuple[np.ndarray, Tree]:
    """Return starts as vectors, of shape (starts, dim), and the tree of each.

    Args:
      name: the name of the argument, for error messages.
      starts: a tree whose floating-point arrays have an axis of starts in front. The others do not move.

    Raises:
      TypeError: if no leaf is a floating-point array, or one is traced.
      ValueError: if the first axes have different lengths, or there is none.
    """
    places, structure = jax.tree_util.tree_flatten_with_path(starts)
    moves = {_place(where): leaf for where, leaf in places if is_floating(leaf)}
    if not moves:
        raise TypeError(f"{name}: expected arrays of floating-point numbers, got none in {describe(starts)}")
    for place, leaf in moves.items():
        if isinstance(leaf, jax.core.Tracer):
            raise TypeError(f"{name}: expected concrete points, got a traced value in {place!r}")
    counts = {place: np.shape(leaf)[0] if np.ndim(leaf) else 0 for place, leaf in moves.items()}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise ValueError(f"{name}: expected arrays with an axis of starts in front, got axes of lengths {counts}")
    dtype = jnp.result_type(*moves.values())
    rows = [np.asarray(leaf, dtype).reshape(np.shape(leaf)[0], -1) for leaf in moves.values()]
    _, stays = divide([leaf for _, leaf in places])
    shapes = tuple(tuple(np.shape(leaf)[1:]) for leaf in moves.values())
    return np.concatenate(rows, axis=1), Tree(structure, stays, tuple(moves), shapes)


def _place(where: Any) -> str:
    """Return the place of a leaf, such as "layer/kernel"; the empty string for a single array."""
    return jax.tree_util.keystr(where, simple=True, separator="/")
