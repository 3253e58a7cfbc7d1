"""Gauss-Newton with Levenberg's damping, for losses that are sums of squares (Levenberg 1944; Marquardt 1963)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from gdlab.arguments import require_callable, require_number
from gdlab.compute.precision import exact_products
from gdlab.optimizers.transformation import require_non_negative, require_params, require_positive, transformation
from gdlab.optimizers.trees import begin, statistic
from gdlab.types import Hyperparameter


class GaussNewtonState(NamedTuple):
    """State of `gauss_newton`.

    Attributes:
      steps: number of completed steps, including those that were refused.
      damping: the number lambda of the next step.
    """

    steps: Int[Array, ""]
    damping: Float[Array, ""]


@exact_products
def damped_solution(jacobian: Array, residual: Array, damping: Array) -> Array:
    """Return the p that minimizes |J p + r|^2 + damping |p|^2, from the QR decomposition of J above sqrt(damping) I."""
    columns = jacobian.shape[1]
    root = jnp.sqrt(damping).astype(jacobian.dtype)
    q, upper = jnp.linalg.qr(jnp.concatenate([jacobian, root * jnp.eye(columns, dtype=jacobian.dtype)]))
    right = -(q[: len(residual)].T @ residual)
    return jax.scipy.linalg.solve_triangular(upper, right)


@transformation
def gauss_newton(
    learning_rate: Hyperparameter = 1.0,
    *,
    residual_fn: Callable[[Any], Any] | None = None,
    damping: Hyperparameter = 1e-3,
    factor: Hyperparameter = 10.0,
) -> optax.GradientTransformationExtraArgs:
    """Gauss-Newton: x <- x + learning_rate p, where (J^T J + lambda I) p = -J^T r.

    Here r are the residuals of a loss |r|^2 / 2, and J is their Jacobian. J^T J is the Hessian without the second
    derivatives of r: for a good fit the convergence is nearly quadratic, without a second derivative. Use it to fit a
    model of up to some thousands of parameters to data. The damping is that of Levenberg: a step that lowers |r| is
    taken, and lambda is divided by `factor`; another one is not taken, and lambda is multiplied by it.

    Args:
      learning_rate: a factor on p, a number or a schedule. Default 1.
      residual_fn: a function of the parameters that returns an array, or a tree of arrays: the residuals r. `update`
        takes it as a keyword argument, too, if it changes from step to step, and needs one of the two. Default None.
      damping: lambda of the first step. Default 1e-3; Marquardt begins at 0.01 for columns of J of length 1.
      factor: by which lambda changes. Default 10, Marquardt's.

    State:
      lambda, one number.

    Example:
      >>> optimizer = gauss_newton(residual_fn=lambda x: x["w"] @ x["b"] - 1.0)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    It computes the Jacobian itself, and the gradient that `update` is given is not used. For n parameters and m
    residuals, J takes n m numbers in each step. The equations are solved by the QR decomposition of J above
    sqrt(lambda) I, whose condition is the root of that of J^T J. MINPACK scales the damping by the columns of J, so
    its steps differ, and its minima are the same.

    References:
      Marquardt, "An Algorithm for Least-Squares Estimation of Nonlinear Parameters", 1963
      (https://doi.org/10.1137/0111030); Nocedal and Wright, "Numerical Optimization", 2006, chapter 10.
    """
    require_non_negative(learning_rate=learning_rate)
    require_positive(damping=damping)
    require_number("factor", factor, 1.0, open_low=True)
    if residual_fn is not None:
        require_callable("residual_fn", residual_fn)
    given = residual_fn

    def init(params: optax.Params) -> GaussNewtonState:
        return GaussNewtonState(begin(), statistic(params, damping))

    @exact_products
    def update(
        updates: optax.Updates,
        state: GaussNewtonState,
        params: optax.Params | None = None,
        *,
        residual_fn: Callable[[Any], Any] | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, GaussNewtonState]:
        del extra
        params = require_params("gauss_newton", params)
        function = given if residual_fn is None else residual_fn
        if function is None:
            raise ValueError("residual_fn: expected the residuals as a function of the parameters, got None")
        point, unravel = ravel_pytree(params)

        def residuals(x: Array) -> Array:
            return ravel_pytree(function(unravel(x)))[0].astype(x.dtype)

        residual = residuals(point)
        derivative = jax.jacfwd if len(point) <= len(residual) else jax.jacrev
        step = learning_rate * damped_solution(derivative(residuals)(point), residual, state.damping)
        before, after = (jnp.sum(r**2) for r in (residual, residuals(point + step)))
        tiny = jnp.finfo(state.damping.dtype).eps
        better = after <= before * (1 + 8 * tiny)  # rounding must not decide where nothing changes any more
        new = jnp.where(better, state.damping / factor, state.damping * factor)
        moved = unravel(jnp.where(better, step, 0.0).astype(point.dtype))
        return moved, GaussNewtonState(optax.safe_increment(state.steps), jnp.clip(new, tiny, 1 / tiny))

    return optax.GradientTransformationExtraArgs(init, update)
