"""Rprop: a step size per weight, which grows while the gradient keeps its sign (Riedmiller & Braun 1993)."""

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
    """State of `rprop`; both fields are shaped like the parameters.

    Attributes:
      step_sizes: the step size of each weight, in the units of the weight.
      previous: the last gradient, set to 0 where its sign had changed.
    """

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
    """Rprop (iRprop-): x <- x - d sign(g), where d is multiplied by eta_plus, eta_minus or 1.

    With s = g g_previous, d <- clip(d eta_plus if s > 0, d eta_minus if s < 0, else d; min_step_size, max_step_size).
    Where s < 0 the weight does not move, and g counts as 0 now and as the next g_previous. Only the signs of the
    gradient matter, so the scale of the loss does not; Rprop is made for full batches, because noise in a minibatch
    gradient flips signs.

    Args:
      learning_rate: the initial step size d of all weights. Of a schedule only the value at count 0 is used. Default
        1e-2, PyTorch's; the paper starts at 0.1.
      eta_minus: the factor on d after a change of sign. Default 0.5, PyTorch's.
      eta_plus: the factor on d while the sign stays the same. Default 1.2, PyTorch's.
      min_step_size: the lower bound of d. Default 1e-6, PyTorch's.
      max_step_size: the upper bound of d. Default 50, PyTorch's.

    State:
      d and g_previous, two values per parameter.

    Example:
      >>> optimizer = rprop(0.1, eta_minus=0.5, eta_plus=1.2)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch.optim.Rprop`. `optax.rprop` (0.2.8) returns the update of the previous step, and a zero update
    at first.

    References:
      Riedmiller and Braun, "A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP Algorithm", 1993
        (https://doi.org/10.1109/ICNN.1993.298623).
      Igel and Huesken, "Improving the Rprop Learning Algorithm", 2000, algorithm 4.
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
