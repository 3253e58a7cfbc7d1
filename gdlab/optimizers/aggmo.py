"""Aggregated momentum: several heavy balls with different momenta, averaged (Lucas, Sun, Zemel & Grosse 2019)."""

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
    """velocities: shaped like the parameters, with one more axis in front, of the K momenta."""

    velocities: PyTree


def _momenta(betas: Any) -> jax.Array:
    if isinstance(betas, jax.core.Tracer) and betas.ndim == 1 and betas.shape[0] > 0:
        return betas
    if isinstance(betas, (jax.Array, np.ndarray)) and betas.ndim == 1:
        betas = tuple(betas)
    if not isinstance(betas, (list, tuple)):
        raise TypeError(f"betas: wanted a sequence of momenta, got {describe(betas)}")
    if not betas:
        raise ValueError("betas: wanted one momentum at least, got an empty sequence")
    for number, beta in enumerate(betas):
        require_fractions(**{f"betas[{number}]": beta})
    return jnp.stack([jnp.asarray(beta) for beta in betas])


@transformation
def scale_by_aggmo(betas: Sequence[Hyperparameter] = (0.0, 0.9, 0.99)) -> optax.GradientTransformation:
    """v_i = betas_i v_i + g; hands out the mean of the K velocities. K fixes the state's shape, so it is static."""
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
        return jax.tree.map(lambda v: jnp.mean(v, axis=0), velocities), AggMoState(velocities)

    return optax.GradientTransformation(init, update)


@transformation
def aggmo(
    learning_rate: Hyperparameter = 1e-3,
    *,
    betas: Sequence[Hyperparameter] = (0.0, 0.9, 0.99),
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """AggMo: v_i <- betas_i v_i + g; x <- x - learning_rate / K (v_1 + ... + v_K) (Lucas et al. 2019, eq. 3-4).

    betas: K momenta, each a number, a traced value or a schedule; or one array of shape (K,). The paper's family is
    1 - 0.1^i, i = 0 ... K - 1. One beta is heavy ball. Equal to `torch_optimizer.AggMo`; weight_decay is L2. Defaults:
    the paper's K = 3, and torch-optimizer's rate. State: K velocities, K values a parameter; K is static, since it
    fixes their shape.
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(add_l2(weight_decay), scale_by_aggmo(betas), optax.scale_by_learning_rate(learning_rate))
