"""Matrix products in the precision of their operands."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def exact_products(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return `function` with all its matrix products and convolutions computed to the precision of their dtype.

    By default a GPU multiplies float32 matrices in TF32, whose products are off by up to 5e-4. Training bears that,
    but an inverse root, an orthogonal iteration and a difference quotient do not. A product that names a precision
    keeps it. On CPUs nothing changes.
    """

    @functools.wraps(function)
    def exact(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        with jax.default_matmul_precision("highest"):
            return function(*arguments, **named)

    return exact
