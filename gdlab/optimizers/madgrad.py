"""MADGRAD: dual averaging with momentum and a cube root (Defazio & Jelassi 2021)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.arguments import require_number
from gdlab.optimizers.transformation import (
    add_l2,
    require_fractions,
    require_non_negative,
    require_params,
    transformation,
)
from gdlab.optimizers.trees import begin, zeros
from gdlab.types import Hyperparameter


class MADGRADState(NamedTuple):
    """State of `madgrad`; all fields but `steps` are shaped like the parameters.

    Attributes:
      steps: number of completed steps.
      start: the initial parameters x_0.
      sum_of_gradients: the weighted sum s of the gradients.
      sum_of_squares: the weighted sum v of the squared gradients.
    """

    steps: Int[Array, ""]
    start: PyTree
    sum_of_gradients: PyTree
    sum_of_squares: PyTree


@jax.custom_jvp
def _cube_root(v: jax.Array) -> jax.Array:
    """Return the cube root, with derivative 0 instead of infinity at 0."""
    return jnp.cbrt(v)


@_cube_root.defjvp
def _cube_root_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    root, zero = _cube_root(*primals), primals[0] == 0
    return root, tangents[0] * jnp.where(zero, 0.0, root / (3 * jnp.where(zero, 1.0, primals[0])))


@transformation
def madgrad(
    learning_rate: Hyperparameter = 1e-2,
    *,
    momentum: Hyperparameter = 0.9,
    eps: Hyperparameter = 1e-6,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """MADGRAD: z = x_0 - s / (v^(1/3) + eps); x <- momentum x + (1 - momentum) z.

    Here x_0 are the initial parameters, s <- s + l g and v <- v + l g^2, with l = (learning_rate + eps) sqrt(t) and t
    from 1. Dual averaging steps from the starting point by the weighted sum of all gradients; the method is meant for
    problems where Adam generalizes worse than SGD.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-2, the authors'.
      momentum: the weight of the old parameters in the new ones. Default 0.9, the authors'.
      eps: added to the cube root and to the learning rate; positive. Default 1e-6, the authors'.
      weight_decay: L2 regularization, added to the gradient before anything else; it suits dual averaging badly.
        Default 0, the authors'.

    State:
      x_0, s and v, three values per parameter.

    Example:
      >>> optimizer = madgrad(1e-2, momentum=0.9)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch_optimizer.MADGRAD`. The eps in l is from the authors' code; the paper does not have it.

    References:
      Defazio and Jelassi, "Adaptivity without Compromise: A Momentumized, Adaptive, Dual Averaged Gradient Method for
      Stochastic Optimization", 2021, algorithm 1 (https://arxiv.org/abs/2101.11075).
    """
    require_fractions(momentum=momentum)
    require_number("eps", eps, 0.0, open_low=True)
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)

    def init(params: optax.Params) -> MADGRADState:
        return MADGRADState(begin(), params, zeros(params), zeros(params))

    def update(
        updates: optax.Updates, state: MADGRADState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, MADGRADState]:
        params = require_params("madgrad", params)
        steps = optax.safe_increment(state.steps)
        weight = (learning_rate + eps) * jnp.sqrt(jnp.asarray(steps, float))
        gradients = jax.tree.map(lambda s, g: s + weight * g, state.sum_of_gradients, updates)
        squares = jax.tree.map(lambda v, g: v + weight * g**2, state.sum_of_squares, updates)

        def move(x: jax.Array, start: jax.Array, s: jax.Array, v: jax.Array) -> jax.Array:
            return (1 - momentum) * (start - s / (_cube_root(v) + eps) - x)

        moves = jax.tree.map(move, params, state.start, gradients, squares)
        return moves, MADGRADState(steps, state.start, gradients, squares)

    return optax.chain(add_l2(weight_decay), optax.GradientTransformation(init, update))
