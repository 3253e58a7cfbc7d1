"""`train_many`: train one task in many configurations, mapped by `jax.vmap` or one after another."""

import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from gdlab.arguments import (
    as_chunk,
    as_path,
    first_line,
    require_choice,
    require_count,
    require_flag,
    require_instance,
)
from gdlab.compute import interrupts
from gdlab.compute.devices import local_devices, platform_of
from gdlab.compute.forks import require_unforked
from gdlab.compute.programs import digest_arrays
from gdlab.compute.threads import Crew, thread_devices
from gdlab.hyperparameters.axes import Form, Layout, lay_out
from gdlab.hyperparameters.factories import explained, factories_by_name, require_arguments, require_values
from gdlab.records.blocks import Blocks
from gdlab.records.environment import environment
from gdlab.records.files import to_json
from gdlab.scans.plans import calls_per_block
from gdlab.scans.processes import open_blocks, own_lanes
from gdlab.scans.results import Results
from gdlab.scans.space import as_seeds
from gdlab.tasks.checks import require_task
from gdlab.tasks.task import Task
from gdlab.training.lanes import WHOLE, Lanes, Recipe, compile_lanes, seconds_per_lane, trace_lanes, widest
from gdlab.types import Factory

RESULT_NAMES = ("optimizer", "trial", "seed", "epoch", "failed_at", "gradient_norm")
"""Names of dimensions and variables of the result, in addition to those of the metrics."""

STRATEGIES = ("auto", "vmap", "map")


@interrupts.heeded()
def train_many(
    task: Task,
    factory: Any,
    hyperparameters: Any,
    *,
    seeds: int | Sequence[int],
    epochs: int,
    strategy: str = "auto",
    chunk: int | str = "auto",
    devices: Sequence[jax.Device] | None = None,
    progress: bool = True,
    save_to: str | Path | None = None,
) -> xr.Dataset:
    """Train a task with every setting of the hyperparameters from every seed.

    A lane (one run of the batch) is one setting with one seed. All lanes of an optimizer share one compiled program.
    A lane's numbers do not depend on the strategy, up to rounding.

    Args:
      task: the data, the model and the loss; see `gdlab.tasks.Task`.
      factory: a function that returns an optimizer, or a mapping from names to such functions, which adds the
        dimension "optimizer" to the result.
      hyperparameters: as in `gdlab.sweep`, a mapping from arguments of the factory to numbers, 1-D arrays (one
        dimension each) or `xarray.DataArray`s; or a list of points of a search, as returned by
        `sample_hyperparameters`, which adds the dimension "trial". All values are converted to float32.
      seeds: the number of seeds (0, 1, ...), or a sequence of seeds. A seed determines the same things as in `train`,
        in the same way for every setting.
      epochs: the number of epochs of each lane.
      strategy: "vmap" steps `chunk` lanes in one call; "map" steps the lanes one after another with a program that is
        compiled once; "auto" (the default) compiles both for the first optimizer, times some steps of each, and uses
        the faster one for all optimizers, or "map" where "vmap" fails.
      chunk: the number of lanes per call. "auto" (the default): as many as fit into a share of the device's memory,
        judging by the compiled program of one lane, but at most 16 on a CPU.
      devices: the devices to use; each trains its own lanes. A CPU runs as many concurrent calls as it has cores.
        Default: all devices of this process. Where `jax.distributed` is initialized, the processes divide the lanes
        among themselves, and each returns the whole result.
      progress: whether to show a progress bar.
      save_to: a folder in which finished lanes are saved. The same call resumes there, with the strategy that was
        found faster, and its result is the same bit for bit. None: nothing is saved.

    Returns:
      An `xarray.Dataset` with the dimensions optimizer (if `factory` is a mapping), those of the hyperparameters, seed
      and epoch. Its variables are train_loss, test_loss, ..., as in `Training.history`, NaN from the epoch in which a
      lane's loss is no longer finite; and, without the dimension epoch, `failed_at`, as in `Training`: the step,
      counted from 1, or 0. Its attributes record the task, the environment, the duration in seconds, the strategy, and
      how the speeds of the two strategies compare if both were timed; on a GPU also the compiler options in force.

    Raises:
      TypeError: if an argument has the wrong type, or a hyperparameter cannot be traced.
      ValueError: if a number is out of range, a factory does not take one of the hyperparameters, or the folder holds
        the results of another call.
      FileNotFoundError: if the folder is moved or deleted during the call.
      RuntimeError: in a process that was forked after JAX had started.
    """
    require_unforked("train_many")
    names = require_task("task", task)
    factories = factories_by_name(factory)
    numbers = as_seeds(seeds)
    require_count("epochs", epochs)
    require_choice("strategy", strategy, STRATEGIES)
    width = as_chunk(chunk)
    require_flag("progress", progress)
    if save_to is not None:
        require_instance("save_to", save_to, (str, os.PathLike), "a folder's path")
        save_to = as_path("save_to", save_to)
    named = list(factories) if isinstance(factory, Mapping) else None
    parts = ("train", "test") if task.valid is None else ("train", "valid", "test")
    metrics = [f"{part}_{name}" for part in parts for name in names]
    layout = lay_out(hyperparameters, {"optimizer": named}, Form((*RESULT_NAMES, *metrics)), len(numbers))
    require_arguments(factories, layout.numbers)
    require_values(factories, layout, np.float32)
    return _Request(
        task,
        factories,
        layout,
        numbers,
        epochs,
        strategy,
        width,
        local_devices(devices),
        progress,
        save_to,
        metrics,
    ).run()


