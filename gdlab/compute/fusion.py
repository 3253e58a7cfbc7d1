"""XLA's fusion of operations with several outputs on CPUs, which gdlab switches on for its own programs.

It makes the step of a small ResNet faster (`benchmarks/NOTES.md`). XLA has it only if a flag of the process asks for
it, and reads the flag when the first backend starts, that is, when a program first uses a device. So importing gdlab
sets two flags (see `request`): one makes the fusion available, and the other leaves it out of all programs. Those that
gdlab compiles ask for it again (see `options`), and those of a user stay what they are. Nothing is set if a backend has
started, if `XLA_FLAGS` already mentions either flag, or if `GDLAB_MULTI_OUTPUT_FUSION=0` forbids it. Results change in
their last digits only.

A loop that writes many arrays needs many comparisons of addresses before LLVM may vectorize it, more than LLVM makes by
default; another option raises that limit.
"""

import functools
import os
import sys
from collections.abc import Mapping, MutableMapping

import jaxlib.version

OPTIONS = "xla_cpu_use_multi_output_fusion,-vectorize-memory-check-threshold=10000"
"""The options of XLA's CPU backend, the second of which XLA passes on to LLVM."""

VERSIONS = ("0.10.", "0.11.")
"""The versions of jaxlib that are known to have both options. An unknown option of LLVM would end the process."""

PASS = "cpu_multi_output_fusion"
"""XLA's name of the pass that merges operations with several outputs."""

FLAGS = (f"--xla_backend_extra_options={OPTIONS}", f"--xla_disable_hlo_passes={PASS}")
"""The flags that importing gdlab sets."""

SWITCH = "GDLAB_MULTI_OUTPUT_FUSION"
"""The environment variable that forbids the flags if it is 0."""


def request(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Make the fusion available to programs that ask for it, by flags in the environment; return whether they were set.

    Args:
      environment: the environment variables, which are changed. Default: those of this process.
    """
    flags = environment.get("XLA_FLAGS", "")
    if environment.get(SWITCH) == "0" or _has_started():
        return False
    if "xla_backend_extra_options" in flags or "xla_disable_hlo_passes" in flags:
        return False
    if not jaxlib.version.__version__.startswith(VERSIONS):
        return False
    environment["XLA_FLAGS"] = " ".join([flags, *FLAGS]).strip()
    return True


def _has_started() -> bool:
    """Return whether JAX has started a backend, after which flags have no effect."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bool(bridge is not None and getattr(bridge, "backends_are_initialized", lambda: False)())


@functools.cache
def in_force() -> bool:
    """Return whether XLA merges two operations that read the same array into one loop if asked to, by compiling two."""
    import jax  # not above, since importing gdlab does not import JAX
    import jax.numpy as jnp

    try:
        place = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # JAX_PLATFORMS names other platforms only
        return False
    with jax.disable_jit(False):
        two = jax.jit(lambda x: (x + 1, x * x), in_shardings=place, out_shardings=place)
        text = two.lower(jax.ShapeDtypeStruct((512,), jnp.float32)).compile(dict(options(0, "cpu"))).as_text()
    return text is not None and text.count(" fusion(") == 1


def options(scatters: int, platform: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the compiler options of a program of gdlab, which ask for the fusion where the flags are set.

    Without them the program is compiled as any other is. XLA of jaxlib 0.10 ends the process where it merges two
    scatters of matrices, such as those that write the memories of L-BFGS at an index of each lane, so programs with
    several scatters do not ask.

    Args:
      scatters: how many operations of the program write to places of an array that are computed.
      platform: the platform of the program's device.
      environment: the environment variables. Default: those of this process.
    """
    asks = platform == "cpu" and scatters < 2 and FLAGS[1] in environment.get("XLA_FLAGS", "").split()
    return {"xla_disable_hlo_passes": ""} if asks else {}
