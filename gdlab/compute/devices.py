"""Devices, and the compiler options that suit each kind of device."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jaxlib
import numpy as np

from gdlab.arguments import describe
from gdlab.compute import fusion


def local_devices(devices: Any) -> list[jax.Device]:
    """Return `devices` as a list; None means all devices of this process."""
    if devices is None:
        return list(jax.local_devices())
    found = [devices] if isinstance(devices, jax.Device) else devices
    several = isinstance(found, (Sequence, np.ndarray)) and len(found) > 0
    if not several or not all(isinstance(device, jax.Device) for device in found):
        raise TypeError(
            f"devices: expected a list of jax devices, such as jax.local_devices(), got {describe(devices)}"
        )
    found = list(found)
    if len({device.platform for device in found}) > 1:
        raise ValueError(f"devices: expected devices of the same platform, got {found}")
    return found


def wide_vectors(device: jax.Device) -> dict[str, Any]:
    """Return compiler options for a program that loops over arrays.

    On a CPU with AVX-512 they make XLA use the full vector width.
    """
    if device.platform == "cpu" and _has_avx512():
        return {"xla_cpu_prefer_vector_width": 512}
    return {}


@functools.cache
def _has_avx512() -> bool:
    try:
        return " avx512f" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def repeatable(device: jax.Device) -> list[dict[str, Any]]:
    """Return sets of compiler options that keep a program's numbers the same from one process to the next.

    On a GPU, operations must be deterministic, and no algorithm may be chosen by timing. XLA may then find no
    algorithm among Triton's for a fused product, and does not compile; without them it takes cuBLAS's. The best set
    comes first. The list is empty where numbers are the same without any options.

    They do not help if the same process has compiled the same convolution without them: XLA remembers the algorithm
    that was fastest then, deterministic or not, and uses it again. Without autotuning (`xla_gpu_autotune_level=0`) it
    does not, but then a ResNet18 trains at a tenth of the speed.
    """
    if device.platform != "gpu":
        return []
    fixed = {"xla_gpu_deterministic_ops": True}
    return [fixed, fixed | {"xla_gpu_enable_triton_gemm": False}]


def loops_as_graphs(device: jax.Device) -> list[dict[str, Any]]:
    """Return sets of compiler options, the best first, for a program that loops over a few kernels.

    On a GPU they make a loop, its condition included, one CUDA graph. Otherwise every pass waits until the host has
    read the condition, which takes as long as several small kernels.
    """
    commands = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,CONDITIONAL,DYNAMIC_SLICE_FUSION,WHILE"
    graphs = {"xla_gpu_enable_command_buffer": commands, "xla_gpu_graph_min_graph_size": 1}
    return [graphs] if device.platform == "gpu" else []


class Compiled(NamedTuple):
    """A compiled program.

    Attributes:
      run: the program.
      options: the compiler options in force; None where there was no choice.
    """

    run: Any
    options: dict[str, Any] | None


def compile_with_first(lowered: Any, choices: Sequence[dict[str, Any]]) -> Compiled:
    """Compile with the first of these sets of options that the compiler accepts, or else with none of them.

    A program therefore never fails for want of an option, and `Compiled.options` records what it has.
    """
    for options in choices:
        try:
            return Compiled(lowered.compile(options), options)
        except jax.errors.JaxRuntimeError:  # no algorithm of the kind asked for, or an unknown option
            continue
    return Compiled(lowered.compile(), {} if choices else None)


def memory(device: jax.Device) -> float:
    """Return the size of the device's memory in bytes, or on a CPU the memory that the system has available."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return float(stats["bytes_limit"])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return 4e9


def platform_of(device: jax.Device) -> str:
    """Describe what the bits of a result depend on besides the program: versions, device and fusion on CPUs."""
    fused = ", multi-output fusion" if device.platform == "cpu" and fusion.in_force() else ""
    return f"jax {jax.__version__}, jaxlib {jaxlib.__version__}, {device.platform} {device.device_kind}{fused}"
