"""Gradients by finite differences and by automatic differentiation, and a report that compares one with the other."""

from gdlab.gradients.check import check_gradient
from gdlab.gradients.finite import (
    SCHEMES,
    Scheme,
    autodiff,
    error_curve,
    finite_difference,
    richardson,
    stencil,
)
from gdlab.gradients.report import GradientReport, GradientRow

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
