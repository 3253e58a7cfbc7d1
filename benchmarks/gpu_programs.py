"""Kernels per step of twelve programs on a GPU, counted in what XLA compiles for an H100; no GPU is needed.

JAX compiles for a description of a device as it does for the device itself. What XLA would choose by timing (the
algorithms of products and convolutions) it then chooses by default, so the counts are close to those of a real device,
not equal. A kernel is an operation of a step that is launched: a fusion, a copy, or a call of a library. Loops within a
step, such as the time steps of an LSTM, count as often as they run. Programs are the ones that `sweep`, `train` and
`train_many` compile, on random data of the real shapes.

Command: python -m benchmarks.gpu_programs [--only NAME ...]
Needs `jax[cuda12]` or `jax[cuda13]` beside the CPU's packages; without them it says so and ends. All twelve write
benchmarks/results/gpu_programs.json.
Runtime: 15 minutes on one core.
"""

import dataclasses
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.experimental import topologies

from benchmarks.gpu_kernels import step_kernels
from gdlab import FUNCTIONS, OPTIMIZERS, tasks
from gdlab.analysis.tables import Table
from gdlab.data import Dataset
from gdlab.data.datasets import Split
from gdlab.data.text import Text
from gdlab.optimizers import momentum
from gdlab.records import environment, write_json
from gdlab.sweeps import tiles
from gdlab.sweeps.step import LaneSpec
from gdlab.sweeps.traces import trace_lane
from gdlab.tasks import Task
from gdlab.training.compilation import Program, compile_run, trace_run
from gdlab.training.lanes import Recipe

RESULT = Path(__file__).parent / "results" / "gpu_programs.json"

H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  core_count: 132  fpus_per_core: 128  clock_rate_ghz: 1.98  threads_per_warp: 32
  threads_per_block_limit: 1024  threads_per_core_limit: 2048
  registers_per_block_limit: 65536  registers_per_core_limit: 65536
  shared_memory_per_block: 49152  shared_memory_per_block_optin: 232448  shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000  l2_cache_size: 52428800  device_memory_size: 84929347584
}
platform_name: "CUDA"  device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 10 }  runtime_version { major: 13 minor: 0 }
"""
"""The facts about a device that XLA's compiler asks for, in the text form of its GpuTargetConfigProto."""


class Found(NamedTuple):
    """A compiled program.

    Attributes:
      text: its text.
      options: the compiler options in force, or None if there was no choice.
      steps: the number of steps that one pass of its loop takes.
    """

    text: str
    options: dict[str, Any] | None
    steps: int = 1


def sweep_of(device: Any, function: str, optimizer: str, dim: int = 2) -> Found:
    one = FUNCTIONS[function]
    spec = LaneSpec(
        functions=(one.fn,),
        gradients=None,
        minimizers=np.asarray(one.minimizers(dim))[None],
        build=OPTIMIZERS[optimizer],
        names=("learning_rate",),
        max_steps=500,
        tolerance=None,
        target=1e-2,
        stop_at_target=False,
    )
    lane = trace_lane(spec, dim, np.dtype(np.float32))
    program = tiles.program_for(lane, [False], 1_000_000, None, device.platform)
    compiled: Any = tiles.compile_for(program, device)
    return Found(compiled.as_text(), None, program.unrolled)


def training_of(device: Any, task: Task) -> Found:
    traced = trace_run(task.functions, momentum, ("learning_rate",), task.data, device)
    epoch = compile_run(traced).epoch
    return Found(epoch.compiled.as_text(), epoch.options)


def lanes_of(device: Any, task: Task, width: int) -> Found:
    traced = Recipe(task.functions, momentum, ("learning_rate",), task.data).trace(width, device)
    epoch = Program(traced.lowered[1], device)
    return Found(epoch.compiled.as_text(), epoch.options)


