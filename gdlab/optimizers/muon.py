"""Muon: momentum whose update matrices are made orthogonal (Jordan et al. 2024)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from gdlab.arguments import require_count
from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.transformation import (
    require_flags,
    require_fractions,
    require_non_negative,
    require_params,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import average, average_of_squares, begin, norm, zeros
from gdlab.types import Hyperparameter, Number

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic a x + b x^3 + c x^5 that Jordan et al. iterate; its slope at 0 lifts small singular values fast."""


class MuonState(NamedTuple):
    """steps: how many were done. mu: average of g. nu: average of g^2 where AdamW is used, else of shape (0,)."""

    steps: Int[Array, ""]
    mu: PyTree
    nu: PyTree


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

    def init(params: optax.Params) -> MuonState:
        nu = jax.tree.map(lambda x: jnp.zeros(0 if jnp.ndim(x) >= 2 else jnp.shape(x), jnp.result_type(x)), params)
        return MuonState(begin(), zeros(params), nu)

    def update(
        updates: optax.Updates, state: MuonState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, MuonState]:
        params = require_params("muon", params)
        steps = optax.safe_increment(state.steps)
        first, second = one_minus_power(adam_b1, steps), one_minus_power(adam_b2, steps)
        matrices = jax.tree.map(lambda g: g.ndim >= 2, updates)
        mu = jax.tree.map(
            lambda matrix, g, m: average(momentum if matrix else adam_b1, m, g), matrices, updates, state.mu
        )
        nu = jax.tree.map(
            lambda matrix, g, v: v if matrix else average_of_squares(adam_b2, v, g), matrices, updates, state.nu
        )

        def move(matrix: bool, g: Array, x: Array, m: Array, v: Array) -> Array:
            if not matrix:
                direction = adam_ratio * (m / first / (safe_sqrt(v / second) + adam_eps) + weight_decay * x)
                return -learning_rate * direction
            ahead = average(momentum, m, g) if nesterov else m
            flat = ahead.reshape(-1, ahead.shape[-1]) if ahead.size else ahead.reshape(0, 0)
            stretch = max(1.0, flat.shape[1] / max(flat.shape[0], 1)) ** 0.5
            return -learning_rate * (stretch * orthogonalize(flat, ns_steps, eps).reshape(g.shape) + weight_decay * x)

        return jax.tree.map(move, matrices, updates, params, mu, nu), MuonState(steps, mu, nu)

    return optax.GradientTransformation(init, update)
