"""A network as a pair of pure functions, and the one place where a Flax module becomes such a pair."""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Key, PyTree, UInt32

from gdlab.models.initialization import fill

AKey = Key[Array, ""] | UInt32[Array, "2"]


class Init(Protocol):
    """`init(key)` gives (params, state); it compiles in one program, and can be mapped over keys."""

    def __call__(self, key: AKey) -> tuple[PyTree, PyTree]:
        """Fresh (params, state)."""
        ...


class Apply(Protocol):
    """`apply(params, state, inputs, train=False, key=None)` gives (outputs, new state).

    inputs and outputs are an array or a tuple of several, as the network's function says. train may be a Python bool or
    a traced scalar; running statistics come back unchanged where it is False. key is for dropout and noise: networks
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
    """init and apply; params is what is trained, state what is carried along (statistics, a memory), or {}."""

    init: Init
    apply: Apply


def from_linen(module: nn.Module, example: PyTree) -> Model:
    """The Model of a Linen module called as `module(inputs, train)`.

    example: shapes and dtypes of inputs that the module accepts (`jax.ShapeDtypeStruct`); parameters must not depend on
    their batch size. Parameters are drawn as `gdlab.models.initialization` says; the collection `batch_stats` becomes
    the state.
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
