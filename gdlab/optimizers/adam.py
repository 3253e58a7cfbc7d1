"""Adam, AdamW and AdaMax: moving averages of the gradient and of its size, with bias correction."""

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
    """State of Adam and of methods with the same two moments.

    Attributes:
      steps: number of completed steps.
      mu: moving average of g, shaped like the parameters.
      nu: moving average of g^2, shaped like the parameters.
    """

    steps: Int[Array, ""]
    mu: PyTree
    nu: PyTree


def init_moments(params: optax.Params) -> AdamState:
    """Return the state before the first step, with both moments 0."""
    return AdamState(begin(), zeros(params), zeros(params))


@transformation
def scale_by_adam(
    b1: Hyperparameter = 0.9, b2: Hyperparameter = 0.999, eps: Hyperparameter = 1e-8
) -> optax.GradientTransformation:
    """Scale gradients by Adam's rule: mhat / (sqrt(vhat) + eps).

    Here m <- b1 m + (1 - b1) g and v <- b2 v + (1 - b2) g^2, with mhat = m / (1 - b1^t), vhat = v / (1 - b2^t) and
    t from 1.

    Args:
      b1: the decay of the average of gradients. Default 0.9.
      b2: the decay of the average of squared gradients. Default 0.999.
      eps: a constant added to the denominator. Default 1e-8.

    The two bias corrections are computed without cancellation. `optax.scale_by_adam` loses 7e-6 of the first step
    to cancellation in float32; in float64 the two functions agree.
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
    """Adam: x <- x - learning_rate mhat / (sqrt(vhat) + eps).

    Here m <- b1 m + (1 - b1) g and v <- b2 v + (1 - b2) g^2, and the hats divide by 1 - b1^t and 1 - b2^t. Each
    coordinate is scaled by the size of its own recent gradients, so one learning rate serves layers of very
    different scales: the usual first choice for networks.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, the paper's and PyTorch's.
      b1: the decay of the average of gradients. Default 0.9, the paper's and PyTorch's.
      b2: the decay of the average of squared gradients. Default 0.999, the paper's and PyTorch's.
      eps: a constant added to the denominator. Default 1e-8, the paper's and PyTorch's.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0.

    State:
      m and v, two values per parameter.

    Example:
      >>> optimizer = adam(3e-4, b2=0.99)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch.optim.Adam(lr, (b1, b2), eps, weight_decay)`, whose weight_decay is L2 as well.

    References:
      Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1
      (https://arxiv.org/abs/1412.6980).
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
    """AdamW: x <- x - learning_rate (mhat / (sqrt(vhat) + eps) + weight_decay x).

    Here m <- b1 m + (1 - b1) g and v <- b2 v + (1 - b2) g^2, and the hats divide by 1 - b1^t and 1 - b2^t. The
    weight decay acts on the parameters directly instead of through the gradient, so that Adam's scaling does not
    weaken it where gradients are large: the usual choice for transformers.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, PyTorch's.
      b1: the decay of the average of gradients. Default 0.9, PyTorch's.
      b2: the decay of the average of squared gradients. Default 0.999, PyTorch's.
      eps: a constant added to the denominator. Default 1e-8, PyTorch's.
      weight_decay: decoupled weight decay. Default 1e-2, PyTorch's; `optax.adamw` has 1e-4.

    State:
      m and v, two values per parameter.

    Example:
      >>> optimizer = adamw(3e-4, weight_decay=0.1)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch.optim.AdamW`. Like PyTorch, it scales the decay by the learning rate, which the paper does
    not.

    References:
      Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019 (https://arxiv.org/abs/1711.05101).
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
    """AdaMax: x <- x - learning_rate / (1 - b1^t) m / u.

    Here m <- b1 m + (1 - b1) g and u <- max(b2 u, |g| + eps). The step is divided by a decaying maximum of |g|
    instead of by the root of an average of g^2, so that u needs no bias correction; a variant of Adam that is
    mostly of historical interest.

    Args:
      learning_rate: the step size, a number or a schedule. Default 2e-3, the paper's and PyTorch's.
      b1: the decay of the average of gradients. Default 0.9, the paper's and PyTorch's.
      b2: the decay of the maximum of |g|. Default 0.999, the paper's and PyTorch's.
      eps: a constant added to |g|. Default 1e-8, PyTorch's; the paper has no eps.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0.

    State:
      m and u, two values per parameter.

    Example:
      >>> optimizer = adamax(2e-3, b2=0.99)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch.optim.Adamax`, and built on `optax.scale_by_adamax`. `optax.adamax` has no default learning
    rate.

    References:
      Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 2
      (https://arxiv.org/abs/1412.6980).
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(learning_rate=learning_rate, eps=eps, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        optax.scale_by_adamax(b1, b2, eps),
        optax.scale_by_learning_rate(learning_rate),
    )
