"""Rates that fit each tensor's own scale: LARS, LAMB and NovoGrad."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.numerics import safe_sqrt
from gdlab.optimizers.adam import scale_by_adam
from gdlab.optimizers.transformation import (
    decoupled_decay,
    require_fractions,
    require_non_negative,
    require_params,
    transformation,
)
from gdlab.optimizers.trees import begin, divide, norm, zeros
from gdlab.types import Hyperparameter


@transformation
def scale_by_trust_ratio() -> optax.GradientTransformation:
    """u |x| / |u|, tensor by tensor; u itself where x or u is 0 throughout (You et al. 2020, phi = identity)."""

    def scale(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        params = require_params("scale_by_trust_ratio", params)

        def one(u: jax.Array, x: jax.Array) -> jax.Array:
            of_x, of_u = norm(x), norm(u)
            return u * jnp.where((of_x == 0) | (of_u == 0), 1.0, divide(of_x, of_u))

        return jax.tree.map(one, updates, params)

    return optax.stateless(scale)


@transformation
def lamb(
    learning_rate: Hyperparameter = 1e-3,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-6,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """LAMB: x <- x - learning_rate |x| / |r| r, r = mhat / (sqrt(vhat) + eps) + weight_decay x, tensor by tensor.

    You et al. 2020, algorithm 2, with phi = identity and Adam's bias correction. Equal to `optax.lamb`;
    `torch_optimizer.Lamb` clamps |x| at 10 and leaves the correction out by default. A tensor of zeros moves by r.
    Defaults: the paper's eps, optax's others. State: m and v, two values a parameter.
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        scale_by_adam(b1, b2, eps),
        decoupled_decay("lamb", weight_decay),
        scale_by_trust_ratio(),
        optax.scale_by_learning_rate(learning_rate),
    )


@transformation
def lars(
    learning_rate: Hyperparameter = 1.0,
    *,
    momentum: Hyperparameter = 0.9,
    weight_decay: Hyperparameter = 0.0,
    trust_coefficient: Hyperparameter = 1e-3,
    eps: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """LARS: v <- momentum v + learning_rate l (g + weight_decay x); x <- x - v (You, Gitman & Ginsburg 2017, alg. 1).

    l = trust_coefficient |x| / (|g| + weight_decay |x| + eps), tensor by tensor, 1 where x or g is 0 throughout. Equal
    to pytorch-optimizer's LARS on matrices (it leaves vectors unscaled); `optax.lars` divides by |g + weight_decay x|,
    which is the same only without decay. Defaults: the paper's coefficient and momentum, rate 1. State: v, one value a
    parameter.
    """
    require_fractions(momentum=momentum)
    require_non_negative(
        learning_rate=learning_rate, weight_decay=weight_decay, trust_coefficient=trust_coefficient, eps=eps
    )

    def scale(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        params = require_params("lars", params)

        def one(g: jax.Array, x: jax.Array) -> jax.Array:
            of_x, of_g = norm(x), norm(g)
            local = trust_coefficient * divide(of_x, of_g + weight_decay * of_x + eps)
            local = jnp.where((of_x == 0) | (of_g == 0), 1.0, local)
            return local * (g + weight_decay * x)

        return jax.tree.map(one, updates, params)

    return optax.chain(optax.stateless(scale), optax.scale_by_learning_rate(learning_rate), optax.trace(momentum))


class NovoGradState(NamedTuple):
    """steps: how many were done. mu: momentum, like the parameters. nu: average of |g|^2, one number a tensor."""

    steps: Int[Array, ""]
    mu: PyTree
    nu: PyTree


@transformation
def scale_by_novograd(
    b1: Hyperparameter = 0.95,
    b2: Hyperparameter = 0.98,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """v = b2 v + (1 - b2) |g|^2, tensor by tensor; m = b1 m + g / (sqrt(v) + eps) + weight_decay x; hands out m.

    The first step takes v = |g|^2.
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(eps=eps, weight_decay=weight_decay)

    def init(params: optax.Params) -> NovoGradState:
        return NovoGradState(begin(), zeros(params), jax.tree.map(lambda x: jnp.zeros([], jnp.result_type(x)), params))

    def update(
        updates: optax.Updates, state: NovoGradState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, NovoGradState]:
        params = require_params("novograd", params)
        kept = jnp.where(state.steps == 0, 0.0, b2)
        nu = jax.tree.map(lambda g, v: kept * v + (1 - kept) * jnp.sum(g**2), updates, state.nu)

        def push(g: jax.Array, x: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
            return b1 * m + divide(g, safe_sqrt(v) + eps) + weight_decay * x

        mu = jax.tree.map(push, updates, params, state.mu, nu)
        return mu, NovoGradState(optax.safe_increment(state.steps), mu, nu)

    return optax.GradientTransformation(init, update)


@transformation
def novograd(
    learning_rate: Hyperparameter = 1e-2,
    *,
    b1: Hyperparameter = 0.95,
    b2: Hyperparameter = 0.98,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """NovoGrad: x <- x - learning_rate m, m from `scale_by_novograd` (Ginsburg et al. 2019, algorithm 1).

    The decay goes into the momentum. Equal to `optax.novograd` and `torch_optimizer.NovoGrad` (which keeps v in
    float32); both have other default betas. Defaults: the paper's algorithm, rate and betas. State: m, one value a
    parameter, and one number a tensor.
    """
    require_non_negative(learning_rate=learning_rate)
    return optax.chain(scale_by_novograd(b1, b2, eps, weight_decay), optax.scale_by_learning_rate(learning_rate))
