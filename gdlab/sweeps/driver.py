"""`sweep`: descents from many starts over hyperparameters, functions and optimizers, as a labelled dataset."""

import dataclasses
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import PRNGKeyArray
from tqdm.auto import tqdm

from gdlab.arguments import (
    as_chunk,
    as_path,
    require_callable,
    require_choice,
    require_count,
    require_flag,
    require_number,
)
from gdlab.compute.devices import local_devices
from gdlab.compute.forks import require_unforked
from gdlab.compute.interrupts import heeded
from gdlab.compute.programs import Cache, calls_lapack
from gdlab.compute.promotion import standard_promotion
from gdlab.compute.snapshots import kept
from gdlab.compute.threads import ahead, thread_devices, usable_cores
from gdlab.hyperparameters.factories import explained, optimizer_from
from gdlab.records.blocks import Blocks
from gdlab.scans.processes import gathered, open_blocks
from gdlab.sweeps.crew import LaneCrew, Ledger, Part, milestones
from gdlab.sweeps.histories import HistoryTrace, Reduce, history_chunk, run_histories, trace_history
from gdlab.sweeps.identity import identify
from gdlab.sweeps.labels import label
from gdlab.sweeps.space import Space, make_space
from gdlab.sweeps.step import AT_TARGET, LaneSpec, decode
from gdlab.sweeps.tiles import TiledProgram, compile_for, program_for
from gdlab.sweeps.traces import LaneTrace, trace_lane
from gdlab.version import VERSION

PART = 1 << 18
"""The maximum number of lanes in a block."""

TRACES = Cache(64)
"""Traced lanes, by everything that their functions and factories read."""

COMPILED = Cache(64)
"""Compiled programs, by what they compute."""


