"""Several optimizers in one program: a traced number selects the one that makes the step."""

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
    """The state of the selected optimizer.

    Attributes:
      slots: one vector per dtype that holds the state, padded to the length that the most demanding optimizer needs.
    """

    slots: dict[str, Shaped[Array, " length"]]


def one_of(builds: Sequence[Factory]) -> Callable[..., optax.GradientTransformationExtraArgs]:
    """Combine optimizers into one factory, `build(choice, **arguments)`, that returns `builds[choice](**arguments)`.

    `choice` is an index from 0. It may be traced, as may all other arguments, so one compiled program of an epoch
    serves a whole comparison: the gradient of the network, which takes nearly all of the compilation time, is
    compiled once.

    Every optimizer sees the parameters and gradients as one vector. This makes no difference to optimizers that treat
    each element alike or look at all elements together (norms of the whole gradient), but it does to those that work
    on layers: `lamb`, `lars`, `novograd`, `muon`, `shampoo`, `soap` and `adafactor`.

    The state is that of the selected optimizer, padded to the longest. Under `jax.vmap` over choices, all optimizers
    are computed.

    Args:
      builds: functions that return optimizers and accept the same arguments.

    Returns:
      The factory `build(choice, **arguments)`. It raises ValueError if `choice` is not a whole number or is out of
      range. The `init` of its optimizers raises ValueError if the parameters have several dtypes, or if one of the
      optimizers keeps an average to evaluate at, because that average would be lost. `update` requires the
      parameters.

    Raises:
      TypeError: if `builds` is not a non-empty sequence of functions.
    """
    if not isinstance(builds, Sequence) or not builds:
        raise TypeError(f"builds: expected a sequence of functions that return optimizers, got {describe(builds)}")
    for place, build in enumerate(builds):
        require_callable(f"builds[{place}]", build)

    def factory(choice: Hyperparameter, **arguments: Any) -> optax.GradientTransformationExtraArgs:
        optimizers = [optax.with_extra_args_support(build(**arguments)) for build in builds]
        require_number("choice", choice, 0, len(builds) - 1)
        if not isinstance(choice, jax.core.Tracer) and float(choice) != int(choice):
            raise ValueError(f"choice: expected a whole number, got {float(choice):g}")
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
                raise ValueError("one_of: expected the parameters as update's third argument, got None")
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
        raise ValueError(f"params: expected one dtype, got {', '.join(sorted(map(str, dtypes)))}")
    return ravel_pytree(params)[0]


def _lengths(states: Sequence[optax.OptState]) -> dict[str, int]:
    """Return, for each dtype, the largest number of elements that any of the states needs."""
    lengths: dict[str, int] = {}
    for state in states:
        nodes = jax.tree.leaves(state, is_leaf=keeps_average)
        if any(map(keeps_average, nodes)):
            raise ValueError("builds: expected optimizers that keep no average, got one that keeps an average")
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
