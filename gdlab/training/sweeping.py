"""`sweep`: many configurations of one task's training, mapped by vmap or one after another, as a labelled dataset."""

import contextlib
import dataclasses
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from gdlab.arguments import describe, require_choice, require_count
from gdlab.runs import environment, to_json, write_json
from gdlab.sweeps.axes import Factory, coordinates, lay_out, require_arguments
from gdlab.sweeps.space import by_name, local_devices
from gdlab.sweeps.store import Store
from gdlab.sweeps.workers import Part, usable_cores, with_settings
from gdlab.tasks import Task, require_task
from gdlab.training.lanes import WHOLE, Build, Lanes, compile_lanes, lower_lanes, seconds_a_lane, widest
from gdlab.training.program import data_of, digest_of, platform_of
from gdlab.training.training import fingerprint

RESERVED = ("optimizer", "function", "trial", "seed", "epoch", "failed_at", "gradient_norm")
"""Names of the result's own dimensions and variables, beside those of the metrics."""

STRATEGIES = ("auto", "vmap", "map")


def sweep(
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
    factories = by_name("factory", factory)
    for name, entry in factories.items():
        if not callable(entry):
            raise TypeError(f"factory: wanted a function that returns an optimizer, got {describe(entry)} for {name!r}")
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
    numbers, axes = lay_out(hyperparameters, named, [task.name], (*RESERVED, *metrics))
    require_arguments(factories, numbers)
    return _Sweep(
        task,
        factories,
        named is not None,
        numbers,
        axes,
        np.array(seeds, np.uint32),
        epochs,
        strategy,
        None if chunk == "auto" else int(chunk),
        local_devices(devices),
        progress,
        save_to,
        metrics,
    ).run()


@dataclasses.dataclass
class _Sweep:
    """A checked request and what came of it so far."""

    task: Task
    factories: dict[str, Factory]
    named: bool
    numbers: dict[str, xr.DataArray]
    axes: dict[str, int]
    seeds: np.ndarray
    epochs: int
    strategy: str
    chunk: int | None
    devices: list[jax.Device]
    progress: bool
    save_to: str | Path | None
    metrics: list[str]

    def __post_init__(self) -> None:
        on_cpu = self.devices[0].platform == "cpu"
        workers = max(usable_cores(), len(self.devices)) if on_cpu else len(self.devices)
        self.places = [self.devices[k % len(self.devices)] for k in range(workers)]
        self.lanes = int(np.prod(list(self.axes.values()), dtype=np.int64)) * len(self.seeds)
        self.data = {device: data_of(self.task, device) for device in self.devices}
        functions = self.task._replace(train=None, valid=None, test=None)
        data = self.data[self.devices[0]]
        self.builds = [Build(functions, build, tuple(self.numbers), data) for build in self.factories.values()]
        self.stopped = threading.Event()
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
        with self._explained():
            store = self._store()
        indices = range(len(self.builds))
        with ThreadPoolExecutor(len(self.places)) as pool:
            self.plan = self._plan(store, pool)
            width = self.plan["width"]
            held = [{part: store.load(index, part) for part in self._parts()} if store else {} for index in indices]
            todo = [index for index in indices if any(held[index].get(part) is None for part in self._parts())]
            # Traced here, where the caller's settings hold; compiled by all threads.
            with self._explained():
                lowered = {
                    index: lower_lanes(self.builds[index], width, self.devices)
                    for index in todo
                    if (index, width) not in self.programs
                }
            made = pool.map(lambda index: compile_lanes(lowered[index], width), lowered)
            self.programs |= {(index, width): lanes for index, lanes in zip(lowered, made, strict=True)}
            self.compile_seconds = time.perf_counter() - began
            total = len(self.factories) * self.lanes * self.epochs
            with tqdm(total=total, unit=" epochs", unit_scale=True, disable=None if self.progress else True) as bar:
                for index, name in enumerate(self.factories):
                    bar.set_description(name)
                    self._train(index, self.programs.pop((index, width), None), held[index], store, pool, arrays, bar)
        return self._label(arrays, time.perf_counter() - began)

    def _store(self) -> Store | None:
        if self.save_to is None:
            return None
        values = {name: f"{array.dims} {array.values.tolist()}" for name, array in sorted(self.numbers.items())}
        identity = {
            "task": self.task.name,
            "data": fingerprint(self.task),
            "factory": " ".join([str(list(self.factories)), *map(self._digest, self.builds)]),
            "hyperparameters": f"{values} {self.axes}",
            "seeds": str(self.seeds.tolist()),
            "epochs": str(self.epochs),
            "strategy": f"{self.strategy} {self.chunk}",
            "versions and platform": platform_of(self.devices[0]),
        }
        return Store(self.save_to, identity)

    def _digest(self, build: Build) -> str:
        digest = digest_of(*build.trace(None, self.devices[0]))
        if digest is None:
            raise ValueError("save_to: wanted a task and a factory of JAX alone, got a call back into Python")
        return digest

    def _plan(self, store: Store | None, pool: ThreadPoolExecutor) -> dict[str, Any]:
        """How many lanes a call steps: as asked for, as the folder says, or by the clock with the first optimizer."""
        file = store.folder / "plan.json" if store else None
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
            plan = self._measured(pool)
        # Whole calls, some for each worker, so that all end at about the same time.
        width = plan["width"] or 1
        plan["block"] = width * max(1, -(-self.lanes // width) // (8 * len(self.places)))
        if file is not None:
            write_json(file, plan)
        return plan

    def _measured(self, pool: ThreadPoolExecutor) -> dict[str, Any]:
        one = self._compiled(0, None)
        width = self.chunk or widest(one, self.devices[0], len(self.places) // len(self.devices))
        width = max(1, min(width, -(-self.lanes // len(self.places))))
        if self.strategy == "vmap":
            return {"strategy": "vmap", "width": width}
        both = one, self._compiled(0, width)
        taken = seconds_a_lane(both, self.data, self._values(0), self._seeds(), pool, self.places, self.task.steps)
        best = "map" if taken[0] <= taken[1] else "vmap"
        self.programs[0, None if best == "map" else width] = both[best == "vmap"]
        return {
            "strategy": best,
            "width": width if best == "vmap" else None,
            "vmap_is_faster_by": taken[0] / taken[1],
            "compared": f"{len(self.places)} calls at a time, of {width} lanes by vmap",
        }

    def _compiled(self, index: int, width: int | None) -> Lanes:
        with self._explained():
            return compile_lanes(lower_lanes(self.builds[index], width, self.devices), width)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """An optimizer that reads the value of a traced argument is told what to do instead."""
        try:
            yield
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
            raise TypeError(
                f"hyperparameters: a factory reads the value of one of {', '.join(self.numbers)} in Python, so it "
                "cannot be traced; make one sweep for each of its values"
            ) from error

    def _values(self, index: int) -> list[np.ndarray]:
        """Of each hyperparameter the values of all lanes, seeds fastest."""
        grid = xr.DataArray(np.zeros(tuple(self.axes.values())), dims=tuple(self.axes))
        found = []
        for array in self.numbers.values():
            here = array.isel({d: i for d, i in (("optimizer", index), ("function", 0)) if d in array.dims})
            full = (here.drop_vars(list(here.coords)) + grid).transpose(*self.axes)
            found.append(np.repeat(full.values.reshape(-1), len(self.seeds)).astype(np.float32))
        return found

    def _seeds(self) -> np.ndarray:
        """Of all lanes."""
        return np.tile(self.seeds, self.lanes // len(self.seeds))

    def _parts(self) -> list[Part]:
        """Blocks of lanes."""
        size = self.plan["block"]
        return [Part(0, low, min(low + size, self.lanes)) for low in range(0, self.lanes, size)]

    def _train(
        self,
        index: int,
        lanes: Lanes | None,
        held: Mapping[Part, dict[str, np.ndarray] | None],
        store: Store | None,
        pool: ThreadPoolExecutor,
        arrays: dict[str, np.ndarray],
        bar: Any,
    ) -> None:
        values, seeds = self._values(index), self._seeds()
        free = list(self.places)

        def work(part: Part) -> None:
            found = held.get(part)
            if found is not None:
                bar.update((part.high - part.low) * self.epochs)
            elif lanes is not None and not self.stopped.is_set():
                device = free.pop()
                try:
                    own = slice(part.low, part.high)
                    found = self._train_part(lanes, device, [v[own] for v in values], seeds[own], bar)
                except BaseException:
                    self.stopped.set()
                    raise
                finally:
                    free.append(device)
                if store and found is not None:
                    store.save(index, part, found)
            for name, array in (found or {}).items():
                arrays[name][index, part.low : part.high] = array

        try:
            list(pool.map(with_settings(work), self._parts()))
        except BaseException:
            self.stopped.set()
            raise

    def _train_part(
        self, lanes: Lanes, device: jax.Device, values: Sequence[np.ndarray], seeds: np.ndarray, bar: Any
    ) -> dict[str, np.ndarray] | None:
        """All epochs of these lanes, call by call; None where another thread has failed."""
        calls = []
        for low in range(0, len(seeds), lanes.lanes):
            high = min(low + lanes.lanes, len(seeds))
            arguments, learner = lanes.start(device, [v[low:high] for v in values], seeds[low:high])
            rows = []
            for _ in range(self.epochs):
                if self.stopped.is_set():
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
        dims = ("optimizer", *self.axes, "seed")
        shape = (len(self.factories), *self.axes.values(), len(self.seeds))
        variables = {}
        for name, array in arrays.items():
            tail = ("epoch",) if array.ndim == 3 else ()
            labelled = xr.DataArray(array.reshape(*shape, *array.shape[2:]), dims=(*dims, *tail))
            variables[name] = labelled if self.named else labelled.isel(optimizer=0)
        found: dict[str, Any] = {
            "seed": self.seeds.astype(np.int64),
            "epoch": np.arange(1, self.epochs + 1, dtype=np.int32),
        }
        if self.named:
            found["optimizer"] = list(self.factories)
        found |= coordinates(self.numbers, self.axes, ["function"] if self.named else ["function", "optimizer"])
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
