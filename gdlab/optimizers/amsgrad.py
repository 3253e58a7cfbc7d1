"""AMSGrad: Adam whose second moment never shrinks (Reddi, Kale & Kumar 2018)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.transformation import (
    add_l2,
    require_flags,
    require_fractions,
    require_non_negative,
    transformation,
)
from gdlab.optimizers.trees import average, average_of_squares, begin, zeros
from gdlab.types import Hyperparameter


class AMSGradState(NamedTuple):
    """steps: how many were done. mu, nu: averages of g and g^2. nu_max: the largest nu so far, per coordinate."""

    steps: Int[Array, ""]
    mu: PyTree
    nu: PyTree
    nu_max: PyTree


@transformation
def scale_by_amsgrad(
    b1: Hyperparameter = 0.9, b2: Hyperparameter = 0.999, eps: Hyperparameter = 1e-8, *, bias_correction: bool = True
) -> optax.GradientTransformation:
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w = max(w, v); hands out mhat / (sqrt(what) + eps).

    bias_correction: True is PyTorch's form, mhat = m / (1 - b1^t) and what = w / (1 - b2^t), the maximum taken before
    the correction; False is the paper's, mhat = m and what = w (it has no eps either). `optax.amsgrad` corrects before
    it takes the maximum, which is neither.
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(eps=eps)
    require_flags(bias_correction=bias_correction)

    def init(params: optax.Params) -> AMSGradState:
        return AMSGradState(begin(), zeros(params), zeros(params), zeros(params))

    def update(
        updates: optax.Updates, state: AMSGradState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AMSGradState]:
        del params
        steps = optax.safe_increment(state.steps)
        mu = average(b1, state.mu, updates)
        nu = average_of_squares(b2, state.nu, updates)
        nu_max = jax.tree.map(jnp.maximum, state.nu_max, nu)
        first = one_minus_power(b1, steps) if bias_correction else 1.0
        second = one_minus_power(b2, steps) if bias_correction else 1.0
        scaled = jax.tree.map(lambda m, w: (m / first) / (safe_sqrt(w / second) + eps), mu, nu_max)
        return scaled, AMSGradState(steps, mu, nu, nu_max)

    return optax.GradientTransformation(init, update)


@transformation
def amsgrad(
    learning_rate: Hyperparameter = 1e-3,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.0,
    bias_correction: bool = True,
) -> optax.GradientTransformation:
    """AMSGrad: x <- x - learning_rate mhat / (sqrt(what) + eps), w the largest v so far (Reddi et al. 2018, alg. 2).

    The moments, and the two forms that `bias_correction` chooses between, are those of `scale_by_amsgrad`. Equal to
    `torch.optim.Adam(amsgrad=True)`, whose weight_decay is L2; `optax.amsgrad` is neither PyTorch's nor, by default,
    the paper's. Defaults: PyTorch's. State: m, v and w, three values a parameter.
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        scale_by_amsgrad(b1, b2, eps, bias_correction=bias_correction),
        optax.scale_by_learning_rate(learning_rate),
    )
