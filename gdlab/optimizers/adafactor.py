"""Adafactor: a second moment kept as the product of its row and column means (Shazeer & Stern 2018)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from gdlab.arguments import require_number
from gdlab.numerics import safe_sqrt
from gdlab.optimizers.transformation import require_non_negative, require_params, require_positive, transformation
from gdlab.optimizers.trees import begin
from gdlab.types import Hyperparameter


class AdafactorState(NamedTuple):
    """steps: how many were done. One entry a leaf, in jax.tree's order: (row means, column means) of g^2, or (v,).

    A leaf of shape (..., n, m) has row means (..., n, 1) and column means (..., 1, m).
    """

    steps: Int[Array, ""]
    moments: tuple[tuple[Array, ...], ...]


@transformation
def adafactor(
    learning_rate: Hyperparameter = 1e-2,
    *,
    beta2_decay: Hyperparameter = -0.8,
    eps1: Hyperparameter | None = None,
    eps2: Hyperparameter = 1e-3,
    clip_threshold: Hyperparameter = 1.0,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Adafactor: x <- x (1 - learning_rate weight_decay) - a u / max(1, rms(u) / clip_threshold), u = g / sqrt(v).

    Shazeer & Stern 2018, algorithms 4 and 5, with a = max(eps2, rms(x)) min(learning_rate, 1 / sqrt(t)), t from 1. Row
    and column means of g^2 are averaged with weight t^beta2_decay for the newest; v is their product divided by the
    mean of the row means, over the last two axes; a leaf with fewer axes keeps v whole. v is at least eps1^2 and that
    mean at least eps1; None takes the dtype's epsilon.

    Equal to `torch.optim.Adafactor` (d is clip_threshold, eps is (eps1, eps2)). `optax.adafactor` has other defaults,
    factors large leaves only and adds eps to g^2. Defaults: PyTorch's. State: n + m values a matrix of n m.
    """
    require_number("beta2_decay", beta2_decay, -1e9, 0.0)
    if eps1 is not None:
        require_positive(eps1=eps1)
    require_positive(clip_threshold=clip_threshold)
    require_non_negative(learning_rate=learning_rate, eps2=eps2, weight_decay=weight_decay)

    def start(x: Array) -> tuple[Array, ...]:
        if x.ndim < 2:
            return (jnp.zeros_like(x),)
        return jnp.zeros((*x.shape[:-1], 1), x.dtype), jnp.zeros((*x.shape[:-2], 1, x.shape[-1]), x.dtype)

    def init(params: optax.Params) -> AdafactorState:
        return AdafactorState(begin(), tuple(start(jnp.asarray(x)) for x in jax.tree.leaves(params)))

    def update(
        updates: optax.Updates, state: AdafactorState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdafactorState]:
        params = require_params("adafactor", params)
        steps = optax.safe_increment(state.steps)
        count = jnp.asarray(steps, float)
        newest = count**beta2_decay
        limited = jnp.minimum(learning_rate, 1 / jnp.sqrt(count))

        def one(g: Array, x: Array, moments: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
            if g.size == 0:
                return g, moments
            floor = jnp.finfo(x.dtype).eps if eps1 is None else eps1
            seen = (g**2,) if g.ndim < 2 else (jnp.mean(g**2, -1, keepdims=True), jnp.mean(g**2, -2, keepdims=True))
            moments = tuple(old + newest * (new - old) for old, new in zip(moments, seen, strict=True))
            if g.ndim < 2:
                v = moments[0]
            else:
                rows, columns = moments
                v = rows * columns / jnp.maximum(jnp.mean(rows, -2, keepdims=True), floor)
            u = g / jnp.sqrt(jnp.maximum(v, floor**2))
            size = jnp.maximum(1.0, safe_sqrt(jnp.mean(u**2)) / clip_threshold)
            step_size = jnp.maximum(eps2, safe_sqrt(jnp.mean(x**2))) * limited
            return -step_size * u / size - learning_rate * weight_decay * x, moments

        leaves, tree = jax.tree.flatten(updates)
        done = [one(*leaf) for leaf in zip(leaves, jax.tree.leaves(params), state.moments, strict=True)]
        return jax.tree.unflatten(tree, [move for move, _ in done]), AdafactorState(steps, tuple(m for _, m in done))

    return optax.GradientTransformation(init, update)
