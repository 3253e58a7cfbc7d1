"""Gradients by finite differences and by automatic differentiation, and a report that compares one with the other.

`score_function` and `reparameterized` estimate the gradient of an expectation from samples of a distribution.
"""

from gdlab.gradients.check import check_gradient
from gdlab.gradients.distributions import Categorical, Normal
from gdlab.gradients.expectations import reparameterized, score_function
from gdlab.gradients.finite import autodiff, error_curve, finite_difference
from gdlab.gradients.report import GradientReport, GradientRow
from gdlab.gradients.schemes import SCHEMES, Scheme, richardson, stencil

__all__ = [
    "SCHEMES",
    "Categorical",
    "GradientReport",
    "GradientRow",
    "Normal",
    "Scheme",
    "autodiff",
    "check_gradient",
    "error_curve",
    "finite_difference",
    "reparameterized",
    "richardson",
    "score_function",
    "stencil",
]
