"""Quasi-hyperbolic momentum: a weighted mean of the gradient and its average (Ma & Yarats 2019)."""

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
    """mean: the moving average of g, shaped like the parameters."""

    mean: PyTree


@transformation
def scale_by_qhm(momentum: Hyperparameter = 0.999, nu: Hyperparameter = 0.7) -> optax.GradientTransformation:
    """v = momentum v + (1 - momentum) g; the direction is (1 - nu) g + nu v."""
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
    """The direction ((1 - nu1) g + nu1 mhat) / (sqrt((1 - nu2) g^2 + nu2 vhat) + eps), with Adam's moments."""
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
            direct = jnp.where(jnp.asarray(nu2) == 1, 0.0, (1 - nu2) * g**2)  # g^2 may be infinite
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
    """QHM: v <- momentum v + (1 - momentum) g; x <- x - learning_rate ((1 - nu) g + nu v) (Ma & Yarats 2019, eq. 3-4).

    nu = 0 is gradient descent, nu = 1 heavy ball and nu = momentum Nesterov's method, both at learning_rate
    (1 - momentum) in PyTorch's form: the paper recommends the rate of heavy ball divided by 1 - its momentum. Equal to
    `qhoptim.pyt.QHM`; weight_decay is L2. Defaults: momentum and nu the paper's recommendation, the rate that of
    torch-optimizer (qhoptim has none). State: v, one value a parameter.
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

    Ma & Yarats 2019, section 4. nu1 = nu2 = 1 is Adam. Equal to `qhoptim.pyt.QHAdam`; weight_decay is L2. Defaults: the
    paper's recommendation; those of qhoptim's class are Adam. State: m and v, two values a parameter.
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        scale_by_qhadam(b1, b2, nu1, nu2, eps),
        optax.scale_by_learning_rate(learning_rate),
    )
