"""`train_many`: many configurations of one task's training, mapped by vmap or one after another, labelled."""

import contextlib
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

from gdlab.arguments import describe, require_choice, require_count
from gdlab.compute.devices import local_devices, platform_of
from gdlab.compute.programs import digest_arrays
from gdlab.compute.threads import Crew, thread_devices
from gdlab.hyperparameters.axes import Layout, lay_out
from gdlab.hyperparameters.factories import explained, factories_by_name, require_arguments
from gdlab.records.blocks import Blocks
from gdlab.records.environment import environment
from gdlab.records.files import to_json, write_json
from gdlab.tasks.task import Task, require_task
from gdlab.training.lanes import WHOLE, Lanes, Recipe, compile_lanes, seconds_per_lane, trace_lanes, widest
from gdlab.types import Factory

RESULT_NAMES = ("optimizer", "trial", "seed", "epoch", "failed_at", "gradient_norm")
"""Names of the result's own dimensions and variables, beside those of the metrics."""

STRATEGIES = ("auto", "vmap", "map")


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
    """Train with every setting of the hyperparameters from every seed; one program an optimizer.

    factory: a function that returns an optimizer, or a mapping from names to such: the dimension "optimizer".
    hyperparameters: as in `gdlab.sweep`: a mapping from arguments of the factory to numbers, 1-D arrays (a dimension
        each) or `xarray.DataArray`s, or a list of points of a search (the dimension "trial"), as
        `sample_hyperparameters` makes. They become float32 numbers.
    seeds: how many (0, 1, ...), or which. A seed decides what it does in `train`, the same for every setting.
    strategy: "vmap" steps `chunk` configurations, lanes, in one call; "map" steps them one after another with one
        program that is compiled once; "auto" compiles both for the first optimizer, times some steps of each, and goes
        on with the faster, the other optimizers too. The numbers agree up to rounding.
    chunk: lanes of a call. "auto": as many as fit in a part of the device's memory, by what the compiled program of one
        lane takes, in a CPU 16 at most.
    devices: default all of this process's; each works on lanes of its own. A CPU runs as many calls at a time as it has
        cores.
    save_to: a folder for lanes that are done. The same call goes on there, with the strategy that was found faster,
        and ends in the same bits; another call raises ValueError.

    Returns a Dataset with the dimensions optimizer (where several were asked for), the hyperparameters', seed and
    epoch, and the variables train_loss, test_loss, ... as in `Training.history`, NaN from the epoch on in which a
    lane's loss was no longer finite, and `failed_at` without epoch, as in `Training`: the step (from 1), 0: none.
    Its attributes say what was done, on what, in how many seconds, and by which strategy, with what both took.

    Raises TypeError and ValueError for arguments that the factory does not take or that cannot be traced.
    """
    names = require_task("task", task)
    factories = factories_by_name(factory)
    if isinstance(seeds, (int, np.integer)):
        require_count("seeds", seeds)
        seeds = range(int(seeds))
    seeds = [*seeds]
    for seed in seeds:
        require_count("seeds", seed, low=0)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds: wanted at least one, each once, got {seeds}")
    require_count("epochs", epochs)
    require_choice("strategy", strategy, STRATEGIES)
    if chunk != "auto":
        require_count("chunk", chunk)
    if not isinstance(progress, bool):
        raise TypeError(f"progress: wanted True or False, got {describe(progress)}")
    if save_to is not None and not isinstance(save_to, (str, os.PathLike)):
        raise TypeError(f"save_to: wanted a folder's path, got {describe(save_to)}")
    named = list(factories) if isinstance(factory, Mapping) else None
    parts = ("train", "test") if task.valid is None else ("train", "valid", "test")
    metrics = [f"{part}_{name}" for part in parts for name in names]
    layout = lay_out(hyperparameters, {"optimizer": named}, (*RESULT_NAMES, *metrics), len(seeds))
    require_arguments(factories, layout.numbers)
    return _Request(
        task,
        factories,
        layout,
        np.array(seeds, np.uint32),
        epochs,
        strategy,
        None if chunk == "auto" else int(chunk),
        local_devices(devices),
        progress,
        save_to,
        metrics,
    ).run()


Span = tuple[int, int]
"""A block of lanes, from the first up to the second: what is saved, and resumed, at a time."""


