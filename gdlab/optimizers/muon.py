"""Muon: momentum with orthogonalized update matrices (Jordan et al. 2024)."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import optax
from jaxtyping import Array, PyTree

from gdlab.arguments import require_choice
from gdlab.optimizers.matrices import matching_rms, on_matrices, stretch, with_adamw
from gdlab.optimizers.orthogonalization import iteration
from gdlab.optimizers.transformation import (
    require_flags,
    require_fractions,
    require_positive,
    transformation,
)
from gdlab.optimizers.trees import average, zeros
from gdlab.types import Hyperparameter

SCALES: Mapping[str, Callable[[Array], float]] = MappingProxyType({"stretch": stretch, "rms": matching_rms})
"""Factors of an orthogonalized matrix, from its shape: Jordan's, and the one that matches AdamW's root mean square."""


class MuonState(NamedTuple):
    """State of `scale_by_muon`.

    Attributes:
      mean: the moving average of the gradient, shaped like the parameters.
    """

    mean: PyTree


def look_ahead(momentum: Hyperparameter, nesterov: bool, mean: PyTree, updates: PyTree) -> PyTree:
    """Return the direction of Muon's momentum: momentum m + (1 - momentum) g with `nesterov`, and m without."""
    return average(momentum, mean, updates) if nesterov else mean


@transformation
def scale_by_muon(
    momentum: Hyperparameter = 0.95,
    *,
    nesterov: bool = True,
    ns_steps: int = 5,
    eps: Hyperparameter = 1e-7,
    coefficients: str = "jordan",
    bfloat16: bool = False,
    scale: str = "stretch",
) -> optax.GradientTransformation:
    """Scale gradients by Muon's rule: s O(u), where s depends on the shape and O is `orthogonalize`.

    With m <- momentum m + (1 - momentum) g, u is momentum m + (1 - momentum) g if `nesterov`, else m. Each leaf must
    have at least two axes; a leaf with more is treated as a matrix of shape (all axes but the last, last axis).

    Args:
      momentum: the decay of the average m of gradients. Default 0.95.
      nesterov: whether to look one step of momentum ahead. Default True.
      ns_steps: the number of Newton-Schulz steps, static. Default 5.
      eps: added to the norm of u before the division. Default 1e-7.
      coefficients: the name of the coefficients of `orthogonalize`, static. Default "jordan".
      bfloat16: whether to iterate in bfloat16, static. Default False.
      scale: "stretch" for s = sqrt(max(1, outputs / inputs)) or "rms" for s = 0.2 sqrt(max(inputs, outputs)), static.
        Default "stretch".
    """
    polar = iteration(ns_steps, eps, coefficients, bfloat16)
    require_flags(nesterov=nesterov)
    require_fractions(momentum=momentum)
    require_positive(eps=eps)
    require_choice("scale", scale, SCALES)

    def init(params: optax.Params) -> MuonState:
        return MuonState(zeros(params))

    def update(
        updates: optax.Updates, state: MuonState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, MuonState]:
        del params
        mean = average(momentum, state.mean, updates)

        def direction(u: Array) -> Array:
            return SCALES[scale](u) * polar(u)

        return on_matrices(direction, look_ahead(momentum, nesterov, mean, updates)), MuonState(mean)

    return optax.GradientTransformation(init, update)


@transformation
def muon(
    learning_rate: Hyperparameter = 0.02,
    *,
    momentum: Hyperparameter = 0.95,
    weight_decay: Hyperparameter = 0.0,
    nesterov: bool = True,
    ns_steps: int = 5,
    eps: Hyperparameter = 1e-7,
    coefficients: str = "jordan",
    bfloat16: bool = False,
    adam_ratio: Hyperparameter = 0.015,
    adam_b1: Hyperparameter = 0.9,
    adam_b2: Hyperparameter = 0.95,
    adam_eps: Hyperparameter = 1e-10,
) -> optax.GradientTransformation:
    """Muon: m <- momentum m + (1 - momentum) g; x <- x - learning_rate (s O(u) + weight_decay x).

    Here u = momentum m + (1 - momentum) g with `nesterov` and u = m without. O is `orthogonalize` with ns_steps steps,
    and s = sqrt(max(1, columns / rows)) for a kernel of shape (rows = inputs, columns = outputs), as in Flax. An
    orthogonalized update moves all singular directions of a matrix by about the same amount, which suits the hidden
    weight matrices of networks.

    A leaf with more than two axes is treated as a matrix of shape (all axes but the last, last axis). Leaves with fewer
    than two axes are updated by AdamW, with learning rate adam_ratio learning_rate. The reference does the same with
    embeddings and output layers, which `optax.partition` can arrange. The choice of leaves is static, because it
    follows from their shapes.

    Args:
      learning_rate: the step size for matrices, a number or a schedule. Default 0.02, that of Jordan's code.
      momentum: the decay of the average of gradients. Default 0.95, that of Jordan's code.
      weight_decay: decoupled weight decay, scaled by the learning rate of each leaf. Default 0, that of Jordan's code.
      nesterov: whether to look one step of momentum ahead. Default True, as in Jordan's code.
      ns_steps: the number of Newton-Schulz steps. It is static, because the program unrolls the steps. Default 5, that
        of Jordan's code.
      eps: added to the norm of u before the iteration. Default 1e-7, that of Jordan's code.
      coefficients: the polynomials of the iteration, one of the names that `orthogonalize` describes: "jordan",
        "quintic" and "polar_express" with 5 steps, "polar_express_exact" with 8, "deepseek" with 10 and "classic" with
        12. Static. Default "jordan", those of Jordan's code.
      bfloat16: whether to iterate in bfloat16, as Jordan's code does. Static. Default False.
      adam_ratio: AdamW's learning rate as a multiple of learning_rate. Default 0.015, which gives the 3e-4 = 0.015 x
        0.02 of Jordan's code.
      adam_b1: AdamW's decay of the average of gradients. Default 0.9, that of Jordan's code.
      adam_b2: AdamW's decay of the average of squared gradients. Default 0.95, that of Jordan's code.
      adam_eps: added to the root of AdamW's second moment. Default 1e-10, that of Jordan's code.

    State:
      m, one value per parameter, for matrices; m and v, two values per parameter, for the other leaves.

    Example:
      >>> optimizer = muon(0.02, momentum=0.9, adam_ratio=0.05)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    The iteration runs in the dtype of the parameters unless `bfloat16` is set, as in the reference and in
    `torch.optim.Muon`: the steps agree with theirs to 2 digits, and with a float64 reference to rounding.
    `optax.contrib.muon` corrects the bias of the momentum as NAdam does, so it differs from step 2 on.

    References:
      Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024
      (https://kellerjordan.github.io/posts/muon/).
    """
    return with_adamw(
        "muon",
        scale_by_muon(
            momentum, nesterov=nesterov, ns_steps=ns_steps, eps=eps, coefficients=coefficients, bfloat16=bfloat16
        ),
        learning_rate,
        weight_decay,
        adam_ratio=adam_ratio,
        adam_b1=adam_b1,
        adam_b2=adam_b2,
        adam_eps=adam_eps,
    )
