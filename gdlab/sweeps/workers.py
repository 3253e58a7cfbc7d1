"""The hands of a sweep: threads that take lanes to a device, drop those that have stopped and merge the rest.

Steps are taken in runs, from one milestone to the next, and all lanes have the same milestones. After each run lanes
that have stopped leave; the others wait in the milestone's pool until there are enough of them for a full call, from
whichever calls they came. So nobody waits for the slowest lane of a batch, and a lane's numbers do not depend on its
company: it sees the same operations in the same order.
"""

import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import jax
import numpy as np

from gdlab.sweeps.lane import RUNNING
from gdlab.sweeps.program import Blueprint, blank_state, compile_for
from gdlab.sweeps.space import Space


class Part(NamedTuple):
    """A block of lanes of one function, from `low` up to `high`: what is saved, and resumed, at a time."""

    function: int
    low: int
    high: int


Lanes = np.ndarray | range
"""Numbers of lanes; a range for those that are begun."""


class Pool:
    """Lanes of one function that have reached one milestone: their numbers and the arrays of their states."""

    def __init__(self, shared: Sequence[np.ndarray]):
        self.shared = shared
        self.pieces: list[tuple[np.ndarray, list[np.ndarray]]] = []
        self.size = 0

    def add(self, lanes: np.ndarray, state: list[np.ndarray]) -> None:
        """These lanes wait here."""
        self.pieces.append((lanes, state))
        self.size += len(lanes)

    def take(self, most: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """At most so many of them, first come first."""
        lanes = np.concatenate([piece[0] for piece in self.pieces])
        state = [np.concatenate(arrays) for arrays in zip(*(piece[1] for piece in self.pieces), strict=True)]
        self.pieces = [(lanes[most:], [array[most:] for array in state])] if len(lanes) > most else []
        self.size = max(len(lanes) - most, 0)
        return lanes[:most], [array[:most] for array in state]


def usable_cores() -> int:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def with_settings(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, to be called in another thread with this one's 64-bit setting, which a `with` block may have made."""
    wide = jax.config.read("jax_enable_x64")

    def called(*arguments: Any) -> Any:
        with jax.enable_x64(wide):
            return function(*arguments)

    return called


LONGEST = 20_000
"""Steps of a run at most: an interrupt is heard between runs."""


def milestones(max_steps: int, stoppable: bool) -> list[int]:
    """The steps after which lanes are looked at: each run a quarter of what is done, so that no lane idles for longer.

    Where only divergence can stop a lane there are few.
    """
    first, growth = (32, 1.25) if stoppable else (512, 8.0)
    marks = [first]
    while marks[-1] < max_steps:
        further = min(max(math.ceil(marks[-1] * growth), marks[-1] + first), marks[-1] + LONGEST)
        marks.append(further)
    return [*(mark for mark in marks if mark < max_steps), max_steps]


class Crew:
    """All that the threads of one optimizer's sweep share."""

    def __init__(
        self,
        blueprint: Blueprint,
        space: Space,
        factory: int,
        parts: Sequence[Part],
        devices: Sequence[jax.Device],
        workers: int,
        marks: Sequence[int],
        record: Callable[[Part, np.ndarray | slice, dict[str, np.ndarray]], None],
        finish: Callable[[Part], None],
        tick: Callable[[int], None],
    ):
        self.blueprint, self.space, self.factory, self.marks = blueprint, space, factory, list(marks)
        self.record, self.finish, self.tick = record, finish, tick
        self.devices, self.workers = devices, workers
        self.differing = space.differing()
        self.waiting = list(parts)[::-1]
        self.open: dict[Part, int] = {}
        self.fresh: list[tuple[Part, int]] = []  # parts that are begun, and the first lane of theirs that is not
        self.pools: dict[tuple[int, int], Pool] = {}
        self.busy = 0
        self.changed = threading.Condition()
        self.stopped = False
        self.compile_seconds = 0.0
        self.locks = {device: threading.Lock() for device in devices}
        lanes = sum(part.high - part.low for part in parts)
        rounds = max(math.ceil(lanes / (workers * blueprint.chunk)), 1)  # as many calls for each worker
        shares = math.ceil(lanes / (rounds * workers) / blueprint.tile) * blueprint.tile
        self.most = min(blueprint.chunk, shares)

    def work(self) -> None:
        """Do everything, in `workers` threads; an error in one stops all and is raised."""
        serve = with_settings(self._serve)
        with ThreadPoolExecutor(self.workers) as pool:
            tasks = [pool.submit(serve, self.devices[i % len(self.devices)]) for i in range(self.workers)]
            try:
                wait(tasks, return_when=FIRST_EXCEPTION)
                self._halt()
                for task in tasks:
                    task.result()
            except BaseException:
                self._halt()
                raise

    def _halt(self) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify_all()

    def _serve(self, device: jax.Device) -> None:
        try:
            while (batch := self._next()) is not None:
                try:
                    self._run(device, *batch)
                finally:
                    with self.changed:
                        self.busy -= 1
                        self.changed.notify_all()
        except BaseException:
            self._halt()
            raise

    def _next(self) -> tuple[int, int, Lanes, list[np.ndarray] | None, Sequence[np.ndarray]] | None:
        """function, milestone, lanes, their state (None: not begun) and what they share; None when all is done."""
        with self.changed:
            while not self.stopped:
                full = [place for place, pool in self.pools.items() if pool.size >= self.blueprint.chunk]
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
                    lanes, state = pool.take(self.blueprint.chunk)
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
        shared = [np.zeros(leaf.shape, leaf.dtype) for leaf in self.blueprint.arguments.shared]
        return part.function, 0, range(low, high), None, shared

    def _run(
        self,
        device: jax.Device,
        function: int,
        level: int,
        lanes: Lanes,
        state: list[np.ndarray] | None,
        shared: Sequence[Any],
    ) -> None:
        """From this milestone on for as long as most lanes go on; those that are left go to the next one's pool."""
        plan = self.blueprint
        program = self._program(device)
        numbers = self.space.padded_values(self.factory, function, lanes, plan.chunk)
        common = [values for values, differs in zip(numbers, self.differing, strict=True) if not differs]
        own = [values for values, differs in zip(numbers, self.differing, strict=True) if differs]
        tiles = np.int32(-(-len(lanes) // plan.tile))
        arrays, own = jax.device_put((self._padded(function, lanes, state, device), own), device)
        shared = list(shared)
        while True:
            t = self.marks[level - 1] if level else 0
            values, reached, shared, arrays = program(
                tiles, np.int32(t), np.int32(self.marks[level]), np.int32(function), common, own, shared, arrays
            )
            stop = np.asarray(arrays[plan.point_leaves])[: len(lanes)]
            level += 1
            running = stop == RUNNING
            last = level == len(self.marks)
            if self.stopped:  # an error elsewhere, or an interrupt
                return
            if last or 8 * np.count_nonzero(running) < 7 * len(lanes):
                break
        host = [np.asarray(array)[: len(lanes)] for array in arrays]
        points = host[: plan.point_leaves]
        found = {
            "point": np.stack(points, axis=-1) if points[0].ndim == 1 else points[0],
            "value": np.asarray(values)[: len(lanes)],
            "reached": np.asarray(reached)[: len(lanes)],
            "stop": stop,
            "first": host[plan.point_leaves + 1],
        }
        if not last:
            lanes = np.asarray(lanes)
            done = ~running
            found = {name: array[done] for name, array in found.items()}
        with self.changed:
            self._settle(function, lanes if last else lanes[done], found)
            if not last and running.any():
                place = (function, level)
                if place not in self.pools:
                    self.pools[place] = Pool([np.asarray(leaf) for leaf in shared])
                self.pools[place].add(lanes[running], [array[running] for array in host])

    def _settle(self, function: int, lanes: Lanes, found: dict[str, np.ndarray]) -> None:
        for part in [part for part in self.open if part.function == function]:
            if isinstance(lanes, range):  # fresh lanes are of one part
                if not part.low <= lanes.start < part.high:
                    continue
                count = len(lanes)
                self.record(part, slice(lanes.start, lanes.stop), found)
            else:
                inside = (lanes >= part.low) & (lanes < part.high)
                count = int(np.count_nonzero(inside))
                if not count:
                    continue
                self.record(part, lanes[inside], {name: array[inside] for name, array in found.items()})
            self.tick(count)
            self.open[part] -= count
            if self.open[part] == 0:
                del self.open[part]
                self.finish(part)

    def _padded(self, function: int, lanes: Lanes, state: list[np.ndarray] | None, device: jax.Device) -> list[Any]:
        """Arrays of the program's full length; places that no lane takes repeat the last one, up to the tile's end.

        Lanes that begin have points only: the program makes the rest, and overwrites what stands there.
        """
        plan = self.blueprint
        like = plan.arguments.lanes
        end = -(-len(lanes) // plan.tile) * plan.tile
        given = state
        if given is None:
            every = self.space.starts[function]
            first = lanes[0] % len(every)
            if isinstance(lanes, range) and first + len(lanes) <= len(every):
                starts = every[first : first + len(lanes)]
            else:
                starts = every[np.asarray(lanes) % len(every)]
            given = list(starts.T) if like[0].ndim == 1 else [starts]
        full: list[Any] = []
        for leaf, values in zip(like, given, strict=False):
            array = np.empty(leaf.shape, leaf.dtype)
            array[: len(lanes)] = values
            array[len(lanes) : end] = values[-1]
            full.append(array)
        return full if state is not None else full + blank_state(plan, device)[len(full) :]

    def _program(self, device: jax.Device) -> Callable[..., Any]:
        with self.locks[device]:
            program, seconds = compile_for(self.blueprint, device)
            self.compile_seconds += seconds
        return program
