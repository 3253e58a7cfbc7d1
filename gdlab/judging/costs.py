"""What an optimizer costs on the parameters of a small network: the bytes of its state, and the time of a step."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gdlab.compute.trees import without_key
from gdlab.optimizers.adam import adam
from gdlab.optimizers.protocol import take_update, with_any_arguments
from gdlab.types import Factory

WIDTH, LAYERS = 256, 5
"""The width and the number of the layers; each is a matrix and a vector."""

ROUNDS, CALLS = 15, 10
"""The number of rounds in which the optimizers take turns, and of the steps that each takes in a round."""

SECONDS = 2.0
"""The time that the steps of one optimizer may take in all, but for a round of one step."""


def bytes_per_parameter(factory: Factory) -> float:
    """Return the size of the state, in bytes for each parameter of a float32 network."""
    params = _params()
    state = jax.eval_shape(lambda: jax.tree.map(without_key, factory().init(params)))
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return size / sum(leaf.size for leaf in jax.tree.leaves(params))


def relative_time(factory: Factory) -> float:
    """Return the time of a compiled step relative to that of Adam, the median over rounds in which both take turns."""
    with jax.enable_x64(False):
        own, reference = _stepping(factory), _stepping(adam)
        once = own(2) / 2
        calls = max(1, min(CALLS, int(SECONDS / (ROUNDS * once))))
        rounds = max(1, min(ROUNDS, int(SECONDS / (calls * once))))
        reference(CALLS)
        return statistics.median(own(calls) / calls / (reference(CALLS) / CALLS) for _ in range(rounds))


def _params() -> dict[str, jax.Array]:
    shapes = {f"kernel{k}": (WIDTH, WIDTH) for k in range(LAYERS)} | {f"bias{k}": (WIDTH,) for k in range(LAYERS)}
    return {
        name: jax.random.normal(jax.random.key(k), shape, jnp.float32) for k, (name, shape) in enumerate(shapes.items())
    }


def _stepping(factory: Factory) -> Callable[[int], float]:
    """Return a function that takes so many steps and returns the seconds that they took; it is compiled already."""
    optimizer = with_any_arguments(factory())
    center = _params()
    params = jax.tree.map(lambda x: x + 1, center)

    def loss(x: Any) -> jax.Array:
        return jnp.asarray(sum(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), x, center))))

    @jax.jit
    def step(params: Any, state: Any) -> tuple[Any, Any]:
        value, slope = jax.value_and_grad(loss)(params)
        updates, state = take_update(
            optimizer, slope, state, params, value=value, value_fn=loss, grad_fn=jax.grad(loss)
        )
        return optax.apply_updates(params, updates), state

    held = jax.block_until_ready(step(*step(params, jax.jit(optimizer.init)(params))))

    def take(calls: int) -> float:
        nonlocal held
        begin = time.perf_counter()
        for _ in range(calls):
            held = step(*held)
        jax.block_until_ready(held)
        return time.perf_counter() - begin

    return take
