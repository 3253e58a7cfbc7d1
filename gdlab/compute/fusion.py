"""XLA's fusion of operations with several outputs on CPUs, which gdlab switches on.

It makes the step of a small ResNet faster (`benchmarks/NOTES.md`), but XLA does not do it unless a flag of the
process asks for it: it is not an option of a single compilation. XLA reads the flag when the first backend starts,
that is, when a program first uses a device. So importing gdlab sets the flag (see `request`), unless a backend has
started, `XLA_FLAGS` already says anything about `xla_backend_extra_options`, or `GDLAB_MULTI_OUTPUT_FUSION=0` forbids
it. Results change in their last digits only.

A loop that writes many arrays needs many comparisons of addresses before LLVM may vectorize it, more than LLVM makes by
default; a second option raises that limit.
"""

import functools
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import jaxlib.version

OPTIONS = "xla_cpu_use_multi_output_fusion,-vectorize-memory-check-threshold=10000"
"""The options of XLA's CPU backend, the second of which XLA passes on to LLVM."""

VERSIONS = ("0.10.", "0.11.")
"""The versions of jaxlib that are known to have both options. An unknown option of LLVM would end the process."""

SWITCH = "GDLAB_MULTI_OUTPUT_FUSION"
"""The environment variable that forbids the options if it is 0."""


def request(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Ask XLA for fusion with several outputs, by flags in the environment; return whether they were set.

    Args:
      environment: the environment variables, which are changed. Default: those of this process.
    """
    flags = environment.get("XLA_FLAGS", "")
    if environment.get(SWITCH) == "0" or "xla_backend_extra_options" in flags or _has_started():
        return False
    if not jaxlib.version.__version__.startswith(VERSIONS):
        return False
    environment["XLA_FLAGS"] = f"{flags} --xla_backend_extra_options={OPTIONS}".strip()
    return True


def _has_started() -> bool:
    """Return whether JAX has started a backend, after which flags have no effect."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bool(bridge is not None and getattr(bridge, "backends_are_initialized", lambda: False)())


@functools.cache
def in_force() -> bool:
    """Return whether XLA merges two operations that read the same array into one loop, found out by compiling two."""
    import jax  # not above, since importing gdlab does not import JAX
    import jax.numpy as jnp

    try:
        place = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # JAX_PLATFORMS names other platforms only
        return False
    with jax.disable_jit(False):
        two = jax.jit(lambda x: (x + 1, x * x), in_shardings=place, out_shardings=place)
        text = two.lower(jax.ShapeDtypeStruct((512,), jnp.float32)).compile().as_text()
    return text is not None and text.count(" fusion(") == 1


PASS = "cpu_multi_output_fusion"
"""XLA's name of the pass that merges operations with several outputs."""


def options_without(scatters: int, device: Any) -> dict[str, str]:
    """Return compiler options that switch the fusion off for a program of so many scatters, if it may end the process.

    XLA of jaxlib 0.10 aborts where it merges two scatters of matrices, as those that write the memories of L-BFGS
    at an index of each lane.
    """
    return {"xla_disable_hlo_passes": PASS} if scatters > 1 and device.platform == "cpu" else {}
