"""The random keys and the data of a sweep, as arguments of its programs behind the hyperparameters.

A key differs from start to start, and all lanes share the data. See `gdlab.compute.extras`.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.arguments import describe
from gdlab.compute.extras import Extras, as_extras
from gdlab.compute.programs import digest_array, digest_arrays
from gdlab.compute.trees import without_key

FEW = 64
"""The number of data up to which a program takes them one by one, as scalars, so that it may consist of scalars."""


class Frame(NamedTuple):
    """How arguments of a program become the key and the data of a lane.

    Attributes:
      key: the shape and the dtype of the key's numbers, or None if there is no key.
      kind: the kind of a typed key; None for a key of `jax.random.PRNGKey`, which is an array of numbers.
      structure: the tree of the data, or None if there are none.
      leaves: the shape and the dtype of each array of the data.
    """

    key: jax.ShapeDtypeStruct | None
    kind: str | None
    structure: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]

    @property
    def few(self) -> bool:
        """Whether a program takes the data one by one."""
        return sum(math.prod(leaf.shape) for leaf in self.leaves) <= FEW

    def types(self) -> list[jax.ShapeDtypeStruct]:
        """Return the shapes and dtypes of the arguments of a lane."""
        found = [] if self.key is None else [self.key]
        if not self.few:
            return [*found, *self.leaves]
        for leaf in self.leaves:
            found += [jax.ShapeDtypeStruct((), leaf.dtype)] * math.prod(leaf.shape)
        return found

    def extras(self, arguments: Sequence[Any]) -> Extras:
        """Return the key and the data of a lane, from its arguments."""
        rest, key = list(arguments), None
        if self.key is not None:
            numbers = rest.pop(0)
            key = numbers if self.kind is None else jax.random.wrap_key_data(numbers, impl=self.kind)
        if self.structure is None:
            return Extras(key)
        return Extras(key, jax.tree.unflatten(self.structure, self._whole(rest) if self.few else rest))

    def _whole(self, numbers: list[Any]) -> list[Any]:
        arrays = []
        for leaf in self.leaves:
            count = math.prod(leaf.shape)
            own, numbers = numbers[:count], numbers[count:]
            arrays.append(jnp.stack(own).reshape(leaf.shape) if own else jnp.zeros(leaf.shape, leaf.dtype))
        return arrays

    def example(self) -> tuple[Any, ...]:
        """Return the further arguments of a function, as shapes and dtypes."""
        return jax.eval_shape(lambda arguments: self.extras(arguments).at(0), self.types())


class Inputs:
    """The keys of all starts, and the data.

    Attributes:
      frame: how they become the key and the data of a lane.
    """

    def __init__(self, extras: Extras, starts: int):
        """Take the key and the data of a sweep of so many starts."""
        leaves, structure = jax.tree.flatten(extras.data)
        types = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
        self._leaves, self._keys, key, kind = leaves, None, None, None
        if extras.key is not None:
            typed = jnp.issubdtype(extras.key.dtype, jax.dtypes.prng_key)
            kind = str(jax.random.key_impl(extras.key)) if typed else None
            self._keys = np.asarray(without_key(keys_of_starts(extras.key, jnp.arange(starts, dtype=jnp.uint32))))
            key = jax.ShapeDtypeStruct(self._keys.shape[1:], self._keys.dtype)
        self.frame = Frame(key, kind, None if extras.data is None else structure, types)
        self._placed: dict[jax.Device, list[jax.Array]] = {}

    def differing(self) -> list[bool]:
        """Return, for each argument, whether it differs between lanes."""
        types = self.frame.types()
        return [True] * (self._keys is not None) + [False] * (len(types) - (self._keys is not None))

    def values(self, starts: np.ndarray, length: int, device: jax.Device) -> list[Any]:
        """Return the arguments of lanes that begin at these starts, the keys padded to `length` with the last."""
        if device not in self._placed:
            whole = [np.asarray(leaf).reshape(-1) for leaf in self._leaves] if self.frame.few else []
            numbers = [number for leaf in whole for number in leaf] if self.frame.few else self._leaves
            self._placed[device] = jax.device_put(numbers, device)
        shared: list[Any] = self._placed[device]
        if self._keys is None:
            return shared
        return [np.pad(self._keys[starts], ((0, length - len(starts)), (0, 0)), mode="edge"), *shared]

    def identity(self) -> dict[str, str]:
        """Return what the keys and the data are, as entries of the identity of a sweep."""
        keys = {} if self._keys is None else {"key": f"{self.frame.kind} {digest_array(self._keys)}"}
        if self.frame.structure is None:
            return keys
        return keys | {"data": f"{self.frame.structure} {digest_arrays(list(map(np.asarray, self._leaves)))}"}


keys_of_starts = jax.jit(jax.vmap(jax.random.fold_in, (None, 0)))
"""Return the key of each start."""


def make_inputs(key: Any, data: Any, starts: int) -> Inputs | None:
    """Return the inputs of the arguments `key` and `data`; None if there are none.

    Raises:
      TypeError: if the key is no random key, the data are no arrays, or one of them is traced.
      ValueError: if the data hold no array.
    """
    for name, value in (("key", key), ("data", data)):
        if traced := [leaf for leaf in jax.tree.leaves(value) if isinstance(leaf, jax.core.Tracer)]:
            raise TypeError(f"{name}: expected concrete numbers, got a traced value, {describe(traced[0])}")
    extras = as_extras(key, data)
    return Inputs(extras, starts) if extras.example else None
