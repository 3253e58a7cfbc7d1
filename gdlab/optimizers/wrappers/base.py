"""What all wrappers do with the optimizer that they wrap: check it, and pass it what it asks for."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from gdlab.arguments import describe, needs_gradient, require_optimizer
from gdlab.optimizers.evaluation import keeps_average
from gdlab.optimizers.protocol import with_any_arguments
from gdlab.optimizers.transformation import stable_dtypes


def prepare(name: str, base: Any) -> optax.GradientTransformationExtraArgs:
    """Return the wrapped optimizer with stable dtypes and an `update` that takes any keyword argument.

    Raises:
      TypeError: if `base` is no optax transformation, or makes its steps without gradients.
    """
    require_optimizer(name, base)
    if not needs_gradient(base):
        raise TypeError(f"{name}: expected an optimizer that uses the gradient, got a strategy of gdlab.strategies")
    return stable_dtypes(with_any_arguments(base))


def require_no_average(state: optax.OptState) -> None:
    """Raise ValueError if the optimizer with this state keeps an average, which the wrapper would not move."""
    for node in jax.tree.leaves(state, is_leaf=keeps_average):
        if keeps_average(node):
            kind = type(node).__name__
            raise ValueError(f"base: expected an optimizer that keeps no average to evaluate at, got one with {kind}")


def require_passed(name: str, given: Any, what: str) -> Any:
    """Return a keyword argument of `update`, or raise a ValueError that says who passes it."""
    if given is None:
        raise ValueError(
            f"{name}: expected {what} as a keyword argument of update, which descend, sweep and train pass, got None"
        )
    if name != "value" and not callable(given):
        raise TypeError(f"{name}: expected {what} as a keyword argument of update, got {describe(given)}")
    return given


def is_due(steps: Array, period: Any) -> Array:
    """Return whether step t, counted from 1, completes a period; a fractional period is kept on average."""
    return steps % jnp.asarray(period) < 1


def wide(tree: PyTree) -> PyTree:
    """Return a tree whose 16-bit leaves are float32, for averages that would otherwise stand still."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.promote_types(jnp.result_type(leaf), jnp.float32)), tree)


def like(tree: PyTree, params: PyTree) -> PyTree:
    """Return the tree in the dtypes of the parameters."""
    return jax.tree.map(lambda leaf, x: leaf.astype(jnp.result_type(x)), tree, params)
