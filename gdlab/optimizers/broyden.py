"""BFGS and its self-scaled relatives, which keep the inverse Hessian as a matrix (Urban et al. 2025)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from gdlab.arguments import require_choice
from gdlab.numerics import safe_sqrt
from gdlab.optimizers.line_search import add_search
from gdlab.optimizers.transformation import require_non_negative, require_params, require_positive, transformation
from gdlab.optimizers.trees import begin, divide, statistic
from gdlab.types import Hyperparameter

FORMULAS = ("ssbroyden", "ssbfgs", "bfgs")


class BroydenState(NamedTuple):
    """State of `ssbroyden`, whose vectors hold all parameters.

    Attributes:
      steps: number of completed steps.
      updates: number of updates of the matrix.
      evaluations: number of gradients that the line searches asked for.
      params: the parameters before the last step.
      gradient: the gradient there.
      length: the length of the last step as a multiple of -H g.
      inverse: the matrix H.
    """

    steps: Int[Array, ""]
    updates: Int[Array, ""]
    evaluations: Int[Array, ""]
    params: Float[Array, " dim"]
    gradient: Float[Array, " dim"]
    length: Float[Array, ""]
    inverse: Float[Array, "dim dim"]


def _scales(b: Array, h: Array, dim: int, formula: str) -> tuple[Array, Array]:
    """Return theta and tau of a formula, from b = s . B s / s . y and h = y . H y / s . y, where B = H^-1."""
    a = jnp.maximum(b * h - 1, 0.0)
    if formula == "bfgs":
        return jnp.zeros_like(a), jnp.ones_like(a)
    if formula == "ssbfgs":
        return jnp.zeros_like(a), jnp.minimum(1.0, 1 / b)
    c = safe_sqrt(a / (1 + a))
    r = jnp.minimum(1.0, h * (1 - c))
    least = jnp.where(a > 0, divide(r - 1, a), -jnp.inf)
    theta = jnp.maximum(least, jnp.minimum(1 / r, (1 - b) / b))
    sigma = 1 + a * theta
    power = jnp.abs(sigma) ** (1 / (1 - dim)) if dim > 1 else jnp.ones_like(sigma)
    rho = jnp.minimum(1.0, 1 / b)
    below = jnp.minimum(rho * power, sigma)
    above = rho * jnp.minimum(power, divide(jnp.ones_like(theta), theta))
    return theta, jnp.where(theta <= 0, below, above)


def _times(matrix: Array, x: Array) -> Array:
    """Return the product of a matrix with a vector, whose rounding does not depend on how many are in a batch."""
    return jnp.sum(matrix * x, axis=1)


def renewed_inverse(
    inverse: Array, s: Array, y: Array, old_gradient: Array, length: Array, first: Array, formula: str
) -> tuple[Array, Array]:
    """Return H after a step s that changed the gradient by y, and whether it was renewed: s . y must be positive.

    Args:
      inverse: the matrix H.
      s: the step, which is -length H old_gradient.
      y: the change of the gradient.
      old_gradient: the gradient before the step.
      length: the length of the step.
      first: whether H is still the identity.
      formula: one of FORMULAS.
    """
    curvature, product, slope = jnp.sum(s * y), _times(inverse, y), jnp.sum(s * old_gradient)
    fits = (curvature > 0) & (jnp.sum(y * product) > 0) & (-length * slope > 0)
    rho = 1 / jnp.where(fits, curvature, 1.0)
    size = jnp.where(fits, jnp.sum(y * product), 1.0)
    b, h = jnp.where(fits, -length * rho * slope, 1.0), jnp.where(fits, rho * size, 1.0)
    theta, tau = _scales(b, h, len(s), formula)
    a = jnp.maximum(b * h - 1, 0.0)
    if formula != "bfgs":
        tau = jnp.where(first, h / (1 + a * theta), tau)
    phi = (1 - theta) / (1 + a * theta)
    w = rho * s - product / size
    middle = inverse - jnp.outer(product, product) / size + phi * size * jnp.outer(w, w)
    return jnp.where(fits, middle / tau + rho * jnp.outer(s, s), inverse), fits


@transformation
def ssbroyden(
    learning_rate: Hyperparameter = 1.0, *, formula: str = "ssbroyden", max_search_steps: Hyperparameter = 20
) -> optax.GradientTransformationExtraArgs:
    """Self-scaled Broyden: x <- x - a learning_rate H g, with H from all steps.

    H <- (H - u u^T / y . u + phi (y . u) w w^T) / tau + s s^T / s . y, where s = x_t - x_(t-1), y = g_t - g_(t-1),
    u = H y and w = s / s . y - u / y . u. With phi = tau = 1 that is BFGS. The factors of Urban et al. scale H down
    where its eigenvalues are too large (tau), and move between BFGS and DFP (phi); on stiff problems, such as
    physics-informed networks, they report several digits more than BFGS reaches. All parameters form one vector, and H
    is a full matrix: use it up to some thousands of parameters.

    If `update` receives `value_fn`, as it does from `gdlab.descend`, `sweep` and `train`, the length a meets the strong
    Wolfe conditions (the search is optax's, which tries 1 first). Otherwise a is 1. H starts as the identity, and is
    kept where s . y <= 0.

    Args:
      learning_rate: the length that the search tries first, a number or a schedule. Default 1.
      formula: "ssbroyden" for the second family of the paper, "ssbfgs" for phi = 1, or "bfgs" for tau = 1 as well.
        Static. Default "ssbroyden".
      max_search_steps: the largest number of lengths that a search tries. Default 20, optax's and SciPy's.

    State:
      n^2 + 2 n values for n parameters, in their widest dtype.

    Example:
      >>> optimizer = ssbroyden(formula="bfgs")
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params, value=loss(params), value_fn=loss)

    A step costs one gradient for each length that is tried, besides the one that it is given, and O(n^2) operations.
    Derivatives treat a as constant. The first update of the scaled formulas has tau = y . y / s . y over 1 +
    a theta, so that the identity takes the scale of the problem.

    References:
      Urban, Stefanou and Pons, "Unveiling the optimization process of physics informed neural networks: How accurate
      and competitive can PINNs be?", 2025 (https://doi.org/10.1016/j.jcp.2024.113656), and the authors' code
      (https://github.com/jorgeurban/self_scaled_algorithms_pinns).
    """
    require_choice("formula", formula, FORMULAS)
    require_non_negative(learning_rate=learning_rate)
    require_positive(max_search_steps=max_search_steps)
    search = add_search("ssbroyden", learning_rate, max_search_steps)

    def flat(tree: optax.Params, dtype: Any) -> Array:
        return ravel_pytree(tree)[0].astype(dtype)

    def init(params: optax.Params) -> BroydenState:
        x = jnp.zeros_like(flat(params, statistic(params).dtype))
        counts = (begin(), begin(), begin())
        return BroydenState(*counts, x, x, statistic(params, 1.0), jnp.eye(len(x), dtype=x.dtype))

    def update(
        updates: optax.Updates,
        state: BroydenState,
        params: optax.Params | None = None,
        *,
        value: Array | None = None,
        value_fn: Callable[[Any], Array] | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, BroydenState]:
        del extra
        params = require_params("ssbroyden", params)
        dtype = state.inverse.dtype
        x, g = flat(params, dtype), flat(updates, dtype)
        first = state.updates == 0
        # A step that is hidden in the rounding of x tells nothing of the curvature.
        visible = jnp.sum((x - state.params) ** 2) > (8 * jnp.finfo(dtype).eps) ** 2 * jnp.sum(x**2)
        last = jnp.where((state.steps > 0) & visible, 1.0, 0.0).astype(dtype)
        inverse, renewed = renewed_inverse(
            state.inverse,
            last * (x - state.params),
            last * (g - state.gradient),
            state.gradient,
            state.length,
            first,
            formula,
        )
        direction = jax.tree.map(lambda d, p: d.astype(p.dtype), ravel_pytree(params)[1](-_times(inverse, g)), params)
        moved, length, evaluations = search(direction, updates, params, value, value_fn)
        counts = (optax.safe_increment(state.steps), state.updates + renewed, state.evaluations + evaluations)
        return moved, BroydenState(*counts, x, g, length, inverse)

    return optax.GradientTransformationExtraArgs(init, update)
