"""Signum and Lion: optimizers that use only the sign of an average of gradients."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from gdlab.optimizers.transformation import decoupled_decay, require_fractions, require_non_negative, transformation
from gdlab.optimizers.trees import average, zeros
from gdlab.types import Hyperparameter


class SignumState(NamedTuple):
    """State of `scale_by_signum`.

    Attributes:
      mean: the moving average of the gradient, shaped like the parameters.
    """

    mean: PyTree


@transformation
def scale_by_signum(momentum: Hyperparameter = 0.9) -> optax.GradientTransformation:
    """Scale gradients by Signum's rule: sign(m), where m <- momentum m + (1 - momentum) g; the sign of 0 is 0.

    Args:
      momentum: the decay of the average m of gradients. Default 0.9.
    """
    require_fractions(momentum=momentum)

    def init(params: optax.Params) -> SignumState:
        return SignumState(zeros(params))

    def update(
        updates: optax.Updates, state: SignumState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, SignumState]:
        del params
        mean = average(momentum, state.mean, updates)
        return jax.tree.map(jnp.sign, mean), SignumState(mean)

    return optax.GradientTransformation(init, update)


@transformation
def signum(
    learning_rate: Hyperparameter = 1e-4,
    *,
    momentum: Hyperparameter = 0.9,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Signum: m <- momentum m + (1 - momentum) g; x <- x - learning_rate (sign(m) + weight_decay x).

    Every coordinate moves by the same amount in each step, so the scale of the gradient has no influence; signs also
    compress the communication between workers, for which the method was proposed.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-4, the paper's.
      momentum: the decay of the average of gradients; 0 gives signSGD. Default 0.9, the paper's.
      weight_decay: decoupled weight decay, as in the paper. Default 0.

    State:
      m, one value per parameter.

    Example:
      >>> optimizer = signum(1e-4, momentum=0.95)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    References:
      Bernstein, Wang, Azizzadenesheli and Anandkumar, "signSGD: Compressed Optimisation for Non-Convex Problems", 2018,
      algorithm 2 (https://arxiv.org/abs/1802.04434).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        scale_by_signum(momentum),
        decoupled_decay("signum", weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


@transformation
def lion(
    learning_rate: Hyperparameter = 1e-4,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.99,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Lion: x <- x - learning_rate (sign(b1 m + (1 - b1) g) + weight_decay x); m <- b2 m + (1 - b2) g.

    Lion, found by a search over programs, keeps one average per parameter instead of Adam's two, and moves every
    coordinate by the same amount in each step.

    Args:
      learning_rate: the step size, a number or a schedule; 3 to 10 times smaller than AdamW's. Default 1e-4, that of
        the paper's code.
      b1: the weight of m in the direction. Default 0.9, that of the paper's code.
      b2: the decay of the average m of gradients. Default 0.99, that of the paper's code.
      weight_decay: decoupled weight decay; 3 to 10 times larger than AdamW's. Default 0, that of the paper's code;
        `optax.lion` has 1e-3.

    State:
      m, one value per parameter.

    Example:
      >>> optimizer = lion(1e-4, b2=0.98, weight_decay=0.1)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Built on `optax.scale_by_lion`; equivalent to `lion_pytorch.Lion`.

    References:
      Chen, Liang, Huang, et al., "Symbolic Discovery of Optimization Algorithms", 2023, algorithm 2
      (https://arxiv.org/abs/2302.06675).
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        optax.scale_by_lion(b1, b2),
        decoupled_decay("lion", weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
