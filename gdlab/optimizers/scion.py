"""Scion: steps of fixed length in the norm that suits each layer (Pethick et al. 2025)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from gdlab.arguments import require_choice
from gdlab.numerics import safe_sqrt
from gdlab.optimizers.matrices import on_matrices
from gdlab.optimizers.orthogonalization import iteration
from gdlab.optimizers.transformation import (
    require_flags,
    require_fractions,
    require_non_negative,
    require_params,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import average, zeros
from gdlab.types import Hyperparameter

NORMS = ("by_shape", "spectral", "sign", "rms")


class ScionState(NamedTuple):
    """State of `scale_by_scion`.

    Attributes:
      mean: the moving average of the gradient, shaped like the parameters.
    """

    mean: PyTree


def _inputs(x: Array) -> int:
    """Return the number of inputs of one output of a kernel; of a vector, 1."""
    return max(x.size // max(x.shape[-1], 1), 1) if x.ndim >= 2 else 1


@transformation
def scale_by_scion(
    momentum: Hyperparameter = 0.9,
    *,
    norm: str = "by_shape",
    ns_steps: int = 5,
    eps: Hyperparameter = 1e-7,
    vector_eps: Hyperparameter = 1e-8,
    coefficients: str = "jordan",
    bfloat16: bool = False,
) -> optax.GradientTransformation:
    """Scale gradients by Scion's rule: the steepest direction of length 1 in a norm, for the average of gradients.

    Args:
      momentum: the decay of the average of gradients. Default 0.9.
      norm: one of those that the docstring of `scion` gives, static. Default "by_shape".
      ns_steps: the number of Newton-Schulz steps, static. Default 5.
      eps: added to the norm of the average before the iteration. Default 1e-7.
      vector_eps: added to the root mean square. Default 1e-8.
      coefficients: the name of the coefficients of `orthogonalize`, static. Default "jordan".
      bfloat16: whether to iterate in bfloat16, static. Default False.
    """
    polar = iteration(ns_steps, eps, coefficients, bfloat16)
    require_fractions(momentum=momentum)
    require_positive(eps=eps, vector_eps=vector_eps)
    require_choice("norm", norm, NORMS)

    def init(params: optax.Params) -> ScionState:
        return ScionState(zeros(params))

    def steepest(d: Array) -> Array:
        kind = norm if norm != "by_shape" else "spectral" if d.ndim >= 2 else "rms"
        if kind == "sign":
            return jnp.sign(d) / _inputs(d)
        if kind == "rms":
            return d / (safe_sqrt(jnp.sum(d**2) / max(d.size, 1)) + vector_eps)
        if d.ndim < 2:
            raise ValueError(f"norm: expected leaves of at least two axes for spectral, got shape {d.shape}")
        outputs, inputs = d.shape[-1], d.shape[-2]
        window = _inputs(d) / max(inputs, 1)
        return (outputs / max(inputs, 1)) ** 0.5 / window * on_matrices(polar, d)

    def update(
        updates: optax.Updates, state: ScionState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, ScionState]:
        del params
        mean = average(momentum, state.mean, updates)
        return jax.tree.map(steepest, mean), ScionState(mean)

    return optax.GradientTransformation(init, update)


@transformation
def scion(
    learning_rate: Hyperparameter = 1e-3,
    *,
    momentum: Hyperparameter = 0.9,
    radius: Hyperparameter = 1.0,
    norm: str = "by_shape",
    constrained: bool = False,
    ns_steps: int = 5,
    eps: Hyperparameter = 1e-7,
    vector_eps: Hyperparameter = 1e-8,
    coefficients: str = "jordan",
    bfloat16: bool = False,
) -> optax.GradientTransformation:
    """Scion: d <- momentum d + (1 - momentum) g; x <- x - learning_rate radius s(d).

    Here s(d) is the steepest direction of length 1 in a norm, which makes the change of a layer's outputs the same for
    layers of any width; one learning rate then serves networks of all widths. The norms are

    - "spectral": s = sqrt(outputs / inputs) O(d) for kernels of shape (inputs, outputs), where O is `orthogonalize`;
      for hidden layers. A kernel of more axes is treated as a matrix of shape (all axes but the last, last axis), and s
      is divided by the number of positions of its window.
    - "sign": s = sign(d) / inputs; for output layers, and in this form for embeddings that are one-hot products.
    - "rms": s = d / (rms(d) + vector_eps); for biases and scales.
    - "by_shape": "spectral" for leaves of two or more axes and "rms" for the others.

    With `constrained`, x <- (1 - learning_rate) x - learning_rate radius s(d), a conditional-gradient step, which never
    leaves the ball of that radius. Layers of another norm or radius have an optimizer of their own, in
    `optax.partition`; the authors' example has radius 50 for hidden layers and 3000 with "sign" for the output layer.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, that of the authors' code.
      momentum: the decay of the average d of gradients. Default 0.9, the authors' recommendation; their code counts
        1 - momentum, with the default 1: no momentum.
      radius: the length of a step, in the norm, at learning rate 1. Default 1, that of the authors' code.
      norm: "by_shape", "spectral", "sign" or "rms". Static. Default "by_shape".
      constrained: whether x shrinks before each step. Default False, as in the authors' code.
      ns_steps: the number of Newton-Schulz steps. Static. Default 5, that of the authors' code.
      eps: added to the norm of d before the iteration, > 0. Default 1e-7, that of the authors' code.
      vector_eps: added to the root mean square of a vector, > 0. Default 1e-8, that of the authors' code.
      coefficients: the polynomials of the iteration, as in `orthogonalize`. Static. Default "jordan".
      bfloat16: whether to iterate in bfloat16, as the authors' code does. Static. Default False.

    State:
      d, one value per parameter.

    Example:
      >>> optimizer = scion(2**-12, radius=50.0, constrained=True)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Unlike Muon's, the factor has no lower bound: wide inputs shorten the step. The authors also prescribe the
    initialization, orthogonal matrices with the same factor, which is up to the model here.

    References:
      Pethick, Xie, Antonakopoulos, Zhu, Silveti-Falls and Cevher, "Training Deep Learning Models with Norm-Constrained
      LMOs", 2025, algorithms 1 and 2 (https://arxiv.org/abs/2502.07529).
    """
    require_non_negative(learning_rate=learning_rate, radius=radius)
    require_flags(constrained=constrained)
    scale = scale_by_scion(
        momentum,
        norm=norm,
        ns_steps=ns_steps,
        eps=eps,
        vector_eps=vector_eps,
        coefficients=coefficients,
        bfloat16=bfloat16,
    )

    def shrink(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        return jax.tree.map(jnp.add, updates, require_params("scion", params))

    return optax.chain(
        scale,
        optax.scale(radius),
        optax.stateless(shrink) if constrained else optax.identity(),
        optax.scale_by_learning_rate(learning_rate),
    )
