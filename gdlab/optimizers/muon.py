"""Muon: momentum with orthogonalized update matrices (Jordan et al. 2024)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from gdlab.arguments import as_array, require_count
from gdlab.compute.precision import exact_products
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
"""The coefficients (a, b, c) of the quintic a x + b x^3 + c x^5 that Jordan et al. iterate.

Its large slope at 0 raises small singular values quickly.
"""


class MuonState(NamedTuple):
    """State of `scale_by_muon`.

    Attributes:
      mean: the moving average of the gradient, shaped like the parameters.
    """

    mean: PyTree


@exact_products
def orthogonalize(
    matrix: Float[Array, "rows columns"], steps: int = 5, eps: Number = 1e-7
) -> Float[Array, "rows columns"]:
    """Approximate U V^T of the singular value decomposition U S V^T of a matrix, by Newton-Schulz iteration.

    The iteration has tuned coefficients, which favor speed over accuracy: after 5 steps the singular values lie between
    about 0.7 and 1.2, not at 1. It runs in the dtype of the matrix, whereas the reference runs it in bfloat16; where a
    GPU would multiply in TF32, it multiplies in float32. A matrix of zeros stays zero.

    Args:
      matrix: an array of shape (rows, columns).
      steps: the number of iterations. Default 5.
      eps: added to the Frobenius norm by which the matrix is divided first. Default 1e-7.

    Returns:
      An array of the shape of `matrix`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if `matrix` is no matrix, or a number is out of range.
    """
    matrix = as_array("matrix", matrix, ndim=2)
    require_count("steps", steps)
    require_non_negative(eps=eps)
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
    """Scale gradients by Muon's rule: s O(u), where s = sqrt(max(1, columns / rows)) and O is `orthogonalize`.

    With m <- momentum m + (1 - momentum) g, u is momentum m + (1 - momentum) g if `nesterov`, else m. Each leaf must
    have at least two axes; a leaf with more is treated as a matrix of shape (all axes but the last, last axis).

    Args:
      momentum: the decay of the average m of gradients. Default 0.95.
      nesterov: whether to look one step of momentum ahead. Default True.
      ns_steps: the number of Newton-Schulz steps, static. Default 5.
      eps: added to the norm of u before the division. Default 1e-7.
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
    """Label each leaf: "matrix" (updated by Muon) if it has at least two axes, otherwise "vector"."""
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
    """Muon: m <- momentum m + (1 - momentum) g; x <- x - learning_rate (s O(u) + weight_decay x).

    Here u = momentum m + (1 - momentum) g with `nesterov` and u = m without. O is `orthogonalize` with ns_steps steps,
    and s = sqrt(max(1, columns / rows)) for a kernel of shape (rows = inputs, columns = outputs), as in Flax. An
    orthogonalized update moves all singular directions of a matrix by about the same amount, which suits the hidden
    weight matrices of networks.

    A leaf with more than two axes is treated as a matrix of shape (all axes but the last, last axis). Leaves with fewer
    than two axes are updated by AdamW, with learning rate adam_ratio learning_rate. The reference does the same with
    embeddings and output layers, which `optax.partition` can arrange. The choice of leaves is static, because it
    follows from their shapes.

    Args:
      learning_rate: the step size for matrices, a number or a schedule. Default 0.02, that of Jordan's code.
      momentum: the decay of the average of gradients. Default 0.95, that of Jordan's code.
      weight_decay: decoupled weight decay, scaled by the learning rate of each leaf. Default 0, that of Jordan's code.
      nesterov: whether to look one step of momentum ahead. Default True, as in Jordan's code.
      ns_steps: the number of Newton-Schulz steps. It is static, because the program unrolls the steps. Default 5, that
        of Jordan's code.
      eps: added to the norm of u before the iteration. Default 1e-7, that of Jordan's code.
      adam_ratio: AdamW's learning rate as a multiple of learning_rate. Default 0.015, which gives the 3e-4 = 0.015 x
        0.02 of Jordan's code.
      adam_b1: AdamW's decay of the average of gradients. Default 0.9, that of Jordan's code.
      adam_b2: AdamW's decay of the average of squared gradients. Default 0.95, that of Jordan's code.
      adam_eps: added to the root of AdamW's second moment. Default 1e-10, that of Jordan's code.

    State:
      m, one value per parameter, for matrices; m and v, two values per parameter, for the other leaves.

    Example:
      >>> optimizer = muon(0.02, momentum=0.9, adam_ratio=0.05)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The iteration runs in the dtype of the parameters, whereas the reference and `torch.optim.Muon` use bfloat16: the
    steps agree with theirs to 2 digits, and with a float64 reference to rounding. `optax.contrib.muon` corrects the
    bias of the momentum as NAdam does, so it differs from step 2 on.

    References:
      Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024
      (https://kellerjordan.github.io/posts/muon/).
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
