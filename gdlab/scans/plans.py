"""How a program's lanes are divided: one after another or several per call, found by timing lanes of the result.

The lanes come in up to four stretches, and no lane is computed twice:

1. The first calls are timed, which says how many lanes make a block: the unit that is saved, and that a thread takes.
2. All threads run lanes one after another. If what is left takes longer than compiling took, the program for several
   lanes per call is compiled, while the other threads go on.
3. Each thread runs calls of several lanes, which are timed.
4. The rest is done in the faster of the two ways.

The choice is remembered by what the program computes, so that the next call begins with stretch 4. Where blocks are
saved, each decision is saved before anything depends on it, because the number of lanes per call changes the rounding.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gdlab.arguments import first_line
from gdlab.compute import interrupts
from gdlab.compute.threads import Crew
from gdlab.scans.programs import LanePrograms, fitting
from gdlab.scans.results import Results

BLOCK_SECONDS = 0.1
"""The least duration of a block, if there are enough lanes for several blocks per thread."""

BLOCKS_PER_THREAD = 8
"""The least number of blocks per thread, so that all threads finish at about the same time."""

CACHE = 1 << 19
"""The bytes of a CPU's second-level cache, in which the lanes of a call should fit if there are more than a few."""

QUICK_SECONDS = 5e-3
"""The duration below which other threads are not worth starting."""


