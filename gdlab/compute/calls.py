"""Calls that XLA compiles as functions of their own, so that their results are computed once and stored.

XLA's fusion copies cheap arithmetic into each of its users, and to it a polynomial is cheap, however long.
(`jax.lax.optimization_barrier` does not help: XLA's CPU compiler drops it before it fuses.)
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax

Function = TypeVar("Function", bound=Callable[..., Any])

_MARK = "stored_"


def stored(function: Function) -> Function:
    """`function` under jit, marked so that `gdlab.compute.scalars.as_scalars` may keep it a call of its own.

    The mark is in the name that the traced program carries (`is_stored`). Elsewhere it is a jitted function like any
    other.
    """

    @functools.wraps(function)
    def marked(*operands: Any) -> Any:
        return function(*operands)

    marked.__name__ = _MARK + function.__name__.lstrip("_")
    return jax.jit(marked)  # type: ignore[return-value]


def is_stored(name: str) -> bool:
    """Whether a call of this name in a traced program is one of a function that `stored` has marked."""
    return name.startswith(_MARK)


def stored_call(body: Callable[..., Any], *operands: Any) -> Any:
    """`body(*operands)` as one call that XLA does not inline, where this version of JAX can say so."""
    with metadata(inlineable="false"):
        return jax.jit(body)(*operands)


def metadata(**attributes: str) -> Any:
    """Attributes for the calls that are traced within; nothing where this version of JAX has none."""
    try:
        from jax.experimental.xla_metadata import set_xla_metadata
    except ImportError:  # pragma: no cover
        return contextlib.nullcontext()
    return set_xla_metadata(**attributes)
