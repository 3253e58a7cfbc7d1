"""Nearness: which known optimizers take steps in the same directions, on the same sequence of gradients."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdlab.compute.promotion import standard_promotion
from gdlab.hyperparameters.factories import given
from gdlab.optimizers.protocol import take_update, with_any_arguments
from gdlab.types import Factory

STEPS = 100
LOOKS = (0, 1, 2, 4, 9, 19, 39, 69, 99)
"""The steps whose directions are compared, counted from 0."""

SIGNATURES = Path(__file__).parents[1] / "baselines" / "signatures.json"
"""The directions of the steps of all optimizers of gdlab, at their defaults."""


def signature(factory: Factory) -> Float[np.ndarray, "looks parameters"]:
    """Return the directions of some steps that an optimizer takes for a fixed sequence of noisy gradients.

    The gradients do not depend on where the steps lead, so that optimizers are compared step by step, even where their
    learning rates differ. The parameters are a matrix and a vector whose gradients differ by a factor of 30, so that it
    matters whether a step depends on the size of a gradient, on other entries, or on whole rows and columns.

    Args:
      factory: a function that returns an optimizer. Its arguments keep their defaults, except that weight decay is 0.

    Returns:
      One row of length 1 for each of the steps in `LOOKS`; a row of zeros for a step of length 0 or one that is not
      finite.
    """
    optimizer = with_any_arguments(given(factory, weight_decay=0.0, total_steps=STEPS)())
    rng = np.random.default_rng(0)
    shapes = {"matrix": (4, 3), "vector": (5,)}
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    sizes = {"matrix": 1.0, "vector": 1 / 30}
    slopes = {
        name: (sizes[name] * (rng.normal(size=shape) + rng.normal(size=(STEPS, *shape)))).astype(np.float32)
        for name, shape in shapes.items()
    }

    def step(carry: Any, slope: Any) -> Any:
        def loss(x: Any) -> Array:
            return jnp.vdot(slope["matrix"], x["matrix"]) + jnp.vdot(slope["vector"], x["vector"])

        params, state = carry
        updates, after = take_update(
            optimizer, slope, state, params, value=loss(params), value_fn=loss, grad_fn=jax.grad(loss)
        )
        after = jax.tree.map(lambda new, old: jnp.asarray(new).astype(old.dtype), after, state)
        moved = jax.tree.map(lambda p, u: p + u.astype(p.dtype), params, updates)
        return (moved, after), jnp.concatenate([jnp.ravel(updates[name]) for name in shapes])

    with jax.enable_x64(False), standard_promotion():
        begun = jax.tree.map(jnp.asarray, optimizer.init(params))
        _, steps = jax.jit(lambda: jax.lax.scan(step, (params, begun), slopes))()
    rows = np.nan_to_num(np.asarray(steps, float)[list(LOOKS)], posinf=0.0, neginf=0.0)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


def similarity(first: Float[np.ndarray, "looks size"], second: Float[np.ndarray, "looks size"]) -> float:
    """Return the mean cosine of the angles between the steps of two signatures.

    Args:
      first: one signature.
      second: the other one.

    Returns:
      A number from -1 to 1; 1 for steps that all have the same directions.
    """
    first, second = np.asarray(first), np.asarray(second)
    moves = first.any(axis=1) | second.any(axis=1)  # some optimizers only collect gradients at first
    return float(np.sum(first * second, axis=1)[moves].mean()) if moves.any() else 0.0


@functools.cache
def known_signatures() -> Mapping[str, np.ndarray]:
    """Return the stored signatures of gdlab's optimizers, by name."""
    return {name: np.asarray(rows) for name, rows in json.loads(SIGNATURES.read_text())["signatures"].items()}


def nearest_known(factory: Factory, count: int = 5) -> dict[str, float]:
    """Return the optimizers of gdlab whose steps are most similar, the most similar first.

    Args:
      factory: see `signature`.
      count: how many. Default 5.

    Returns:
      The similarities by name.
    """
    own = signature(factory)
    found = {name: similarity(own, other) for name, other in known_signatures().items()}
    return dict(sorted(found.items(), key=lambda item: -item[1])[:count])
