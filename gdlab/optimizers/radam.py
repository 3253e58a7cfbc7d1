"""RAdam: Adam without its second moment until that has seen enough gradients (Liu et al. 2020)."""

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
    """Hands out r mhat sqrt(1 - b2^t) / (sqrt(v) + eps) where rho > threshold, mhat before.

    rho_inf = 2 / (1 - b2) - 1; rho = rho_inf - 2 t b2^t / (1 - b2^t), with t from 1;
    r^2 = (rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho). The moments are Adam's.
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
    """RAdam: Adam with a rectified second moment, plain momentum first (Liu et al. 2020, algorithm 2).

    The rule is that of `scale_by_radam`. Equal to `torch.optim.RAdam`, which adds eps before the bias correction of the
    root, where `optax.radam` adds it after (4e-10 apart at eps = 1e-8). The paper's threshold is 4, that of its code,
    PyTorch and optax 5; below 4 the rectification is not defined and counts as 0. weight_decay is L2, as PyTorch has
    it. Defaults: PyTorch's. State: m and v, two values a parameter.
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        scale_by_radam(b1, b2, eps, threshold),
        optax.scale_by_learning_rate(learning_rate),
    )
