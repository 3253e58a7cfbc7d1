"""The nearest orthogonal matrix by polynomials: Newton-Schulz iterations with several sets of coefficients."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdlab.arguments import as_array, require_choice, require_count, require_flag
from gdlab.compute.precision import exact_products
from gdlab.optimizers.transformation import require_flags, require_non_negative
from gdlab.optimizers.trees import norm
from gdlab.types import Hyperparameter, Number

Row = tuple[float, float, float]

CLASSIC: Row = (2.0, -1.5, 0.5)

PAPER: tuple[Row, ...] = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845749493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
"""The polynomials of the Polar Express for singular values in [0.001, 1]; the last one may be repeated."""


def _with_margin(rows: tuple[Row, ...], margin: float) -> tuple[Row, ...]:
    """Return the polynomials p(x / margin), the last one as it is."""
    return (*((a / margin, b / margin**3, c / margin**5) for a, b, c in rows[:-1]), rows[-1])


COEFFICIENTS: Mapping[str, tuple[Row, ...]] = MappingProxyType(
    {
        "jordan": ((3.4445, -4.7750, 2.0315),),
        "quintic": (
            (4.0848, -6.8946, 2.9270),
            (3.9505, -6.3029, 2.6377),
            (3.7418, -5.5913, 2.3037),
            (2.8769, -3.1427, 1.2046),
            (2.8366, -3.0525, 1.2012),
        ),
        "polar_express": (
            (8.156554524902461, -22.48329292557795, 15.878769915207462),
            (4.042929935166739, -2.808917465908714, 0.5000178451051316),
            (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
            (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
            (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
        ),
        "polar_express_exact": _with_margin(PAPER, 1.01),
        "classic": (CLASSIC,),
        "deepseek": (*((3.4445, -4.7750, 2.0315),) * 8, CLASSIC),
    }
)
"""Sets of coefficients (a, b, c) of a x + b x^3 + c x^5, one row per step. The last row is repeated."""

MARGINS: Mapping[str, float] = MappingProxyType({"polar_express": 1.02})
"""Factors of the norm that a matrix is divided by, where it is not 1."""


@exact_products
def orthogonalize(
    matrix: Float[Array, "rows columns"],
    steps: int = 5,
    eps: Number = 1e-7,
    *,
    coefficients: str = "jordan",
    bfloat16: bool = False,
) -> Float[Array, "rows columns"]:
    """Approximate U V^T of the singular value decomposition U S V^T of a matrix, by Newton-Schulz iteration.

    The matrix is divided by its Frobenius norm, and then every step maps each singular value x to a x + b x^3 + c x^5.
    The sets of coefficients, and the image of the singular values in [0.01, 1] after the steps named:

    - "jordan": those of Jordan et al., tuned for a large slope at 0, not for accuracy; 5 steps, 0.68 to 1.13.
    - "quintic": another row for each of 5 steps, 0.98 to 1.03; optax's "dion" and the default of heavyball.
    - "polar_express": 5 steps, 0.86 to 1.14, and nearly the same down to 0.001; as in microsoft/dion, which divides by
      1.02 times the norm.
    - "polar_express_exact": the paper's list with a margin of 1.01; 1 to rounding from 8 steps on.
    - "classic": (2, -1.5, 0.5), which converges to 1 from any start; 12 steps.
    - "deepseek": 8 of Jordan's steps, then classic ones; 10 steps, 1.0000 to 1.0005.

    A matrix of zeros stays zero.

    Args:
      matrix: an array of shape (rows, columns).
      steps: the number of iterations. With more steps than rows of coefficients, the last row is repeated. Default 5.
      eps: added to the norm by which the matrix is divided first. Default 1e-7.
      coefficients: the name of the set of coefficients. Default "jordan".
      bfloat16: whether to iterate in bfloat16, as Jordan's code does, instead of in the dtype of the matrix. On GPUs
        this is several times faster; singular values are then off by some 1e-2. Default False, in which case products
        that a GPU would compute in TF32 are computed in float32.

    Returns:
      An array of the shape and dtype of `matrix`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if `matrix` is no matrix, a number is out of range, or the name of the coefficients is unknown.

    References:
      Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024
        (https://kellerjordan.github.io/posts/muon/).
      Amsel, Persson, Musco and Gower, "The Polar Express: Optimal Matrix Sign Methods and Their Application to the Muon
        Algorithm", 2025 (https://arxiv.org/abs/2505.16932).
    """
    matrix = as_array("matrix", matrix, ndim=2)
    require_count("steps", steps)
    require_non_negative(eps=eps)
    require_choice("coefficients", coefficients, tuple(COEFFICIENTS))
    require_flag("bfloat16", bfloat16)
    rows = COEFFICIENTS[coefficients]
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    length = norm(x)
    x = x / (MARGINS[coefficients] * length + eps if coefficients in MARGINS else length + eps)
    x = x.astype(jnp.bfloat16) if bfloat16 else x
    for step in range(steps):
        a, b, c = rows[min(step, len(rows) - 1)]
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.astype(matrix.dtype)
    return x if wide else x.T


def iteration(
    ns_steps: int, eps: Hyperparameter, coefficients: str, bfloat16: bool
) -> Callable[[Float[Array, "rows columns"]], Float[Array, "rows columns"]]:
    """Return `orthogonalize` with these arguments of an optimizer, after a check of those that are static."""
    require_count("ns_steps", ns_steps)
    require_choice("coefficients", coefficients, tuple(COEFFICIENTS))
    require_flags(bfloat16=bfloat16)
    return partial(orthogonalize, steps=ns_steps, eps=eps, coefficients=coefficients, bfloat16=bfloat16)