def noise(batch: int, side: int, channels: int, classes: int) -> Dataset:
    """Two batches of images and labels at random."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2 * batch, side, side, channels), np.uint8)
    part = Split(pixels, rng.integers(0, classes, 2 * batch).astype(np.int32))
    return Dataset("random", part, part, tuple(map(str, range(classes))), {"source": "random numbers"})


def images(name: str, batch: int, side: int, channels: int, classes: int = 10, **settings: Any) -> Task:
    """Return a task on images at random."""
    make = getattr(tasks, name)
    with mock.patch.object(sys.modules[make.__module__], "load", return_value=noise(batch, side, channels, classes)):
        return make(batch_size=batch, **settings)


def words(batch: int = 20, count: int = 10_000) -> Task:
    """Return the task of the LSTM on words at random."""
    rng = np.random.default_rng(0)
    part = rng.integers(0, count, batch * (35 * 2 + 1)).astype(np.int32)
    text = Text("random", part, part, part, tuple(map(str, range(count))), {"source": "random numbers"})
    with mock.patch.object(sys.modules[tasks.ptb_lstm.__module__], "load_text", return_value=text):
        return tasks.ptb_lstm(batch_size=batch)


SMALL: dict[str, Any] = {"stem": "cifar", "head": "linear"}
PROGRAMS: dict[str, Callable[[Any], Found]] = {
    "sweep, Ackley 2-D, Adam": lambda device: sweep_of(device, "ackley", "adam"),
    "sweep, Rosenbrock 10-D, momentum": lambda device: sweep_of(device, "rosenbrock", "momentum", 10),
    "sweep, Rastrigin 2-D, RMSprop": lambda device: sweep_of(device, "rastrigin", "rmsprop"),
    "sweep, Ackley 2-D, Shampoo": lambda device: sweep_of(device, "ackley", "shampoo"),
    "ResNet18, source stem, float32, 64": lambda device: training_of(device, images("cifar10_resnet18", 64, 32, 3)),
    "ResNet18, cifar stem, bfloat16, 512": lambda device: training_of(
        device, images("cifar10_resnet18", 512, 32, 3, dtype=jnp.bfloat16, **SMALL)
    ),
    "VGG16, 128": lambda device: training_of(device, images("cifar100_vgg16", 128, 32, 3, 100)),
    "CapsNet, 128": lambda device: training_of(device, images("fashion_mnist_capsnet", 128, 28, 1)),
    "VAE, 100": lambda device: training_of(device, images("mnist_vae", 100, 28, 1)),
    "LSTM, 20 x 35 words": lambda device: training_of(device, words()),
    "perceptron, 72 lanes": lambda device: lanes_of(device, images("perceptron", 64, 8, 1, dataset="digits"), 72),
    "ResNet18 of width 8, 8 lanes": lambda device: lanes_of(
        device, images("cifar10_resnet18", 64, 32, 3, width=8, **SMALL), 8
    ),
}


def describe(build: Callable[[Any], Found], device: Any) -> dict[str, Any]:
    """Compile a program and count its kernels."""
    began = time.perf_counter()
    try:
        found = build(device)
    except jax.errors.JaxRuntimeError as error:
        return {"failed": str(error).splitlines()[0][:300], "seconds": time.perf_counter() - began}
    counted = step_kernels(found.text)
    return {
        "kernels_per_step": counted.total() / found.steps,
        "steps_per_pass": found.steps,
        "kernels": dict(counted.most_common()),
        "layouts_of_convolutions": dict(Counter(re.findall(r"dim_labels=(\S+?)[, ]", found.text)).most_common()),
        "options": found.options,
        "seconds": time.perf_counter() - began,
    }


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    only: tuple[str, ...] = tuple(PROGRAMS)
    """Names of programs."""


def main(config: Config) -> None:
    plugins = [name for name in ("jax-cuda12-plugin", "jax-cuda13-plugin") if find_spec(name.replace("-", "_"))]
    if not plugins:
        print("gpu_programs: skipped, since jax[cuda12] or jax[cuda13] is not installed, which compiles for a GPU")
        return
    compiler = {"target": "NVIDIA H100 80GB HBM3, described", **{name: version(name) for name in plugins}}
    topology = topologies.get_topology_desc("h100", "cuda", target_config=H100, topology="1x1x1")
    results = {}
    for name in config.only:
        results[name] = describe(PROGRAMS[name], topology.devices[0])
        print(f"{name}: {results[name]}", file=sys.stderr, flush=True)
    rows = [[name, *map(str, cells(found))] for name, found in results.items()]
    print(Table(["program", "kernels a step", "the most frequent", "options"], rows).markdown())
    if set(results) == set(PROGRAMS):
        how = environment() | {"command": "python -m benchmarks.gpu_programs"}
        write_json(RESULT, {"environment": how, "compiler": compiler, "programs": results})


def cells(found: dict[str, Any]) -> list[Any]:
    """The cells of a row of the table."""
    if "failed" in found:
        return ["", found["failed"], ""]
    most = ", ".join(f"{count} {label}" for label, count in list(found["kernels"].items())[:4])
    return [f"{found['kernels_per_step']:g}", most, ", ".join(found["options"] or {})]


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
