"""Optimizers that keep the sign of an average and drop its size: signSGD with momentum, and Lion."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from gdlab.optimizers.transformation import decoupled_decay, require_fractions, require_non_negative, transformation
from gdlab.optimizers.trees import average, zeros
from gdlab.types import Hyperparameter


class SignumState(NamedTuple):
    """mean: the moving average of g, shaped like the parameters."""

    mean: PyTree


@transformation
def scale_by_signum(momentum: Hyperparameter = 0.9) -> optax.GradientTransformation:
    """m = momentum m + (1 - momentum) g; the direction is sign(m), which is 0 where m is 0."""
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

    Bernstein, Wang, Azizzadenesheli & Anandkumar 2018, algorithm 2, whose weight decay is decoupled, as here.
    momentum 0 is signSGD. Defaults: the paper's momentum and rate. State: m, one value a parameter.
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

    Chen et al. 2023, algorithm 2. Built on `optax.scale_by_lion`; equal to `lion_pytorch.Lion`. Defaults: the paper's
    code; `optax.lion` decays by 1e-3. Rates are 3 to 10 times smaller, decays as much larger, than AdamW's. State: m,
    one value a parameter.
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        optax.scale_by_lion(b1, b2),
        decoupled_decay("lion", weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
