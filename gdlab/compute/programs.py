"""Traced and compiled programs: made once, kept, and told apart by what they compute."""

import hashlib
import re
import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Any

import jax
import numpy as np
from jax.extend import core

SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_numpy_dtype_promotion",
    "jax_debug_nans",
    "jax_disable_jit",
)
"""Of JAX, what a traced program depends on."""


class Cache:
    """Things that are expensive to make, by key; those that were not used for longest make room for new ones."""

    def __init__(self, limit: int):
        """limit: the number of things that are kept."""
        self.limit = limit
        self._held: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """What is held for the key and JAX's settings, made where there is none; threads do not make a thing twice.

        A key that cannot be hashed cannot be remembered: the thing is made.
        """
        key = (key, tuple(getattr(jax.config, name) for name in SETTINGS))
        try:
            hash(key)
        except TypeError:
            return make()
        with self._lock:
            held = self._held.pop(key, None)
            found = Future() if held is None else held
            self._held[key] = found  # last: the one that was used most recently
            for oldest in list(self._held)[: -self.limit]:
                del self._held[oldest]
        if held is None:
            try:
                found.set_result(make())
            except BaseException as error:
                with self._lock:
                    self._held.pop(key, None)
                found.set_exception(error)
        return found.result()

    def __len__(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()


def trace(
    function: Callable[..., Any], arguments: Sequence[Any], device: jax.Device, *, options: Any = None, donate: Any = ()
) -> Any:
    """`function` traced with these shapes for the device; `.lower().compile()` makes the program.

    options: of the compiler. donate: places of arguments whose memory the program takes.
    """
    place = jax.sharding.SingleDeviceSharding(device)
    jitted = jax.jit(
        function, in_shardings=place, out_shardings=place, donate_argnums=donate, compiler_options=options or None
    )
    return jitted.trace(*arguments)


def digest_programs(traced: Sequence[Any], lowered: Sequence[Any]) -> str | None:
    """By which programs are told apart: two that share it compute the same on one version of JAX and kind of device.

    It covers the programs' text and the arrays that their functions close over. None where they call back into Python:
    what is behind the call cannot be told.
    """
    digest = hashlib.sha256()
    for one, text in zip(traced, (each.as_text() for each in lowered), strict=True):
        if "callback" in text:
            return None
        digest.update(text.encode())
        for constant in one.jaxpr.consts:
            _update(digest, np.asarray(constant))
    return digest.hexdigest()


def digest_jaxpr(closed: core.ClosedJaxpr) -> str:
    """Text that two traced programs share only if they are the same: the jaxpr without addresses, and its constants."""
    digest = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr)).encode())
    for constant in closed.consts:
        _update(digest, np.asarray(constant))
    return digest.hexdigest()


def digest_array(array: np.ndarray) -> str:
    """Shape, dtype and a digest of the values."""
    return f"{array.shape} {array.dtype} {hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()}"


def digest_arrays(tree: Any) -> str:
    """A digest of all arrays of the tree, with their shapes and dtypes."""
    digest = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(array.view(np.uint8).data)
    return digest.hexdigest()


def _update(digest: Any, array: np.ndarray) -> None:
    digest.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
