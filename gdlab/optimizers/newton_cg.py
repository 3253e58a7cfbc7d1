"""Newton's method whose equations are solved by conjugate gradients (Steihaug 1983; Nocedal & Wright 2006)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.arguments import require_count
from gdlab.numerics import safe_sqrt
from gdlab.optimizers.line_search import armijo_length
from gdlab.optimizers.transformation import require_non_negative, require_params, require_positive, transformation
from gdlab.optimizers.trees import begin, divide, inner, zeros
from gdlab.types import Hyperparameter


class NewtonState(NamedTuple):
    """State of `newton_cg`.

    Attributes:
      steps: number of completed steps.
      products: number of products with the Hessian, each of which costs about two gradients.
    """

    steps: Int[Array, ""]
    products: Int[Array, ""]


class _Solve(NamedTuple):
    """Conjugate gradients for H p = -g: the solution so far, the residual H p + g, the direction, and what was done."""

    p: PyTree
    residual: PyTree
    direction: PyTree
    products: Array
    done: Array


def _add(x: PyTree, factor: Array, y: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: a + factor.astype(a.dtype) * b, x, y)


def _solve(product: Callable[[PyTree], PyTree], gradient: PyTree, forcing: Array, max_iterations: int) -> _Solve:
    """Solve H p = -g until the residual is below `forcing`, or a direction has no positive curvature."""

    def iterate(now: _Solve) -> _Solve:
        image = product(now.direction)
        curvature, size = inner(now.direction, image), inner(now.residual, now.residual)
        bends = curvature > 0
        alpha = divide(size, jnp.where(bends, curvature, 0.0))
        p, residual = _add(now.p, alpha, now.direction), _add(now.residual, alpha, image)
        beta = divide(inner(residual, residual), size)
        direction = jax.tree.map(lambda r, d: -r + beta.astype(r.dtype) * d, residual, now.direction)
        # In a first direction without positive curvature, the method takes the gradient's.
        fallback = jax.tree.map(lambda g: jnp.where(now.products == 0, -g, 0.0), gradient)
        p = jax.tree.map(lambda new, old, g: jnp.where(bends, new, old + g), p, now.p, fallback)
        done = ~bends | (safe_sqrt(inner(residual, residual)) <= forcing)
        return _Solve(p, residual, direction, now.products + 1, done)

    start = _Solve(
        zeros(gradient), gradient, jax.tree.map(jnp.negative, gradient), begin(), inner(gradient, gradient) == 0
    )

    def round_(now: _Solve, _: None) -> tuple[_Solve, None]:
        return jax.lax.cond(now.done, lambda same: same, iterate, now), None

    return jax.lax.scan(round_, start, length=max_iterations)[0]


@transformation
def newton_cg(
    learning_rate: Hyperparameter = 1.0,
    *,
    forcing: Hyperparameter = 0.5,
    max_iterations: int = 20,
    max_search_steps: Hyperparameter = 20,
) -> optax.GradientTransformationExtraArgs:
    """Newton-CG: x <- x + a learning_rate p, where H p = -g is solved by conjugate gradients, and a by a line search.

    H is the Hessian, of which only products with vectors are computed, at the price of about two gradients each. The
    solve ends when |H p + g| <= min(forcing, sqrt(|g|)) |g|: far from a minimum it is rough, near one the convergence
    is faster than linear. It also ends in a direction without positive curvature, with what it has by then, or -g if
    it has nothing, so p always leads downhill. The length a is the first of 1, 1/2, 1/4, ... at which the loss has
    fallen by at least 1e-4 of what its slope says, and 0 if none of max_search_steps has.

    `update` needs `value_fn`, as it receives it from `gdlab.descend`, `sweep` and `train`, and differentiates `grad_fn`
    if it receives that, too. Without value_fn there is no curvature: the step is that of gradient descent,
    -learning_rate g.

    Args:
      learning_rate: a factor on the step, from which the search starts, a number or a schedule. Default 1.
      forcing: the largest residual of the solve, relative to |g|. Default 0.5, SciPy's.
      max_iterations: the largest number of products with H in a step, static. Default 20.
      max_search_steps: the largest number of lengths that a search tries. Default 20.

    State:
      Two counts, and nothing per parameter.

    Example:
      >>> optimizer = newton_cg(max_iterations=10)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params, value=loss(params), value_fn=loss)

    Derivatives go through the solve, and treat a as constant. SciPy's Newton-CG measures the residual by the sum of its
    absolute values, allows 20 products per parameter, and searches for a length that meets the Wolfe conditions.

    References:
      Nocedal and Wright, "Numerical Optimization", 2006, algorithm 7.1 (https://doi.org/10.1007/978-0-387-40065-5).
    """
    require_count("max_iterations", max_iterations)
    require_non_negative(learning_rate=learning_rate)
    require_positive(forcing=forcing, max_search_steps=max_search_steps)

    def init(params: optax.Params) -> NewtonState:
        del params
        return NewtonState(begin(), begin())

    def update(
        updates: optax.Updates,
        state: NewtonState,
        params: optax.Params | None = None,
        *,
        value: Array | None = None,
        value_fn: Callable[[Any], Array] | None = None,
        grad_fn: Callable[[Any], Any] | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, NewtonState]:
        del extra
        steps = optax.safe_increment(state.steps)
        if value_fn is None:
            return jax.tree.map(lambda g: -learning_rate * g, updates), state._replace(steps=steps)
        params = require_params("newton_cg", params)
        slope = jax.grad(value_fn) if grad_fn is None else grad_fn

        def product(direction: PyTree) -> PyTree:
            image = jax.jvp(slope, (params,), (direction,))[1]
            return jax.tree.map(lambda h, d: h.astype(d.dtype), image, direction)

        size = safe_sqrt(inner(updates, updates))
        solved = _solve(product, updates, jnp.minimum(forcing, safe_sqrt(size)) * size, max_iterations)
        first = jax.tree.map(lambda d: learning_rate * d, solved.p)
        length = armijo_length(params, first, updates, value, value_fn, max_search_steps)
        moved = jax.tree.map(lambda d: length.astype(d.dtype) * d, first)
        return moved, NewtonState(steps, state.products + solved.products)

    return optax.GradientTransformationExtraArgs(init, update)
