"""Muon: momentum whose update matrices are made orthogonal (Jordan et al. 2024)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from gdlab.arguments import require_count
from gdlab.optimizers.adam import scale_by_adam
from gdlab.optimizers.transformation import (
    decoupled_decay,
    require_flags,
    require_fractions,
    require_non_negative,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import average, norm, zeros
from gdlab.types import Hyperparameter, Number

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic a x + b x^3 + c x^5 that Jordan et al. iterate; its slope at 0 lifts small singular values fast."""


class MuonState(NamedTuple):
    """mean: the moving average of g, shaped like the parameters."""

    mean: PyTree


def orthogonalize(
    matrix: Float[Array, "rows columns"], steps: int = 5, eps: Number = 1e-7
) -> Float[Array, "rows columns"]:
    """About U V' of the singular value decomposition U S V', by Newton-Schulz steps with tuned coefficients.

    After 5 steps singular values lie between 0.7 and 1.2 or so, not at 1. In the matrix's dtype; the reference runs it
    in bfloat16. A matrix of zeros stays one.
    """
    a, b, c = COEFFICIENTS
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (norm(x) + eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.T


@transformation
def scale_by_muon(
    momentum: Hyperparameter = 0.95, *, nesterov: bool = True, ns_steps: int = 5, eps: Hyperparameter = 1e-7
) -> optax.GradientTransformation:
    """m = momentum m + (1 - momentum) g; the direction is s O(u), s = sqrt(max(1, columns / rows)).

    u = momentum m + (1 - momentum) g with nesterov, m without; O is `orthogonalize` with ns_steps steps. Each leaf has
    at least two axes; one with more than two is taken as a matrix of shape (all but the last, last).
    """
    require_count("ns_steps", ns_steps)
    require_flags(nesterov=nesterov)
    require_fractions(momentum=momentum)
    require_positive(eps=eps)

    def init(params: optax.Params) -> MuonState:
        return MuonState(zeros(params))

    def update(
        updates: optax.Updates, state: MuonState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, MuonState]:
        del params
        mean = average(momentum, state.mean, updates)
        ahead = average(momentum, mean, updates) if nesterov else mean

        def scale(u: Array) -> Array:
            matrix = u.reshape(-1, u.shape[-1]) if u.size else u.reshape(0, 0)
            rows, columns = matrix.shape
            stretch = max(1.0, columns / max(rows, 1)) ** 0.5
            return stretch * orthogonalize(matrix, ns_steps, eps).reshape(u.shape)

        return jax.tree.map(scale, ahead), MuonState(mean)

    return optax.GradientTransformation(init, update)


def matrix_or_vector(params: PyTree) -> PyTree:
    """Which leaves Muon takes: "matrix" for those with two axes or more, "vector" for the others."""
    return jax.tree.map(lambda x: "matrix" if jnp.ndim(x) >= 2 else "vector", params)


@transformation
def muon(
    learning_rate: Hyperparameter = 0.02,
    *,
    momentum: Hyperparameter = 0.95,
    weight_decay: Hyperparameter = 0.0,
    nesterov: bool = True,
    ns_steps: int = 5,
    eps: Hyperparameter = 1e-7,
    adam_ratio: Hyperparameter = 0.015,
    adam_b1: Hyperparameter = 0.9,
    adam_b2: Hyperparameter = 0.95,
    adam_eps: Hyperparameter = 1e-10,
) -> optax.GradientTransformation:
    """Muon: m <- momentum m + (1 - momentum) g; x <- x - learning_rate (s O(u) + weight_decay x) (Jordan et al. 2024).

    u = momentum m + (1 - momentum) g with nesterov, m without; O is `orthogonalize` with ns_steps steps; s =
    sqrt(max(1, columns / rows)) for a kernel of shape (rows = inputs, columns = outputs), as Flax has it. A leaf with
    more than two axes is taken as a matrix of shape (all but the last, last).

    Leaves with fewer than two axes go to AdamW, with rate adam_ratio learning_rate and adam_b1, adam_b2, adam_eps; the
    reference sends embeddings and output layers there too: `optax.partition` does that. ns_steps is static (it unrolls
    the program), and so is which leaf is a matrix.

    In the parameters' dtype, where the reference and `torch.optim.Muon` iterate in bfloat16: steps agree to 2 digits
    with those, to rounding with a float64 reference. `optax.contrib.muon` corrects the momentum's bias as NAdam does,
    from step 2 on. Defaults: Jordan's code, with 3e-4 = 0.015 x 0.02 for AdamW. State: m, one value a parameter of a
    matrix, m and v elsewhere.
    """
    require_count("ns_steps", ns_steps)
    require_flags(nesterov=nesterov)
    require_fractions(momentum=momentum, adam_b1=adam_b1, adam_b2=adam_b2)
    require_positive(eps=eps)
    require_non_negative(
        learning_rate=learning_rate, weight_decay=weight_decay, adam_ratio=adam_ratio, adam_eps=adam_eps
    )
    decay = decoupled_decay("muon", weight_decay)
    directions = {
        "matrix": optax.chain(scale_by_muon(momentum, nesterov=nesterov, ns_steps=ns_steps, eps=eps), decay),
        "vector": optax.chain(scale_by_adam(adam_b1, adam_b2, adam_eps), decay, optax.scale(adam_ratio)),
    }
    return optax.chain(optax.partition(directions, matrix_or_vector), optax.scale_by_learning_rate(learning_rate))
