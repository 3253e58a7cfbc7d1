"""The programs of many runs: one lane alone, or several mapped by vmap, and which of them is quicker.

A lane is one run of a batch.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, UInt32

from gdlab.compute.devices import memory
from gdlab.compute.threads import Crew
from gdlab.tasks.task import Data, Functions
from gdlab.training.compilation import Begin, Epoch, TracedRun, functions_of, shapes_of, trace_both
from gdlab.training.epoch import Learner
from gdlab.types import Factory

WHOLE = np.int32(2**31 - 1)
"""No bound on the steps of an epoch."""

WIDEST = {"cpu": 16}
"""Lanes of a call at most, by platform: more of them leave a CPU's caches."""

WIDEST_ELSEWHERE = 1024

MEMORY_SHARE = 0.5
"""Of a device's memory, for lanes that are being trained."""

PROBE_SECONDS = 0.1
"""Target duration of one timing probe, in seconds; a probe is a whole epoch at most."""

Values = Sequence[Float[np.ndarray, " lanes"]]
"""Of each hyperparameter, the lanes' values."""


class Recipe(NamedTuple):
    """What the programs of one optimizer are made of. names: of the hyperparameters that the factory is given."""

    task: Functions
    factory: Factory
    names: tuple[str, ...]
    data: Data

    def trace(self, width: int | None, device: jax.Device) -> TracedRun:
        """The programs for calls of `width` lanes (None: one, unmapped), traced and lowered for the device."""
        start, epoch = functions_of(self.task, self.factory, self.names)
        if width is not None:
            start, epoch = jax.vmap(start), jax.vmap(epoch, in_axes=(0, 0, 0, None, None))
        shape = () if width is None else (width,)
        values = [jax.ShapeDtypeStruct(shape, np.float32)] * len(self.names)
        more = shapes_of(self.data), jax.ShapeDtypeStruct((), np.int32)
        return trace_both(device, start, epoch, (values, jax.ShapeDtypeStruct(shape, np.uint32)), more)


class Lanes(NamedTuple):
    """Compiled programs of one optimizer, by device. The epochs take `limit` too.

    width: lanes of a call; None: one lane, with scalars.
    """

    begin: Mapping[jax.Device, Begin]
    epoch: Mapping[jax.Device, Epoch]
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


def trace_lanes(recipe: Recipe, width: int | None, devices: Sequence[jax.Device]) -> dict[jax.Device, TracedRun]:
    """The programs on each of the devices; to be called where the caller's settings hold."""
    return {device: recipe.trace(width, device) for device in devices}


def compile_lanes(traced: Mapping[jax.Device, TracedRun], width: int | None) -> Lanes:
    """Compile; any thread may."""
    compiled = {device: [each.compile() for each in both.lowered] for device, both in traced.items()}
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


def seconds_per_lane(
    programs: Sequence[Lanes],
    data: Mapping[jax.Device, Data],
    values: Values,
    seeds: UInt32[np.ndarray, " lanes"],
    threads: Sequence[jax.Device],
    steps: int,
) -> list[float]:
    """What one lane takes for as many steps of an epoch as the first program does in `PROBE_SECONDS`, in each program.

    As many calls at a time as there are `threads`, as in `train_many`; the programs take turns, and the least time of
    three counts. steps: of an epoch.
    """

    def probe(lanes: Lanes, limit: int) -> float:
        def call(_: int, device: jax.Device) -> float:
            arguments, learner = lanes.start(device, [v[: lanes.lanes] for v in values], seeds[: lanes.lanes])
            jax.block_until_ready(learner)
            began = time.perf_counter()
            jax.block_until_ready(lanes.epoch[device](*arguments, learner, data[device], np.int32(limit)))
            return time.perf_counter() - began

        return max(Crew(threads).run(call, range(len(threads)))) / (lanes.lanes * len(threads))

    limit = 1
    probe(programs[0], limit)  # the first call of a program is slower
    while limit < steps and probe(programs[0], limit) * programs[0].lanes * len(threads) < PROBE_SECONDS / 2:
        limit = min(2 * limit, steps)
    taken = [[probe(lanes, limit) for lanes in programs] for _ in range(4)]
    return [min(times) for times in zip(*taken[1:], strict=True)]
