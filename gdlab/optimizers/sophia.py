"""Sophia: momentum divided by an estimate of the Hessian's diagonal, and clipped (Liu et al. 2023)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree, UInt32

from gdlab.arguments import require_count
from gdlab.optimizers.transformation import (
    decoupled_decay,
    require_fractions,
    require_non_negative,
    require_params,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import average, begin, zeros
from gdlab.types import Hyperparameter


class SophiaState(NamedTuple):
    """steps: how many were done. key: for random probes. mu, hessian: averages of g and of the diagonal's estimates."""

    steps: Int[Array, ""]
    key: UInt32[Array, " two"]
    mu: PyTree
    hessian: PyTree


def hutchinson(value_fn: Callable[[Any], Array], params: optax.Params, key: Array) -> optax.Params:
    """z * (H z) for random signs z: an unbiased estimate of the diagonal of the Hessian H of value_fn at params."""
    leaves, shape = jax.tree.flatten(params)
    keys = jax.random.split(key, max(len(leaves), 1))
    signs = [jax.random.rademacher(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=False)]
    z = jax.tree.unflatten(shape, signs)
    _, product = jax.jvp(jax.grad(value_fn), (params,), (z,))
    return jax.tree.map(jnp.multiply, z, product)


@transformation
def scale_by_sophia(
    b1: Hyperparameter = 0.965,
    b2: Hyperparameter = 0.99,
    gamma: Hyperparameter = 0.01,
    eps: Hyperparameter = 1e-12,
    *,
    update_interval: Hyperparameter = 10,
    seed: int = 0,
) -> optax.GradientTransformationExtraArgs:
    """m = b1 m + (1 - b1) g; hands out clip(m / max(gamma h, eps), -1, 1).

    At the first step and then every update_interval steps, before it is used, h = b2 h + (1 - b2) e, where e estimates
    the Hessian's diagonal: what `update(..., hessian=e)` is handed, a tree like the parameters; else, where it is
    handed `value_fn`, the loss as a function of the parameters, `hutchinson` (Sophia-H), whose random signs follow from
    the static seed; else g^2, the empirical Fisher information, which is the paper's Gauss-Newton-Bartlett estimate
    (Sophia-G, batch size 1) but for the labels, which ought to be drawn from the model.
    """
    require_fractions(b1=b1, b2=b2)
    require_positive(eps=eps, update_interval=update_interval)
    require_non_negative(gamma=gamma)
    require_count("seed", seed, low=0)

    def init(params: optax.Params) -> SophiaState:
        return SophiaState(begin(), jax.random.PRNGKey(seed), zeros(params), zeros(params))

    def update(
        updates: optax.Updates,
        state: SophiaState,
        params: optax.Params | None = None,
        *,
        hessian: optax.Params | None = None,
        value_fn: Callable[[Any], Array] | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, SophiaState]:
        del extra
        mu = average(b1, state.mu, updates)
        key, probe = jax.random.split(state.key)

        def estimate() -> optax.Params:
            if hessian is not None:
                return hessian
            if value_fn is not None:
                return hutchinson(value_fn, require_params("sophia", params), probe)
            return jax.tree.map(jnp.square, updates)

        def renewed() -> optax.Params:
            new = average(b2, state.hessian, estimate())
            return jax.tree.map(lambda a, b: a.astype(b.dtype), new, state.hessian)

        due = state.steps % jnp.asarray(update_interval) == 0
        curvature = jax.lax.cond(due, renewed, lambda: state.hessian)
        scaled = jax.tree.map(lambda m, h: jnp.clip(m / jnp.maximum(gamma * h, eps), -1.0, 1.0), mu, curvature)
        return scaled, SophiaState(optax.safe_increment(state.steps), key, mu, curvature)

    return optax.GradientTransformationExtraArgs(init, update)


@transformation
def sophia(
    learning_rate: Hyperparameter = 1e-4,
    *,
    b1: Hyperparameter = 0.965,
    b2: Hyperparameter = 0.99,
    gamma: Hyperparameter = 0.01,
    eps: Hyperparameter = 1e-12,
    weight_decay: Hyperparameter = 0.1,
    update_interval: Hyperparameter = 10,
    seed: int = 0,
) -> optax.GradientTransformation:
    """Sophia: x <- x - learning_rate (clip(m / max(gamma h, eps), -1, 1) + weight_decay x) (Liu et al. 2023, alg. 3).

    m and h, and the three sources of h, are those of `scale_by_sophia`; `gdlab.descend` hands over `value_fn`, so that
    toy descents run Sophia-H. Equal to pytorch-optimizer's SophiaH(learning_rate / gamma, p=gamma, eps=eps / gamma,
    weight_decay=weight_decay gamma) with an injected Hessian. `optax.contrib.sophia` corrects m's bias and uses the h
    of the step before, so that its first step is a sign. Defaults: rate, betas and decay of the authors' code for
    Sophia-G; gamma, eps and interval of the paper's Sophia-H. State: m and h, two values a parameter. seed is static.
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        scale_by_sophia(b1, b2, gamma, eps, update_interval=update_interval, seed=seed),
        decoupled_decay("sophia", weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
