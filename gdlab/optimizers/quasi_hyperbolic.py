"""Quasi-hyperbolic momentum: a weighted mean of the gradient and its moving average (Ma & Yarats 2019)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from gdlab.arguments import require_number
from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.adam import AdamState, init_moments
from gdlab.optimizers.transformation import add_l2, require_fractions, require_non_negative, transformation
from gdlab.optimizers.trees import average, average_of_squares, zeros
from gdlab.types import Hyperparameter


class QHMState(NamedTuple):
    """State of `scale_by_qhm`.

    Attributes:
      mean: the moving average of the gradient, shaped like the parameters.
    """

    mean: PyTree


@transformation
def scale_by_qhm(momentum: Hyperparameter = 0.999, nu: Hyperparameter = 0.7) -> optax.GradientTransformation:
    """Scale gradients by QHM's rule: (1 - nu) g + nu v, where v <- momentum v + (1 - momentum) g.

    Args:
      momentum: the decay of the average v of gradients. Default 0.999.
      nu: the weight of v against the plain gradient, in [0, 1]. Default 0.7.
    """
    require_fractions(momentum=momentum)
    require_number("nu", nu, 0.0, 1.0)

    def init(params: optax.Params) -> QHMState:
        return QHMState(zeros(params))

    def update(
        updates: optax.Updates, state: QHMState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, QHMState]:
        del params
        mean = average(momentum, state.mean, updates)
        return jax.tree.map(lambda g, v: (1 - nu) * g + nu * v, updates, mean), QHMState(mean)

    return optax.GradientTransformation(init, update)


@transformation
def scale_by_qhadam(
    b1: Hyperparameter = 0.995,
    b2: Hyperparameter = 0.999,
    nu1: Hyperparameter = 0.7,
    nu2: Hyperparameter = 1.0,
    eps: Hyperparameter = 1e-8,
) -> optax.GradientTransformation:
    """Scale gradients by QHAdam's rule: ((1 - nu1) g + nu1 mhat) / (sqrt((1 - nu2) g^2 + nu2 vhat) + eps).

    The moments are Adam's, with bias correction.

    Args:
      b1: the decay of the average of gradients. Default 0.995.
      b2: the decay of the average of squared gradients. Default 0.999.
      nu1: the weight of mhat against the plain gradient, in [0, 1]. Default 0.7.
      nu2: the weight of vhat against the plain square, in [0, 1]. Default 1.
      eps: added to the root. Default 1e-8.
    """
    require_fractions(b1=b1, b2=b2)
    require_number("nu1", nu1, 0.0, 1.0)
    require_number("nu2", nu2, 0.0, 1.0)
    require_non_negative(eps=eps)

    def update(
        updates: optax.Updates, state: AdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdamState]:
        del params
        steps = optax.safe_increment(state.steps)
        mu = average(b1, state.mu, updates)
        nu = average_of_squares(b2, state.nu, updates)
        first, second = one_minus_power(b1, steps), one_minus_power(b2, steps)

        def scale(g: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
            direct = jnp.where(jnp.asarray(nu2) == 1, 0.0, (1 - nu2) * g**2)  # 0 times an infinite g^2 is NaN
            square = direct + nu2 * v / second
            return ((1 - nu1) * g + nu1 * m / first) / (safe_sqrt(square) + eps)

        return jax.tree.map(scale, updates, mu, nu), AdamState(steps, mu, nu)

    return optax.GradientTransformation(init_moments, update)


@transformation
def qhm(
    learning_rate: Hyperparameter = 1e-3,
    *,
    momentum: Hyperparameter = 0.999,
    nu: Hyperparameter = 0.7,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """QHM: v <- momentum v + (1 - momentum) g; x <- x - learning_rate ((1 - nu) g + nu v).

    The step mixes the plain gradient with a slow average of it. This one family contains gradient descent (nu = 0),
    heavy ball (nu = 1) and Nesterov's method (nu = momentum), and it allows a long memory without a slow reaction.

    Args:
      learning_rate: the step size, a number or a schedule. The paper recommends the learning rate of heavy ball divided
        by 1 - its momentum. Default 1e-3, torch-optimizer's (qhoptim has none).
      momentum: the decay of the average v of gradients. Default 0.999, the paper's recommendation.
      nu: the weight of v against the plain gradient, in [0, 1]. Default 0.7, the paper's recommendation.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0.

    State:
      v, one value per parameter.

    Example:
      >>> optimizer = qhm(0.1, momentum=0.999, nu=0.7)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `qhoptim.pyt.QHM`. With nu = 1 and nu = momentum it is heavy ball and Nesterov's method in PyTorch's
    form, both with the learning rate learning_rate (1 - momentum).

    References:
      Ma and Yarats, "Quasi-hyperbolic momentum and Adam for deep learning", 2019, equations 3 and 4
      (https://arxiv.org/abs/1810.06801).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(add_l2(weight_decay), scale_by_qhm(momentum, nu), optax.scale_by_learning_rate(learning_rate))


@transformation
def qhadam(
    learning_rate: Hyperparameter = 1e-3,
    *,
    b1: Hyperparameter = 0.995,
    b2: Hyperparameter = 0.999,
    nu1: Hyperparameter = 0.7,
    nu2: Hyperparameter = 1.0,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """QHAdam: x <- x - learning_rate ((1 - nu1) g + nu1 mhat) / (sqrt((1 - nu2) g^2 + nu2 vhat) + eps).

    The moments are Adam's, with bias correction. Mixing them with the plain gradient and its square lets the averages
    be longer than Adam's without a slow reaction; nu1 = nu2 = 1 is Adam.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, qhoptim's.
      b1: the decay of the average of gradients. Default 0.995, the paper's recommendation.
      b2: the decay of the average of squared gradients. Default 0.999, the paper's recommendation.
      nu1: the weight of mhat against the plain gradient, in [0, 1]. Default 0.7, the paper's recommendation.
      nu2: the weight of vhat against the plain square, in [0, 1]. Default 1, the paper's recommendation.
      eps: added to the root. Default 1e-8, qhoptim's.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0.

    State:
      m and v, two values per parameter.

    Example:
      >>> optimizer = qhadam(1e-3, b1=0.995, nu1=0.7)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `qhoptim.pyt.QHAdam`; the defaults of that class are Adam's.

    References:
      Ma and Yarats, "Quasi-hyperbolic momentum and Adam for deep learning", 2019, section 4
      (https://arxiv.org/abs/1810.06801).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        scale_by_qhadam(b1, b2, nu1, nu2, eps),
        optax.scale_by_learning_rate(learning_rate),
    )
