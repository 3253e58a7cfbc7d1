"""Adagrad, Adadelta and RMSprop: steps divided, coordinate by coordinate, by the size of past gradients."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.numerics import safe_sqrt
from gdlab.optimizers.transformation import (
    add_l2,
    require_flags,
    require_fractions,
    require_non_negative,
    transformation,
)
from gdlab.types import Hyperparameter


class AdagradState(NamedTuple):
    """State of Adagrad.

    Attributes:
      steps: number of completed steps.
      sum_of_squares: the sum of the squares of all gradients so far, shaped like the parameters.
    """

    steps: Int[Array, ""]
    sum_of_squares: PyTree


class RMSState(NamedTuple):
    """State of RMSprop.

    Attributes:
      squares: moving average of g^2, shaped like the parameters.
      means: moving average of g, shaped like the parameters, if centered; None otherwise.
    """

    squares: PyTree
    means: PyTree


@transformation
def scale_by_adagrad(
    eps: Hyperparameter = 1e-10, initial_accumulator_value: Hyperparameter = 0.0, lr_decay: Hyperparameter = 0.0
) -> optax.GradientTransformation:
    """Scale gradients by Adagrad's rule: g / (sqrt(s) + eps) / (1 + (t - 1) lr_decay).

    Here s <- s + g^2, and t counts from 1.

    Args:
      eps: a constant added to the denominator. Default 1e-10.
      initial_accumulator_value: the value of s before the first step. Default 0.
      lr_decay: the rate of an additional decay with the number of steps. Default 0.
    """
    require_non_negative(eps=eps, initial_accumulator_value=initial_accumulator_value, lr_decay=lr_decay)

    def init(params: optax.Params) -> AdagradState:
        start = jax.tree.map(lambda x: jnp.full_like(x, initial_accumulator_value), params)
        return AdagradState(jnp.zeros([], jnp.int32), start)

    def update(
        updates: optax.Updates, state: AdagradState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdagradState]:
        del params
        decay = 1 + state.steps * jnp.asarray(lr_decay)
        total = jax.tree.map(lambda g, s: s + g**2, updates, state.sum_of_squares)
        scaled = jax.tree.map(lambda g, s: g / (safe_sqrt(s) + eps) / decay.astype(g.dtype), updates, total)
        return scaled, AdagradState(optax.safe_increment(state.steps), total)

    return optax.GradientTransformation(init, update)


@transformation
def scale_by_rms(
    decay: Hyperparameter = 0.99, eps: Hyperparameter = 1e-8, *, centered: bool = False
) -> optax.GradientTransformation:
    """Scale gradients by RMSprop's rule: g / (sqrt(v) + eps).

    Here v <- decay v + (1 - decay) g^2. With centered=True the root is taken of the variance v - a^2 instead, where
    a <- decay a + (1 - decay) g.

    Args:
      decay: the decay of the moving averages. Default 0.99.
      eps: a constant added to the denominator, outside the root. Default 1e-8.
      centered: whether to divide by the root of the variance. Static. Default False.

    Equivalent to optax's `scale_by_rms` and `scale_by_stddev` with eps_in_sqrt=False, except for two things:
    derivatives are finite at a gradient of 0, and rounding cannot make the variance v - a^2 negative, where PyTorch
    and optax return NaN if a gradient stays constant for long.
    """
    require_fractions(decay=decay)
    require_flags(centered=centered)
    require_non_negative(eps=eps)

    def init(params: optax.Params) -> RMSState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return RMSState(zeros, zeros if centered else None)

    def update(
        updates: optax.Updates, state: RMSState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, RMSState]:
        del params
        squares = jax.tree.map(lambda g, v: decay * v + (1 - decay) * g**2, updates, state.squares)
        means, under = None, squares
        if centered:
            means = jax.tree.map(lambda g, a: decay * a + (1 - decay) * g, updates, state.means)
            under = jax.tree.map(lambda v, a: jnp.maximum(v - a**2, 0), squares, means)
        scaled = jax.tree.map(lambda g, v: g / (safe_sqrt(v) + eps), updates, under)
        return scaled, RMSState(squares, means)

    return optax.GradientTransformation(init, update)


@transformation
def adagrad(
    learning_rate: Hyperparameter = 1e-2,
    *,
    lr_decay: Hyperparameter = 0.0,
    initial_accumulator_value: Hyperparameter = 0.0,
    eps: Hyperparameter = 1e-10,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Adagrad: x <- x - learning_rate / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps).

    Here s <- s + g^2, the diagonal form of the method, and t counts from 1. The steps of each coordinate shrink
    with the sum of all its squared gradients, which suits sparse gradients, because coordinates that are rarely
    active keep long steps; on networks, where the sum only grows, steps often become too short.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-2, PyTorch's.
      lr_decay: the rate of an additional decay of the step size with the number of steps. Default 0, PyTorch's.
      initial_accumulator_value: the value of s before the first step. Default 0, PyTorch's.
      eps: a constant added to the denominator. Default 1e-10, PyTorch's.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0.

    State:
      s, one value per parameter.

    Example:
      >>> optimizer = adagrad(1e-2, initial_accumulator_value=0.1)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch.optim.Adagrad`. `optax.adagrad` starts s at 0.1, has eps = 1e-7 inside the root, and has
    neither lr_decay nor weight_decay.

    References:
      Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", 2011
      (https://jmlr.org/papers/v12/duchi11a.html).
    """
    require_non_negative(
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )
    return optax.chain(
        add_l2(weight_decay),
        scale_by_adagrad(eps, initial_accumulator_value, lr_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


@transformation
def adadelta(
    learning_rate: Hyperparameter = 1.0,
    *,
    rho: Hyperparameter = 0.9,
    eps: Hyperparameter = 1e-6,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Adadelta: x <- x - learning_rate d, d = g sqrt(D + eps) / sqrt(E + eps).

    Here E <- rho E + (1 - rho) g^2 before the step is formed and D <- rho D + (1 - rho) d^2 after it, as in
    `optax.scale_by_adadelta`. The steps have the units of the parameters, so that in principle no learning rate is
    needed; the method is mostly of historical interest.

    Args:
      learning_rate: a factor of the step, a number or a schedule. Default 1, PyTorch's; the paper has no learning
        rate.
      rho: the decay of the averages E and D. Default 0.9, PyTorch's; the paper's is 0.95.
      eps: a constant added inside both roots; it sets the length of the first steps. Default 1e-6, PyTorch's.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0.

    State:
      E and D, two values per parameter.

    Example:
      >>> optimizer = adadelta(1.0, rho=0.95)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch.optim.Adadelta`. `optax.adadelta` without a learning rate ascends, because it then omits
    the change of sign as well.

    References:
      Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012, algorithm 1 (https://arxiv.org/abs/1212.5701).
    """
    require_fractions(rho=rho)
    require_non_negative(learning_rate=learning_rate, eps=eps, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        optax.scale_by_adadelta(rho, eps),
        optax.scale_by_learning_rate(learning_rate),
    )


@transformation
def rmsprop(
    learning_rate: Hyperparameter = 1e-2,
    *,
    decay: Hyperparameter = 0.99,
    eps: Hyperparameter = 1e-8,
    momentum: Hyperparameter | None = None,
    centered: bool = False,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """RMSprop: x <- x - learning_rate g / (sqrt(v) + eps).

    Here v <- decay v + (1 - decay) g^2. With momentum, b <- momentum b + g / (sqrt(v) + eps) and
    x <- x - learning_rate b. A moving average replaces Adagrad's sum, so that steps do not vanish in long runs, and
    without momentum it needs half of Adam's memory.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-2, PyTorch's; the lecture's is 1e-3.
      decay: the decay of the average of squared gradients. Default 0.99, PyTorch's; the lecture's is 0.9.
      eps: a constant added to the denominator, outside the root. Default 1e-8, PyTorch's.
      momentum: the decay of the velocity b. None stores no b, whereas 0.0 stores it, so that momentum 0 can be
        traced along with other values. Default None.
      centered: whether to divide by the root of the variance v - a^2, where a is the moving average of g. Static.
        Default False, PyTorch's.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0.

    State:
      v, also b with momentum, and a with centered=True: one to three values per parameter.

    Example:
      >>> optimizer = rmsprop(1e-3, decay=0.9, momentum=0.9)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch.optim.RMSprop`, whose alpha is `decay` here. `optax.rmsprop` has decay 0.9 and eps inside
    the root, and scales by the learning rate before the momentum.

    References:
      Tieleman and Hinton, "Lecture 6.5-rmsprop: Divide the Gradient by a Running Average of Its Recent Magnitude",
        2012 (https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf).
    """
    if momentum is not None:
        require_fractions(momentum=momentum)
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        scale_by_rms(decay, eps, centered=centered),
        optax.identity() if momentum is None else optax.trace(momentum),
        optax.scale_by_learning_rate(learning_rate),
    )
