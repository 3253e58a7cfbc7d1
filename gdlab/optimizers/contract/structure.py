"""The structure of parameters and state: constant dtypes and shapes, trees of any kind, leaves in any order."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from gdlab.optimizers.contract.bowl import FIRST, SHAPES, make_params, slope
from gdlab.optimizers.contract.case import Case
from gdlab.optimizers.contract.compilation import quick_jit
from gdlab.optimizers.contract.equality import TIGHT, require_close
from gdlab.optimizers.contract.report import BrokenContractError


def keeps_dtypes(case: Case) -> str:
    """Check that structure, shapes and dtypes never change, even if a traced number is wider than the parameters."""

    def two_steps(params: PyTree, *values: Any) -> tuple[Any, Any, Any]:
        optimizer = case.build(values or None)
        first = optimizer.init(params)
        updates, state = optimizer.update(params, first, params)
        updates, state = optimizer.update(updates, state, params)
        return first, state, updates

    traced = [jnp.float32(value) for value in case.numbers.values()]
    for dtype in ("bfloat16", "float32", "float64"):
        for how, values in (("Python numbers", []), ("traced float32 numbers", traced)):
            params = make_params(dtype, tuple(SHAPES))
            first, last, updates = jax.eval_shape(two_steps, params, *values)
            place = f"{dtype} parameters, {how}"
            if str(jax.tree.structure(first)) != str(jax.tree.structure(last)):
                raise BrokenContractError(f"{place}: the state changes its structure")
            for what, old, new in (("the state", first, last), ("an update", params, updates)):
                for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
                    if _describe(a) != _describe(b):
                        raise BrokenContractError(
                            f"{place}: {what} changes from {_describe(a)} to {_describe(b)}; a factory that "
                            "is decorated with gdlab.optimizers.transformation keeps dtypes"
                        )
    return "bfloat16, float32 and float64 parameters, Python and traced float32 numbers"


def _describe(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def takes_any_tree(case: Case) -> str:
    """Check that parameters may be bare arrays, lists, tuples, None, empty trees and leaves without elements."""
    optimizer = case.build()
    trees: dict[str, PyTree] = {
        "a bare vector": jnp.ones(3),
        "a bare scalar": jnp.ones([]),
        "a list in a tuple in a dict, with None": {"a": (jnp.ones((2, 3)), [jnp.ones(1), None]), "b": None},
        "no leaf": {},
        "a leaf without elements": {"a": jnp.ones((0,)), "b": jnp.ones((2, 0, 3))},
        "leaves of two dtypes": {"a": jnp.ones((2, 2), jnp.float32), "b": jnp.ones(2, jnp.float64)},
    }

    def two_steps(x: PyTree) -> PyTree:
        state = optimizer.init(x)
        updates, state = optimizer.update(x, state, x)
        return optax.apply_updates(x, optimizer.update(updates, state, x)[0])

    for name, tree in trees.items():
        try:
            after = jax.eval_shape(two_steps, tree)
        except Exception as error:
            first = str(error).strip().splitlines()[0]
            raise BrokenContractError(f"{name}: {type(error).__name__}: {first[:160]}") from None
        if jax.tree.map(_describe, after) != jax.tree.map(_describe, tree):
            raise BrokenContractError(f"{name}: the parameters change their shapes or dtypes")
    return ", ".join(trees)


def ignores_order(case: Case) -> str:
    """Check that each leaf ends at the same values under names that reverse the order of the leaves."""
    names = sorted(FIRST)
    renamed = {old: f"{len(names) - k}" for k, old in enumerate(names)}

    def back(params: PyTree) -> PyTree:
        return {old: params[new] for old, new in renamed.items()}

    def renamed_slope(params: PyTree) -> PyTree:
        return {renamed[old]: g for old, g in slope(back(params)).items()}

    start = {renamed[old]: x for old, x in make_params("float64").items()}
    reversed_end, _ = quick_jit(lambda values: case.run(values, start, renamed_slope))(case.defaults)
    plain_end, _ = case.alone(case.defaults)
    return "largest deviation " + require_close("runs with reordered leaves", back(reversed_end), plain_end, TIGHT)
