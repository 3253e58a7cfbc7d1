"""GaLore: an optimizer that sees gradients projected to a low rank (Zhao et al. 2024)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from gdlab.arguments import require_optimizer
from gdlab.optimizers.adam import scale_by_adam
from gdlab.optimizers.low_rank import (
    compress,
    compresses_inputs,
    expand,
    has_rank,
    rank_of,
    require_rank,
    sides_of,
)
from gdlab.optimizers.matrices import as_matrix
from gdlab.optimizers.transformation import (
    decoupled_decay,
    require_non_negative,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import begin
from gdlab.types import Hyperparameter


class GaloreState(NamedTuple):
    """State of `scale_by_galore`.

    Attributes:
      steps: number of completed steps.
      bases: for each leaf, in the order of jax.tree, a matrix with a column for each rank, in float32 or wider; it has
        shape (0, 0) for a leaf that is no matrix.
      inner: the state of the base, for the projected gradients.
    """

    steps: Int[Array, ""]
    bases: tuple[Array, ...]
    inner: optax.OptState


def _leading(matrix: Array, rank: int) -> Array:
    """Return the leading singular vectors of the side that is compressed, each with its largest entry positive."""
    wide = matrix if compresses_inputs(matrix) else matrix.T
    vectors = jnp.linalg.svd(wide, full_matrices=False)[0][:, :rank]
    largest = jnp.take_along_axis(vectors, jnp.argmax(jnp.abs(vectors), axis=0)[None], axis=0)
    return vectors * jnp.where(largest < 0, -1.0, 1.0)


@transformation
def scale_by_galore(
    base: optax.GradientTransformation,
    *,
    rank: int | None = None,
    update_interval: Hyperparameter = 200,
    scale: Hyperparameter = 0.25,
) -> optax.GradientTransformation:
    """Let `base` see the projection P^T G of each matrix G, and return scale P u, where u is its update.

    The docstring of `galore` says what P is. Leaves with fewer than two axes go to the base as they are.

    Args:
      base: a transformation that does not read the parameters, such as `scale_by_adam`.
      rank: the number of columns of P, static. Default None, a quarter of the shorter side of each matrix, rounded up.
      update_interval: the number of steps between two computations of P. Default 200.
      scale: the factor on the updates of matrices. Default 0.25.
    """
    require_optimizer("base", base)
    require_rank(rank)
    require_positive(update_interval=update_interval)
    require_non_negative(scale=scale)

    def no_basis(x: Array) -> Array:
        shape = (sides_of(x)[0], rank_of(x, rank, parts=4)) if has_rank(x) else (0, 0)
        return jnp.zeros(shape, jnp.result_type(x, jnp.float32))

    def project(x: Array, basis: Array) -> Array:
        return compress(as_matrix(x), basis).astype(x.dtype) if basis.size else x

    def init(params: optax.Params) -> GaloreState:
        leaves, tree = jax.tree.flatten(jax.tree.map(jnp.asarray, params))
        bases = tuple(map(no_basis, leaves))
        low = [jnp.zeros_like(project(x, basis)) for x, basis in zip(leaves, bases, strict=True)]
        return GaloreState(begin(), bases, base.init(jax.tree.unflatten(tree, low)))

    def update(
        updates: optax.Updates, state: GaloreState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, GaloreState]:
        del params
        leaves, tree = jax.tree.flatten(updates)

        def renewed() -> tuple[Array, ...]:
            pairs = zip(jax.lax.stop_gradient(leaves), state.bases, strict=True)
            return tuple(
                _leading(as_matrix(g).astype(old.dtype), old.shape[1]).astype(old.dtype) if old.size else old
                for g, old in pairs
            )

        due = state.steps % jnp.asarray(update_interval) == 0
        bases = jax.lax.cond(due, renewed, lambda: state.bases)
        low = [project(g, basis) for g, basis in zip(leaves, bases, strict=True)]
        moved, inner = base.update(jax.tree.unflatten(tree, low), state.inner)
        full = [
            scale * expand(u, basis, as_matrix(g)).reshape(g.shape) if basis.size else u
            for g, u, basis in zip(leaves, jax.tree.leaves(moved), bases, strict=True)
        ]
        return jax.tree.unflatten(tree, full), GaloreState(optax.safe_increment(state.steps), bases, inner)

    return optax.GradientTransformation(init, update)


@transformation
def galore(
    learning_rate: Hyperparameter = 1e-3,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-6,
    weight_decay: Hyperparameter = 0.0,
    rank: int | None = None,
    update_interval: Hyperparameter = 200,
    scale: Hyperparameter = 0.25,
) -> optax.GradientTransformation:
    """GaLore: x <- x - learning_rate (scale P mhat / (sqrt(vhat) + eps) + weight_decay x).

    Here m and v are Adam's moments of the projected gradient P^T G, and the columns of P are the leading left singular
    vectors of the gradient of the last step that was a multiple of update_interval. The moments of a matrix of n x k
    numbers, n <= k, take 2 rank k numbers instead of 2 n k, which is what one uses it for: the memory of Adam's state.
    What of the gradient lies outside of the span of P is lost until P is renewed.

    The shorter side of a matrix is projected, whichever axis it is, and the inputs of a square one. A leaf with more
    than two axes is treated as a matrix of shape (all axes but the last, last axis), and leaves with fewer are updated
    by AdamW. The moments are kept when P changes, as in the authors' code, although they belong to the old P. `scale`
    is for matrices only.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, that of the authors' code.
      b1: the decay of the average of gradients. Default 0.9, that of the authors' code.
      b2: the decay of the average of squared gradients. Default 0.999, that of the authors' code.
      eps: a constant added to the denominator. Default 1e-6, that of the authors' code.
      weight_decay: decoupled weight decay. Default 0, that of the authors' code.
      rank: the number of columns of P, static, at most the shorter side of every matrix. Default None, a quarter of the
        shorter side of each matrix, rounded up; the paper has between a half and a quarter.
      update_interval: the number of steps between two computations of P. Default 200, that of the authors' code.
      scale: the factor on the updates of matrices. Default 0.25, that of the authors' code.

    State:
      m and v, and P: 2 rank k + n rank numbers for a matrix whose sides are n <= k; two values per parameter of the
      other leaves.

    Example:
      >>> optimizer = galore(1e-3, rank=2, update_interval=50)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The sign of each column of P is fixed, its largest entry is positive, so that runs do not depend on the library that
    decomposes. Derivatives treat P as constant. The authors' code adds eps to the root before the bias correction, and
    decays the parameters after the step. `optax.contrib.galore` projects the longer side, which saves less memory.

    References:
      Zhao, Zhang, Chen, et al., "GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection", 2024,
      algorithm 2 (https://arxiv.org/abs/2403.03507).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    moments = scale_by_adam(b1, b2, eps)
    return optax.chain(
        scale_by_galore(moments, rank=rank, update_interval=update_interval, scale=scale),
        decoupled_decay("galore", weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
