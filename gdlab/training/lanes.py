"""The programs for many runs, one lane at a time or several lanes mapped by `jax.vmap`, and which of them is faster.

A lane is one run of the batch.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, UInt32

from gdlab.compute.threads import Crew
from gdlab.scans.programs import fitting
from gdlab.tasks.task import Data, Functions
from gdlab.training.compilation import (
    Program,
    TracedRun,
    compile_run,
    functions_of,
    kept_trace,
    shapes_of,
    trace_both,
)
from gdlab.training.epoch import Learner
from gdlab.types import Factory

WHOLE = np.int32(2**31 - 1)
"""A limit that never bounds the number of steps of an epoch."""

PROBE_SECONDS = 0.1
"""Target duration of one timing probe, in seconds; a probe runs at most one whole epoch."""

Values = Sequence[Float[np.ndarray, " lanes"]]
"""For each hyperparameter, its values in all lanes."""


class Recipe(NamedTuple):
    """What the programs of one optimizer are made from.

    Attributes:
      task: the functions of the task.
      factory: the function that returns the optimizer.
      names: the names of the hyperparameters that the factory is called with.
      data: the data of the task.
      argument: the name of the argument that the factory was given as, for error messages.
    """

    task: Functions
    factory: Factory
    names: tuple[str, ...]
    data: Data
    argument: str = "factory"

    def trace(self, width: int | None, device: jax.Device) -> TracedRun:
        """Trace and lower the programs for calls of `width` lanes (None: one lane, without vmap) on the device."""
        shapes = shapes_of(self.data)

        def make() -> TracedRun:
            start, epoch = functions_of(self.task, self.factory, self.names, self.argument)
            if width is not None:
                start, epoch = jax.vmap(start), jax.vmap(epoch, in_axes=(0, 0, 0, None, None))
            shape = () if width is None else (width,)
            values = [jax.ShapeDtypeStruct(shape, np.float32)] * len(self.names)
            more = shapes, jax.ShapeDtypeStruct((), np.int32)
            return trace_both(device, start, epoch, (values, jax.ShapeDtypeStruct(shape, np.uint32)), more)

        return kept_trace(self.task, self.factory, shapes, ("lanes", self.names, self.argument, width, device), make)


class Lanes(NamedTuple):
    """The compiled programs of one optimizer.

    Attributes:
      begin: for each device, the program that initializes the learners.
      epoch: for each device, the program that trains them for an epoch; it also takes the limit of `run_epoch`.
      width: the number of lanes per call; None means one lane, whose arguments are scalars.
    """

    begin: Mapping[jax.Device, Program]
    epoch: Mapping[jax.Device, Program]
    width: int | None

    @property
    def lanes(self) -> int:
        """Number of lanes in one call."""
        return self.width or 1

    def start(self, device: jax.Device, values: Values, seeds: UInt32[np.ndarray, " lanes"]) -> tuple[Any, Learner]:
        """Return the arguments of one call, padded to its width with copies of the last lane, and its learner."""
        short = self.lanes - len(seeds)
        arguments: Any = ([np.pad(v, (0, short), mode="edge") for v in values], np.pad(seeds, (0, short), mode="edge"))
        if self.width is None:
            arguments = jax.tree.map(lambda array: array[0], arguments)
        arguments = jax.device_put(arguments, device)
        return arguments, self.begin[device](*arguments)


def trace_lanes(recipe: Recipe, width: int | None, devices: Sequence[jax.Device]) -> dict[jax.Device, TracedRun]:
    """Trace the programs for each device; call this in the thread in which the caller's JAX settings apply."""
    return {device: recipe.trace(width, device) for device in devices}


def compile_lanes(traced: Mapping[jax.Device, TracedRun], width: int | None) -> Lanes:
    """Compile the traced programs, or take those that are kept; any thread may call this."""
    compiled = {device: compile_run(both) for device, both in traced.items()}
    return Lanes(
        {device: both.begin for device, both in compiled.items()},
        {device: both.epoch for device, both in compiled.items()},
        width,
    )


def widest(lane: Lanes, device: jax.Device, callers: int) -> int:
    """Return how many lanes per call fit into memory with `callers` concurrent calls; see `gdlab.scans.programs`."""
    return fitting(lane.epoch[device].compiled, device, callers)


def seconds_per_lane(
    programs: Sequence[Lanes],
    data: Mapping[jax.Device, Data],
    values: Values,
    seeds: UInt32[np.ndarray, " lanes"],
    threads: Sequence[jax.Device],
    steps: int,
) -> list[float]:
    """Return the seconds that each program takes per lane for the same number of steps of an epoch.

    That number is what the first program does in `PROBE_SECONDS`, at most the `steps` of an epoch. As in `train_many`,
    there are as many concurrent calls as `threads`. The programs take turns, and the shortest of three times counts.
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
    probe(programs[0], limit)  # not timed: the first call of a program is slower
    while limit < steps and probe(programs[0], limit) * programs[0].lanes * len(threads) < PROBE_SECONDS / 2:
        limit = min(2 * limit, steps)
    taken = [[probe(lanes, limit) for lanes in programs] for _ in range(4)]
    return [min(times) for times in zip(*taken[1:], strict=True)]
