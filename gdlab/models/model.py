"""The type `Model`, a network as a pair of pure functions, and the conversion of Flax modules to this type."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Key, PyTree, UInt32

from gdlab.arguments import describe, require_key
from gdlab.models.initialization import fill

AKey = Key[Array, ""] | UInt32[Array, "2"]


class Init(Protocol):
    """`init(key)` returns (params, state); it is a compiled function and can be mapped over keys."""

    def __call__(self, key: AKey) -> tuple[PyTree, PyTree]:
        """Return initial (params, state)."""
        ...


class Apply(Protocol):
    """`apply(params, state, inputs, train=False, key=None)` returns (outputs, new state).

    Inputs and outputs are an array or a tuple of arrays, depending on the network. `train` is a Python bool or a traced
    scalar; if it is False, running statistics are returned unchanged. `key` is a random key for dropout and noise;
    networks without them need none.
    """

    def __call__(
        self,
        params: PyTree,
        state: PyTree,
        inputs: PyTree,
        *,
        train: bool | Bool[Array, ""] = False,
        key: AKey | None = None,
    ) -> tuple[PyTree, PyTree]:
        """Return the outputs and the new state."""
        ...


class Model(NamedTuple):
    """A network as a pair of pure functions.

    Attributes:
      init: `init(key)` returns (params, state). The parameters are trained; the state is carried from step to step
        (running statistics, a memory) and may be {}.
      apply: `apply(params, state, inputs, train=False, key=None)` returns (outputs, new state). `train` may be traced;
        if it is False, running statistics are returned unchanged. `key` is needed for dropout and noise.
    """

    init: Init
    apply: Apply


def from_linen(module: nn.Module, example: PyTree) -> Model:
    """Make a `Model` from a Linen module that is called as `module(inputs, train)`.

    `example` holds the shapes and dtypes of valid inputs (`jax.ShapeDtypeStruct`); the parameters must not depend on
    their batch size. `gdlab.models.initialization.fill` draws the parameters. The collection `batch_stats` becomes the
    state.
    """

    @jax.jit
    def init(key: AKey) -> tuple[PyTree, PyTree]:
        def begin() -> PyTree:
            zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), example)
            return module.init(jax.random.key(0), zeros, False)

        variables = dict(fill(begin, key))
        return variables["params"], variables.get("batch_stats", {})

    def apply(
        params: PyTree,
        state: PyTree,
        inputs: PyTree,
        *,
        train: bool | Bool[Array, ""] = False,
        key: AKey | None = None,
    ) -> tuple[PyTree, PyTree]:
        outputs, changed = module.apply(
            {"params": params, "batch_stats": state},
            inputs,
            train,
            mutable=["batch_stats"],
            rngs=None if key is None else {"dropout": key},
        )
        return outputs, changed.get("batch_stats", state)

    return checked(Model(init, apply))


def checked(model: Model) -> Model:
    """Return the same network with functions that name what is wrong with their arguments.

    Parameters and states are compared with those of `init` only if the network raises an error, because finding the
    shapes of a large network takes a good part of a second.
    """

    def init(key: AKey) -> tuple[PyTree, PyTree]:
        require_key("key", key)
        return model.init(key)

    def apply(
        params: PyTree,
        state: PyTree,
        inputs: PyTree,
        *,
        train: bool | Bool[Array, ""] = False,
        key: AKey | None = None,
    ) -> tuple[PyTree, PyTree]:
        _require_mode(train)
        if key is not None:
            require_key("key", key)
        try:
            return model.apply(params, state, inputs, train=train, key=key)
        except Exception:
            own = jax.eval_shape(model.init, jax.random.key(0))
            for name, tree, expected in zip(("params", "state"), (params, state), own, strict=True):
                if isinstance(expected, Mapping):  # other states are checked by their networks
                    _require_like(name, tree, expected)
            raise

    return Model(init, apply)


def _require_mode(train: Any) -> None:
    """Raise TypeError unless `train` is True, False or a scalar of this type, which may be traced."""
    if not isinstance(train, bool) and (getattr(train, "dtype", None) != np.bool_ or train.shape != ()):
        raise TypeError(f"train: expected True or False, got {describe(train)}")


def _require_like(name: str, tree: Any, expected: PyTree) -> None:
    """Raise an error unless a tree has arrays of the same names and shapes as another."""
    if not isinstance(tree, Mapping):
        raise TypeError(f"{name}: expected a dict of arrays, as init(key) returns it, got {describe(tree)}")
    found, known = (
        {jax.tree_util.keystr(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(each)}
        for each in (tree, expected)
    )
    for problem, names in (("without", known.keys() - found.keys()), ("with", found.keys() - known.keys())):
        if names:
            raise ValueError(f"{name}: expected the arrays that init(key) returns, got those {problem} {min(names)}")
    for keys, leaf in known.items():
        if getattr(found[keys], "shape", None) != leaf.shape:
            raise ValueError(
                f"{name}: expected {keys} of shape {leaf.shape}, as init(key) returns it, got {describe(found[keys])}"
            )
