"""Traced and compiled programs: a cache that keeps them, and digests that identify what they compute."""

import hashlib
import re
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import jax
import numpy as np
from jax.extend import core

from gdlab.compute import fusion
from gdlab.compute.trees import without_key

SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_debug_nans",
    "jax_disable_jit",
)
"""The settings of JAX on which a traced program depends."""


class Cache:
    """A cache of objects that are expensive to make. The least recently used ones are removed first."""

    def __init__(self, limit: int):
        """Create a cache that keeps at most `limit` objects."""
        self.limit = limit
        self._held: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return the object for `key` and the current settings of JAX, and call `make` if there is none.

        Several threads that ask for the same object make it only once. An object is made anew, and not cached, if
        its key cannot be hashed.
        """
        key = _with_settings(key)
        try:
            hash(key)
        except TypeError:
            return make()
        with self._lock:
            held = self._held.pop(key, None)
            found = Future() if held is None else held
            self._held[key] = found  # moved to the end: the most recently used
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

    def __contains__(self, key: Hashable) -> bool:
        """Return whether the object for `key` and the current settings of JAX is there, so that `get` returns it."""
        held = self._held.get(_with_settings(key))
        return held is not None and held.done()

    def __len__(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        """Remove all objects."""
        self._held.clear()


def _with_settings(key: Any) -> Hashable:
    return key, tuple(getattr(jax.config, name) for name in SETTINGS)


def trace(
    function: Callable[..., Any], arguments: Sequence[Any], device: jax.Device, *, options: Any = None, donate: Any = ()
) -> Any:
    """Trace `function` for arguments of these shapes on the device; `.lower().compile()` then makes the program.

    Args:
      function: the function to trace.
      arguments: arrays, or the shapes and dtypes of arrays.
      device: the device of the program, its arguments and its results.
      options: compiler options.
      donate: the positions of arguments whose memory the program may reuse.
    """
    place = jax.sharding.SingleDeviceSharding(device)

    def traced(fused: Mapping[str, Any]) -> Any:
        own = {**(options or {}), **fused}
        jitted = jax.jit(
            function, in_shardings=place, out_shardings=place, donate_argnums=donate, compiler_options=own or None
        )
        return jitted.trace(*arguments)

    most = fusion.options(0, device.platform)
    found = traced(most)
    fused = fusion.options(count_scatters(found.jaxpr), device.platform)
    return found if fused == most else traced(fused)


def digest_programs(traced: Sequence[Any], lowered: Sequence[Any]) -> str | None:
    """Return a digest that identifies what the programs compute, or None if that cannot be known.

    Programs with the same digest compute the same results on the same version of JAX and the same kind of device.
    The digest covers the text of the programs and the arrays that their functions close over, those of jitted
    functions within them included. It is None for a program that calls back into Python, because the code behind
    the call is unknown.
    """
    digest = hashlib.sha256()
    for one, text in zip(traced, (each.as_text() for each in lowered), strict=True):
        if calls_python(one.jaxpr):
            return None
        digest.update(text.encode())
        for array in _arrays(one.jaxpr):
            _update(digest, array)
    return digest.hexdigest()


def digest_jaxprs(traced: Sequence[core.ClosedJaxpr]) -> str | None:
    """Return a digest that traced programs share only if they are the same; None if one calls back into Python.

    It covers the jaxprs, without memory addresses, and all arrays that they and the functions within them hold.
    Derivatives that have been taken are part of the jaxprs, and so are custom derivative rules. A custom rule for
    `jax.vmap` is not, so a program with one is also traced for a batch.
    """
    digest = hashlib.sha256()
    for closed in traced:
        if calls_python(closed):
            return None
        versions = [closed]
        if any(eqn.primitive.name == "custom_vmap_call" for eqn in equations(closed.jaxpr)):
            batch = [jax.ShapeDtypeStruct((2, *aval.shape), aval.dtype) for aval in closed.in_avals]
            versions.append(jax.make_jaxpr(jax.vmap(core.jaxpr_as_fun(closed)))(*batch))
        for version in versions:
            digest.update(re.sub(r"0x[0-9a-f]+", "", str(version.jaxpr)).encode())
            for array in _arrays(version):
                _update(digest, array)
    return digest.hexdigest()


def calls_python(closed: core.ClosedJaxpr) -> bool:
    """Return whether a traced program calls back into Python, so that its results depend on unknown code."""
    return any(eqn.primitive.name.endswith("callback") for eqn in equations(closed.jaxpr))


LAPACK = frozenset(
    {"cholesky", "eig", "eigh", "geqrf", "hessenberg", "householder_product", "lu", "qr", "schur", "svd"}
    | {"triangular_solve", "tridiagonal", "tridiagonal_solve"}
)
"""The primitives that call LAPACK on a CPU."""


def count_scatters(closed: core.ClosedJaxpr) -> int:
    """Return how many operations of a traced program write to places of an array that are computed."""
    return sum(eqn.primitive.name.startswith("scatter") for eqn in equations(closed.jaxpr))


def calls_lapack(closed: core.ClosedJaxpr) -> bool:
    """Return whether a traced program decomposes matrices, for which XLA calls LAPACK on a CPU.

    There, jaxlib divides a batch of matrices among the threads of XLA's pool, and waits for them in one of these
    threads. As many programs at once as the pool has threads may thus wait for each other forever.
    """
    return any(eqn.primitive.name in LAPACK for eqn in equations(closed.jaxpr))


def equations(jaxpr: core.Jaxpr) -> Iterator[Any]:
    """Yield all equations of a jaxpr and of the jaxprs within it."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in _within(eqn):
            yield from equations(inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner)


def _within(eqn: Any) -> list[Any]:
    """Return the jaxprs that are parameters of an equation."""
    leaves = jax.tree.leaves(eqn.params, is_leaf=lambda x: isinstance(x, (core.Jaxpr, core.ClosedJaxpr)))
    return [leaf for leaf in leaves if isinstance(leaf, (core.Jaxpr, core.ClosedJaxpr))]


def _arrays(closed: core.ClosedJaxpr) -> Iterator[np.ndarray]:
    """Yield all arrays of a traced program: its constants, its literals, and those of the jaxprs within it."""
    held = [*closed.consts, *(atom.val for atom in closed.jaxpr.outvars if isinstance(atom, core.Literal))]
    for eqn in equations(closed.jaxpr):
        held += [atom.val for atom in eqn.invars if isinstance(atom, core.Literal)]
        for inner in _within(eqn):
            held += getattr(inner, "consts", ())
        held += [leaf for leaf in jax.tree.leaves(eqn.params) if isinstance(leaf, np.ndarray)]
    for value in held:
        yield np.asarray(without_key(value))


def digest_array(array: np.ndarray) -> str:
    """Return the shape, the dtype and a digest of the values, as text."""
    return f"{array.shape} {array.dtype} {hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()}"


def digest_arrays(tree: Any) -> str:
    """Return a digest of all arrays of the tree, including their shapes and dtypes."""
    digest = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(array.view(np.uint8).data)
    return digest.hexdigest()


def _update(digest: Any, array: np.ndarray) -> None:
    digest.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
