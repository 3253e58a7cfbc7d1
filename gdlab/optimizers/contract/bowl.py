"""The small problem that every probe runs: a quadratic bowl over a few leaves of unusual shapes."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from gdlab.optimizers.evaluation import evaluation_params

SHAPES: dict[str, tuple[int, ...]] = {
    "matrix": (3, 2),
    "vector": (3,),
    "scalar": (),
    "kernel": (2, 1, 2, 2),
    "empty": (0, 3),
}
# Two small models rather than one with all leaves, because every leaf adds compilation time.
FIRST = ("kernel", "vector", "empty")
SECOND = ("matrix", "scalar")


def make_params(dtype: Any, names: Sequence[str] = FIRST) -> dict[str, Array]:
    """Return the starting point of a run: leaves with the named shapes and values between -1.5 and 1.5."""
    return {name: jnp.asarray(1.5 * np.cos(1.0 + _numbered(name)), dtype) for name in names}


def _numbered(name: str) -> np.ndarray:
    """Return an array with the shape of the leaf, whose elements are all different and not round."""
    shape = SHAPES[name]
    return np.asarray(2.3 * np.arange(math.prod(shape)).reshape(shape) + len(name))


def _curvatures(name: str) -> np.ndarray:
    return np.asarray(0.3 + 0.3 * np.sin(_numbered(name)) ** 2)


def loss(params: Mapping[str, Array]) -> Array:
    """Evaluate a quadratic bowl with curvatures between 0.3 and 0.6, plus a term that couples all elements."""
    total = sum((jnp.sum(x) for x in params.values()), jnp.zeros([]))
    bowls = (jnp.sum(_curvatures(name).astype(x.dtype) * (x - 0.2) ** 2) for name, x in params.items())
    return 0.5 * sum(bowls, jnp.zeros([])) + 0.01 * total**2


def slope(params: Mapping[str, Array]) -> dict[str, Array]:
    """Return the gradient of `loss`, written by hand because that compiles faster."""
    total = sum((jnp.sum(x) for x in params.values()), jnp.zeros([]))
    slopes = {name: jnp.asarray(_curvatures(name)) * (x - 0.2) + 0.02 * total for name, x in params.items()}
    return {name: slopes[name].astype(x.dtype) for name, x in params.items()}


def run(optimizer: Any, params: PyTree, steps: int, slope: Callable[[PyTree], PyTree] = slope) -> PyTree:
    """Return the parameters after `steps` steps, and the parameters to evaluate at."""

    def step(carry: tuple[PyTree, PyTree], _: None) -> tuple[tuple[PyTree, PyTree], None]:
        x, state = carry
        updates, state = optimizer.update(slope(x), state, x)
        return (optax.apply_updates(x, updates), state), None

    (x, state), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
    return x, evaluation_params(state, x)
