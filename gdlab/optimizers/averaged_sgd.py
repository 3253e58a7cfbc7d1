"""Averaged stochastic gradient descent: gradient descent that also averages its points."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.optimizers.transformation import require_non_negative, require_params, transformation
from gdlab.optimizers.trees import begin
from gdlab.types import Hyperparameter


class ASGDState(NamedTuple):
    """State of averaged stochastic gradient descent.

    Attributes:
      steps: number of completed steps.
      average: the average of the points since step t0, shaped like the parameters.
    """

    steps: Int[Array, ""]
    average: PyTree

    def evaluation_params(self, params: optax.Params) -> optax.Params:
        """Return the average, whatever the parameters are."""
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
    """ASGD: x <- x (1 - lambd eta) - eta (g + weight_decay x); a <- a + mu (x - a).

    Here eta = learning_rate / (1 + lambd learning_rate (t - 1))^alpha and mu = 1 / max(1, t - 1 - t0), with t from
    1. The average a, which `gdlab.optimizers.evaluation_params(state, params)` returns, has less noise than the
    last point at no cost in gradients; it equals x up to step t0 + 2 and is the mean of the points from there on.

    Args:
      learning_rate: the initial step size, a number or a schedule. Default 1e-2, PyTorch's.
      lambd: the decay of the parameters, which also sets how fast eta decays. Default 1e-4, PyTorch's.
      alpha: the exponent of the decay of eta. Default 0.75, PyTorch's.
      t0: the step after which the averaging starts. Default 1e6, PyTorch's.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0.

    State:
      a, one value per parameter.

    Example:
      >>> optimizer = asgd(0.1, t0=100)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch.optim.ASGD`, including its `ax`. With PyTorch's default t0 = 1e6 the average never starts
    in a short run, and what remains is gradient descent with a slowly decaying step size.

    References:
      Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992
        (https://doi.org/10.1137/0330046).
      Bottou, "Large-Scale Machine Learning with Stochastic Gradient Descent", 2010, section 4.
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
