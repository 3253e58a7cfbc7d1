"""The threads of a sweep: they run lanes on devices, remove lanes that have stopped, and merge the rest.

Steps are taken in runs, from one milestone to the next, and all lanes have the same milestones. After each run, the
lanes that have stopped leave the batch. The others wait in the pool of their milestone until there are enough of
them for a full call, whichever calls they come from. So no lane waits for the slowest one of a batch, and the
numbers of a lane do not depend on the other lanes: it sees the same operations in the same order.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.compute import interrupts
from gdlab.compute.threads import Crew
from gdlab.sweeps.space import Space
from gdlab.sweeps.step import RUNNING
from gdlab.sweeps.tiles import TiledProgram, blank_state, compile_for


class Part(NamedTuple):
    """A block of lanes of one function, from `low` up to but excluding `high`: the unit that is saved and resumed."""

    function: int
    low: int
    high: int


LaneNumbers = np.ndarray | range
"""The numbers of lanes; a range if they are about to begin."""


class Ledger:
    """Collects what the threads of a sweep have done.

    Attributes:
      record: `record(part, lanes, arrays)` takes the results of these lanes.
      finish: `finish(part)` is called when all lanes of the part are recorded.
      compile_seconds: the seconds spent on compilation, summed over threads.
    """

    def __init__(
        self,
        record: Callable[[Part, np.ndarray | slice, dict[str, np.ndarray]], None],
        finish: Callable[[Part], None],
    ):
        self.record, self.finish = record, finish
        self.compile_seconds = 0.0

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Count the duration of the block as compilation."""
        began = time.perf_counter()
        yield
        self.compile_seconds += time.perf_counter() - began


