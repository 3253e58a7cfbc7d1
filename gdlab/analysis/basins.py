"""Basins of attraction: the minima near which descents stop, and the minimum that each descent belongs to."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from gdlab.arguments import (
    as_flags,
    as_numbers,
    require_instance,
    require_number,
)
from gdlab.functions import Function

SETTLED_NOWHERE = -1
"""Label of a descent that does not end at a minimum."""

DIVERGED = -2
"""Label of a descent that diverged."""


def find_minima(function: Function, ends: Float[np.ndarray, "descents dim"]) -> Float[np.ndarray, "minima dim"]:
    """Find the minima near which descents stopped.

    The ends are grouped by rounding, Newton's method refines each group, and points with a positive definite Hessian
    are kept. The function's known global minimizers come first, because Newton's method cannot find the tip of a
    cone. Newton's method runs in JAX's default dtype, so enable x64 first.

    Args:
      function: the function.
      ends: the last point of each descent, shape (descents, dim).

    Returns:
      The minima, shape (minima, dim).

    Raises:
      TypeError: if an argument has a wrong type.
      ValueError: if `ends` is not a matrix, or the function does not have its dimension.
    """
    require_instance("function", function, Function, "a Function, such as gdlab.FUNCTIONS['ackley']")
    ends = as_numbers("ends", ends, shape=(None, None), finite=False)
    cells = np.unique(np.round(ends.astype(np.float64), 1), axis=0)
    gradient, hessian = jax.grad(function.fn), jax.hessian(function.fn)

    @jax.jit
    @jax.vmap
    def polish(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        def newton(_: Any, y: jax.Array) -> jax.Array:
            return y - jnp.clip(jnp.linalg.solve(hessian(y), gradient(y)), -0.05, 0.05)

        y = jax.lax.fori_loop(0, 30, newton, x)
        return y, jnp.linalg.norm(gradient(y)), jnp.linalg.eigvalsh(hessian(y))[0]

    points, slopes, curvatures = map(np.asarray, polish(jnp.asarray(cells)))
    kept = points[(slopes < 1e-8) & (curvatures > 1e-6) & (np.linalg.norm(points - cells, axis=1) < 0.2)]
    found: list[np.ndarray] = list(function.minimizers(ends.shape[1]))
    for point in kept:
        if not found or np.linalg.norm(np.array(found) - point, axis=1).min() > 1e-3:
            found.append(point)
    return np.reshape(found, (-1, ends.shape[1]))


def label_ends(
    ends: Float[np.ndarray, "descents dim"],
    diverged: Bool[np.ndarray, " descents"],
    minima: Float[np.ndarray, "minima dim"],
    *,
    distance: float = 0.05,
) -> Int[np.ndarray, " descents"]:
    """Label each descent with the minimum at which it ended.

    Args:
      ends: the last point of each descent, shape (descents, dim).
      diverged: whether each descent diverged.
      minima: shape (minima, dim).
      distance: how near to a minimum an end must be. Default 0.05.

    Returns:
      For each descent, the index of the nearest minimum within `distance`, else DIVERGED or SETTLED_NOWHERE.

    Raises:
      TypeError: if an argument has a wrong type.
      ValueError: if shapes do not fit, or `distance` is not positive.
    """
    minima = as_numbers("minima", minima, shape=(None, None))
    ends = as_numbers("ends", ends, shape=(None, minima.shape[1]), finite=False)
    diverged = as_flags("diverged", diverged, ends.shape[:1])
    require_number("distance", distance, 0.0, open_low=True)
    away, nearest = cKDTree(minima).query(np.nan_to_num(ends, nan=np.inf, posinf=1e30, neginf=-1e30))
    return np.where(away < distance, nearest, np.where(diverged, DIVERGED, SETTLED_NOWHERE))