class Choice(NamedTuple):
    """What the timing of a program has found.

    Attributes:
      one: seconds per lane, one after another in all threads.
      width: the number of lanes per call that was tried, or None.
      several: seconds per lane in such calls.
      note: why there is no such program, or "".
    """

    one: float
    width: int | None = None
    several: float = float("inf")
    note: str = ""

    def best(self, lanes: int, threads: int) -> int | None:
        """Return the number of lanes per call with which so many lanes are done first; None: one after another."""
        if self.width is None:
            return None
        calls = -(-lanes // (self.width * threads))  # by each thread, the last one perhaps padded
        return self.width if calls * self.width * threads * self.several < lanes * self.one else None


CHOICES: dict[Any, Choice] = {}
"""What was found, by what the program computes, the kind of device, and the number of threads."""


class Work(NamedTuple):
    """The lanes of one program, and where their results go.

    Attributes:
      program: the number of the program.
      lanes: the numbers of the lanes.
      arguments: returns the seeds of lanes, and their values of each hyperparameter.
      results: takes the results and the decisions.
      tick: is called with the number of lanes that are finished.
    """

    program: int
    lanes: range
    arguments: Callable[[range], list[np.ndarray]]
    results: Results
    tick: Callable[[int], Any]

    def resume(self, low: int, high: int, width: int | None) -> bool:
        """Return whether these lanes were finished before, and if so take their results."""
        held = self.results.resume(self.program, low, high, width)
        if held:
            self.tick(high - low)
        return held

    def keep(self, low: int, high: int, width: int | None, found: Sequence[np.ndarray]) -> None:
        """Take the results of lanes."""
        self.results.keep(self.program, low, high, width, dict(zip(self.results.arrays, found, strict=True)))
        self.tick(high - low)

    def decided(self, what: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what was decided before, or what `make` decides now."""
        return self.results.decided(f"{self.program}-{what}", make)


def calls_per_block(calls: int, threads: int) -> int:
    """Return how many of so many calls a block has at most: each thread gets several blocks of whole calls.

    So all threads finish at about the same time.
    """
    return max(1, calls // (BLOCKS_PER_THREAD * threads))


class Runner:
    """Runs all lanes of one program.

    Attributes:
      choice: what timing has found; None if nothing was timed.
    """

    def __init__(self, programs: LanePrograms, work: Work, chunk: int | None, threads: Sequence[jax.Device]):
        """Prepare to run all lanes of `work`, `chunk` lanes per call; None chooses it by timing."""
        blocking = programs.blocking and threads[0].platform == "cpu"
        self.threads = list(threads[: max(len(threads) - 1, 1)] if blocking else threads)
        self.programs, self.work, self.lanes, self.chunk = programs, work, work.lanes, chunk
        self._key = (programs.trace.digest, threads[0].device_kind, len(self.threads))
        self.choice = CHOICES.get(self._key)
        self._at, self._lock = work.lanes.start, threading.Lock()
        self._block, self._alone = 1, False
        self._width: int | None = None
        self._crew: Crew | None = None

    def run(self) -> None:
        """Run all lanes."""
        if not self.lanes:
            return
        first = self.work.decided("blocks", self._begin)
        self._block = first["block"]
        self._go_on(first["at"], first["width"], calls=1)
        width = first["width"]
        if not first["settled"]:
            trial = self.work.decided("trial", self._try)
            self._go_on(trial["at"], None)
            width = trial["width"]
            if width is not None:
                rest = self.work.decided("rest", lambda: self._compare(width, trial["at"]))
                self._go_on(rest["at"], width, calls=1)
                width = rest["width"]
        self._width = width
        self._go_on(self.lanes.stop, width)

    def summary(self) -> dict[str, Any]:
        """Return how the lanes were run, as JSON."""
        found: dict[str, Any] = {"lanes_per_call": self._width or 1, "lanes_per_block": self._block}
        if self.choice is not None and self.choice.width is not None:
            found |= {"tried": self.choice.width, "several_are_faster_by": self.choice.one / self.choice.several}
        return found | ({"note": self.choice.note} if self.choice and self.choice.note else {})

    def _begin(self) -> dict[str, Any]:
        """Run one or two calls, and decide how many lanes make a block, and whether the width of calls is settled."""
        left, known = len(self.lanes), self.choice
        if self.chunk is not None:
            width = self.chunk if self.chunk > 1 else None
        else:
            width = known.best(left, len(self.threads)) if known else None
        settled = self.chunk is not None or (known is not None and not self._is_worth_trying(left, known.one))
        size = width or 1
        per_lane = self._timed(size, width, self.threads[0], 2, BLOCK_SECONDS)
        seconds = BLOCK_SECONDS if per_lane is None else size * per_lane  # None: an earlier call was killed just now
        calls = -(-self._left() // size)
        most = calls_per_block(calls, len(self.threads))
        self._alone = calls * seconds < QUICK_SECONDS
        block = size * int(min(max(1, BLOCK_SECONDS / max(seconds, 1e-9)), most))
        return {"at": self._at, "width": width, "block": block, "settled": settled}

    def _try(self) -> dict[str, Any]:
        """Run lanes one after another, and meanwhile compile for several lanes per call if that may pay."""
        if self.choice is None:
            found = self._in_all_threads(lambda _, device: self._timed(self._block, None, device, 1))
            if not (taken := [seconds for seconds in found if seconds is not None]):
                return {"at": self._at, "width": None}
            self._choose(Choice(float(np.mean(taken)) / len(self.threads)))
        left = self._left()
        width = self._widest(left)
        if width < 2 or not self._is_worth_trying(left, self.choice.one if self.choice else 0.0):
            return {"at": self._at, "width": None}
        compiled = [threading.Event() for _ in set(self.threads)]
        errors: list[Exception] = []

        def work(number: int, _: jax.Device) -> None:
            device = self.threads[number]
            if number < len(compiled):  # the devices take turns, so the first threads have all of them
                try:
                    self.programs.compiled(width, device)
                except Exception as error:  # whatever has no rule for vmap, or does not fit
                    errors.append(error)
                finally:
                    compiled[number].set()
            while not all(event.is_set() for event in compiled):
                if self._run_next(self._block, None, self.lanes.stop, device) is None:
                    return

        self._in_all_threads(work)
        if errors and self.choice:
            self._choose(self.choice._replace(note=f"vmap failed: {first_line(errors[0].__cause__ or errors[0])}"))
        return {"at": self._at, "width": None if errors or self._left() < width else width}

    def _compare(self, width: int, began: int) -> dict[str, Any]:
        """Run some calls of several lanes in each thread, and decide how the rest is done."""
        try:
            found = self._in_all_threads(lambda _, device: self._timed(width, width, device, 2, BLOCK_SECONDS))
        except jax.errors.JaxRuntimeError as error:  # no memory
            self._at = began
            if self.choice:
                self._choose(self.choice._replace(note=f"vmap failed: {first_line(error)}"))
            return {"at": began, "width": None}
        taken = [seconds for seconds in found if seconds is not None]
        if not taken or self.choice is None:  # finished by an earlier call, which has found it worth trying
            return {"at": self._at, "width": width}
        several = float(np.mean(taken)) / len(self.threads)
        self._choose(self.choice._replace(width=width, several=several))
        return {"at": self._at, "width": width if several < self.choice.one else None}

    def _choose(self, choice: Choice) -> None:
        self.choice = choice
        if self.programs.trace.digest:
            CHOICES[self._key] = choice

    def _left(self) -> int:
        return self.lanes.stop - self._at

    def _is_worth_trying(self, left: int, one: float) -> bool:
        """Return whether to compile for several lanes per call: what is left takes longer than compiling took."""
        if self.choice is not None and (self.choice.width is not None or self.choice.note):
            return False
        return left * one > self.programs.compiled(None, self.threads[0])[1]

    def _widest(self, left: int) -> int:
        """Return the number of lanes per call to try: a power of two, so that few numbers have their own program."""
        device = self.threads[0]
        callers = len(self.threads) // len(set(self.threads))
        most = fitting(self.programs.compiled(None, device)[0], device, callers, cache=CACHE)
        return 1 << (max(1, min(most, -(-left // len(self.threads)))).bit_length() - 1)

    def _go_on(self, stop: int, width: int | None, calls: int | None = None) -> None:
        """Run all lanes before `stop` in blocks of so many calls; None: as many as are in a block."""
        size = (width or 1) * (calls or max(1, self._block // (width or 1)))
        if self._at < stop:
            self._in_all_threads(lambda _, device: self._drain(size, width, stop, device))

    def _drain(self, size: int, width: int | None, stop: int, device: jax.Device) -> None:
        while self._run_next(size, width, stop, device) is not None:
            pass

    def _timed(
        self, size: int, width: int | None, device: jax.Device, most: int, limit: float = math.inf
    ) -> float | None:
        """Run up to `most` blocks of lanes that are not finished yet, and return the least seconds per lane.

        The first block is often slower than the others. After `limit` seconds no further block begins.
        """
        found: list[float] = []
        while len(found) < most and (not found or sum(found) * size < limit):
            taken = self._run_next(size, width, self.lanes.stop, device)
            if taken is None:
                break
            found += [] if math.isnan(taken) else [taken]
        return min(found, default=None)

    def _run_next(self, size: int, width: int | None, stop: int, device: jax.Device) -> float | None:
        """Run the next `size` lanes before `stop`, and return the seconds per lane.

        They are NaN if the lanes were finished before, and None if there are no lanes.
        """
        with self._lock:
            low = self._at
            high = min(low + size, stop)
            if low >= high or (self._crew is not None and self._crew.stopped.is_set()):
                return None
            self._at = high
        if self.work.resume(low, high, width):
            return math.nan
        self.programs.compiled(width, device)
        arguments = self.work.arguments(range(low, high))
        each, found = width or 1, []
        began = time.perf_counter()
        for place in range(0, high - low, each):
            interrupts.check()
            own = slice(place, place + each)
            found.append(self.programs.call(width, device, [array[own] for array in arguments]))
        seconds = time.perf_counter() - began
        self.work.keep(low, high, width, [np.concatenate(parts) for parts in zip(*found, strict=True)])
        return seconds / (each * len(found))

    def _in_all_threads(self, work: Callable[[int, jax.Device], Any]) -> list[Any]:
        if self._alone or len(self.threads) == 1:
            return [work(0, self.threads[0])]
        self._crew = Crew(self.threads)
        try:
            return self._crew.run(work, range(len(self.threads)))
        finally:
            self._crew = None
