"""Threads that share work: one for each core of a CPU, or for each other device."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import jax

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_devices(devices: Sequence[jax.Device], *, callers: int = 1) -> list[jax.Device]:
    """The device that each of a crew's threads works on: one thread per core of CPUs, `callers` per other device."""
    count = max(usable_cores(), len(devices)) if devices[0].platform == "cpu" else callers * len(devices)
    return [devices[k % len(devices)] for k in range(count)]


def with_settings(function: Callable[..., Result]) -> Callable[..., Result]:
    """`function`, to be called in another thread with this one's 64-bit setting, which a `with` block may have made."""
    wide = jax.config.read("jax_enable_x64")

    def called(*arguments: Any) -> Result:
        with jax.enable_x64(wide):
            return function(*arguments)

    return called


class Crew:
    """Threads that share jobs. The first error, or an interrupt, stops all of them.

    stopped: set when no further job is to begin; a long job looks at it between its steps.
    """

    def __init__(self, devices: Sequence[jax.Device], *, on_stop: Callable[[], None] = lambda: None):
        """One thread for each of `devices`, which it hands to its jobs; a device may stand there several times.

        on_stop: called once `stopped` is set.
        """
        self.devices = list(devices)
        self.stopped = threading.Event()
        self._on_stop = on_stop

    def stop(self) -> None:
        """Begin no further job."""
        self.stopped.set()
        self._on_stop()

    def run(self, work: Callable[[Item, jax.Device], Result], jobs: Iterable[Item]) -> list[Result]:
        """`work(job, device)` of every job, the results in order of the jobs.

        Raises the first error of a job after those that were running have ended.
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
                    results[number] = work(job, device)
                except BaseException:
                    self.stop()
                    raise

        with ThreadPoolExecutor(len(self.devices)) as pool:
            threads = [pool.submit(serve, device) for device in self.devices]
            try:
                wait(threads, return_when=FIRST_EXCEPTION)
                for thread in threads:
                    thread.result()
            except BaseException:
                self.stop()
                raise
        return [results[number] for number in sorted(results)]


def ahead(make: Callable[[Item], Result], jobs: Sequence[Item], threads: int) -> Iterator[Result]:
    """`make(job)` of each job in order, of which so many threads make the next ones while the caller works."""
    make = with_settings(make)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(make, job))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
