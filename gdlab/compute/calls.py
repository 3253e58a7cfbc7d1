"""Calls that XLA compiles as separate functions, so that their results are computed once and stored.

XLA's fusion copies cheap arithmetic into every operation that uses it, and it considers any polynomial cheap,
however long it is. (`jax.lax.optimization_barrier` does not help: XLA's CPU compiler removes it before fusion.)
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax

Function = TypeVar("Function", bound=Callable[..., Any])

_MARK = "stored_"


def stored(function: Function) -> Function:
    """Return `function` under jit, marked so that `gdlab.compute.scalars.as_scalars` may keep it as a separate call.

    The mark is part of the name that the traced program records (see `is_stored`). Everywhere else the result is an
    ordinary jitted function.
    """

    @functools.wraps(function)
    def marked(*operands: Any) -> Any:
        return function(*operands)

    marked.__name__ = _MARK + function.__name__.lstrip("_")
    return jax.jit(marked)  # type: ignore[return-value]


def is_stored(name: str) -> bool:
    """Return whether this name in a traced program is that of a function marked by `stored`."""
    return name.startswith(_MARK)


def stored_call(body: Callable[..., Any], *operands: Any) -> Any:
    """Evaluate `body(*operands)` as one call that XLA does not inline, if this version of JAX supports that."""
    with metadata(inlineable="false"):
        return jax.jit(body)(*operands)


def metadata(**attributes: str) -> Any:
    """Return a context that sets attributes of the calls traced in it, if this version of JAX supports that."""
    try:
        from jax.experimental.xla_metadata import set_xla_metadata
    except ImportError:  # pragma: no cover
        return contextlib.nullcontext()
    return set_xla_metadata(**attributes)
