"""Adam-mini: Adam with one second moment for a block of parameters (Zhang et al. 2024)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.arguments import describe
from gdlab.numerics import one_minus_power, safe_sqrt
from gdlab.optimizers.transformation import (
    decoupled_decay,
    require_fractions,
    require_non_negative,
    transformation,
)
from gdlab.optimizers.trees import average, begin, zeros
from gdlab.types import Hyperparameter

KINDS = ("output", "input", "tensor", "element")


class AdamMiniState(NamedTuple):
    """State of `scale_by_adam_mini`.

    Attributes:
      steps: number of completed steps.
      mu: moving average of g, shaped like the parameters.
      nu: moving average of the mean of g^2 over each block: a tree of arrays with one element per block, whose axes
        broadcast against those of the leaf (of a leaf of heads, against the leaf with its last axis divided in two).
    """

    steps: Int[Array, ""]
    mu: PyTree
    nu: PyTree


def by_shape(params: PyTree) -> PyTree:
    """Divide into blocks by shape: matrices and kernels by outputs (the last axis), all else into single elements."""
    return jax.tree.map(lambda x: "output" if jnp.ndim(x) >= 2 else "element", params)


def require_blocks(name: str, blocks: Any) -> None:
    """Raise unless `blocks` is None, a function, or a tree of kinds of blocks and numbers of heads."""
    if blocks is None or callable(blocks):
        return
    _require_kinds(name, jax.tree.leaves(blocks, is_leaf=lambda leaf: leaf is None))


def _require_kinds(name: str, leaves: list[Any]) -> None:
    for leaf in leaves:
        heads = isinstance(leaf, (int, np.integer)) and not isinstance(leaf, bool) and leaf >= 1
        if not heads and not (isinstance(leaf, str) and leaf in KINDS):
            raise ValueError(
                f"{name}: expected a tree of {', '.join(KINDS)} or numbers of heads, or a function that returns one, "
                f"got {describe(leaf)}"
            )


def _spread(blocks: Callable[[PyTree], PyTree] | PyTree | None, params: PyTree) -> PyTree:
    """Return the kind of block of every leaf."""
    kinds = blocks if blocks is not None else by_shape
    kinds = kinds(params) if callable(kinds) else kinds
    _require_kinds("blocks", jax.tree.leaves(kinds))
    try:
        return jax.tree.map(lambda kind, part: jax.tree.map(lambda _: kind, part), kinds, params)
    except (ValueError, TypeError):
        raise ValueError(
            "blocks: expected a tree like the parameters, or like their upper levels, got "
            f"{jax.tree.structure(kinds)} for {jax.tree.structure(params)}"
        ) from None


def _squares(kind: str | int, g: Array) -> Array:
    """Return the mean of g^2 over every block, with axes of length 1 where a block extends."""
    if kind == "element" or not g.size:
        return g**2
    if kind == "tensor":
        return jnp.mean(g**2)
    if g.ndim == 0:
        raise ValueError(f"blocks: expected element or tensor for a leaf without axes, got {describe(kind)}")
    if kind == "output":
        return jnp.mean(g**2, axis=range(g.ndim - 1))
    if kind == "input":
        return jnp.mean(g**2, axis=range(1, g.ndim), keepdims=True)
    if isinstance(kind, str) or g.shape[-1] % kind:
        raise ValueError(f"blocks: expected a number of heads that divides {g.shape[-1]} outputs, got {kind}")
    heads = g.reshape(*g.shape[:-1], kind, -1)
    return jnp.mean(heads**2, axis=(*range(g.ndim - 1), g.ndim), keepdims=True)[..., 0, :, :]


def _divide(kind: str | int, numerator: Array, denominator: Array) -> Array:
    """Divide every element by the value of its block."""
    if isinstance(kind, str) or not numerator.size:
        return numerator / denominator
    heads = numerator.reshape(*numerator.shape[:-1], kind, -1)
    return (heads / denominator).reshape(numerator.shape)


@transformation
def scale_by_adam_mini(
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
    *,
    blocks: Callable[[PyTree], PyTree] | PyTree | None = None,
) -> optax.GradientTransformation:
    """Scale gradients by Adam-mini's rule: mhat / (sqrt(vhat) + eps) with one v per block.

    Here m <- b1 m + (1 - b1) g and v <- b2 v + (1 - b2) mean(g^2), where the mean is over the block. The docstring of
    `adam_mini` says what `blocks` may be.

    Args:
      b1: the decay of the average of gradients. Default 0.9.
      b2: the decay of the average of mean squared gradients. Default 0.999.
      eps: a constant added to the denominator. Default 1e-8.
      blocks: how leaves are divided into blocks. Default None, which means by shape.
    """
    require_fractions(b1=b1, b2=b2)
    require_non_negative(eps=eps)
    require_blocks("blocks", blocks)

    def init(params: optax.Params) -> AdamMiniState:
        kinds = _spread(blocks, params)
        nu = jax.tree.map(lambda kind, x: jnp.zeros_like(_squares(kind, jnp.asarray(x))), kinds, params)
        return AdamMiniState(begin(), zeros(params), nu)

    def update(
        updates: optax.Updates, state: AdamMiniState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdamMiniState]:
        del params
        kinds = _spread(blocks, updates)
        count = optax.safe_increment(state.steps)
        first, second = 1 / one_minus_power(b1, count), 1 / one_minus_power(b2, count)
        mu = average(b1, state.mu, updates)
        nu = average(b2, state.nu, jax.tree.map(_squares, kinds, updates))
        scaled = jax.tree.map(
            lambda kind, m, v: _divide(kind, m * first.astype(m.dtype), safe_sqrt(v * second.astype(v.dtype)) + eps),
            kinds,
            mu,
            nu,
        )
        return scaled, AdamMiniState(count, mu, nu)

    return optax.GradientTransformation(init, update)


@transformation
def adam_mini(
    learning_rate: Hyperparameter = 1e-3,
    *,
    b1: Hyperparameter = 0.9,
    b2: Hyperparameter = 0.999,
    eps: Hyperparameter = 1e-8,
    weight_decay: Hyperparameter = 0.0,
    blocks: Callable[[PyTree], PyTree] | PyTree | None = None,
) -> optax.GradientTransformation:
    """Adam-mini: x <- x - learning_rate (mhat / (sqrt(vhat) + eps) + weight_decay x), with one v per block.

    Here m <- b1 m + (1 - b1) g per element, v <- b2 v + (1 - b2) mean(g^2) per block, and the hats are Adam's. Within
    a block whose Hessian is dense, one well-chosen learning rate does as well as one per element; this halves the
    state of Adam.

    `blocks` is a tree like the parameters, or like their upper levels, or a function that returns one from the
    parameters. Its leaves say how a leaf of the parameters is divided:

    - "output": one block per index of the last axis, the outputs of kernels as in Flax; for values, attention outputs,
      perceptrons and output layers, whose block is a neuron.
    - "input": one block per index of the first axis; for embeddings of shape (tokens, features).
    - a number of heads: the last axis is divided into that many equal parts, each with one block; for queries and keys.
    - "tensor": one block; for the scales of normalization layers.
    - "element": Adam itself; for biases.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, that of the authors' code.
      b1: the decay of the average of gradients. Default 0.9, that of the authors' code.
      b2: the decay of the average of mean squared gradients. Default 0.999, that of the authors' code.
      eps: a constant added to the denominator. Default 1e-8, that of the authors' code.
      weight_decay: decoupled weight decay of all leaves. Default 0, that of the authors' code, which exempts leaves by
        name if it is positive.
      blocks: how leaves are divided into blocks. Default None, which means by shape: "output" for leaves of two or
        more axes, "element" for others. Shapes cannot tell embeddings, queries and keys from other matrices.

    State:
      m, one value per parameter, and v, one value per block.

    Example:
      >>> optimizer = adam_mini(3e-4, blocks={"w": "input", "b": "element"})
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The authors' package recognizes kinds of layers by parts of their names, with kernels of shape (outputs, inputs).
    `pytorch_optimizer.AdamMini` follows an older division, in which only queries and keys have several blocks.

    References:
      Zhang, Chen, Li, et al., "Adam-mini: Use Fewer Learning Rates To Gain More", 2024, algorithm 1
      (https://arxiv.org/abs/2406.16793).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        scale_by_adam_mini(b1, b2, eps, blocks=blocks),
        decoupled_decay("adam_mini", weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
