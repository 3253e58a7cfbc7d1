"""What a function takes besides a point: `fn(x, key)`, `fn(x, data)` or `fn(x, key, data)`.

A loss that draws a batch, adds noise or drops units is a function of a random key; a loss of measurements is one of
data. `descend` and `sweep` take both, as `key=` and `data=`, and call the function and its gradient by these rules:

- Step t, counted from 0, has the key `jax.random.fold_in(key, t)`. Everything in that step has it: the value, the
  gradient, and what the optimizer asks of `value_fn` and `grad_fn`. So a line search or SAM compares points under the
  same noise, and finite differences have common random numbers.
- In a sweep, descents from start i have `jax.random.fold_in(key, i)` in place of `key`. All optimizers, settings and
  functions therefore meet the same noise, and differ only in what they make of it. A lane is the descent that
  `descend` makes with that key. (Keys of the kinds "rbg" and "unsafe_rbg" draw other numbers in a batch.)
- The value of point t is that under the noise of step t, the number that the optimizer sees there. A descent that ends
  after s steps has the value of its last point under the noise of step s. A mean over keys is a matter of the
  caller, as in `jax.vmap(lambda k: fn(x, k))(keys).mean()`.
- Data are an argument of the compiled program, not a constant in it: other data of the same shapes and dtypes need no
  compilation.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gdlab.arguments import describe, require_key, require_tree
from gdlab.compute.trees import is_key


class Extras(NamedTuple):
    """What a function takes besides a point.

    Attributes:
      key: the random key of a descent, or None if the function takes none.
      data: a tree of arrays, or None if the function takes none.
    """

    key: Any = None
    data: Any = None

    @property
    def example(self) -> tuple[Any, ...]:
        """Further arguments of the function, for checks of it."""
        return tuple(each for each in self if each is not None)

    def at(self, step: Any) -> tuple[Any, ...]:
        """Return the further arguments of the function at a step: its key, the data, or both."""
        key = () if self.key is None else (jax.random.fold_in(self.key, step),)
        return key if self.data is None else (*key, self.data)


def as_extras(key: Any, data: Any) -> Extras:
    """Return the extras of the arguments `key` and `data`, which may be traced.

    Raises:
      TypeError: if the key is no random key, or the data are no arrays.
      ValueError: if the data hold no array.
    """
    if key is not None:
        require_key("key", key)
    return Extras(key, None if data is None else as_data(data))


def as_data(data: Any) -> Any:
    """Return the tree of data with JAX arrays as its leaves."""
    require_tree("data", data)
    if not jax.tree.leaves(data):
        raise ValueError(f"data: expected a tree of arrays, got {describe(data)} without any")

    def as_jax(leaf: Any) -> Any:
        try:
            return jnp.asarray(leaf if not is_key(leaf) else "key")
        except TypeError:
            raise TypeError(f"data: expected a tree of arrays of numbers, got {describe(leaf)}") from None

    return jax.tree.map(as_jax, data)


def bind(fn: Callable[..., Any], given: tuple[Any, ...]) -> Callable[[Any], Any]:
    """Return `fn` as a function of the point alone, at these further arguments."""
    return (lambda x: fn(x, *given)) if given else fn


def with_last(fn: Any, others: tuple[Any, ...]) -> Any:
    """Return `fn` as a function of what precedes these arguments; what cannot be called stays what it is."""
    if not others or not callable(fn):
        return fn

    @functools.wraps(fn)
    def shorter(*given: Any) -> Any:
        return fn(*given, *others)

    return shorter
