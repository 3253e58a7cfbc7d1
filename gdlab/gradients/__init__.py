"""Gradients by finite differences and by automatic differentiation, and a report that compares one with the other."""

from gdlab.gradients.check import check_gradient
from gdlab.gradients.finite import autodiff, error_curve, finite_difference
from gdlab.gradients.report import GradientReport, GradientRow
from gdlab.gradients.schemes import SCHEMES, Scheme, richardson, stencil

__all__ = [
    "SCHEMES",
    "GradientReport",
    "GradientRow",
    "Scheme",
    "autodiff",
    "check_gradient",
    "error_curve",
    "finite_difference",
    "richardson",
    "stencil",
]
