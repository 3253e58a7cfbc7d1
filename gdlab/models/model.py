"""A network as a pair of pure functions, and the one place where a Flax module becomes such a pair."""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Key, PyTree, UInt32

from gdlab.models.initialization import fill

AKey = Key[Array, ""] | UInt32[Array, "2"]


class Init(Protocol):
    """`init(key)` returns (params, state); it is one compiled program, and can be mapped over keys."""

    def __call__(self, key: AKey) -> tuple[PyTree, PyTree]:
        """Fresh (params, state)."""
        ...


class Apply(Protocol):
    """`apply(params, state, inputs, train=False, key=None)` returns (outputs, new state).

    inputs, outputs: an array or a tuple of arrays, see the function that makes the network. train: a Python bool or a
    traced scalar; where it is False, running statistics are returned unchanged. key: for dropout and noise; networks
    without them need none.
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
        """The outputs and the new state."""
        ...


class Model(NamedTuple):
    """A network. params are trained; state is carried from step to step (statistics, a memory) and may be {}."""

    init: Init
    apply: Apply


def from_linen(module: nn.Module, example: PyTree) -> Model:
    """The Model of a Linen module called as `module(inputs, train)`.

    example: shapes and dtypes of inputs that the module accepts (`jax.ShapeDtypeStruct`); the batch size must not
    matter to the parameters. These are drawn by `gdlab.models.initialization.fill`. The collection `batch_stats`
    becomes the state.
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
