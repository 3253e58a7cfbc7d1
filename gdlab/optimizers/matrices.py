"""What optimizers of matrices share: leaves as matrices, factors of their shapes, and AdamW for the other leaves."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from gdlab.optimizers.adam import scale_by_adam
from gdlab.optimizers.transformation import decoupled_decay, require_fractions, require_non_negative
from gdlab.types import Hyperparameter


def matrix_or_vector(params: PyTree) -> PyTree:
    """Label each leaf: "matrix" if it has at least two axes, otherwise "vector"."""
    return jax.tree.map(lambda x: "matrix" if jnp.ndim(x) >= 2 else "vector", params)


def as_matrix(x: Array) -> Array:
    """Return a leaf of two or more axes as a matrix of shape (inputs, outputs), whose columns are the last axis."""
    return x.reshape(-1, x.shape[-1]) if x.size else x.reshape(0, 0)


def on_matrices(function: Callable[..., Array], *trees: PyTree) -> PyTree:
    """Apply a function to the leaves of the trees as matrices, and give its results the shapes of the leaves."""
    return jax.tree.map(lambda *x: function(*map(as_matrix, x)).reshape(x[0].shape), *trees)


def stretch(matrix: Array) -> float:
    """Return Muon's factor sqrt(max(1, outputs / inputs))."""
    inputs, outputs = matrix.shape
    return max(1.0, outputs / max(inputs, 1)) ** 0.5


def matching_rms(matrix: Array) -> float:
    """Return 0.2 sqrt(max(inputs, outputs)), which gives an orthogonal matrix a root mean square of 0.2."""
    return 0.2 * max(matrix.shape) ** 0.5


def by_axes(
    matrices: optax.GradientTransformation, vectors: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Return an optimizer that takes `matrices` for leaves of at least two axes and `vectors` for others."""
    return optax.partition({"matrix": matrices, "vector": vectors}, matrix_or_vector)


def adamw_direction(
    name: str,
    *,
    b1: Hyperparameter,
    b2: Hyperparameter,
    eps: Hyperparameter,
    weight_decay: Hyperparameter,
    ratio: Hyperparameter,
) -> optax.GradientTransformation:
    """Return AdamW's direction times the ratio of its learning rate to that of matrices.

    `name` is the optimizer's, for error messages.
    """
    return optax.chain(scale_by_adam(b1, b2, eps), decoupled_decay(name, weight_decay), optax.scale(ratio))


def with_adamw(
    name: str,
    matrices: optax.GradientTransformation,
    learning_rate: Hyperparameter,
    weight_decay: Hyperparameter,
    *,
    adam_ratio: Hyperparameter,
    adam_b1: Hyperparameter,
    adam_b2: Hyperparameter,
    adam_eps: Hyperparameter,
) -> optax.GradientTransformation:
    """Return an optimizer that takes `matrices` for leaves of at least two axes and AdamW for others.

    Both have decoupled weight decay, scaled by the learning rate of each leaf, and AdamW's learning rate is adam_ratio
    learning_rate. `name` is the optimizer's, for error messages.
    """
    require_fractions(adam_b1=adam_b1, adam_b2=adam_b2)
    require_non_negative(
        learning_rate=learning_rate, weight_decay=weight_decay, adam_ratio=adam_ratio, adam_eps=adam_eps
    )
    decayed = optax.chain(matrices, decoupled_decay(name, weight_decay))
    others = adamw_direction(name, b1=adam_b1, b2=adam_b2, eps=adam_eps, weight_decay=weight_decay, ratio=adam_ratio)
    return optax.chain(by_axes(decayed, others), optax.scale_by_learning_rate(learning_rate))
