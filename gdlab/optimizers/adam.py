"""Adam, AdamW and AdaMax: moments of the gradient with bias correction (Kingma & Ba 2015, Loshchilov & Hutter 2019)."""

from typing import NamedTuple

import jax
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.transformation import (
    add_l2,
    decoupled_decay,
    require_fractions,
    require_non_negative,
    transformation,
)
from gdlab.optimizers.trees import average, average_of_squares, begin, zeros
from gdlab.types import Hyperparameter


class AdamState(NamedTuple):
    """steps: how many were done. mu, nu: averages of g and of g^2, shaped like the parameters."""

    steps: Int[Array, ""]
    mu: PyTree
    nu: PyTree


def init_moments(params: optax.Params) -> AdamState:
    """No steps done, both moments 0."""
    return AdamState(begin(), zeros(params), zeros(params))


@transformation
def scale_by_adam(
    b1: Hyperparameter = 0.9, b2: Hyperparameter = 0.999, eps: Hyperparameter = 1e-8
) -> optax.GradientTransformation:
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; hands out mhat / (sqrt(vhat) + eps).

    mhat = m / (1 - b1^t) and vhat = v / (1 - b2^t), with t from 1. The two corrections are formed without cancellation:
    in float32 `optax.scale_by_adam` loses 7e-6 of the first step there. In float64 they are equal.
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(eps=eps)

    def update(
        updates: optax.Updates, state: AdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdamState]:
        del params
        count = optax.safe_increment(state.steps)
        mu, nu = average(b1, state.mu, updates), average_of_squares(b2, state.nu, updates)
        first, second = 1 / one_minus_power(b1, count), 1 / one_minus_power(b2, count)
        scaled = jax.tree.map(
            lambda m, v: (m * first.astype(m.dtype)) / (safe_sqrt(v * second.astype(v.dtype)) + eps), mu, nu
        )
        return scaled, AdamState(count, mu, nu)

    return optax.GradientTransformation(init_moments, update)


@transformation
def adam(
    learning_rate: Hyperparameter = 1e-3,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Adam: x <- x - learning_rate mhat / (sqrt(vhat) + eps) (Kingma & Ba 2015, algorithm 1).

    The moments are those of `scale_by_adam`. Equal to `torch.optim.Adam(lr, (b1, b2), eps, weight_decay)`, whose
    weight_decay is L2. Defaults: the paper's and PyTorch's. State: m and v, two values a parameter.
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        scale_by_adam(b1, b2, eps),
        optax.scale_by_learning_rate(learning_rate),
    )


@transformation
def adamw(
    learning_rate: Hyperparameter = 1e-3,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 1e-2,
) -> optax.GradientTransformation:
    """AdamW: x <- x - learning_rate (mhat / (sqrt(vhat) + eps) + weight_decay x) (Loshchilov & Hutter 2019).

    Equal to `torch.optim.AdamW`, and with it in scaling the decay by the learning rate, which the paper does not.
    Defaults: PyTorch's; `optax.adamw` decays by 1e-4. State: m and v, two values a parameter.
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        scale_by_adam(b1, b2, eps),
        decoupled_decay("adamw", weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


@transformation
def adamax(
    learning_rate: Hyperparameter = 2e-3,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """AdaMax: x <- x - learning_rate / (1 - b1^t) m / u, u = max(b2 u, |g| + eps) (Kingma & Ba 2015, algorithm 2).

    Built on `optax.scale_by_adamax`; equal to `torch.optim.Adamax`. The paper has no eps. Defaults: the paper's and
    PyTorch's; `optax.adamax` has no default learning rate. State: m and u, two values a parameter.
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(learning_rate=learning_rate, eps=eps, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        optax.scale_by_adamax(b1, b2, eps),
        optax.scale_by_learning_rate(learning_rate),
    )