@dataclasses.dataclass
class _Request:
    """A checked call of `train_many` and its progress."""

    task: Task
    factories: dict[str, Factory]
    layout: Layout
    seeds: np.ndarray
    epochs: int
    strategy: str
    chunk: int | None
    devices: list[jax.Device]
    progress: bool
    save_to: str | Path | None
    metrics: list[str]

    def __post_init__(self) -> None:
        self.threads = thread_devices(self.devices)
        self.lanes = own_lanes(self.layout.lanes)
        self.names = tuple(self.layout.numbers)
        self.data = {device: jax.device_put(self.task.data, device) for device in self.devices}
        data = self.data[self.devices[0]]
        self.recipes = [Recipe(self.task.functions, entry, self.names, data) for entry in self.factories.values()]
        self.crew = Crew(self.threads)
        self.programs: dict[tuple[int, int | None], Lanes] = {}
        self.plan: dict[str, Any] = {}
        self.options: dict[str, Any] = {}
        self.compile_seconds = 0.0

    def run(self) -> xr.Dataset:
        began = time.perf_counter()
        results = Results(self._empty(), self.lanes, self._blocks())
        self.plan = results.decided("lanes", self._plan)
        indices = range(len(self.recipes))
        width = self.plan["width"]
        waiting = {
            index: [span for span in self._spans() if not results.resume(index, *span, width)] for index in indices
        }
        self._compile([index for index in indices if waiting[index]])
        self.compile_seconds = time.perf_counter() - began
        total = len(self.factories) * len(self.lanes)
        left = sum(high - low for spans in waiting.values() for low, high in spans)
        settings: dict[str, Any] = {"total": total * self.epochs, "initial": (total - left) * self.epochs}
        with tqdm(**settings, unit=" epochs", unit_scale=True, disable=None if self.progress else True) as bar:
            for index, name in enumerate(self.factories):
                bar.set_description(name)
                self._train(index, waiting[index], results, bar)
        return self._label(results, time.perf_counter() - began)

    def _empty(self) -> dict[str, np.ndarray]:
        shape = (len(self.factories), self.layout.lanes)
        names = (*self.metrics, "gradient_norm")
        found = {name: np.full((*shape, self.epochs), np.nan, np.float32) for name in names}
        return found | {"failed_at": np.zeros(shape, np.int32)}

    def _compile(self, todo: Sequence[int]) -> None:
        """Trace the programs of these optimizers here, where the caller's settings apply; compile in all threads."""
        width = self.plan["width"]
        traced = {index: self._traced(index, width) for index in todo if (index, width) not in self.programs}
        made = self.crew.run(lambda index, _: compile_lanes(traced[index], width), list(traced))
        self.programs |= {(index, width): lanes for index, lanes in zip(traced, made, strict=True)}

    def _blocks(self) -> Blocks | None:
        if self.save_to is None:
            return None
        numbers = sorted(self.layout.numbers.items())
        values = {name: f"{array.dims} {array.values.tolist()}" for name, array in numbers}
        identity = {
            "task": self.task.name,
            "data": digest_arrays(self.task.data),
            "factory": " ".join([str(list(self.factories)), *map(self._digest, range(len(self.recipes)))]),
            "hyperparameters": f"{values} {self.layout.axes}",
            "seeds": str(self.seeds.tolist()),
            "epochs": str(self.epochs),
            "strategy": f"{self.strategy} {self.chunk}",
            "versions and platform": platform_of(self.devices[0]),
        }
        return open_blocks("gdlab.train_many", self.save_to, identity)

    def _digest(self, index: int) -> str:
        digest = self._traced(index, None)[self.devices[0]].digest
        if digest is None:
            raise ValueError("save_to: expected functions without Python callbacks, got a program that calls Python")
        return digest

    def _traced(self, index: int, width: int | None) -> Any:
        with explained(list(self.factories)[index], self.names):
            return trace_lanes(self.recipes[index], width, self.devices)

    def _plan(self) -> dict[str, Any]:
        """Choose the number of lanes per call, as requested or by timing the first optimizer, and that of a block."""
        plan: dict[str, Any]
        if self.strategy == "map" or len(self.lanes) <= 1:
            plan = {"strategy": "map", "width": None}
        elif self.strategy == "vmap" and self.chunk:
            plan = {"strategy": "vmap", "width": self.chunk}
        else:
            plan = self._measured()
        width = plan["width"] or 1
        plan["block"] = width * calls_per_block(-(-len(self.lanes) // width), len(self.threads))
        return plan

    def _measured(self) -> dict[str, Any]:
        one = self._compiled(0, None)
        width = self.chunk or widest(one, self.devices[0], len(self.threads) // len(self.devices))
        width = max(1, min(width, -(-len(self.lanes) // len(self.threads))))
        if self.strategy == "vmap":
            return {"strategy": "vmap", "width": width}
        every = self.lanes
        try:
            both = one, self._compiled(0, width)
            taken = seconds_per_lane(
                both, self.data, self._values(0, every), self._seeds(every), self.threads, self.task.steps
            )
        except jax.errors.JaxRuntimeError as error:  # no algorithm for so many lanes, or no memory
            self.programs[0, None] = one
            return {"strategy": "map", "width": None, "compared": f"vmap failed: {first_line(error)}"}
        best = "map" if taken[0] <= taken[1] else "vmap"
        self.programs[0, None if best == "map" else width] = both[best == "vmap"]
        return {
            "strategy": best,
            "width": width if best == "vmap" else None,
            "vmap_is_faster_by": taken[0] / taken[1],
            "compared": f"{len(self.threads)} calls at a time, of {width} lanes by vmap",
        }

    def _compiled(self, index: int, width: int | None) -> Lanes:
        return compile_lanes(self._traced(index, width), width)

    def _values(self, index: int, lanes: range) -> list[np.ndarray]:
        """Return the values of each hyperparameter in these lanes."""
        found = (self.layout.values(name, lanes, optimizer=index) for name in self.names)
        return [values.astype(np.float32) for values in found]

    def _seeds(self, lanes: range) -> np.ndarray:
        return self.seeds[self.layout.repeat(lanes)]

    def _spans(self) -> list[tuple[int, int]]:
        """Return the blocks of lanes: the first lane of each, and the lane after its last one."""
        size, stop = self.plan["block"], self.lanes.stop
        return [(low, min(low + size, stop)) for low in range(self.lanes.start, stop, size)]

    def _train(self, index: int, waiting: Sequence[tuple[int, int]], results: Results, bar: Any) -> None:
        if not waiting:
            return
        lanes = self.programs.pop((index, self.plan["width"]))
        options = lanes.epoch[self.devices[0]].options
        if options is not None:
            self.options[list(self.factories)[index]] = options

        def work(span: tuple[int, int], device: jax.Device) -> None:
            own = range(*span)
            found = self._train_span(lanes, device, self._values(index, own), self._seeds(own), bar)
            if found is not None:
                results.keep(index, *span, self.plan["width"], found)

        self.crew.run(work, waiting)

    def _train_span(
        self, lanes: Lanes, device: jax.Device, values: Sequence[np.ndarray], seeds: np.ndarray, bar: Any
    ) -> dict[str, np.ndarray] | None:
        """Train these lanes for all epochs, call by call; return None if another thread has failed."""
        calls = []
        for low in range(0, len(seeds), lanes.lanes):
            high = min(low + lanes.lanes, len(seeds))
            arguments, learner = lanes.start(device, [v[low:high] for v in values], seeds[low:high])
            rows = []
            for _ in range(self.epochs):
                if self.crew.stopped.is_set():
                    return None
                interrupts.check()
                learner, summary = lanes.epoch[device](*arguments, learner, self.data[device], WHOLE)
                rows.append(jax.device_get(summary))
                bar.update(high - low)
            call = {name: np.stack([row[name] for row in rows], axis=-1) for name in rows[0]}
            call["failed_at"] = np.asarray(learner.failed_at)
            del learner  # frees its memory before the next call allocates its own
            if lanes.width is None:
                call = {name: array[None] for name, array in call.items()}
            calls.append({name: array[: high - low] for name, array in call.items()})
        return {name: np.concatenate([call[name] for call in calls]) for name in calls[0]}

    def _label(self, results: Results, seconds: float) -> xr.Dataset:
        named = self.layout.categories["optimizer"] is not None
        sizes = {"optimizer": len(self.factories)} if named else {}
        sizes |= self.layout.axes | {"seed": len(self.seeds)}
        variables = results.variables(
            sizes, {name: ("epoch",)[: array.ndim - 2] for name, array in results.arrays.items()}
        )
        found: dict[str, Any] = {
            "seed": self.seeds.astype(np.int64),
            "epoch": np.arange(1, self.epochs + 1, dtype=np.int32),
        }
        if named:
            found["optimizer"] = list(self.factories)
        found |= self.layout.coordinates([] if named else ["optimizer"])
        attributes = {
            "task": self.task.name,
            "description": json.dumps(to_json(self.task.description)),
            "lanes": self.layout.lanes * len(self.factories),
            "epochs": self.epochs,
            "seconds": seconds,
            "compile_seconds": self.compile_seconds,
            "plan": json.dumps(to_json(self.plan)),
            "environment": json.dumps(environment()),
        }
        if self.options:
            attributes["compiler_options"] = json.dumps(self.options)
        return xr.Dataset(variables, coords=found, attrs=attributes)
