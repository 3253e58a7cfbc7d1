"""The type `Model`, a network as a pair of pure functions, and the conversion of Flax modules to this type."""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Key, PyTree, UInt32

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

    return Model(init, apply)