@heeded()
def sweep(
    fn: Any,
    factory: Any,
    hyperparameters: Any,
    starts: Any,
    *,
    max_steps: int,
    tolerance: float | None = None,
    gradient: Any = None,
    record: str = "last",
    reduce: Reduce | None = None,
    chunk: int | str = "auto",
    devices: Sequence[jax.Device] | None = None,
    progress: bool = True,
    minimizers: Any = None,
    target: float = 1e-2,
    stop_at_target: bool = False,
    save_to: str | Path | None = None,
    key: PRNGKeyArray | None = None,
    data: Any = None,
) -> xr.Dataset:
    """Descend from every start with every setting of the hyperparameters.

    Each optimizer is one compiled program, in which every descent is a lane (one run of the batch). Lanes that stop
    leave the batch, and the remaining ones are merged, so that no lane waits for the slowest. Data that functions and
    factories read from outside has the value of the moment: a call traces them, unless nothing that they read has
    changed since the last time (`gdlab.compute.snapshots.snapshot`). Programs are kept by what they compute, so the
    same sweep does not compile twice. Failures of arithmetic are results, not errors: a start that is NaN gives a lane
    with `diverged` set.

    Args:
      fn: a function of one point, or a `Function` of `gdlab.FUNCTIONS`, whose minimizers are then known. With `key` or
        `data`, or both, it is `fn(x, key)`, `fn(x, data)` or `fn(x, key, data)`. A mapping from names to such
        functions, all of one dimension, gives the result the dimension "function".
      factory: a function that returns an optimizer (of `gdlab.optimizers`, of optax or your own;
        `functools.partial` fixes arguments), or a strategy (of `gdlab.strategies`), whose steps are rounds and for
        which no gradient is computed. A mapping from names to factories gives the result the dimension "optimizer";
        each of them gets its own program.
      hyperparameters: a mapping from arguments of the factory to a number, a 1-D array of values, or a range with a
        number of values, such as `log_range(1e-3, 1.0, 16)`. The product of the arrays is swept, and each array is a
        dimension of the result. Alternatively, a list of mappings (the points of a search, as
        `sample_hyperparameters` returns them), which gives the result the dimension "trial"; with several factories,
        it may be a mapping from their names to such lists of equal length. An `xarray.DataArray` among the values may
        have the dimensions "optimizer" and "function", and axes that it names. Values are converted to the starts'
        dtype. Arguments that shape a program (flags, window lengths) cannot be swept.
      starts: a floating-point array of shape (starts, dim), whose dtype is used for all arithmetic; or a mapping
        with such an array for each function. For points that are matrices or trees, as in `descend`, an array or a tree
        whose arrays have an axis of starts in front, such as the result of a `jax.vmap`.
      max_steps: the maximum number of steps, as in `descend`.
      tolerance: the tolerance at which a lane has converged, as in `descend`. Default None, which runs all steps.
      gradient: the gradient of `fn`, as in `descend`; a mapping if `fn` is one. Default None, automatic
        differentiation.
      record: "last", the default, keeps the last point of each lane; "path" keeps all max_steps + 1 points, along
        the dimension "step".
      reduce: a function from one lane's `Descent` to a dict of arrays, which take the place of `value` and `point`
        in the result. It runs within the compiled program. With record="path" it gets the path, which is not kept
        afterwards. Default None.
      chunk: the number of lanes per call. "auto", the default, chooses it from the size of a lane's state: tiles
        that stay in a CPU's cache, or a part of a GPU's memory. It does not change the numbers.
      devices: the devices to use. Each runs its own lanes; a single CPU device uses all cores. Default None, all
        devices of this process. Where `jax.distributed` is initialized, the processes divide the lanes among
        themselves, and each returns the whole result.
      progress: whether to show a progress bar on a terminal. Default True.
      minimizers: the minimizers of `fn`, of shape (count, dim), for functions that do not provide them; a mapping
        if `fn` is one. Default None.
      target: a point has reached a minimizer if it lies within this distance of it. Default 1e-2.
      stop_at_target: whether lanes stop there; requires record="last" and no `reduce`. Default False.
      save_to: a folder for blocks of finished lanes. The same call continues there after an interruption, and its
        result has the same bits. Default None.
      key: the random key of stochastic functions: the lanes of start i descend as `descend` does with the key
        `jax.random.fold_in(key, i)`, so that all optimizers and settings meet the same noise. `gdlab.compute.extras`
        says what a value is then. Default None: functions take no key.
      data: a tree of arrays that functions take. Data of the same shapes and dtypes share a compiled program, and a
        folder of `save_to` belongs to its data. Default None: functions take none.

    Returns:
      A dataset with the dimensions "optimizer" and "function" (for mappings), those of the hyperparameters, and
      "start". Its variables are `value`, `point` (also along "coordinate"; for trees, one variable for each array, such
      as `point/layer/kernel`), `steps`, `converged` and `diverged`, as in `Descent`, and, where minimizers are known,
      `reached` (whether the last point lies at one) and `first_reached` (the first step at which the point lies at one;
      -1 if there is none). Its attributes record the settings and devices, and how long compiling and running took.

    Raises:
      TypeError: if a value or a factory is not of the expected type, or an argument cannot be traced.
      ValueError: if the factory does not take an argument or refuses one of its values, an axis is empty or has a
        value twice, shapes do not fit, there is a tolerance for a strategy, or `save_to` holds a sweep with another
        function, factory, grid, start, setting, key or data.
      ImportError: if a strategy needs the extra `evosax`, and it is not installed.
      FileNotFoundError: if `save_to` is moved or deleted during the sweep.
      RuntimeError: in a process that was forked after JAX had started.
    """
    require_unforked("sweep")
    require_count("max_steps", max_steps)
    if max_steps >= AT_TARGET - 1:
        raise ValueError(f"max_steps: expected an integer below 2^30 - 1, got {max_steps}")
    if tolerance is not None:
        require_number("tolerance", tolerance, 0.0)
    require_choice("record", record, ("path", "last"))
    if reduce is not None:
        require_callable("reduce", reduce)
    lanes_per_call = as_chunk(chunk)
    require_number("target", target, 0.0, open_low=True)
    require_flag("stop_at_target", stop_at_target)
    require_flag("progress", progress)
    save_to = None if save_to is None else as_path("save_to", save_to)
    devices = local_devices(devices)
    space = make_space(fn, factory, hyperparameters, starts, gradient, minimizers, key, data)
    if stop_at_target and (record == "path" or reduce is not None):
        raise ValueError(
            'stop_at_target: expected record="last" and no reduce, got one of them, which keeps every lane in the batch'
        )
    if stop_at_target and space.minimizers is None:
        raise ValueError("stop_at_target: expected minimizers=, since fn does not provide them")
    request = _Request(
        space=space,
        max_steps=max_steps,
        tolerance=None if tolerance is None else float(tolerance),
        target=float(target),
        stop_at_target=stop_at_target,
        record=record,
        reduce=reduce,
        chunk=lanes_per_call,
        devices=devices,
        progress=progress,
        save_to=save_to,
    )
    with jax.disable_jit(False), standard_promotion():
        return request.run()


