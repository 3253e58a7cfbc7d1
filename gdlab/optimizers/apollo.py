"""APOLLO: gradients scaled per channel by a factor that Adam finds in a random projection (Zhu et al. 2024)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree, UInt32

from gdlab.arguments import require_count
from gdlab.compute.precision import exact_products
from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.low_rank import compresses_inputs, has_rank, rank_of, require_rank, sides_of
from gdlab.optimizers.matrices import as_matrix
from gdlab.optimizers.transformation import (
    decoupled_decay,
    require_flags,
    require_fractions,
    require_non_negative,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import average, average_of_squares, begin, norm
from gdlab.types import Hyperparameter


class ApolloState(NamedTuple):
    """State of `scale_by_apollo`.

    Attributes:
      steps: number of completed steps.
      key: the random key of the projections, which never changes.
      mu: the average of g, with shape (rank, longer side) for a matrix and the leaf's shape otherwise.
      nu: the average of g^2, with the same shapes.
      norms: for each leaf, in the order of jax.tree, the norm of its last update, 0 before the first one.
    """

    steps: Int[Array, ""]
    key: UInt32[Array, " two"]
    mu: PyTree
    nu: PyTree
    norms: tuple[Float[Array, ""], ...]


@exact_products
def _project(matrix: Array, rank: int, key: Array) -> Array:
    """Return R G of shape (rank, longer side), where the entries of R are normal with variance 1 / rank."""
    wide = matrix if compresses_inputs(matrix) else matrix.T
    projection = jax.random.normal(key, (rank, wide.shape[0]), wide.dtype) / rank**0.5
    return projection @ wide


def _scale_of_channels(direction: Array, low: Array, tensor_wise: bool) -> Array:
    axis = None if tensor_wise else 0
    size, before = (safe_sqrt(jnp.sum(x**2, axis=axis)) for x in (direction, low))
    return size / (before + 1e-8)


@transformation
def scale_by_apollo(
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-6,
    *,
    rank: int | None = None,
    update_interval: Hyperparameter = 200,
    scale: Hyperparameter = 1.0,
    growth_limit: Hyperparameter = 1.01,
    tensor_wise: bool = False,
    seed: int = 0,
) -> optax.GradientTransformation:
    """Scale gradients by APOLLO's rule: each channel of a matrix by the factor that Adam has for its projection.

    The docstring of `apollo` gives the details.

    Args:
      b1: the decay of the average of projected gradients. Default 0.9.
      b2: the decay of the average of squared projected gradients. Default 0.999.
      eps: added to the root of the second moment. Default 1e-6.
      rank: the rank of the projections, static. Default None, a quarter of the shorter side of each matrix, rounded up.
      update_interval: the number of steps between two projections. Default 200.
      scale: the updates of matrices are multiplied by its root. Default 1.
      growth_limit: how many times its last norm the update of a matrix may have. Default 1.01.
      tensor_wise: whether a matrix has one factor instead of one for each channel, static. Default False.
      seed: the seed of the random projections, static. Default 0.
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(eps=eps, scale=scale)
    require_positive(update_interval=update_interval, growth_limit=growth_limit)
    require_rank(rank)
    require_flags(tensor_wise=tensor_wise)
    require_count("seed", seed, low=0)

    def init(params: optax.Params) -> ApolloState:
        def moment(x: Array) -> Array:
            return jnp.zeros((rank_of(x, rank, parts=4), sides_of(x)[1]), x.dtype) if has_rank(x) else jnp.zeros_like(x)

        params = jax.tree.map(jnp.asarray, params)
        norms = tuple(jnp.zeros([], jnp.result_type(x, jnp.float32)) for x in jax.tree.leaves(params))
        mu, nu = (jax.tree.map(moment, params) for _ in range(2))
        return ApolloState(begin(), jax.random.PRNGKey(seed), mu, nu, norms)

    def update(
        updates: optax.Updates, state: ApolloState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, ApolloState]:
        del params
        leaves, tree = jax.tree.flatten(updates)
        round_number = jnp.asarray(state.steps // jnp.asarray(update_interval), jnp.int32)
        key = jax.random.fold_in(state.key, round_number)
        moments = jax.tree.leaves(state.mu)
        low = [
            _project(as_matrix(g), m.shape[0], jax.random.fold_in(key, place)) if has_rank(g) else g
            for place, (g, m) in enumerate(zip(leaves, moments, strict=True))
        ]
        mu, nu = (
            average(b1, state.mu, jax.tree.unflatten(tree, low)),
            average_of_squares(b2, state.nu, jax.tree.unflatten(tree, low)),
        )
        directions = [m / (safe_sqrt(v) + eps) for m, v in zip(jax.tree.leaves(mu), jax.tree.leaves(nu), strict=True)]

        def move(g: Array, projected: Array, direction: Array, last: Array) -> tuple[Array, Array]:
            if not has_rank(g):
                return direction, last
            matrix = as_matrix(g)
            factors = _scale_of_channels(direction, projected, tensor_wise)
            factors = factors if tensor_wise or compresses_inputs(matrix) else factors[:, None]
            u = safe_sqrt(jnp.asarray(scale, matrix.dtype)) * factors * matrix
            size = norm(u)
            limit = growth_limit * last
            held = (last > 0) & (size > limit)
            kept = jnp.where(held, limit / jnp.where(held, size, 1.0), 1.0)
            return (kept * u).reshape(g.shape), kept * size

        results = [move(*leaf) for leaf in zip(leaves, low, directions, state.norms, strict=True)]
        count = optax.safe_increment(state.steps)
        correction = safe_sqrt(one_minus_power(b2, count)) / one_minus_power(b1, count)
        moved = jax.tree.unflatten(tree, [correction.astype(u.dtype) * u for u, _ in results])
        return moved, ApolloState(count, state.key, mu, nu, tuple(size for _, size in results))

    return optax.GradientTransformation(init, update)


@transformation
def apollo(
    learning_rate: Hyperparameter = 1e-3,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-6,
    weight_decay: Hyperparameter = 0.0,
    rank: int | None = None,
    update_interval: Hyperparameter = 200,
    scale: Hyperparameter = 1.0,
    growth_limit: Hyperparameter = 1.01,
    tensor_wise: bool = False,
    seed: int = 0,
) -> optax.GradientTransformation:
    """APOLLO: x <- x - learning_rate (c sqrt(scale) s G + weight_decay x).

    Here s_j = |n_j| / (|p_j| + 1e-8) for channel j, where p_j is that channel of the projected gradient p = R G, and
    n = m / (sqrt(v) + eps) is Adam's direction for p; c = sqrt(1 - b2^t) / (1 - b1^t). R is random, with normal entries
    of variance 1 / rank, and is drawn anew every update_interval steps. If an update is longer than growth_limit times
    the one before, it is shortened to that. So Adam only decides how far each channel moves, and the gradient itself
    in which direction: its state is as small as GaLore's, or smaller, and nothing is decomposed.

    The shorter side of a matrix is projected, the inputs of a square one, and the channels run along the other side. A
    leaf with more than two axes is treated as a matrix of shape (all axes but the last, last axis), and leaves with
    fewer are updated by AdamW. APOLLO-Mini is `apollo(rank=1, tensor_wise=True, scale=128.0)`.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, that of the authors' code.
      b1: the decay of the average of projected gradients. Default 0.9, that of the authors' code.
      b2: the decay of the average of squared projected gradients. Default 0.999, that of the authors' code.
      eps: added to the root of the second moment. Default 1e-6, that of the authors' code.
      weight_decay: decoupled weight decay. Default 0, that of the authors' code.
      rank: the rank of the projections, static, at most the shorter side of every matrix. Default None, a quarter of
        the shorter side of each matrix, rounded up, as in the paper.
      update_interval: the number of steps between two projections. Default 200, that of the authors' code.
      scale: the updates of matrices are multiplied by its root. Default 1, that of the authors' code.
      growth_limit: how many times its last norm the update of a matrix may have. Default 1.01, that of the authors'
        code.
      tensor_wise: whether a matrix has one factor instead of one for each channel. Static. Default False.
      seed: the seed of the random projections. Static. Default 0.

    State:
      m and v: 2 rank k numbers for a matrix whose longer side is k, two values per parameter of the other leaves; and
      one number per leaf. R is computed from the seed in every step and is not kept.

    Example:
      >>> optimizer = apollo(1e-3, rank=2, seed=1)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The noise of a leaf depends on its place in the tree. The authors' code decays the parameters after the step.

    References:
      Zhu, Zhang, Cong, et al., "APOLLO: SGD-like Memory, AdamW-level Performance", 2024, algorithm 1
      (https://arxiv.org/abs/2412.05270).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        scale_by_apollo(
            b1,
            b2,
            eps,
            rank=rank,
            update_interval=update_interval,
            scale=scale,
            growth_limit=growth_limit,
            tensor_wise=tensor_wise,
            seed=seed,
        ),
        decoupled_decay("apollo", weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
