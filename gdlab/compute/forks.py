"""Processes that were forked after JAX had started, in which JAX hangs or crashes."""

import os
import sys

_started = _forked = False


def require_unforked(what: str) -> None:
    """Raise RuntimeError in a process that was forked after JAX had started.

    Args:
      what: the function that is called, for the error message.
    """
    if _forked:
        raise RuntimeError(
            f"{what}: expected a process that JAX can work in, got one that was forked after JAX had started; start "
            'processes with multiprocessing.get_context("spawn")'
        )


def _before() -> None:
    global _started
    bridge = sys.modules.get("jax._src.xla_bridge")
    initialized = getattr(bridge, "backends_are_initialized", None)
    _started = bool(initialized()) if initialized is not None else bridge is not None


def _after() -> None:
    global _forked
    _forked = _forked or _started


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_after)
