"""Conditioning: quadratic bowls that are narrow in some directions, along the axes and at an angle to them.

The distance from the solution is judged, not the loss, so that the flat directions count. Gradient descent needs a
number of steps in proportion to the condition number, momentum its square root. A method with a diagonal preconditioner
is indifferent to the condition number along the axes, and loses that once the bowl is rotated: the comparison of the
two is the diagnosis. Methods for matrices can undo a rotation that is a Kronecker product.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gdlab.diagnostics.problem import DIM, apart, bowl, define, distance, rotation, spectrum

CONDITIONS = (10.0, 100.0, 1e3, 1e4)
BLOCK = 4


def _rotated_bowl(x: Array, data: Any, step: Any) -> Array:
    return jnp.sum(data["curvatures"] * (data["basis"] @ (x - data["target"])) ** 2) / 2


def _aligned(key: Any, level: Any) -> tuple[Array, Any]:
    start, target = apart(key)
    return start, {"target": target, "curvatures": spectrum(DIM, level)}


def _rotated(key: Any, level: Any) -> tuple[Array, Any]:
    start, data = _aligned(key, level)
    return start, data | {"basis": rotation(jax.random.fold_in(key, 1), DIM)}


def _in_blocks(key: Any, level: Any) -> tuple[Array, Any]:
    start, data = _aligned(key, level)
    blocks = jax.vmap(lambda one: rotation(one, BLOCK))(jax.random.split(jax.random.fold_in(key, 1), DIM // BLOCK))
    order = jnp.arange(DIM).reshape(BLOCK, -1).T.ravel()  # each block has large and small curvatures
    basis = jax.scipy.linalg.block_diag(*blocks)
    return start, data | {"basis": basis, "curvatures": data["curvatures"][order]}


def _cigar(key: Any, level: Any) -> tuple[Array, Any]:
    start, data = _rotated(key, level)
    return start, data | {"curvatures": jnp.ones(DIM).at[-1].set(1 / level)}


def _discus(key: Any, level: Any) -> tuple[Array, Any]:
    start, data = _rotated(key, level)
    return start, data | {"curvatures": jnp.full(DIM, 1 / level).at[0].set(1.0)}


def _kronecker(key: Any, level: Any) -> tuple[Any, Any]:
    keys = jax.random.split(key, 4)
    start, target = (jax.random.normal(one, (4, 6)) for one in keys[:2])
    half = jnp.sqrt(level)
    data = {
        "target": {"weight": target},
        "left": rotation(keys[2], 4),
        "right": rotation(keys[3], 6),
        "curvatures": jnp.outer(spectrum(4, half), spectrum(6, half)),
    }
    return {"weight": start}, data


def _kronecker_bowl(params: Any, data: Any, step: Any) -> Array:
    seen = data["left"] @ (params["weight"] - data["target"]["weight"]) @ data["right"]
    return jnp.sum(data["curvatures"] * seen**2) / 2


COMMON: dict[str, Any] = {
    "family": "conditioning",
    "difficulty": "condition number",
    "levels": CONDITIONS,
    "error": distance,
    "goal": 0.02,
}

define(
    "quadratic_aligned",
    measures="does a scale of its own for each coordinate undo curvatures that differ along the axes?",
    begin=_aligned,
    loss=bowl,
    references=("adam",),
    **COMMON,
)
define(
    "quadratic_rotated",
    measures="what is left of the preconditioning when the axes of the bowl are not those of the coordinates?",
    begin=_rotated,
    loss=_rotated_bowl,
    references=("adam", "momentum"),
    **COMMON,
)
define(
    "quadratic_blocks",
    measures="does it cope with rotations within blocks of four coordinates?",
    begin=_in_blocks,
    loss=_rotated_bowl,
    references=("adam", "momentum"),
    **COMMON,
)
define(
    "quadratic_kronecker",
    measures="does it undo a rotation of rows and columns of a matrix, which preconditioners of both sides can?",
    begin=_kronecker,
    loss=_kronecker_bowl,
    references=("adam", "shampoo", "soap"),
    **COMMON,
)
define(
    "cigar",
    measures="does it find its way along one flat direction among steep ones?",
    begin=_cigar,
    loss=_rotated_bowl,
    references=("adam", "momentum"),
    **COMMON,
)
define(
    "discus",
    measures="does one steep direction keep it from moving in flat ones?",
    begin=_discus,
    loss=_rotated_bowl,
    references=("adam", "momentum"),
    **COMMON | {"levels": (10.0, 100.0, 1e3, 3e3)},
)