@dataclasses.dataclass
class _Request:
    """A checked request and what came of it so far."""

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
        self.lanes = self.layout.lanes
        self.names = tuple(self.layout.numbers)
        self.data = {device: jax.device_put(self.task.data, device) for device in self.devices}
        data = self.data[self.devices[0]]
        self.recipes = [Recipe(self.task.functions, entry, self.names, data) for entry in self.factories.values()]
        self.crew = Crew(self.threads)
        self.programs: dict[tuple[int, int | None], Lanes] = {}
        self.plan: dict[str, Any] = {}
        self.compile_seconds = 0.0

    def run(self) -> xr.Dataset:
        began = time.perf_counter()
        arrays: dict[str, np.ndarray] = {}
        shape = (len(self.factories), self.lanes)
        for name in (*self.metrics, "gradient_norm"):
            arrays[name] = np.full((*shape, self.epochs), np.nan, np.float32)
        arrays["failed_at"] = np.zeros(shape, np.int32)
        blocks = self._blocks()
        self.plan = self._plan(blocks)
        indices = range(len(self.recipes))
        held = [{span: blocks.load(index, *span) if blocks else None for span in self._spans()} for index in indices]
        self._compile([index for index in indices if None in held[index].values()])
        self.compile_seconds = time.perf_counter() - began
        total = len(self.factories) * self.lanes * self.epochs
        with tqdm(total=total, unit=" epochs", unit_scale=True, disable=None if self.progress else True) as bar:
            for index, name in enumerate(self.factories):
                bar.set_description(name)
                self._train(index, held[index], blocks, arrays, bar)
        return self._label(arrays, time.perf_counter() - began)

    def _compile(self, todo: Sequence[int]) -> None:
        """The programs of these optimizers: traced here, where the caller's settings hold, compiled by all threads."""
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
        return Blocks(self.save_to, identity)

    def _digest(self, index: int) -> str:
        digest = self._traced(index, None)[self.devices[0]].digest
        if digest is None:
            raise ValueError("save_to: wanted a task and a factory of JAX alone, got a call back into Python")
        return digest

    def _traced(self, index: int, width: int | None) -> Any:
        with explained(list(self.factories)[index], self.names):
            return trace_lanes(self.recipes[index], width, self.devices)

    def _plan(self, blocks: Blocks | None) -> dict[str, Any]:
        """How many lanes a call steps: as asked for, as the folder says, or by the clock with the first optimizer."""
        file = blocks.folder / "plan.json" if blocks else None
        if file is not None and file.exists():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                held = json.loads(file.read_text())
                if (held["width"] is None or held["width"] >= 1) and held["block"] >= 1:
                    return dict(held)
        plan: dict[str, Any]
        if self.strategy == "map" or self.lanes == 1:
            plan = {"strategy": "map", "width": None}
        elif self.strategy == "vmap" and self.chunk:
            plan = {"strategy": "vmap", "width": self.chunk}
        else:
            plan = self._measured()
        # Whole calls, some for each worker, so that all end at about the same time.
        width = plan["width"] or 1
        plan["block"] = width * max(1, -(-self.lanes // width) // (8 * len(self.threads)))
        if file is not None:
            write_json(file, plan)
        return plan

    def _measured(self) -> dict[str, Any]:
        one = self._compiled(0, None)
        width = self.chunk or widest(one, self.devices[0], len(self.threads) // len(self.devices))
        width = max(1, min(width, -(-self.lanes // len(self.threads))))
        if self.strategy == "vmap":
            return {"strategy": "vmap", "width": width}
        both = one, self._compiled(0, width)
        seeds = self._seeds(range(self.lanes))
        taken = seconds_per_lane(
            both, self.data, self._values(0, range(self.lanes)), seeds, self.threads, self.task.steps
        )
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
        """Of each hyperparameter the values of these lanes."""
        found = (self.layout.values(name, lanes, optimizer=index) for name in self.names)
        return [values.astype(np.float32) for values in found]

    def _seeds(self, lanes: range) -> np.ndarray:
        return self.seeds[self.layout.repeat(lanes)]

    def _spans(self) -> list[Span]:
        """The blocks of lanes."""
        size = self.plan["block"]
        return [(low, min(low + size, self.lanes)) for low in range(0, self.lanes, size)]

    def _train(
        self,
        index: int,
        held: Mapping[Span, dict[str, np.ndarray] | None],
        blocks: Blocks | None,
        arrays: dict[str, np.ndarray],
        bar: Any,
    ) -> None:
        lanes = self.programs.pop((index, self.plan["width"]), None)

        def work(span: Span, device: jax.Device) -> None:
            found = held[span]
            if found is not None:
                bar.update((span[1] - span[0]) * self.epochs)
            elif lanes is not None:
                own = range(*span)
                found = self._train_span(lanes, device, self._values(index, own), self._seeds(own), bar)
                if blocks and found is not None:
                    blocks.save(index, *span, arrays=found)
            for name, array in (found or {}).items():
                arrays[name][index, span[0] : span[1]] = array

        self.crew.run(work, self._spans())

    def _train_span(
        self, lanes: Lanes, device: jax.Device, values: Sequence[np.ndarray], seeds: np.ndarray, bar: Any
    ) -> dict[str, np.ndarray] | None:
        """All epochs of these lanes, call by call; None where another thread has failed."""
        calls = []
        for low in range(0, len(seeds), lanes.lanes):
            high = min(low + lanes.lanes, len(seeds))
            arguments, learner = lanes.start(device, [v[low:high] for v in values], seeds[low:high])
            rows = []
            for _ in range(self.epochs):
                if self.crew.stopped.is_set():
                    return None
                learner, summary = lanes.epoch[device](*arguments, learner, self.data[device], WHOLE)
                rows.append(jax.device_get(summary))
                bar.update(high - low)
            call = {name: np.stack([row[name] for row in rows], axis=-1) for name in rows[0]}
            call["failed_at"] = np.asarray(learner.failed_at)
            del learner  # before the next call's is made
            if lanes.width is None:
                call = {name: array[None] for name, array in call.items()}
            calls.append({name: array[: high - low] for name, array in call.items()})
        return {name: np.concatenate([call[name] for call in calls]) for name in calls[0]}

    def _label(self, arrays: Mapping[str, np.ndarray], seconds: float) -> xr.Dataset:
        named = self.layout.categories["optimizer"] is not None
        dims = ("optimizer", *self.layout.axes, "seed")
        shape = (len(self.factories), *self.layout.axes.values(), len(self.seeds))
        variables = {}
        for name, array in arrays.items():
            tail = ("epoch",) if array.ndim == 3 else ()
            labelled = xr.DataArray(array.reshape(*shape, *array.shape[2:]), dims=(*dims, *tail))
            variables[name] = labelled if named else labelled.isel(optimizer=0)
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
            "lanes": self.lanes * len(self.factories),
            "epochs": self.epochs,
            "seconds": seconds,
            "compile_seconds": self.compile_seconds,
            "plan": json.dumps(to_json(self.plan)),
            "environment": json.dumps(environment()),
        }
        return xr.Dataset(variables, coords=found, attrs=attributes)
