"""Threads that share jobs: one per CPU core, or one or more per device of another kind."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import jax

from gdlab.compute import interrupts

Item = TypeVar("Item")
Result = TypeVar("Result")

LOOK = 0.2
"""The seconds after which a waiting thread looks for an interrupt that Python has ignored."""


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_devices(devices: Sequence[jax.Device], *, callers: int = 1) -> list[jax.Device]:
    """Return the device of each thread of a crew.

    There is one thread per CPU core, or `callers` threads per device of another kind.
    """
    count = max(usable_cores(), len(devices)) if devices[0].platform == "cpu" else callers * len(devices)
    return [devices[k % len(devices)] for k in range(count)]


def with_settings(function: Callable[..., Result]) -> Callable[..., Result]:
    """Return `function` wrapped to run in another thread with the 64-bit setting of this thread.

    The setting needs to be carried over because a `with` block may have changed it for this thread only.
    """
    wide = jax.config.read("jax_enable_x64")

    def called(*arguments: Any) -> Result:
        with jax.enable_x64(wide):
            return function(*arguments)

    return called


class Crew:
    """Threads that share jobs. The first error, or an interrupt, stops all of them.

    Attributes:
      devices: the device of each thread; a device may occur several times.
      stopped: an event that is set when no further job may begin; a long job checks it between its steps.
    """

    def __init__(self, devices: Sequence[jax.Device], *, on_stop: Callable[[], None] = lambda: None):
        """Create a crew with one thread per entry of `devices`.

        Args:
          devices: the device that each thread passes to its jobs. A device may occur several times.
          on_stop: called after `stopped` is set.
        """
        self.devices = list(devices)
        self.stopped = threading.Event()
        self._on_stop = on_stop

    def stop(self) -> None:
        """Begin no further job."""
        self.stopped.set()
        self._on_stop()

    def run(self, work: Callable[[Item, jax.Device], Result], jobs: Iterable[Item]) -> list[Result]:
        """Call `work(job, device)` for every job and return the results in the order of the jobs.

        If a job raises an error, no further job begins, and the first error is raised once the running jobs have
        ended.
        """
        waiting = deque(enumerate(jobs))
        results: dict[int, Result] = {}
        work = with_settings(work)

        def serve(device: jax.Device) -> None:
            while not self.stopped.is_set():
                try:
                    number, job = waiting.popleft()
                except IndexError:
                    return
                try:
                    interrupts.check()
                    results[number] = work(job, device)
                except BaseException:
                    self.stop()
                    raise

        with ThreadPoolExecutor(len(self.devices)) as pool:
            threads = [pool.submit(serve, device) for device in self.devices]
            try:
                while wait(threads, LOOK, return_when=FIRST_EXCEPTION).not_done and not any(map(_failed, threads)):
                    interrupts.check()
                for thread in threads:
                    _heeding(thread)
            except KeyboardInterrupt:
                interrupts.PENDING.set()  # long jobs end at their next check
                self.stop()
                raise
            except BaseException:
                self.stop()
                raise
        return [results[number] for number in sorted(results)]


def _failed(future: Future[Any]) -> bool:
    return future.done() and future.exception() is not None


def _heeding(future: Future[Result]) -> Result:
    """Return the future's result; an interrupt ends the waiting even where Python has ignored it."""
    while True:
        try:
            return future.result(LOOK)
        except TimeoutError:
            if future.done():  # by now, or with an error of this kind
                return future.result()
            interrupts.check()


def ahead(make: Callable[[Item], Result], jobs: Sequence[Item], threads: int) -> Iterator[Result]:
    """Yield `make(job)` for each job in order; meanwhile, `threads` threads make the next ones in advance."""
    make = with_settings(make)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(make, job))
                if len(waiting) > threads:
                    yield _heeding(waiting.popleft())
            while waiting:
                yield _heeding(waiting.popleft())
        finally:
            for future in waiting:
                future.cancel()
