"""NAdam: Adam with Nesterov's momentum, whose coefficient warms up (Dozat 2016)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.transformation import add_l2, require_fractions, require_non_negative, transformation
from gdlab.optimizers.trees import average, average_of_squares, begin, statistic, zeros
from gdlab.types import Hyperparameter


class NAdamState(NamedTuple):
    """steps: how many were done. mu, nu: averages of g and g^2. mu_product: of all momentum coefficients so far."""

    steps: Int[Array, ""]
    mu: PyTree
    nu: PyTree
    mu_product: Float[Array, ""]


@transformation
def scale_by_nadam(
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
    momentum_decay: Hyperparameter = 4e-3,
) -> optax.GradientTransformation:
    """Hands out ((1 - c_t) g / (1 - P_t) + c_(t+1) m / (1 - P_t c_(t+1))) / (sqrt(vhat) + eps).

    c_t = b1 (1 - 0.96^(t momentum_decay) / 2) is the momentum of step t (from 1), P_t = c_1 ... c_t; m and v are Adam's
    averages with b1 and b2, vhat = v / (1 - b2^t).
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(eps=eps, momentum_decay=momentum_decay)

    def init(params: optax.Params) -> NAdamState:
        return NAdamState(begin(), zeros(params), zeros(params), statistic(params, 1.0))

    def update(
        updates: optax.Updates, state: NAdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, NAdamState]:
        del params
        steps = optax.safe_increment(state.steps)
        now = b1 * (1 - 0.5 * jnp.asarray(0.96) ** (steps * momentum_decay))
        following = b1 * (1 - 0.5 * jnp.asarray(0.96) ** (steps * momentum_decay + momentum_decay))
        product = state.mu_product * now
        mu = average(b1, state.mu, updates)
        nu = average_of_squares(b2, state.nu, updates)
        of_gradient, of_mean = (1 - now) / (1 - product), following / (1 - product * following)
        second = one_minus_power(b2, steps)
        scaled = jax.tree.map(
            lambda g, m, v: (of_gradient * g + of_mean * m) / (safe_sqrt(v / second) + eps), updates, mu, nu
        )
        return scaled, NAdamState(steps, mu, nu, product)

    return optax.GradientTransformation(init, update)


@transformation
def nadam(
    learning_rate: Hyperparameter = 2e-3,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
    momentum_decay: Hyperparameter = 4e-3,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """NAdam: Adam that looks one step of momentum ahead, as `scale_by_nadam` says (Dozat 2016).

    Equal to `torch.optim.NAdam`, whose weight_decay is L2. `optax.nadam` keeps the momentum constant, which is the
    limit of a large momentum_decay; 0 halves b1 for good. Defaults: PyTorch's. State: m and v, two values a parameter.
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        scale_by_nadam(b1, b2, eps, momentum_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
