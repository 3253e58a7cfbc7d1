"""Adafactor: a second moment stored as the averages of its rows and columns."""

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
    """State of Adafactor.

    Attributes:
      steps: number of completed steps.
      moments: one entry per leaf, in the order of `jax.tree.leaves`. A leaf of shape (..., n, m) has (row means,
        column means) of g^2, averaged over the steps, of shapes (..., n, 1) and (..., 1, m); a leaf with fewer than
        two axes has (v,).
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

    Here a = max(eps2, rms(x)) min(learning_rate, 1 / sqrt(t)), with t from 1. The means of g^2 over rows and over
    columns (the last two axes) are averaged over the steps, with weight t^beta2_decay for the newest; v is the
    product of the two averages, divided by the mean of the row averages. A leaf with fewer than two axes stores v
    whole. This needs far less memory for a matrix than Adam's second moment, which is the reason to choose it for
    large models.

    Args:
      learning_rate: the upper limit of the relative step size a / max(eps2, rms(x)), a number or a schedule.
        Default 1e-2, PyTorch's.
      beta2_decay: the exponent of the weight t^beta2_decay of the newest g^2, at most 0. Default -0.8, PyTorch's.
      eps1: the lower bound of the mean of the row averages; v is at least eps1^2. Default None, the machine epsilon
        of the dtype, as in PyTorch.
      eps2: the lower bound of rms(x) in the step size. Default 1e-3, PyTorch's.
      clip_threshold: the largest rms(u) that is not scaled down. Default 1, PyTorch's.
      weight_decay: decoupled weight decay, scaled by learning_rate. Default 0, PyTorch's.

    State:
      The row and column averages, n + m values for a matrix of shape (n, m); v, one value per parameter, for leaves
      with fewer than two axes.

    Example:
      >>> optimizer = adafactor(1e-2, beta2_decay=-0.5)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch.optim.Adafactor`, whose d is `clip_threshold` here and whose eps is (eps1, eps2).
    `optax.adafactor` has other defaults, factors only large leaves and adds eps to g^2.

    References:
      Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018, algorithms 4 and 5
      (https://arxiv.org/abs/1804.04235).
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
