"""Gradient descent, plain, with heavy-ball momentum and with Nesterov's, in PyTorch's form and in Sutskever's."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from gdlab.arguments import require_number
from gdlab.optimizers.transformation import (
    add_l2,
    require_fractions,
    require_non_negative,
    transformation,
)
from gdlab.optimizers.trees import statistic, zeros
from gdlab.types import Hyperparameter


class MomentumState(NamedTuple):
    """steps: how many were done. velocity: shaped like the parameters."""

    steps: Int[Array, ""]
    velocity: PyTree


@transformation
def scale_by_momentum(momentum: Hyperparameter, dampening: Hyperparameter = 0.0) -> optax.GradientTransformation:
    """v = momentum v + (1 - dampening) g; hands out v. As in PyTorch, the first step and momentum 0 stay undampened."""
    require_fractions(momentum=momentum)
    require_number("dampening", dampening, 0.0, 1.0)

    def init(params: optax.Params) -> MomentumState:
        return MomentumState(jnp.zeros([], jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(
        updates: optax.Updates, state: MomentumState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, MomentumState]:
        del params
        undampened = (state.steps == 0) | (jnp.asarray(momentum) == 0)
        kept = jnp.where(undampened, 1, 1 - dampening)
        velocity = jax.tree.map(lambda g, v: momentum * v + kept.astype(g.dtype) * g, updates, state.velocity)
        return velocity, MomentumState(optax.safe_increment(state.steps), velocity)

    return optax.GradientTransformation(init, update)


@transformation
def sgd(learning_rate: Hyperparameter = 1e-3, *, weight_decay: Hyperparameter = 0.0) -> optax.GradientTransformation:
    """Gradient descent: x <- x - learning_rate (g + weight_decay x) (Cauchy 1847).

    Equal to `torch.optim.SGD(lr, momentum=0)` and to `optax.sgd`, which has no weight_decay. Default: PyTorch's. State:
    nothing.
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(add_l2(weight_decay), optax.scale_by_learning_rate(learning_rate))


@transformation
def momentum(
    learning_rate: Hyperparameter = 1e-3,
    *,
    momentum: Hyperparameter = 0.9,
    dampening: Hyperparameter = 0.0,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Heavy ball: v <- momentum v + (1 - dampening) g; x <- x - learning_rate v (Polyak 1964).

    Equal to `torch.optim.SGD(lr, momentum, dampening, weight_decay)`: the first step, and momentum 0, take v = g
    whatever the dampening. The classical form v <- momentum v + learning_rate g; x <- x - v walks the same points while
    the learning rate is constant. Defaults: PyTorch's, but for momentum, which is off there; `optax.sgd` has neither
    dampening nor weight_decay. State: v, one value a parameter.
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        scale_by_momentum(momentum, dampening),
        optax.scale_by_learning_rate(learning_rate),
    )


@transformation
def nesterov(
    learning_rate: Hyperparameter = 1e-3,
    *,
    momentum: Hyperparameter = 0.9,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Nesterov's momentum: v <- momentum v + g; x <- x - learning_rate (g + momentum v).

    Nesterov 1983, in the form of Sutskever et al. 2013. Equal to `torch.optim.SGD(lr, momentum, nesterov=True)` and to
    `optax.sgd(nesterov=True)`: x is the look-ahead point of Sutskever's form while momentum and learning rate are
    constant. Defaults: PyTorch's, but for momentum, which is off there. State: v, one value a parameter.
    """
    require_fractions(momentum=momentum)
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        optax.trace(momentum, nesterov=True),
        optax.scale_by_learning_rate(learning_rate),
    )


class SutskeverState(NamedTuple):
    """velocity: like the parameters. lookahead: the momentum with which the parameters look ahead of the iterate."""

    velocity: PyTree
    lookahead: Float[Array, ""]

    def evaluation_params(self, params: optax.Params) -> optax.Params:
        """The iterate x, of which the parameters are the look-ahead point x + momentum v."""
        return jax.tree.map(lambda y, v: (y - self.lookahead * v).astype(y.dtype), params, self.velocity)


@transformation
def sutskever_nesterov(
    learning_rate: Hyperparameter = 1e-3,
    *,
    momentum: Hyperparameter = 0.9,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Nesterov's momentum: v <- momentum v - learning_rate g(x + momentum v); x <- x + v.

    Sutskever, Martens, Dahl & Hinton 2013, eq. 3-4. The parameters hold y = x + momentum v, where the gradient is
    taken; the iterate x is handed out by `gdlab.optimizers.evaluation_params(state, params)`. While learning rate and
    momentum are constant y walks the points of `nesterov`; when they change the two differ, since v here keeps the
    rates that its gradients came with, and under a schedule of the momentum y looks ahead with the momentum of the step
    that made it. weight_decay is L2, taken at y. Defaults: PyTorch's rate for SGD, and 0.9. State: v, one value a
    parameter.
    """
    require_fractions(momentum=momentum)
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)

    def init(params: optax.Params) -> SutskeverState:
        return SutskeverState(zeros(params), statistic(params))

    def update(
        updates: optax.Updates, state: SutskeverState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, SutskeverState]:
        del params
        velocity = jax.tree.map(lambda g, v: momentum * v - learning_rate * g, updates, state.velocity)
        moves = jax.tree.map(lambda new, v: (1 + momentum) * new - state.lookahead * v, velocity, state.velocity)
        return moves, SutskeverState(velocity, jnp.asarray(momentum))

    return optax.chain(add_l2(weight_decay), optax.GradientTransformation(init, update))
