"""The programs of a sweep over trainings: one lane alone, or several mapped by vmap, and which of them is quicker."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, UInt32

from gdlab.sweeps.workers import with_settings
from gdlab.tasks import Task
from gdlab.training.program import Data, Learner, Summary, functions_of, shapes_of, trace_pair

WHOLE = np.int32(2**31 - 1)
"""No bound on the steps of an epoch."""

WIDEST = {"cpu": 16}
"""Lanes of a call at most, by platform: more of them leave a CPU's caches."""

WIDEST_ELSEWHERE = 1024

MEMORY_SHARE = 0.5
"""Of a device's memory, for lanes that are being trained."""

PROBE_SECONDS = 0.1
"""A look at a program takes about so long, or a whole epoch."""

Values = Sequence[Float[np.ndarray, " lanes"]]
"""Of each hyperparameter, the lanes' values."""


class Lanes(NamedTuple):
    """Compiled programs of one optimizer, by device.

    begin(values, seed) -> Learner; epoch(values, seed, learner, data, limit) -> (Learner, Summary). width: lanes of a
    call; None: one lane, with scalars.
    """

    begin: Mapping[jax.Device, Callable[..., Learner]]
    epoch: Mapping[jax.Device, Callable[..., tuple[Learner, Summary]]]
    width: int | None

    @property
    def lanes(self) -> int:
        """Of a call."""
        return self.width or 1

    def start(self, device: jax.Device, values: Values, seeds: UInt32[np.ndarray, " lanes"]) -> tuple[Any, Learner]:
        """The call's own arguments, filled up to its width with copies of the last lane, and its learner."""
        short = self.lanes - len(seeds)
        arguments: Any = ([np.pad(v, (0, short), mode="edge") for v in values], np.pad(seeds, (0, short), mode="edge"))
        if self.width is None:
            arguments = jax.tree.map(lambda array: array[0], arguments)
        arguments = jax.device_put(arguments, device)
        return arguments, self.begin[device](*arguments)


class Build(NamedTuple):
    """What the programs of one optimizer are made of. names: of the hyperparameters that the factory is given."""

    task: Task
    factory: Callable[..., Any]
    names: tuple[str, ...]
    data: Data

    def shapes(self, width: int | None) -> tuple[list[jax.ShapeDtypeStruct], jax.ShapeDtypeStruct]:
        """Of the arguments of begin."""
        shape = () if width is None else (width,)
        return [jax.ShapeDtypeStruct(shape, np.float32)] * len(self.names), jax.ShapeDtypeStruct(shape, np.uint32)

    def trace(self, width: int | None, device: jax.Device) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """begin and epoch for calls of `width` lanes (None: one, unmapped), traced and lowered for the device."""
        start, epoch = functions_of(self.task, self.factory, self.names)
        if width is not None:
            start, epoch = jax.vmap(start), jax.vmap(epoch, in_axes=(0, 0, 0, None, None))
        values, seed = self.shapes(width)
        like = jax.eval_shape(start, values, seed)
        arguments = values, seed, like, shapes_of(self.data), jax.ShapeDtypeStruct((), np.int32)
        return trace_pair(device, start, (values, seed), epoch, arguments, learner=2)


Lowered = Mapping[jax.Device, Sequence[Any]]
"""Of each device, begin and epoch, lowered."""


def lower_lanes(build: Build, width: int | None, devices: Sequence[jax.Device]) -> Lowered:
    """The programs on each of the devices; to be called where the caller's settings hold."""
    return {device: build.trace(width, device)[1] for device in devices}


def compile_lanes(lowered: Lowered, width: int | None) -> Lanes:
    """Compile; any thread may."""
    compiled = {device: [each.compile() for each in both] for device, both in lowered.items()}
    return Lanes(
        {device: both[0] for device, both in compiled.items()},
        {device: both[1] for device, both in compiled.items()},
        width,
    )


def widest(lane: Lanes, device: jax.Device, callers: int) -> int:
    """The lanes of a call that fit in their part of the device's memory, by what the program of one lane takes."""
    most = WIDEST.get(device.platform, WIDEST_ELSEWHERE)
    analysis = lane.epoch[device].memory_analysis()  # type: ignore[attr-defined]
    if analysis is None:
        return most
    each = analysis.temp_size_in_bytes + analysis.output_size_in_bytes
    return int(max(1, min(most, MEMORY_SHARE * memory(device) / callers // max(each, 1))))


def memory(device: jax.Device) -> float:
    """Bytes that the device has, or on a CPU those that the system has to give."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return float(stats["bytes_limit"])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return 4e9


def seconds_a_lane(
    programs: Sequence[Lanes],
    data: dict[jax.Device, Data],
    values: Values,
    seeds: UInt32[np.ndarray, " lanes"],
    pool: Executor,
    places: Sequence[jax.Device],
    steps: int,
) -> list[float]:
    """What one lane takes for as many steps of an epoch as the first program does in `PROBE_SECONDS`, in each program.

    As many calls at a time as there are `places`, as in the sweep; the programs take turns, and the least time of three
    counts. steps: of an epoch.
    """

    def call(lanes: Lanes, device: jax.Device, limit: int) -> float:
        arguments, learner = lanes.start(device, [v[: lanes.lanes] for v in values], seeds[: lanes.lanes])
        jax.block_until_ready(learner)
        began = time.perf_counter()
        jax.block_until_ready(lanes.epoch[device](*arguments, learner, data[device], np.int32(limit)))
        return time.perf_counter() - began

    work = with_settings(call)

    def look(lanes: Lanes, limit: int) -> float:
        return max(pool.map(lambda device: work(lanes, device, limit), places)) / (lanes.lanes * len(places))

    limit = 1
    look(programs[0], limit)  # the first call of a program is slower
    while limit < steps and look(programs[0], limit) * programs[0].lanes * len(places) < PROBE_SECONDS / 2:
        limit = min(2 * limit, steps)
    taken = [[look(lanes, limit) for lanes in programs] for _ in range(4)]
    return [min(times) for times in zip(*taken[1:], strict=True)]
