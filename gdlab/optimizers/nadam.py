"""NAdam: Adam with Nesterov momentum and a warm-up of the momentum coefficient (Dozat 2016)."""

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
    """State of `scale_by_nadam`.

    Attributes:
      steps: number of completed steps.
      mu: the average of g, shaped like the parameters.
      nu: the average of g^2, shaped like the parameters.
      mu_product: the product of all momentum coefficients so far.
    """

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
    """Scale gradients by NAdam's rule: ((1 - c_t) g / (1 - P_t) + c_(t+1) m / (1 - P_t c_(t+1))) / (sqrt(vhat) + eps).

    The momentum coefficient of step t, counted from 1, is c_t = b1 (1 - 0.96^(t momentum_decay) / 2), and
    P_t = c_1 ... c_t. The averages m and v are Adam's, with decays b1 and b2, and vhat = v / (1 - b2^t).

    Args:
      b1: the decay of the average of gradients, and the limit of c_t. Default 0.9.
      b2: the decay of the average of squared gradients. Default 0.999.
      eps: added to the root of the second moment. Default 1e-8.
      momentum_decay: how fast c_t rises from b1 / 2 to b1. Default 4e-3.
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
        g_weight, m_weight = (1 - now) / (1 - product), following / (1 - product * following)
        second = one_minus_power(b2, steps)
        scaled = jax.tree.map(
            lambda g, m, v: (g_weight * g + m_weight * m) / (safe_sqrt(v / second) + eps), updates, mu, nu
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
    """NAdam: x <- x - learning_rate ((1 - c_t) g / (1 - P_t) + c_(t+1) m / (1 - P_t c_(t+1))) / (sqrt(vhat) + eps).

    The momentum coefficient of step t, counted from 1, is c_t = b1 (1 - 0.96^(t momentum_decay) / 2), and
    P_t = c_1 ... c_t; m and v are Adam's averages, and vhat = v / (1 - b2^t). NAdam looks one step of momentum ahead,
    as Nesterov's method does, and is an alternative to Adam at the same cost.

    Args:
      learning_rate: the step size, a number or a schedule. Default 2e-3, PyTorch's.
      b1: the decay of the average of gradients, and the limit of c_t. Default 0.9, PyTorch's.
      b2: the decay of the average of squared gradients. Default 0.999, PyTorch's.
      eps: added to the root of the second moment. Default 1e-8, PyTorch's.
      momentum_decay: how fast c_t rises from b1 / 2 to b1. With 0 it stays at b1 / 2; a large value makes it constant
        at b1. Default 4e-3, PyTorch's.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0, PyTorch's.

    State:
      m and v, two values per parameter.

    Example:
      >>> optimizer = nadam(2e-3, momentum_decay=1e-2)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch.optim.NAdam`, whose weight_decay is L2 too. `optax.nadam` keeps the momentum constant, which is
    the limit of a large momentum_decay.

    References:
      Dozat, "Incorporating Nesterov Momentum into Adam", 2016 (https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        scale_by_nadam(b1, b2, eps, momentum_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