@dataclasses.dataclass
class _Request:
    """A checked request and its results so far."""

    space: Space
    max_steps: int
    tolerance: float | None
    target: float
    stop_at_target: bool
    record: str
    reduce: Reduce | None
    chunk: int | None
    devices: list[jax.Device]
    progress: bool
    save_to: Path | None

    def __post_init__(self) -> None:
        self.history = self.record == "path" or self.reduce is not None
        self.backend = self.devices[0].platform
        self.threads = thread_devices(self.devices, callers=4)
        self.arrays: dict[str, np.ndarray] = {}  # each of shape (optimizers, functions, lanes, ...)
        self.compile_seconds = 0.0

    def spec(self, factory: int) -> LaneSpec:
        space = self.space
        name, make = list(space.factories.items())[factory]
        return LaneSpec(
            tuple(space.functions.values()),
            space.gradients,
            space.minimizers,
            lambda **numbers: optimizer_from(name, make, numbers),
            space.names,
            self.max_steps,
            self.tolerance,
            self.target,
            self.stop_at_target,
            space.tree,
            None if space.inputs is None else space.inputs.frame,
        )

    def parts(self) -> list[Part]:
        """Return the blocks of this process: every n-th one if there are n processes."""
        lanes = self.space.layout.lanes
        size = min(PART, max(-(-lanes // 16), 16384)) if self.save_to or jax.process_count() > 1 else PART
        if jax.process_count() > 1:
            size = min(size, max(-(-lanes // (4 * jax.process_count())), 1))
        every = [
            Part(function, low, min(low + size, lanes))
            for function in range(len(self.space.functions))
            for low in range(0, lanes, size)
        ]
        return every[jax.process_index() :: jax.process_count()] or every[:1]

    def run(self) -> xr.Dataset:
        began = time.perf_counter()
        labels = list(self.space.factories)
        # One trace of each lane decides both what is computed and what the folder of results is called. It happens
        # here, in the caller's thread, whose settings of JAX apply.
        lanes = [self._trace(index) for index in range(len(labels))]
        blocks = self._blocks([lane.digest for lane in lanes])
        parts = self.parts()
        with self._bar() as tick:
            waiting = {index: self._resume(index, parts, blocks, tick) for index in range(len(labels))}
            todo = [index for index in waiting if waiting[index]]
            programs = self._programs([lanes[index] for index in todo])
            for index in todo:
                threads = self._threads(lanes[index])
                self._run_one(index, next(programs), waiting[index], threads, blocks, tick)
        self._gather(parts)
        arrays = self.arrays if self.history else decode(self.arrays, self.max_steps, self.space.minimizers is not None)
        path = self.max_steps if self.record == "path" else None
        attributes = self._attributes(arrays, time.perf_counter() - began)
        return label(self.space, arrays, path, self.reduce is not None, attributes)

    def _resume(self, index: int, parts: list[Part], blocks: Blocks | None, tick: Callable) -> list[Part]:
        """Load the parts that are done, and return the others."""
        waiting = []
        for part in parts:
            held = blocks.load(index, *part) if blocks else None
            if held is None:
                waiting.append(part)
            else:
                self._keep(index, part, slice(part.low, part.high), held)
                tick(part.high - part.low)
        return waiting

    def _blocks(self, digests: list[str | None]) -> Blocks | None:
        if self.save_to is None:
            return None
        if None in digests:
            raise ValueError("save_to: expected functions that use only JAX, got one that calls back into Python")
        settings = (self.max_steps, self.tolerance, self.target, self.stop_at_target, self.record)
        identity = identify(self.space, [str(digest) for digest in digests], settings, self.devices[0])
        return open_blocks("gdlab.sweep", self.save_to, identity)

    @contextmanager
    def _bar(self) -> Iterator[Callable[[int], None]]:
        space = self.space
        total = sum(part.high - part.low for part in self.parts()) * len(space.factories)
        with tqdm(total=total, unit=" lanes", unit_scale=True, disable=None if self.progress else True) as bar:
            yield bar.update

    def _trace(self, index: int) -> LaneTrace | HistoryTrace:
        space, spec = self.space, self.spec(index)

        def make() -> LaneTrace | HistoryTrace:
            if self.history:
                return trace_history(spec, self.record, self.reduce, space.dim, space.starts.dtype)
            return trace_lane(spec, space.dim, space.starts.dtype)

        with explained(list(space.factories)[index], space.names):
            key = (self.history, self.record, space.dim, space.starts.dtype)
            found: LaneTrace | HistoryTrace = kept(TRACES, (spec, self.reduce), key, make)
            return found

    def _programs(self, lanes: Sequence[LaneTrace | HistoryTrace]) -> Iterator[Any]:
        """Return the programs of these lanes; those of the next optimizers are compiled while one runs."""
        if all(isinstance(lane, HistoryTrace) or self._key(lane) in COMPILED for lane in lanes):
            return map(self._program, lanes)
        return ahead(self._program, lanes, usable_cores())

    def _program(self, lane: LaneTrace | HistoryTrace) -> Any:
        return lane if isinstance(lane, HistoryTrace) else COMPILED.get(self._key(lane), lambda: self._compile(lane))

    def _key(self, lane: LaneTrace) -> Hashable:
        digest = lane.digest or object()  # code behind a call into Python may change
        return digest, tuple(self.space.differing()), self._lanes_each(), self.chunk, self.devices[0]

    def _lanes_each(self) -> int:
        """Return the lanes of a thread on a CPU, and those of a device elsewhere, since a call should fill it."""
        return -(-self.space.layout.lanes // len(self.threads if self.backend == "cpu" else self.devices))

    def _compile(self, lane: LaneTrace) -> TiledProgram:
        program = program_for(lane, self.space.differing(), self._lanes_each(), self.chunk, self.backend)
        began = time.perf_counter()
        compile_for(program, self.devices[0])
        self.compile_seconds += time.perf_counter() - began
        return program

    def _threads(self, lane: LaneTrace | HistoryTrace) -> list[jax.Device]:
        """Return the device of each thread: a program that calls LAPACK leaves one thread of XLA's pool free."""
        traced = [lane.closed] if isinstance(lane, HistoryTrace) else [lane.begin, lane.step, lane.look]
        blocking = self.backend == "cpu" and any(map(calls_lapack, traced))
        return self.threads[: max(len(self.threads) - 1, 1)] if blocking else self.threads

    def _run_one(
        self,
        index: int,
        program: Any,
        parts: list[Part],
        threads: list[jax.Device],
        blocks: Blocks | None,
        tick: Callable,
    ) -> None:
        space = self.space

        def record(part: Part, lanes: np.ndarray | slice, found: dict[str, np.ndarray]) -> None:
            self._keep(index, part, lanes, found)
            tick(len(found["steps" if self.history else "stop"]))

        def finish(part: Part) -> None:
            if blocks:
                arrays = {
                    name: array[index, part.function, part.low : part.high] for name, array in self.arrays.items()
                }
                blocks.save(index, *part, arrays=arrays)

        ledger = Ledger(record, finish)
        if self.history:
            chunk = min(self.chunk or history_chunk(program, space, self.max_steps, self.record), space.layout.lanes)
            run_histories(program, space, index, parts, threads, chunk, ledger)
        else:
            marks = milestones(self.max_steps, self.tolerance is not None or self.stop_at_target)
            LaneCrew(program, space, index, parts, threads, marks, ledger).work()
        self.compile_seconds += ledger.compile_seconds

    def _keep(self, index: int, part: Part, lanes: np.ndarray | slice, found: Mapping[str, np.ndarray]) -> None:
        for name, array in found.items():
            if name not in self.arrays:
                shape = (
                    len(self.space.factories),
                    len(self.space.functions),
                    self.space.layout.lanes,
                    *array.shape[1:],
                )
                self.arrays[name] = np.zeros(shape, array.dtype)
            self.arrays[name][index, part.function, lanes] = array

    def _gather(self, parts: Sequence[Part]) -> None:
        """Give each process the blocks of all, where several processes have divided them."""
        mine = np.zeros((len(self.space.functions), self.space.layout.lanes), bool)
        for part in parts:
            mine[part.function, part.low : part.high] = True
        self.arrays = gathered(self.arrays, mine)

    def _attributes(self, arrays: Mapping[str, np.ndarray], seconds: float) -> dict[str, Any]:
        space = self.space
        found: dict[str, Any] = {
            "function": ", ".join(space.functions),
            "factory": ", ".join(space.factories),
            "max_steps": self.max_steps,
            "lanes": space.layout.lanes * len(space.functions) * len(space.factories),
            "point_steps": float(arrays["steps"].sum(dtype=np.float64)),
            "seconds": seconds,
            "compile_seconds": self.compile_seconds,
            "device": f"{len(self.devices)} x {self.devices[0].device_kind}",
            "platform": self.backend,
            "threads": len(self.threads),
            "processes": jax.process_count(),
            "dtype": str(space.starts.dtype),
            "gdlab": VERSION,
            "jax": jax.__version__,
        }
        if self.tolerance is not None:
            found["tolerance"] = self.tolerance
        if space.minimizers is not None:
            found |= {"target": self.target, "stop_at_target": int(self.stop_at_target)}
        return found
