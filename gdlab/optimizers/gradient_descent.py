"""Gradient descent, plain, with heavy-ball momentum and with Nesterov's: the family of `torch.optim.SGD`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.optimizers.dtypes import (
    add_l2,
    require_fractions,
    require_learning_rate,
    require_non_negative,
    stable_dtypes,
)
from gdlab.types import Number, Schedule


class MomentumState(NamedTuple):
    """steps: how many were done. velocity: shaped like the parameters."""

    steps: Int[Array, ""]
    velocity: PyTree


def scale_by_momentum(momentum: Number, dampening: Number = 0.0) -> optax.GradientTransformation:
    """v = momentum v + (1 - dampening) g; hands out v. As in PyTorch, the first step and momentum 0 stay undampened."""

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


def sgd(learning_rate: Number | Schedule = 1e-3, *, weight_decay: Number = 0.0) -> optax.GradientTransformation:
    """Gradient descent: x <- x - learning_rate (g + weight_decay x) (Cauchy 1847).

    Equal to `torch.optim.SGD(lr, momentum=0)` and to `optax.sgd`, which has no weight_decay. Default: PyTorch's. State:
    nothing.
    """
    require_learning_rate(learning_rate)
    require_non_negative(weight_decay=weight_decay)
    return stable_dtypes(optax.chain(add_l2(weight_decay), optax.scale_by_learning_rate(learning_rate)))


def momentum(
    learning_rate: Number | Schedule = 1e-3,
    *,
    momentum: Number = 0.9,
    dampening: Number = 0.0,
    weight_decay: Number = 0.0,
) -> optax.GradientTransformation:
    """Heavy ball: v <- momentum v + (1 - dampening) g; x <- x - learning_rate v (Polyak 1964).

    Equal to `torch.optim.SGD(lr, momentum, dampening, weight_decay)`: the first step, and momentum 0, take v = g
    whatever the dampening. The classical form v <- momentum v + learning_rate g; x <- x - v walks the same points while
    the learning rate is constant. Defaults: PyTorch's, but for momentum, which is off there; `optax.sgd` has neither
    dampening nor weight_decay. State: v, one value a parameter.
    """
    require_learning_rate(learning_rate)
    require_fractions(momentum=momentum)
    require_non_negative(dampening=dampening, weight_decay=weight_decay)
    return stable_dtypes(
        optax.chain(
            add_l2(weight_decay),
            scale_by_momentum(momentum, dampening),
            optax.scale_by_learning_rate(learning_rate),
        )
    )


def nesterov(
    learning_rate: Number | Schedule = 1e-3,
    *,
    momentum: Number = 0.9,
    weight_decay: Number = 0.0,
) -> optax.GradientTransformation:
    """Nesterov's momentum: v <- momentum v + g; x <- x - learning_rate (g + momentum v).

    Nesterov 1983, in the form of Sutskever et al. 2013. Equal to `torch.optim.SGD(lr, momentum, nesterov=True)` and to
    `optax.sgd(nesterov=True)`: x is the look-ahead point of Sutskever's form while momentum and learning rate are
    constant. State: v, one value a parameter.
    """
    require_learning_rate(learning_rate)
    require_fractions(momentum=momentum)
    require_non_negative(weight_decay=weight_decay)
    return stable_dtypes(
        optax.chain(
            add_l2(weight_decay),
            optax.trace(momentum, nesterov=True),
            optax.scale_by_learning_rate(learning_rate),
        )
    )
