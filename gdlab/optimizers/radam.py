"""RAdam: Adam that uses its second moment only after enough gradients (Liu et al. 2020)."""

import jax
import jax.numpy as jnp
import optax

from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.adam import AdamState, init_moments
from gdlab.optimizers.transformation import add_l2, require_fractions, require_non_negative, transformation
from gdlab.optimizers.trees import average, average_of_squares
from gdlab.types import Hyperparameter


@transformation
def scale_by_radam(
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
    threshold: Hyperparameter = 5.0,
) -> optax.GradientTransformation:
    """Scale gradients by RAdam's rule: r mhat sqrt(1 - b2^t) / (sqrt(v) + eps) if rho > threshold, else mhat.

    The moments are Adam's. With t from 1, rho_inf = 2 / (1 - b2) - 1, rho = rho_inf - 2 t b2^t / (1 - b2^t) and
    r^2 = (rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho).

    Args:
      b1: the decay of the average of gradients. Default 0.9.
      b2: the decay of the average of squared gradients. Default 0.999.
      eps: added to the root of v. Default 1e-8.
      threshold: the value of rho above which the second moment is used. Default 5.
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(eps=eps, threshold=threshold)

    def update(
        updates: optax.Updates, state: AdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdamState]:
        del params
        steps = optax.safe_increment(state.steps)
        mu = average(b1, state.mu, updates)
        nu = average_of_squares(b2, state.nu, updates)
        first, second = one_minus_power(b1, steps), one_minus_power(b2, steps)
        rho_inf = 2 / (1 - b2) - 1
        rho = rho_inf - 2 * steps * (1 - second) / second
        rectified = rho > threshold
        safe = jnp.where(rectified, rho, 5.0)
        limit = jnp.where(rectified, rho_inf, 6.0)
        squared = (safe - 4) * (safe - 2) * limit / ((limit - 4) * (limit - 2) * safe)
        r = safe_sqrt(jnp.where(rectified, jnp.maximum(squared, 0.0), 0.0))
        scaled = jax.tree.map(
            lambda m, v: m / first * jnp.where(rectified, r * safe_sqrt(second) / (safe_sqrt(v) + eps), 1.0), mu, nu
        )
        return scaled, AdamState(steps, mu, nu)

    return optax.GradientTransformation(init_moments, update)


@transformation
def radam(
    learning_rate: Hyperparameter = 1e-3,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
    threshold: Hyperparameter = 5.0,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """RAdam: x <- x - learning_rate u, u = r mhat sqrt(1 - b2^t) / (sqrt(v) + eps) if rho > threshold, else u = mhat.

    The moments are Adam's. With t from 1, rho_inf = 2 / (1 - b2) - 1, rho = rho_inf - 2 t b2^t / (1 - b2^t) and
    r^2 = (rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho). The first steps are plain momentum, until the
    second moment has seen enough gradients to be reliable, which takes the place of a warm-up of Adam's learning rate.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, PyTorch's.
      b1: the decay of the average of gradients. Default 0.9, PyTorch's.
      b2: the decay of the average of squared gradients. Default 0.999, PyTorch's.
      eps: added to the root of v. Default 1e-8, PyTorch's.
      threshold: the value of rho above which the second moment is used. Below 4 the rectification r is not defined and
        counts as 0. Default 5, that of PyTorch, optax and the paper's code; the paper itself has 4.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0, PyTorch's.

    State:
      m and v, two values per parameter.

    Example:
      >>> optimizer = radam(1e-3, threshold=4.0)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch.optim.RAdam`, whose weight_decay is L2 too. Both add eps to the root before its bias
    correction, whereas `optax.radam` adds it after; the results are 4e-10 apart at eps = 1e-8.

    References:
      Liu, Jiang, He, et al., "On the Variance of the Adaptive Learning Rate and Beyond", 2020, algorithm 2
      (https://arxiv.org/abs/1908.03265).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        scale_by_radam(b1, b2, eps, threshold),
        optax.scale_by_learning_rate(learning_rate),
    )
