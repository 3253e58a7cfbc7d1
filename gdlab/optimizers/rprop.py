"""Rprop: every weight its own step, grown while the gradient keeps its sign (Riedmiller & Braun 1993)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from gdlab.arguments import require_number
from gdlab.optimizers.transformation import require_fractions, require_non_negative, transformation
from gdlab.optimizers.trees import zeros
from gdlab.types import Hyperparameter


class RpropState(NamedTuple):
    """step_sizes: of each weight, in its units. previous: the last gradient, 0 where it had turned."""

    step_sizes: PyTree
    previous: PyTree


@transformation
def rprop(
    learning_rate: Hyperparameter = 1e-2,
    *,
    eta_minus: Hyperparameter = 0.5,
    eta_plus: Hyperparameter = 1.2,
    min_step_size: Hyperparameter = 1e-6,
    max_step_size: Hyperparameter = 50.0,
) -> optax.GradientTransformation:
    """iRprop-: x <- x - d sign(g), d grown by eta_plus or shrunk by eta_minus (Igel & Huesken 2000, algorithm 4).

    With s = g g_previous: d <- clip(d eta_plus if s > 0, d eta_minus if s < 0, else d; min_step_size, max_step_size),
    and where s < 0 the weight rests (g is taken for 0, now and as the next g_previous). learning_rate is the first d,
    of all weights; a schedule of it is read at count 0.

    Equal to `torch.optim.Rprop`. `optax.rprop` (0.2.8) hands out the update of the step before, and no update first.
    For full batches: noise in g turns signs. Defaults: PyTorch's; the paper starts at 0.1. State: d and g_previous, two
    values a parameter.
    """
    require_fractions(eta_minus=eta_minus)
    require_number("eta_plus", eta_plus, 1.0)
    require_non_negative(learning_rate=learning_rate, min_step_size=min_step_size, max_step_size=max_step_size)
    if all(isinstance(size, (int, float)) for size in (min_step_size, max_step_size)):
        require_number("max_step_size", max_step_size, min_step_size)

    def init(params: optax.Params) -> RpropState:
        return RpropState(jax.tree.map(lambda x: jnp.full_like(x, learning_rate), params), zeros(params))

    def update(
        updates: optax.Updates, state: RpropState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, RpropState]:
        del params
        turn = jax.tree.map(lambda g, last: jnp.sign(g) * jnp.sign(last), updates, state.previous)

        def resize(sign: jax.Array, size: jax.Array) -> jax.Array:
            factor = jnp.where(sign > 0, eta_plus, jnp.where(sign < 0, eta_minus, 1.0))
            return jnp.clip(size * factor, min_step_size, max_step_size)

        sizes = jax.tree.map(resize, turn, state.step_sizes)
        kept = jax.tree.map(lambda sign, g: jnp.where(sign < 0, 0.0, g), turn, updates)
        return jax.tree.map(lambda d, g: -d * jnp.sign(g), sizes, kept), RpropState(sizes, kept)

    return optax.GradientTransformation(init, update)
