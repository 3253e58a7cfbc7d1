"""Moonlight's Muon: orthogonalized updates with the root mean square of AdamW's (Liu et al. 2025)."""

import optax

from gdlab.optimizers.matrices import with_adamw
from gdlab.optimizers.muon import scale_by_muon
from gdlab.optimizers.transformation import require_fractions, require_positive, transformation
from gdlab.types import Hyperparameter


@transformation
def moonlight(
    learning_rate: Hyperparameter = 1e-3,
    *,
    momentum: Hyperparameter = 0.95,
    weight_decay: Hyperparameter = 0.1,
    nesterov: bool = True,
    ns_steps: int = 5,
    eps: Hyperparameter = 1e-7,
    coefficients: str = "jordan",
    bfloat16: bool = False,
    adam_ratio: Hyperparameter = 1.0,
    adam_b1: Hyperparameter = 0.9,
    adam_b2: Hyperparameter = 0.95,
    adam_eps: Hyperparameter = 1e-8,
) -> optax.GradientTransformation:
    """Moonlight: v <- momentum v + g; x <- x - learning_rate (0.2 sqrt(max(inputs, outputs)) O(u) + weight_decay x).

    Here u = g + momentum v with `nesterov` and u = v without, and O is `orthogonalize`. An orthogonal matrix has the
    root mean square 1 / sqrt(max(inputs, outputs)); the factor makes it 0.2 for every shape, the typical one of AdamW's
    updates. Learning rate and weight decay that were tuned for AdamW therefore serve matrices and vectors alike.

    A leaf with more than two axes is treated as a matrix of shape (all axes but the last, last axis). Leaves with fewer
    than two axes are updated by AdamW, and so should be embeddings and output layers, which `optax.partition` can
    arrange.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, that of the authors' code.
      momentum: the decay of the velocity v. Default 0.95, that of the authors' code.
      weight_decay: decoupled weight decay, scaled by the learning rate without the factor of the shape. Default 0.1,
        that of the authors' code.
      nesterov: whether to look one step of momentum ahead. Default True, as in the authors' code.
      ns_steps: the number of Newton-Schulz steps. Static. Default 5, that of the authors' code.
      eps: added to the norm of u before the iteration, > 0. Default 1e-7, that of the authors' code.
      coefficients: the polynomials of the iteration, as in `orthogonalize`. Static. Default "jordan".
      bfloat16: whether to iterate in bfloat16, as the authors' code does. Static. Default False.
      adam_ratio: AdamW's learning rate as a multiple of learning_rate. Default 1, as in the authors' code.
      adam_b1: AdamW's decay of the average of gradients. Default 0.9, that of the authors' code.
      adam_b2: AdamW's decay of the average of squared gradients. Default 0.95, that of the authors' code.
      adam_eps: added to the root of AdamW's corrected second moment; the authors' code adds it to the uncorrected one.
        Default 1e-8, that of the authors' code.

    State:
      the average (1 - momentum) v, one value per parameter, for matrices; m and v of AdamW, two, for the other leaves.

    Example:
      >>> optimizer = moonlight(3e-4, momentum=0.9)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    This is `muon` with another factor. `torch.optim.Muon(adjust_lr_fn="match_rms_adamw")` is the same in bfloat16, and
    `optax.contrib.muon(consistent_rms=0.2)` has another bias correction.

    References:
      Liu, Su, Yao, et al., "Muon is Scalable for LLM Training", 2025 (https://arxiv.org/abs/2502.16982).
    """
    require_fractions(momentum=momentum)
    require_positive(eps=eps)
    # Dividing v by its norm plus eps is dividing its average by the norm of that plus (1 - momentum) eps.
    scale = scale_by_muon(
        momentum,
        nesterov=nesterov,
        ns_steps=ns_steps,
        eps=(1 - momentum) * eps,
        coefficients=coefficients,
        bfloat16=bfloat16,
        scale="rms",
    )
    return with_adamw(
        "moonlight",
        scale,
        learning_rate,
        weight_decay,
        adam_ratio=adam_ratio,
        adam_b1=adam_b1,
        adam_b2=adam_b2,
        adam_eps=adam_eps,
    )