class Pool:
    """Lanes of one function that have reached one milestone: their numbers and the arrays of their states."""

    def __init__(self, shared: Sequence[np.ndarray]):
        self.shared = shared
        self.pieces: list[tuple[np.ndarray, list[np.ndarray]]] = []
        self.size = 0

    def add(self, lanes: np.ndarray, state: list[np.ndarray]) -> None:
        """Add waiting lanes and their states."""
        self.pieces.append((lanes, state))
        self.size += len(lanes)

    def take(self, most: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """Remove and return at most `most` lanes and their states, the earliest ones first."""
        lanes = np.concatenate([piece[0] for piece in self.pieces])
        state = [np.concatenate(arrays) for arrays in zip(*(piece[1] for piece in self.pieces), strict=True)]
        self.pieces = [(lanes[most:], [array[most:] for array in state])] if len(lanes) > most else []
        self.size = max(len(lanes) - most, 0)
        return lanes[:most], [array[:most] for array in state]


def in_place(device: jax.Device) -> bool:
    """Return whether the host reads and writes the device's arrays without copying them."""
    return bool(device.platform == "cpu")


@jax.jit
def as_rows(columns: Sequence[jax.Array]) -> jax.Array:
    """Return the columns as one array of shape (rows, columns)."""
    return jnp.stack(columns, axis=-1)


@jax.jit
def as_columns(rows: jax.Array) -> list[jax.Array]:
    """Return the columns of an array."""
    return list(rows.T)


@jax.jit
def count_running(stop: jax.Array, lanes: jax.Array) -> jax.Array:
    """Return how many of the first `lanes` lanes are running."""
    return jnp.sum((stop == RUNNING) & (jnp.arange(len(stop)) < lanes))


LONGEST = 20_000
"""The maximum number of steps in a run: an interrupt takes effect between runs."""


def milestones(max_steps: int, stoppable: bool) -> list[int]:
    """Return the steps after which lanes are checked.

    Each run is a quarter as long as all steps before it, so that no stopped lane idles for longer than that. Where
    only divergence can stop a lane, there are few milestones.
    """
    first, growth = (32, 1.25) if stoppable else (512, 8.0)
    marks = [first]
    while marks[-1] < max_steps:
        further = min(max(math.ceil(marks[-1] * growth), marks[-1] + first), marks[-1] + LONGEST)
        marks.append(further)
    return [*(mark for mark in marks if mark < max_steps), max_steps]


class LaneCrew:
    """The data that the threads of one optimizer's sweep share."""

    def __init__(
        self,
        program: TiledProgram,
        space: Space,
        factory: int,
        parts: Sequence[Part],
        devices: Sequence[jax.Device],
        marks: Sequence[int],
        ledger: Ledger,
    ):
        self.program, self.space, self.factory, self.marks, self.ledger = program, space, factory, list(marks), ledger
        self.differing = space.differing()
        self.waiting = list(parts)[::-1]
        self.open: dict[Part, int] = {}
        self.fresh: list[tuple[Part, int]] = []  # parts in progress, and the first lane of each that has not begun
        self.pools: dict[tuple[int, int], Pool] = {}
        self.busy = 0
        self.changed = threading.Condition()
        workers = len(devices)
        lanes = sum(part.high - part.low for part in parts)
        rounds = max(math.ceil(lanes / (workers * program.chunk)), 1)  # the same number of calls for each worker
        shares = math.ceil(lanes / (rounds * workers) / program.tile) * program.tile
        self.most = min(program.chunk, shares)
        calls = sum(math.ceil((part.high - part.low) / self.most) for part in parts)
        self.crew = Crew(devices[:calls], on_stop=self._wake)

    def work(self) -> None:
        """Run all lanes, in one thread per entry of the devices; an error in one thread stops all and is raised.

        If there is one, it is the caller's own, because starting another would take as long as a small batch.
        """
        if len(self.crew.devices) > 1:
            self.crew.run(self._serve, range(len(self.crew.devices)))
        else:
            self._serve(0, self.crew.devices[0])

    def _wake(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def _serve(self, _: int, device: jax.Device) -> None:
        while (batch := self._next()) is not None:
            try:
                self._run(device, *batch)
            finally:
                with self.changed:
                    self.busy -= 1
                    self.changed.notify_all()

    def _next(self) -> tuple[int, int, LaneNumbers, list[np.ndarray] | None, Sequence[np.ndarray]] | None:
        """Return the next batch, or None when all is done.

        A batch is the function, the milestone, the lanes, their state (None if they begin) and their shared state.
        """
        with self.changed:
            while not self.crew.stopped.is_set():
                full = [place for place, pool in self.pools.items() if pool.size >= self.program.chunk]
                place = max(full, key=lambda place: place[1], default=None)
                if place is None:
                    begun = self._begin()
                    if begun is not None:
                        self.busy += 1
                        return begun
                    place = min(
                        (place for place, pool in self.pools.items() if pool.size),
                        key=lambda place: place[1],
                        default=None,
                    )
                if place is not None:
                    pool = self.pools[place]
                    lanes, state = pool.take(self.program.chunk)
                    self.busy += 1
                    return *place, lanes, state, pool.shared
                if not self.busy:
                    return None
                self.changed.wait()
            return None

    def _begin(self) -> tuple[int, int, range, None, Sequence[np.ndarray]] | None:
        if not self.fresh and self.waiting and len(self.open) < 2:
            part = self.waiting.pop()
            self.open[part] = part.high - part.low
            self.fresh.append((part, part.low))
        if not self.fresh:
            return None
        part, low = self.fresh[0]
        high = min(low + self.most, part.high)
        if high == part.high:
            self.fresh.pop(0)
        else:
            self.fresh[0] = (part, high)
        shared = [np.zeros(leaf.shape, leaf.dtype) for leaf in self.program.arguments.shared]
        return part.function, 0, range(low, high), None, shared

    def _run(
        self,
        device: jax.Device,
        function: int,
        level: int,
        lanes: LaneNumbers,
        state: list[np.ndarray] | None,
        shared: Sequence[Any],
    ) -> None:
        """Run lanes from this milestone on, while at least 7 of 8 are still running.

        Those that remain go to the pool of the milestone that they have reached.
        """
        plan = self.program
        with self.ledger.compiling():
            program = compile_for(plan, device)
        numbers = self.space.values(self.factory, function, lanes, plan.chunk, device)
        common = [values for values, differs in zip(numbers, self.differing, strict=True) if not differs]
        own = [values for values, differs in zip(numbers, self.differing, strict=True) if differs]
        tiles = np.int32(-(-len(lanes) // plan.tile))
        arrays, shared = self._padded(function, lanes, state, device), list(shared)
        while True:
            t = self.marks[level - 1] if level else 0
            (values, reached, shared, arrays), own = program(
                tiles, np.int32(t), np.int32(self.marks[level]), np.int32(function), common, own, shared, arrays
            )
            level += 1
            last = level == len(self.marks)
            going = self._running(arrays[plan.point_leaves], len(lanes), device)
            interrupts.check()
            if self.crew.stopped.is_set():  # an error in another thread, or an interrupt
                return
            if last or 8 * going < 7 * len(lanes):
                break
        # Only what is used is fetched: from a GPU that takes longer than the steps.
        points = arrays[: plan.point_leaves]
        together: Any = partial(np.stack, axis=-1) if in_place(device) else as_rows
        read = {"value": values, "point": together(points) if points[0].ndim == 1 else points[0]}
        if not (last and going == len(lanes)):
            read["stop"] = arrays[plan.point_leaves]
        if self.space.minimizers is not None:
            read |= {"reached": reached, "first": arrays[plan.point_leaves + 1]}
        found, host = jax.tree.map(
            lambda array: array[: len(lanes)], jax.device_get((read, arrays if going and not last else []))
        )
        stop = found.setdefault("stop", np.broadcast_to(np.int32(RUNNING), len(lanes)))
        if not last:
            lanes = np.arange(lanes.start, lanes.stop) if isinstance(lanes, range) else lanes
            running = stop == RUNNING
            done = ~running
            found = {name: array[done] for name, array in found.items()}
        with self.changed:
            self._settle(function, lanes if last else lanes[done], found)
            if not last and going:
                place = (function, level)
                if place not in self.pools:
                    self.pools[place] = Pool([np.asarray(leaf) for leaf in shared])
                self.pools[place].add(lanes[running], [array[running] for array in host])

    def _running(self, stop: jax.Array, lanes: int, device: jax.Device) -> int:
        """Return how many lanes are running; a GPU counts them itself, since it takes long to fetch all of `stop`."""
        if in_place(device):
            return int(np.count_nonzero(np.asarray(stop)[:lanes] == RUNNING))
        return int(count_running(stop, np.int32(lanes)))

    def _settle(self, function: int, lanes: LaneNumbers, found: dict[str, np.ndarray]) -> None:
        for part in [part for part in self.open if part.function == function]:
            if isinstance(lanes, range):  # lanes that have just begun belong to one part
                if not part.low <= lanes.start < part.high:
                    continue
                count = len(lanes)
                self.ledger.record(part, slice(lanes.start, lanes.stop), found)
            else:
                inside = (lanes >= part.low) & (lanes < part.high)
                count = int(np.count_nonzero(inside))
                if not count:
                    continue
                self.ledger.record(part, lanes[inside], {name: array[inside] for name, array in found.items()})
            self.open[part] -= count
            if self.open[part] == 0:
                del self.open[part]
                self.ledger.finish(part)

    def _padded(
        self, function: int, lanes: LaneNumbers, state: list[np.ndarray] | None, device: jax.Device
    ) -> list[Any]:
        """Return arrays of the program's full length, whose unused places repeat the last lane.

        Lanes that begin have points only: the program computes the rest of their state and overwrites the
        placeholders.
        """
        plan = self.program
        like = plan.arguments.lanes
        given = state
        if given is None:
            starts = self.space.points(function, lanes)
            if len(starts) == plan.chunk and not in_place(device):  # no copy on the host
                begun = jax.device_put(starts, device)
                points = as_columns(begun) if like[0].ndim == 1 else [begun]
                return points + blank_state(plan, device)[len(points) :]
            given = list(starts.T) if like[0].ndim == 1 else [starts]
        full: list[Any] = []
        for leaf, values in zip(like, given, strict=False):
            array = np.empty(leaf.shape, leaf.dtype)
            array[: len(lanes)] = values
            array[len(lanes) :] = values[-1]
            full.append(array)
        return full if state is not None else full + blank_state(plan, device)[len(full) :]
