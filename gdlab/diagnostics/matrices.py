"""Matrices: factorizations, products of layers and orthogonality, on which methods for matrices are what they are.

No matrix is square unless it has to be. Kernels have the shape (inputs, outputs).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gdlab.diagnostics.problem import define, distance, rotation, spectrum

ROWS, COLUMNS, RANK = 8, 6, 3
DEPTH, WIDTH = 6, 4
LAYERS = tuple(f"layer_{number}" for number in range(1, DEPTH + 1))


def _factors_begin(key: Any, condition: Any, size: Any) -> tuple[dict[str, Array], Any]:
    keys = jax.random.split(key, 4)
    start = {
        "left": size * jax.random.normal(keys[0], (ROWS, RANK)),
        "right": size * jax.random.normal(keys[1], (COLUMNS, RANK)),
    }
    values = spectrum(RANK, condition)
    bases = {"left": rotation(keys[2], ROWS)[:, :RANK], "right": rotation(keys[3], COLUMNS)[:, :RANK]}
    return start, bases | {"values": values, "matrix": (bases["left"] * values) @ bases["right"].T}


def _factorization(params: Any, data: Any, step: Any) -> Array:
    return jnp.sum((params["left"] @ params["right"].T - data["matrix"]) ** 2) / 2


def _directions_left(params: Any, data: Any, step: Any) -> Array:
    """Return how much of each singular direction is wrong, relative to its singular value: a root mean square."""
    seen = (data["left"].T @ params["left"]) @ (data["right"].T @ params["right"]).T
    roots = jnp.sqrt(data["values"])
    return jnp.sqrt(jnp.sum(((seen - jnp.diag(data["values"])) / jnp.outer(roots, roots)) ** 2) / RANK)


def _completion_begin(key: Any, level: Any) -> tuple[Any, Any]:
    start, data = _factors_begin(key, 2.0, 0.1)
    start = {name: factor[:, : RANK - 1] for name, factor in start.items()}
    low_rank = (data["left"][:, :-1] * data["values"][:-1]) @ data["right"][:, :-1].T
    seen = jax.random.uniform(jax.random.fold_in(key, 1), (ROWS, COLUMNS)) < level
    return start, {"matrix": low_rank, "seen": seen}


def _seen_entries(params: Any, data: Any, step: Any) -> Array:
    return jnp.sum(data["seen"] * (params["left"] @ params["right"].T - data["matrix"]) ** 2) / 2


def _all_entries(params: Any, data: Any, step: Any) -> Array:
    return jnp.sqrt(jnp.mean((params["left"] @ params["right"].T - data["matrix"]) ** 2))


def _orthogonality_begin(key: Any, level: Any) -> tuple[Any, Any]:
    keys = jax.random.split(key)
    return {"kernel": rotation(keys[0], ROWS)[:, :COLUMNS] * spectrum(COLUMNS, level) @ rotation(keys[1], COLUMNS)}, {}


def _skew(params: Any, data: Any, step: Any) -> Array:
    return jnp.sum((params["kernel"].T @ params["kernel"] - jnp.eye(COLUMNS)) ** 2) / 4


def _root_skew(params: Any, data: Any, step: Any) -> Array:
    return jnp.sqrt(_skew(params, data, step))


def _layer_begin(key: Any, level: Any) -> tuple[Any, Any]:
    keys = jax.random.split(key, 3)
    start, target = (jax.random.normal(one, (ROWS, 4)) for one in keys[:2])
    data = {"target": {"kernel": target}, "basis": rotation(keys[2], ROWS), "variances": spectrum(ROWS, level)}
    return {"kernel": start}, data


def _layer(params: Any, data: Any, step: Any) -> Array:
    """The expected squared error of a linear layer whose inputs have the given principal variances."""
    seen = data["basis"] @ (params["kernel"] - data["target"]["kernel"])
    return jnp.sum(data["variances"][:, None] * seen**2) / 2


def _deep_begin(key: Any, first: Any, every: Any) -> tuple[dict[str, Array], Any]:
    """Return layers that are rotations times `every`, of which the first is larger and the last smaller by `first`.

    The determinant of their product has the sign of that of the solution, which a flow of gradients cannot change.
    """
    keys = jax.random.split(key, DEPTH + 2)
    turns = [rotation(one, WIDTH) for one in keys]
    sides = jnp.prod(jnp.linalg.det(jnp.stack(turns)))
    turns[0] = turns[0].at[0].multiply(jnp.sign(sides))
    start = {name: every * turn for name, turn in zip(LAYERS, turns, strict=False)}
    start[LAYERS[0]] *= first
    start[LAYERS[-1]] /= first
    return start, {"matrix": turns[-2] * spectrum(WIDTH, 3.0) @ turns[-1]}


def _product(params: Any, data: Any, step: Any) -> Array:
    product = params[LAYERS[0]]
    for name in LAYERS[1:]:
        product = params[name] @ product
    return jnp.sum((product - data["matrix"]) ** 2) / 2


def _root_product(params: Any, data: Any, step: Any) -> Array:
    return jnp.sqrt(_product(params, data, step))


COMMON: dict[str, Any] = {"family": "matrix"}
FACTORS: dict[str, Any] = COMMON | {"loss": _factorization, "error": _directions_left, "goal": 0.1}
DEEP: dict[str, Any] = COMMON | {"loss": _product, "error": _root_product, "goal": 0.05}

define(
    "low_rank_factorization",
    measures="does it find all singular directions of a matrix, the faint ones included?",
    difficulty="ratio of the largest singular value to the smallest",
    levels=(1.0, 10.0, 30.0, 100.0),
    begin=lambda key, level: _factors_begin(key, level, 0.1),
    references=("adam", "momentum", "muon"),
    **FACTORS,
)
define(
    "small_initialization",
    measures="does it leave the saddle point at 0, beside which small factors start?",
    difficulty="standard deviation of the factors at the start",
    levels=(1e-1, 1e-3, 1e-5, 1e-7),
    begin=lambda key, level: _factors_begin(key, 5.0, level),
    references=("adam", "momentum", "muon"),
    **FACTORS,
)
define(
    "matrix_completion",
    measures="does it find the entries of a matrix of low rank that it does not see?",
    difficulty="part of the entries that are seen",
    levels=(0.95, 0.9, 0.8, 0.7),
    begin=_completion_begin,
    loss=_seen_entries,
    error=_all_entries,
    goal=0.1,
    references=("sgd", "momentum", "adam"),
    **COMMON,
)
define(
    "orthogonality",
    measures="does it make columns orthonormal that are nearly dependent?",
    difficulty="ratio of the largest singular value to the smallest at the start",
    levels=(3.0, 30.0, 300.0, 3000.0),
    begin=_orthogonality_begin,
    loss=_skew,
    error=_root_skew,
    goal=0.05,
    references=("sgd", "momentum", "adam"),
    **COMMON,
)
define(
    "linear_layer",
    measures="does it undo correlations of a layer's inputs, which act on the rows of the gradient alone?",
    difficulty="condition number of the inputs' covariance",
    levels=(10.0, 100.0, 1e3, 3e3),
    begin=_layer_begin,
    loss=_layer,
    error=distance,
    goal=0.02,
    references=("adam", "momentum", "soap"),
    **COMMON,
)
define(
    "deep_linear",
    measures="does it cross the plateau of a product of many small layers?",
    difficulty="size of each of six layers at the start",
    levels=(1.0, 0.7, 0.5, 0.35),
    begin=lambda key, level: _deep_begin(key, 1.0, level),
    references=("adam", "momentum", "muon"),
    **DEEP,
)
define(
    "unbalanced_layers",
    measures="does it serve a product whose first layer is large and whose last is small?",
    difficulty="factor of the first layer, by which the last is divided",
    levels=(1.0, 3.0, 10.0, 30.0),
    begin=lambda key, level: _deep_begin(key, level, 0.9),
    references=("adam", "momentum", "muon"),
    **DEEP,
)
