"""MADGRAD: momentumized dual averaging with a cube root (Defazio & Jelassi 2021)."""

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
    """steps: how many were done. start: the first parameters. Weighted sums of g and of g^2.

    All but steps are shaped like the parameters.
    """

    steps: Int[Array, ""]
    start: PyTree
    sum_of_gradients: PyTree
    sum_of_squares: PyTree


@transformation
def madgrad(
    learning_rate: Hyperparameter = 1e-2,
    *,
    momentum: Hyperparameter = 0.9,
    eps: Hyperparameter = 1e-6,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """MADGRAD: z = x_0 - s / (v^(1/3) + eps); x <- momentum x + (1 - momentum) z (Defazio & Jelassi 2021, algorithm 1).

    s <- s + l g and v <- v + l g^2 with l = (learning_rate + eps) sqrt(t), t from 1; the eps in l is that of the
    authors' code, not the paper's. Equal to `torch_optimizer.MADGRAD`; weight_decay is L2, which suits it badly.
    Defaults: the authors'. State: x_0, s and v, three values a parameter.
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
            nothing = v == 0  # the cube root has no derivative there
            root = jnp.where(nothing, 0.0, jnp.cbrt(jnp.where(nothing, 1.0, v)))
            return (1 - momentum) * (start - s / (root + eps) - x)

        moves = jax.tree.map(move, params, state.start, gradients, squares)
        return moves, MADGRADState(steps, state.start, gradients, squares)

    return optax.chain(add_l2(weight_decay), optax.GradientTransformation(init, update))
