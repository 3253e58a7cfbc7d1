"""Aggregated momentum: the average of several heavy-ball velocities with different momenta."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from gdlab.arguments import describe
from gdlab.optimizers.transformation import add_l2, require_fractions, require_non_negative, transformation
from gdlab.types import Hyperparameter


class AggMoState(NamedTuple):
    """State of aggregated momentum.

    Attributes:
      velocities: shaped like the parameters, with an additional leading axis of length K, the number of momenta.
    """

    velocities: PyTree


def _momenta(betas: Any) -> jax.Array:
    if isinstance(betas, jax.core.Tracer) and betas.ndim == 1 and betas.shape[0] > 0:
        return betas
    if isinstance(betas, (jax.Array, np.ndarray)) and betas.ndim == 1:
        betas = tuple(betas)
    if not isinstance(betas, (list, tuple)):
        raise TypeError(f"betas: expected a sequence of momenta, got {describe(betas)}")
    if not betas:
        raise ValueError("betas: expected at least one momentum, got an empty sequence")
    for number, beta in enumerate(betas):
        require_fractions(**{f"betas[{number}]": beta})
    return jnp.stack([jnp.asarray(beta) for beta in betas])


@transformation
def scale_by_aggmo(betas: Sequence[Hyperparameter] = (0.0, 0.9, 0.99)) -> optax.GradientTransformation:
    """Average K velocities v_i <- betas_i v_i + g.

    The output is the mean of the K velocities.

    Args:
      betas: the K momenta, each in [0, 1). K is static, since it fixes the shape of the state. Default (0, 0.9,
        0.99).
    """
    momenta = _momenta(betas)

    def init(params: optax.Params) -> AggMoState:
        return AggMoState(jax.tree.map(lambda x: jnp.zeros((len(momenta), *jnp.shape(x)), jnp.result_type(x)), params))

    def update(
        updates: optax.Updates, state: AggMoState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AggMoState]:
        del params
        velocities = jax.tree.map(
            lambda g, v: momenta.reshape((-1,) + (1,) * g.ndim) * v + g, updates, state.velocities
        )
        # A sum of slices joins the loop over the parameters; a reduction over the first axis takes 20 times as long.
        return jax.tree.map(lambda v: sum(v[k] for k in range(len(v))) / len(v), velocities), AggMoState(velocities)

    return optax.GradientTransformation(init, update)


@transformation
def aggmo(
    learning_rate: Hyperparameter = 1e-3,
    *,
    betas: Sequence[Hyperparameter] = (0.0, 0.9, 0.99),
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """AggMo: v_i <- betas_i v_i + g; x <- x - learning_rate / K (v_1 + ... + v_K).

    Velocities with small momenta damp the oscillations of those with large ones, so that a momentum of 0.99 can be
    used for its speed without becoming unstable.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, torch-optimizer's.
      betas: the K momenta, each a number, a traced value or a schedule; or one array of shape (K,). K is static,
        since it fixes the shape of the state. Default (0, 0.9, 0.99), the paper's, which is its family 1 - 0.1^i,
        i = 0, ..., K - 1, for K = 3. With one momentum the method is heavy ball.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0.

    State:
      K velocities, K values per parameter.

    Example:
      >>> optimizer = aggmo(0.1, betas=(0.0, 0.9, 0.99, 0.999))
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch_optimizer.AggMo`.

    References:
      Lucas, Sun, Zemel and Grosse, "Aggregated Momentum: Stability Through Passive Damping", 2019, equations 3 and
      4 (https://arxiv.org/abs/1804.00325).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(add_l2(weight_decay), scale_by_aggmo(betas), optax.scale_by_learning_rate(learning_rate))
