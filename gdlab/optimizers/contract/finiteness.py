"""Finite results: derivatives through a run, 16-bit arithmetic and zero gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from gdlab.compute.trees import is_key
from gdlab.optimizers.contract.bowl import SECOND, loss, make_params
from gdlab.optimizers.contract.case import Case
from gdlab.optimizers.contract.compilation import quick_jit
from gdlab.optimizers.contract.equality import to_vector
from gdlab.optimizers.contract.report import BrokenContractError


def has_finite_derivatives(case: Case) -> str:
    """Check that the final loss has finite derivatives with respect to every number and to the initial parameters."""

    def final(values: Array, params: PyTree) -> Array:
        return loss(case.run(values, params)[1])

    by_values, by_params = quick_jit(jax.grad(final, argnums=(0, 1)))(case.defaults, make_params("float64", SECOND))
    for name, derivative in zip(case.numbers, by_values, strict=True):
        if not jnp.isfinite(derivative):
            raise BrokenContractError(f"the derivative with respect to {name} is {float(derivative)}")
    if not np.isfinite(to_vector(by_params)).all():
        raise BrokenContractError("a derivative with respect to the initial parameters is not finite")
    return f"with respect to {len(case.numbers)} hyperparameters and all parameters"


def is_finite_in_bfloat16(case: Case) -> str:
    """Check that bfloat16 parameters stay finite."""
    params = make_params("bfloat16", SECOND)
    x = quick_jit(lambda values: case.run(values, params))(case.defaults.astype("float32"))
    if not np.isfinite(to_vector(x)).all():
        raise BrokenContractError("a parameter is not finite")
    return f"{case.steps} steps"


def survives_zeros(case: Case) -> str:
    """Check that zero gradients at zero parameters give no NaN, and neither do their derivatives."""
    nothing = jax.tree.map(jnp.zeros_like, make_params("float32", SECOND))

    def moved(values: Array, gradients: PyTree, params: PyTree) -> tuple[Array, PyTree]:
        optimizer = case.build(list(values))
        state = optimizer.init(params)
        for _ in range(2):
            updates, state = optimizer.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
        return sum((jnp.sum(leaf) for leaf in jax.tree.leaves(params)), jnp.zeros([])), (params, state)

    derivatives, (params, state) = quick_jit(jax.grad(moved, argnums=(0, 1, 2), has_aux=True))(
        case.defaults.astype("float32"), nothing, nothing
    )
    if not np.isfinite(to_vector(params)).all():
        raise BrokenContractError("a parameter is not finite after zero gradients at zero parameters")
    if np.isnan(to_vector([leaf.astype(float) for leaf in jax.tree.leaves(state) if not is_key(leaf)])).any():
        raise BrokenContractError("the state contains a NaN after zero gradients at zero parameters")
    for what, tree in zip(("hyperparameters", "gradients", "parameters"), derivatives, strict=True):
        if not np.isfinite(to_vector(tree)).all():
            raise BrokenContractError(
                f"zero gradients at zero parameters: a derivative with respect to the {what} is not finite"
            )
    return "values and derivatives"
