"""Yogi: Adam whose second moment changes by additive steps (Zaheer et al. 2018)."""

import jax
import jax.numpy as jnp
import optax

from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.adam import AdamState
from gdlab.optimizers.transformation import add_l2, require_fractions, require_non_negative, transformation
from gdlab.optimizers.trees import average, begin
from gdlab.types import Hyperparameter


@transformation
def scale_by_yogi(
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-3,
    initial_accumulator_value: Hyperparameter = 1e-6,
) -> optax.GradientTransformation:
    """Scale gradients by Yogi's rule: mhat / (sqrt(vhat) + eps).

    Here m <- b1 m + (1 - b1) g and v <- v - (1 - b2) sign(v - g^2) g^2. Both m and v start at initial_accumulator_value
    and are divided by Adam's bias corrections, as in torch-optimizer and `optax.scale_by_yogi`; the paper starts m at 0
    and corrects neither.

    Args:
      b1: the decay of the average of gradients. Default 0.9.
      b2: 1 - b2 is the size of the steps of v, relative to g^2. Default 0.999.
      eps: added to the root of the second moment. Default 1e-3.
      initial_accumulator_value: the initial value of m and v. Default 1e-6.
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(eps=eps, initial_accumulator_value=initial_accumulator_value)

    def init(params: optax.Params) -> AdamState:
        start = jax.tree.map(lambda x: jnp.full_like(x, initial_accumulator_value), params)
        return AdamState(begin(), start, start)

    def update(
        updates: optax.Updates, state: AdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdamState]:
        del params
        steps = optax.safe_increment(state.steps)
        mu = average(b1, state.mu, updates)
        nu = jax.tree.map(lambda g, v: v - (1 - b2) * jnp.sign(v - g**2) * g**2, updates, state.nu)
        first, second = one_minus_power(b1, steps), one_minus_power(b2, steps)
        return jax.tree.map(lambda m, v: m / first / (safe_sqrt(v / second) + eps), mu, nu), AdamState(steps, mu, nu)

    return optax.GradientTransformation(init, update)


@transformation
def yogi(
    learning_rate: Hyperparameter = 1e-2,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-3,
    initial_accumulator_value: Hyperparameter = 1e-6,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Yogi: x <- x - learning_rate mhat / (sqrt(vhat) + eps), where v <- v - (1 - b2) sign(v - g^2) g^2.

    Here m <- b1 m + (1 - b1) g, and the hats divide by 1 - b1^t and 1 - b2^t. The second moment moves by additive
    steps, so after large gradients it decreases more slowly than Adam's, and the effective learning rate cannot grow
    abruptly.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-2, the paper's and torch-optimizer's.
      b1: the decay of the average of gradients. Default 0.9, the paper's and torch-optimizer's.
      b2: 1 - b2 is the size of the steps of v, relative to g^2. Default 0.999, the paper's and torch-optimizer's.
      eps: added to the root of the second moment. Default 1e-3, the paper's and torch-optimizer's.
      initial_accumulator_value: the initial value of m and v. Default 1e-6, the paper's and torch-optimizer's.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0.

    State:
      m and v, two values per parameter.

    Example:
      >>> optimizer = yogi(1e-2, initial_accumulator_value=1e-3)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch_optimizer.Yogi`, whose weight_decay is L2 too, and to `optax.yogi`. Both start m and v at the
    same value and correct their bias; the paper starts m at 0 and corrects neither.

    References:
      Zaheer, Reddi, Sachan, Kale and Kumar, "Adaptive Methods for Nonconvex Optimization", 2018
        (https://papers.nips.cc/paper/2018/hash/90365351ccc7437a1309dc64e4db32a3-Abstract.html).
    """
    require_non_negative(
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )
    return optax.chain(
        add_l2(weight_decay),
        scale_by_yogi(b1, b2, eps, initial_accumulator_value),
        optax.scale_by_learning_rate(learning_rate),
    )
