"""AMSGrad: Adam with a second moment that never decreases."""

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
    """State of AMSGrad. All fields but `steps` are shaped like the parameters.

    Attributes:
      steps: number of completed steps.
      mu: moving average of g.
      nu: moving average of g^2.
      nu_max: the largest nu so far, per coordinate.
    """

    steps: Int[Array, ""]
    mu: PyTree
    nu: PyTree
    nu_max: PyTree


@transformation
def scale_by_amsgrad(
    b1: Hyperparameter = 0.9, b2: Hyperparameter = 0.999, eps: Hyperparameter = 1e-8, *, bias_correction: bool = True
) -> optax.GradientTransformation:
    """Scale gradients by AMSGrad's rule: mhat / (sqrt(what) + eps).

    Here m <- b1 m + (1 - b1) g, v <- b2 v + (1 - b2) g^2 and w <- max(w, v).

    Args:
      b1: the decay of the average of gradients. Default 0.9.
      b2: the decay of the average of squared gradients. Default 0.999.
      eps: a constant added to the denominator; the paper has none. Default 1e-8.
      bias_correction: True is PyTorch's form, mhat = m / (1 - b1^t) and what = w / (1 - b2^t), in which the maximum
        is taken before the correction; False is the paper's, mhat = m and what = w. Static. Default True.

    `optax.amsgrad` corrects v before it takes the maximum, which is neither of the two forms.
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
    """AMSGrad: x <- x - learning_rate mhat / (sqrt(what) + eps).

    Here m <- b1 m + (1 - b1) g, v <- b2 v + (1 - b2) g^2, w <- max(w, v) is the largest v so far, and the hats
    divide by 1 - b1^t and 1 - b2^t. Because w never decreases, a rare large gradient is not forgotten, which
    repairs Adam's proof of convergence; as long as v grows, the steps are Adam's.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, PyTorch's.
      b1: the decay of the average of gradients. Default 0.9, PyTorch's.
      b2: the decay of the average of squared gradients. Default 0.999, PyTorch's.
      eps: a constant added to the denominator; the paper has none. Default 1e-8, PyTorch's.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0.
      bias_correction: True is PyTorch's form, in which the maximum is taken before the correction; False is the
        paper's, without the hats. Static. Default True.

    State:
      m, v and w, three values per parameter.

    Example:
      >>> optimizer = amsgrad(1e-3, bias_correction=False)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch.optim.Adam(amsgrad=True)`, whose weight_decay is L2 as well. `optax.amsgrad` corrects v
    before it takes the maximum, which is neither PyTorch's form nor, by default, the paper's.

    References:
      Reddi, Kale and Kumar, "On the Convergence of Adam and Beyond", 2018, algorithm 2
      (https://arxiv.org/abs/1904.09237).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        scale_by_amsgrad(b1, b2, eps, bias_correction=bias_correction),
        optax.scale_by_learning_rate(learning_rate),
    )
