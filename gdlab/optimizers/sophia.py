"""Sophia: momentum divided by an estimate of the Hessian's diagonal, then clipped (Liu et al. 2023)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree, UInt32

from gdlab.arguments import require_callable, require_count, require_key, require_scalar_function, require_tree
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
    """State of `scale_by_sophia`; mu and hessian are shaped like the parameters.

    Attributes:
      steps: number of completed steps.
      key: the random key for the probes of `hutchinson`.
      mu: the average of g.
      hessian: the average of the estimates of the Hessian's diagonal.
    """

    steps: Int[Array, ""]
    key: UInt32[Array, " two"]
    mu: PyTree
    hessian: PyTree


def hutchinson(value_fn: Callable[[Any], Array], params: optax.Params, key: Array) -> optax.Params:
    """Estimate the diagonal of the Hessian H of a function as z * (H z), where z are random signs.

    The estimate is unbiased. The variance of its entry i is the sum of H_ij^2 over j != i, so it is exact for a
    diagonal Hessian.

    Args:
      value_fn: a function that maps a tree like `params` to a scalar.
      params: the point at which to estimate, a tree of arrays.
      key: the random key that the signs are drawn from.

    Returns:
      The estimate, a tree like `params`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if `value_fn` does not return a scalar at `params`.
    """
    require_tree("params", params)
    require_key("key", key)
    require_callable("value_fn", value_fn)
    params = jax.tree.map(jnp.asarray, params)
    leaves, shape = jax.tree.flatten(params)
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):  # a traced call is part of a checked program
        require_scalar_function("value_fn", value_fn, params)
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
    """Scale gradients by Sophia's rule: clip(m / max(gamma h, eps), -1, 1), where m <- b1 m + (1 - b1) g.

    In the first step, and every update_interval steps after it, h <- b2 h + (1 - b2) e before h is used. The estimate e
    of the Hessian's diagonal comes from the first of these sources that is available:

    - `update(..., hessian=e)`, a tree like the parameters;
    - `update(..., value_fn=f)`, the loss as a function of the parameters, through `hutchinson` (Sophia-H);
    - g^2, the empirical Fisher information. This is the paper's Gauss-Newton-Bartlett estimate (Sophia-G) for batch
      size 1, except that the labels should be drawn from the model.

    Args:
      b1: the decay of the average of gradients. Default 0.965.
      b2: the decay of the average of Hessian estimates. Default 0.99.
      gamma: the factor on h; a larger one clips fewer coordinates. Default 0.01.
      eps: the lower bound of the denominator. Default 1e-12.
      update_interval: the number of steps between two estimates. Default 10.
      seed: the seed of the random signs, static. Default 0.
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
    """Sophia: x <- x - learning_rate (clip(m / max(gamma h, eps), -1, 1) + weight_decay x).

    Here m <- b1 m + (1 - b1) g; in the first step, and every update_interval steps after it, h <- b2 h + (1 - b2) e
    before h is used. Sophia is a cheap second-order method: it divides by curvature instead of by the size of the
    gradients, and the clipping bounds the step where the curvature is small or negative. The estimate e of the
    Hessian's diagonal comes from the first of these sources that is available:

    - `update(..., hessian=e)`, a tree like the parameters;
    - `update(..., value_fn=f)`, the loss as a function of the parameters, through `hutchinson` (Sophia-H);
    - g^2, the empirical Fisher information. This is the paper's Gauss-Newton-Bartlett estimate (Sophia-G) for batch
      size 1, except that the labels should be drawn from the model.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-4, that of the authors' code for Sophia-G.
      b1: the decay of the average of gradients. Default 0.965, that of the authors' code for Sophia-G.
      b2: the decay of the average of Hessian estimates. Default 0.99, that of the authors' code for Sophia-G.
      gamma: the factor on h; a larger one clips fewer coordinates. Default 0.01, that of the paper's Sophia-H.
      eps: the lower bound of the denominator. Default 1e-12, that of the paper's Sophia-H.
      weight_decay: decoupled weight decay. Default 0.1, that of the authors' code for Sophia-G.
      update_interval: the number of steps between two estimates. Default 10, that of the paper's Sophia-H.
      seed: the seed of the random signs, static. Default 0.

    State:
      m and h, two values per parameter.

    Example:
      >>> optimizer = sophia(1e-4, gamma=0.05, update_interval=5)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params, value_fn=loss)

    `gdlab.descend` passes `value_fn`, so descents on test functions run Sophia-H. Equivalent to pytorch-optimizer's
    `SophiaH` with an injected Hessian and its lr = learning_rate / gamma, p = gamma, eps = eps / gamma and
    weight_decay = gamma weight_decay. `optax.contrib.sophia` corrects the bias of m and uses the h of the previous
    step, so its first step is a sign.

    References:
      Liu, Li, Hall, Liang and Ma, "Sophia: A Scalable Stochastic Second-order Optimizer for Language Model
      Pre-training", 2023, algorithm 3 (https://arxiv.org/abs/2305.14342).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        scale_by_sophia(b1, b2, gamma, eps, update_interval=update_interval, seed=seed),
        decoupled_decay("sophia", weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
