"""Several optimizers in one program: a traced number chooses which of them steps."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Shaped

from gdlab.arguments import describe, require_callable, require_number
from gdlab.optimizers.evaluation import keeps_average
from gdlab.types import Factory, Hyperparameter


class ChosenState(NamedTuple):
    """slots: by dtype, the chosen optimizer's state as one vector, as long as the longest of all optimizers' needs."""

    slots: dict[str, Shaped[Array, " length"]]


def one_of(builds: Sequence[Factory]) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """A factory `build(choice, **arguments)`: the optimizer `builds[choice](**arguments)`.

    choice: its place from 0 on, a number that may be traced, as all arguments may be. So one compiled program of an
    epoch serves a whole comparison: the network's gradient, nearly all of what takes time to compile, is in it once.

    Every optimizer sees parameters and gradients as one vector. That is the same for those that treat each element
    alike or look at all of them together (norms of the whole gradient), but not for those that look at layers: `lamb`,
    `lars`, `novograd`, `muon`, `shampoo`, `soap`, `adafactor`. Parameters have one dtype. Raises ValueError where an
    optimizer keeps an average to evaluate at, which would be lost, and where parameters have several dtypes.

    State: that of the chosen one, padded to the longest; under `jax.vmap` over choices all of them are calculated.
    """
    if not isinstance(builds, Sequence) or not builds:
        raise TypeError(f"builds: wanted a sequence of functions that return optimizers, got {describe(builds)}")
    for place, build in enumerate(builds):
        require_callable(f"builds[{place}]", build)

    def factory(choice: Hyperparameter, **arguments: Any) -> optax.GradientTransformationExtraArgs:
        optimizers = [optax.with_extra_args_support(build(**arguments)) for build in builds]
        require_number("choice", choice, 0, len(builds) - 1)
        if not isinstance(choice, jax.core.Tracer) and float(choice) != int(choice):
            raise ValueError(f"choice: wanted a whole number, got {float(choice):g}")
        place = jnp.asarray(choice).astype(jnp.int32)

        def init(params: optax.Params) -> ChosenState:
            flat = _flat(params)
            shapes = [jax.eval_shape(optimizer.init, flat) for optimizer in optimizers]
            lengths = _lengths(shapes)
            return jax.lax.switch(place, [lambda o=o: _pack(o.init(flat), lengths) for o in optimizers])

        def update(
            updates: optax.Updates, state: ChosenState, params: optax.Params | None = None, **extra: Any
        ) -> tuple[optax.Updates, ChosenState]:
            if params is None:
                raise ValueError("one_of: wanted the parameters as update's third argument, got None")
            (flat, unravel), at = ravel_pytree(updates), _flat(params)
            lengths = {dtype: slot.shape[0] for dtype, slot in state.slots.items()}

            def step(optimizer: optax.GradientTransformationExtraArgs) -> tuple[Array, ChosenState]:
                held = _unpack(state, jax.eval_shape(optimizer.init, at))
                stepped, after = optimizer.update(flat, held, at, **extra)
                return stepped.astype(flat.dtype), _pack(after, lengths)

            stepped, after = jax.lax.switch(place, [lambda o=o: step(o) for o in optimizers])
            return unravel(stepped), after

        return optax.GradientTransformationExtraArgs(init, update)

    return factory


def _flat(params: optax.Params) -> Array:
    dtypes = {jnp.result_type(leaf) for leaf in jax.tree.leaves(params)}
    if len(dtypes) > 1:
        raise ValueError(f"params: wanted one dtype, got {', '.join(sorted(map(str, dtypes)))}")
    return ravel_pytree(params)[0]


def _lengths(states: Sequence[optax.OptState]) -> dict[str, int]:
    """Of each dtype that a state has, the longest need."""
    lengths: dict[str, int] = {}
    for state in states:
        nodes = jax.tree.leaves(state, is_leaf=keeps_average)
        if any(map(keeps_average, nodes)):
            raise ValueError("builds: wanted optimizers that evaluate at the parameters, got one that keeps an average")
        needs: dict[str, int] = {}
        for leaf in nodes:
            needs[str(leaf.dtype)] = needs.get(str(leaf.dtype), 0) + leaf.size
        for dtype, need in needs.items():
            lengths[dtype] = max(lengths.get(dtype, 0), need)
    return lengths


def _pack(state: optax.OptState, lengths: dict[str, int]) -> ChosenState:
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(state)]
    slots = {}
    for dtype, length in lengths.items():
        own = [leaf.reshape(-1) for leaf in leaves if str(leaf.dtype) == dtype]
        vector = jnp.concatenate(own) if own else jnp.zeros(0, dtype)
        slots[dtype] = jnp.pad(vector, (0, length - len(vector)))
    return ChosenState(slots)


def _unpack(state: ChosenState, like: optax.OptState) -> optax.OptState:
    leaves, structure = jax.tree.flatten(like)
    taken = dict.fromkeys(state.slots, 0)
    own = []
    for leaf in leaves:
        dtype = str(leaf.dtype)
        begin = taken[dtype]
        taken[dtype] = begin + leaf.size
        own.append(state.slots[dtype][begin : taken[dtype]].reshape(leaf.shape))
    return jax.tree.unflatten(structure, own)
