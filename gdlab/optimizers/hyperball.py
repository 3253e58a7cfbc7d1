"""Hyperball: matrices keep their norms, so that the learning rate is an angle (Wen et al. 2026)."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from gdlab.arguments import require_optimizer
from gdlab.optimizers.adam import scale_by_adam
from gdlab.optimizers.matrices import adamw_direction, by_axes
from gdlab.optimizers.muon import scale_by_muon
from gdlab.optimizers.transformation import (
    require_fractions,
    require_non_negative,
    require_params,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import norm
from gdlab.types import Hyperparameter


def _along_spheres(learning_rate: Hyperparameter, eps: Hyperparameter) -> optax.GradientTransformation:
    """Turn updates of matrices into steps along the spheres on which they lie; other leaves pass unchanged."""

    def turn(u: Array, x: Array) -> Array:
        if x.ndim < 2:
            return u
        radius = norm(x)
        moved = x + learning_rate * radius * u / jnp.maximum(norm(u), eps)
        return moved * (radius / jnp.maximum(norm(moved), eps)) - x

    def update(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        return jax.tree.map(turn, updates, require_params("hyperball", params))

    return optax.stateless(update)


@transformation
def hyperball(
    base: optax.GradientTransformation, learning_rate: Hyperparameter = 0.018, *, eps: Hyperparameter = 1e-10
) -> optax.GradientTransformationExtraArgs:
    """Hyperball: w <- x + learning_rate |x| u / |u|; x <- w |x| / |w|, where u is the update of another optimizer.

    A matrix followed by a normalization layer does the same at any scale; its norm only sets how far a step turns it.
    Here the norm stays what it was at initialization, and the learning rate is the relative length of a step, which is
    about the angle in radians where u is nearly tangent. This takes the place of weight decay, whose effect on such
    layers is to hold the norm.

    Norms are Frobenius norms, one per leaf. Leaves of fewer than two axes take the update of `base`, with its own
    learning rate; for matrices only the direction of that update matters. A matrix of zeros stays zero, so layers
    that are usually initialized with zeros need another initialization.

    Args:
      base: the optimizer whose updates are turned; its weight decay should be 0. Its learning rate must not be 0.
      learning_rate: the relative length of a step of matrices, a number or a schedule. Default 0.018, that of
        modded-nanogpt's records.
      eps: the least value of the norms of u and w that are divided by, > 0. Default 1e-10, that of modded-nanogpt.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Example:
      >>> optimizer = hyperball(adamw(3e-4, weight_decay=0.0), 0.02)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The norm is that of the present parameters, which drift by rounding alone: by some 1e-7 in float32. heavyball keeps
    the initial norm in the state; its `HyperBallAdamW` has no first moment.

    References:
      Wen et al., "Hyperball", 2026 (https://arxiv.org/abs/2606.16899); equations as in modded-nanogpt
      (https://github.com/KellerJordan/modded-nanogpt).
    """
    require_optimizer("base", base)
    require_non_negative(learning_rate=learning_rate)
    require_positive(eps=eps)
    return optax.chain(base, _along_spheres(learning_rate, eps))


def _with_vectors(
    matrices: optax.GradientTransformation,
    learning_rate: Hyperparameter,
    eps: Hyperparameter,
    vectors: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """Return steps along spheres for matrices, and steps of `vectors` for others, each in the direction of descent."""
    require_non_negative(learning_rate=learning_rate)
    require_positive(eps=eps)
    along = optax.chain(matrices, optax.scale(-1.0), _along_spheres(learning_rate, eps))
    return by_axes(along, optax.chain(vectors, optax.scale_by_learning_rate(learning_rate)))


@transformation
def muonh(
    learning_rate: Hyperparameter = 0.018,
    *,
    momentum: Hyperparameter = 0.95,
    nesterov: bool = True,
    ns_steps: int = 5,
    eps: Hyperparameter = 1e-7,
    norm_eps: Hyperparameter = 1e-10,
    coefficients: str = "jordan",
    bfloat16: bool = False,
    adam_ratio: Hyperparameter = 0.015,
    adam_b1: Hyperparameter = 0.9,
    adam_b2: Hyperparameter = 0.95,
    adam_eps: Hyperparameter = 1e-10,
    adam_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """MuonH: w <- x - learning_rate |x| O(u) / |O(u)|; x <- w |x| / |w|.

    Here u is Muon's momentum and O is `orthogonalize`. Matrices keep the Frobenius norms of their initialization, so
    that the learning rate is the relative length of a step; `hyperball` says why.

    Leaves of fewer than two axes are updated by AdamW. A leaf with more than two is orthogonalized as a matrix of shape
    (all axes but the last, last axis).

    Args:
      learning_rate: the relative length of a step of matrices, a number or a schedule. Default 0.018, that of
        modded-nanogpt's record.
      momentum: the decay of the average of gradients. Default 0.95, that of the record.
      nesterov: whether to look one step of momentum ahead. Default True.
      ns_steps: the number of Newton-Schulz steps. Static. Default 5.
      eps: added to the norm of u before the iteration, > 0. Default 1e-7.
      norm_eps: the least value of the norms that are divided by, > 0. Default 1e-10, that of the record.
      coefficients: the polynomials of the iteration, as in `orthogonalize`. Static. Default "jordan".
      bfloat16: whether to iterate in bfloat16. Static. Default False.
      adam_ratio: AdamW's learning rate as a multiple of learning_rate. Default 0.015, as in `muon`.
      adam_b1: AdamW's decay of the average of gradients. Default 0.9, as in `muon`.
      adam_b2: AdamW's decay of the average of squared gradients. Default 0.95, as in `muon`.
      adam_eps: added to the root of AdamW's second moment. Default 1e-10, as in `muon`.
      adam_decay: AdamW's decoupled weight decay. Default 0.

    State:
      m, one value per parameter, for matrices; m and v, two values per parameter, for the other leaves.

    Example:
      >>> optimizer = muonh(0.018, momentum=0.9)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The factor of the shape, which distinguishes `muon` from `moonlight`, has no effect here.

    References:
      Wen et al., "Hyperball", 2026 (https://arxiv.org/abs/2606.16899); equations as in modded-nanogpt
      (https://github.com/KellerJordan/modded-nanogpt).
    """
    require_non_negative(adam_eps=adam_eps, adam_decay=adam_decay, adam_ratio=adam_ratio)
    require_fractions(adam_b1=adam_b1, adam_b2=adam_b2)
    require_positive(norm_eps=norm_eps)
    matrices = scale_by_muon(
        momentum, nesterov=nesterov, ns_steps=ns_steps, eps=eps, coefficients=coefficients, bfloat16=bfloat16
    )
    vectors = adamw_direction("muonh", b1=adam_b1, b2=adam_b2, eps=adam_eps, weight_decay=adam_decay, ratio=adam_ratio)
    return _with_vectors(matrices, learning_rate, norm_eps, vectors)


@transformation
def adamh(
    learning_rate: Hyperparameter = 0.018,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.95,
    eps: Hyperparameter = 1e-8,
    norm_eps: Hyperparameter = 1e-10,
    adam_ratio: Hyperparameter = 0.015,
    adam_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """AdamH: w <- x - learning_rate |x| u / |u|; x <- w |x| / |w|, where u = mhat / (sqrt(vhat) + eps).

    Here mhat and vhat are Adam's moments. Matrices keep the Frobenius norms of their initialization, so that the
    learning rate is the relative length of a step; `hyperball` says why. Leaves of fewer than two axes are updated by
    AdamW.

    Args:
      learning_rate: the relative length of a step of matrices, a number or a schedule. Default 0.018, that of
        modded-nanogpt's record, which warms up over 250 steps.
      b1: the decay of the average of gradients. Default 0.9, that of the record.
      b2: the decay of the average of squared gradients. Default 0.95, that of the record.
      eps: a constant added to the denominator. Default 1e-8, that of the record.
      norm_eps: the least value of the norms that are divided by, > 0. Default 1e-10, that of the record.
      adam_ratio: the learning rate of leaves of fewer than two axes, as a multiple of learning_rate. Default 0.015, as
        in `muon`.
      adam_decay: their decoupled weight decay. Default 0.

    State:
      m and v, two values per parameter.

    Example:
      >>> optimizer = adamh(0.018, b1=0.95)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    heavyball's `HyperBallAdamW` differs: it divides the gradient, not its average, by the root of the second moment.

    References:
      Wen et al., "Hyperball", 2026 (https://arxiv.org/abs/2606.16899); equations as in modded-nanogpt
      (https://github.com/KellerJordan/modded-nanogpt).
    """
    require_non_negative(adam_decay=adam_decay, adam_ratio=adam_ratio)
    require_positive(norm_eps=norm_eps)
    vectors = adamw_direction("adamh", b1=b1, b2=b2, eps=eps, weight_decay=adam_decay, ratio=adam_ratio)
    return _with_vectors(scale_by_adam(b1, b2, eps), learning_rate, norm_eps, vectors)
