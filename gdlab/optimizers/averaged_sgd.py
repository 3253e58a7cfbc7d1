"""Averaged stochastic gradient descent: descend, and average the points (Polyak & Juditsky 1992, Bottou 2010)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.optimizers.transformation import require_non_negative, require_params, transformation
from gdlab.optimizers.trees import begin
from gdlab.types import Hyperparameter


class ASGDState(NamedTuple):
    """steps: how many were done. average: of the points since step t0, shaped like the parameters."""

    steps: Int[Array, ""]
    average: PyTree

    def evaluation_params(self, params: optax.Params) -> optax.Params:
        """The average, whatever the parameters."""
        return jax.tree.map(lambda _, average: average, params, self.average)


@transformation
def asgd(
    learning_rate: Hyperparameter = 1e-2,
    *,
    lambd: Hyperparameter = 1e-4,
    alpha: Hyperparameter = 0.75,
    t0: Hyperparameter = 1e6,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """ASGD: x <- x (1 - lambd eta) - eta (g + weight_decay x); a <- a + mu (x - a) (Bottou 2010, section 4).

    eta = learning_rate / (1 + lambd learning_rate (t - 1))^alpha and mu = 1 / max(1, t - 1 - t0), with t from 1. The
    average a is handed out by `gdlab.optimizers.evaluation_params(state, params)`; it equals x up to step t0 + 2
    and is the mean of the points from there on.

    Equal to `torch.optim.ASGD`, its `ax` included. With PyTorch's default t0 = 1e6 the average never starts in a short
    run, and what is left is gradient descent whose rate decays slowly. Defaults: PyTorch's. State: a, one value a
    parameter.
    """
    require_non_negative(learning_rate=learning_rate, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay)

    def init(params: optax.Params) -> ASGDState:
        return ASGDState(begin(), params)

    def update(
        updates: optax.Updates, state: ASGDState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, ASGDState]:
        params = require_params("asgd", params)
        eta = learning_rate / (1 + lambd * learning_rate * state.steps) ** alpha
        mu = 1 / jnp.maximum(1.0, state.steps - jnp.asarray(t0))
        moves = jax.tree.map(lambda g, x: -eta * (g + (weight_decay + lambd) * x), updates, params)
        mean = jax.tree.map(
            lambda a, x, move: jnp.where(mu == 1, x + move, a + mu * (x + move - a)), state.average, params, moves
        )
        return moves, ASGDState(optax.safe_increment(state.steps), mean)

    return optax.GradientTransformation(init, update)
