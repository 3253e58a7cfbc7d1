"""Muon's step as a piece: the matrices of any optimizer's step, orthogonalized (Jordan et al. 2024)."""

from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array

from gdlab.optimizers.muon import scale_by_muon
from gdlab.optimizers.transformation import require_non_negative, transformation
from gdlab.optimizers.wrappers.base import prepare
from gdlab.types import Hyperparameter


class OrthogonalizedState(NamedTuple):
    """State of `orthogonalized`.

    Attributes:
      inner: the state of the wrapped optimizer.
    """

    inner: optax.OptState


@transformation
def orthogonalized(
    base: optax.GradientTransformation,
    learning_rate: Hyperparameter = 0.02,
    *,
    ns_steps: int = 5,
    eps: Hyperparameter = 1e-7,
) -> optax.GradientTransformationExtraArgs:
    """Orthogonalized steps: x <- x + learning_rate s O(u) for each matrix, where u is the step of base.

    O is `orthogonalize`, which brings all singular values near 1, and s = sqrt(max(1, columns / rows)) for a kernel of
    shape (rows = inputs, columns = outputs). So base decides on the direction alone, and its own learning rate has no
    effect on matrices. Leaves with fewer than two axes make the step of base; leaves with more than two are matrices
    of shape (all axes but the last, last axis).

    Args:
      base: the optimizer whose steps are orthogonalized.
      learning_rate: the step size for matrices, a number or a schedule. Default 0.02, that of Jordan's code.
      ns_steps: the number of Newton-Schulz steps. It is static, because the program unrolls the steps. Default 5, that
        of Jordan's code.
      eps: added to the norm of u before the iteration. Default 1e-7, that of Jordan's code; a step of base that is not
        much larger than eps is not orthogonalized but shrinks.

    State:
      that of base.

    Example:
      >>> optimizer = orthogonalized(nesterov(1.0, momentum=0.95), 0.02)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Around `nesterov(1.0, momentum)` it is `muon` for matrices, up to eps: the scale of the momentum cancels.

    References:
      Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024
      (https://kellerjordan.github.io/posts/muon/).
    """
    base = prepare("base", base)
    require_non_negative(learning_rate=learning_rate)
    piece = scale_by_muon(0.0, nesterov=False, ns_steps=ns_steps, eps=eps)

    def change(u: Array) -> Array:
        return learning_rate * piece.update(u, piece.init(u))[0] if u.ndim > 1 else u

    def init(params: optax.Params) -> OrthogonalizedState:
        return OrthogonalizedState(base.init(params))

    def update(
        updates: optax.Updates, state: OrthogonalizedState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, OrthogonalizedState]:
        moves, inner = base.update(updates, state.inner, params, **extra)
        return jax.tree.map(change, moves), OrthogonalizedState(inner)

    return optax.GradientTransformationExtraArgs(init, update)
