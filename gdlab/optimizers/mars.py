"""MARS: adaptive methods on a gradient whose variance is reduced by the previous one (Yuan et al. 2024)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.arguments import require_choice
from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.matrices import adamw_direction, by_axes, on_matrices, stretch
from gdlab.optimizers.orthogonalization import orthogonalize
from gdlab.optimizers.transformation import (
    decoupled_decay,
    require_fractions,
    require_non_negative,
    transformation,
)
from gdlab.optimizers.trees import average, average_of_squares, begin, norm, zeros
from gdlab.types import Hyperparameter

FORMS = ("adamw", "lion", "shampoo")


class MARSState(NamedTuple):
    """State of `scale_by_mars`.

    Attributes:
      steps: number of completed steps.
      mu: moving average of the corrected gradient c, shaped like the parameters.
      nu: moving average of c^2, shaped like the parameters; it stays 0 in other forms than "adamw".
      previous: the gradient of the previous step, 0 before the first.
    """

    steps: Int[Array, ""]
    mu: PyTree
    nu: PyTree
    previous: PyTree


@transformation
def scale_by_mars(
    b1: Hyperparameter = 0.95,
    b2: Hyperparameter = 0.99,
    eps: Hyperparameter = 1e-8,
    *,
    gamma: Hyperparameter = 0.025,
    form: str = "adamw",
) -> optax.GradientTransformation:
    """Scale gradients by MARS's rule: an adaptive method on c = g + gamma b1 / (1 - b1) (g - g_previous).

    Each leaf of c is divided by max(1, |c|). Then m <- b1 m + (1 - b1) c, and the direction is that of `form`; the
    docstring of `mars` gives the three.

    Args:
      b1: the decay of the average of corrected gradients. Default 0.95.
      b2: the decay of the average of their squares. Default 0.99.
      eps: added to the root of the second moment, or to the norm before the orthogonalization. Default 1e-8.
      gamma: the weight of the correction. Default 0.025.
      form: "adamw", "lion" or "shampoo", static. Default "adamw".
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(eps=eps, gamma=gamma)
    require_choice("form", form, FORMS)

    def init(params: optax.Params) -> MARSState:
        return MARSState(begin(), zeros(params), zeros(params), zeros(params))

    def correct(g: Array, previous: Array) -> Array:
        c = g + gamma * b1 / (1 - b1) * (g - previous)
        return c / jnp.maximum(norm(c), 1.0)

    def update(
        updates: optax.Updates, state: MARSState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, MARSState]:
        del params
        count = optax.safe_increment(state.steps)
        corrected = jax.tree.map(correct, updates, state.previous)
        mu, nu = average(b1, state.mu, corrected), state.nu
        if form == "adamw":
            nu = average_of_squares(b2, state.nu, corrected)
            first, second = 1 / one_minus_power(b1, count), 1 / one_minus_power(b2, count)
            scaled = jax.tree.map(
                lambda m, v: (m * first.astype(m.dtype)) / (safe_sqrt(v * second.astype(v.dtype)) + eps), mu, nu
            )
        elif form == "lion":
            scaled = jax.tree.map(jnp.sign, mu)
        else:
            scaled = on_matrices(lambda m: stretch(m) * orthogonalize(m / (1 - b1), eps=eps), mu)
        return scaled, MARSState(count, mu, nu, updates)

    return optax.GradientTransformation(init, update)


@transformation
def mars(
    learning_rate: Hyperparameter = 3e-3,
    *,
    b1: Hyperparameter = 0.95,
    b2: Hyperparameter = 0.99,
    gamma: Hyperparameter = 0.025,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.0,
    form: str = "adamw",
    adam_ratio: Hyperparameter = 1.0,
    adam_b1: Hyperparameter = 0.9,
    adam_b2: Hyperparameter = 0.95,
    adam_decay: Hyperparameter = 0.1,
) -> optax.GradientTransformation:
    """MARS: c = g + gamma b1 / (1 - b1) (g - g_previous); x <- x - learning_rate (u(c) + weight_decay x).

    Here each leaf of c is divided by max(1, |c|), m <- b1 m + (1 - b1) c, and u(c) is one of three directions:

    - "adamw": mhat / (sqrt(vhat) + eps) with v <- b2 v + (1 - b2) c^2, bias-corrected as in Adam.
    - "lion": sign(m).
    - "shampoo": s O(m / (1 - b1)), the direction of Muon: O is `orthogonalize` and s = sqrt(max(1, outputs / inputs)).

    The correction is that of a recursive momentum, which reduces the variance of stochastic gradients; gamma weakens
    it. Leaves of fewer than two axes are updated by AdamW without it.

    Args:
      learning_rate: the step size, a number or a schedule. Default 3e-3, that of the authors' code.
      b1: the decay of the average of corrected gradients. Default 0.95, that of the authors' code.
      b2: the decay of the average of their squares. Default 0.99, that of the authors' code.
      gamma: the weight of the correction; 0 leaves the gradient as it is, but for the clipping. Default 0.025, that of
        the authors' code.
      eps: added to the root of the second moment, of matrices and of others, and to the norm in form "shampoo". Default
        1e-8, that of the authors' code.
      weight_decay: decoupled weight decay of leaves of two or more axes. Default 0, that of the authors' code.
      form: "adamw", "lion" or "shampoo". Static. Default "adamw", as in the authors' code.
      adam_ratio: AdamW's learning rate as a multiple of learning_rate. Default 1, as in the authors' code.
      adam_b1: AdamW's decay of the average of gradients. Default 0.9, that of the authors' code.
      adam_b2: AdamW's decay of the average of squared gradients. Default 0.95, that of the authors' code.
      adam_decay: AdamW's decoupled weight decay. Default 0.1, that of the authors' code.

    State:
      m, v and the previous gradient, three values per parameter, for leaves of two or more axes; m and v for others.

    Example:
      >>> optimizer = mars(3e-3, gamma=0.05, form="lion")
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    This is the approximate method, in which g_previous is the gradient of the previous batch; the exact one takes that
    of the previous parameters on the present batch, at the price of a second evaluation. Before the first step
    g_previous is 0. Equivalent to `pytorch_optimizer.MARS`, whose orthogonalization runs in bfloat16. The authors' code
    treats kernels of convolutions like vectors.

    References:
      Yuan, Liu, Wu, Zhou and Gu, "MARS: Unleashing the Power of Variance Reduction for Training Large Models", 2024
      (https://arxiv.org/abs/2411.10438).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay, adam_decay=adam_decay)
    require_non_negative(adam_ratio=adam_ratio)
    require_fractions(adam_b1=adam_b1, adam_b2=adam_b2)
    matrices = optax.chain(scale_by_mars(b1, b2, eps, gamma=gamma, form=form), decoupled_decay("mars", weight_decay))
    vectors = adamw_direction("mars", b1=adam_b1, b2=adam_b2, eps=eps, weight_decay=adam_decay, ratio=adam_ratio)
    return optax.chain(by_axes(matrices, vectors), optax.scale_by_learning_rate(learning_rate))
