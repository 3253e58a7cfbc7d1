"""The compiled programs of a traced lane: one lane per call, or several lanes mapped by `jax.vmap`."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from gdlab.arguments import restated
from gdlab.compute.devices import compile_with_first, memory, repeatable, wide_vectors
from gdlab.compute.programs import Cache, calls_lapack, trace
from gdlab.scans.traces import Trace

COMPILED = Cache(256)
"""Compiled programs and the seconds that compiling took, by what they compute."""

PLACED = Cache(8)
"""The large constants of traced lanes on devices."""

LARGE = 1 << 16
"""The bytes from which a constant, such as a data set, becomes an argument: programs share it, and compile faster."""

WIDEST = {"cpu": 16}
"""Largest number of lanes per call, by platform; more of them do not fit into a CPU's caches."""

WIDEST_ELSEWHERE = 1024
"""Largest number of lanes per call on all other platforms."""

MEMORY_SHARE = 0.5
"""Share of a device's memory that the lanes of all concurrent calls may use."""


def fitting(compiled: Any, device: jax.Device, callers: int, *, cache: int = 0) -> int:
    """Return how many lanes per call fit into memory, given the compiled program of one lane.

    The lanes' share of the device's memory is divided among `callers` concurrent calls.

    Args:
      compiled: the program of one lane.
      device: the device.
      callers: the number of concurrent calls.
      cache: on a CPU, the bytes in which there may be more lanes than `WIDEST`, up to `WIDEST_ELSEWHERE`. Default 0.
    """
    most = WIDEST.get(device.platform, WIDEST_ELSEWHERE)
    analysis = compiled.memory_analysis()
    if analysis is None:
        return most
    each = max(analysis.temp_size_in_bytes + analysis.output_size_in_bytes, 1)
    most = max(most, min(cache // each, WIDEST_ELSEWHERE))
    return int(max(1, min(most, MEMORY_SHARE * memory(device) / callers // each)))


class LanePrograms:
    """The programs of one traced lane, compiled when they are first used, and kept by what they compute.

    Attributes:
      trace: the lane.
      blocking: whether as many concurrent calls as there are cores might wait for each other forever.
      compile_seconds: the seconds that compiling has taken, summed over threads.
    """

    def __init__(self, traced: Trace):
        """Create the programs of a lane; nothing is compiled yet."""
        self.trace = traced
        self.blocking = calls_lapack(traced.closed)
        self.compile_seconds = 0.0
        self._large = [value for value in traced.closed.consts if np.size(value) * value.dtype.itemsize >= LARGE]
        self._key = traced.digest or object()  # the code behind a call into Python may change

    def compiled(self, width: int | None, device: jax.Device) -> tuple[Any, float]:
        """Return the program for calls of `width` lanes (None: one, without vmap), and how long it took to compile."""

        def make() -> tuple[Any, float]:
            began = time.perf_counter()
            shape = () if width is None else (width,)
            closed = self.trace.closed
            shapes = [jax.ShapeDtypeStruct(shape, aval.dtype) for aval in closed.in_avals]
            lane, options = self._with_large(), {}  # one lane is compiled as by jax.jit
            if width is not None:
                lane, options = jax.vmap(lane, (None, *[0] * len(shapes))), wide_vectors(device)
            try:
                with jax.disable_jit(False):
                    lowered = trace(lane, (self._large, *shapes), device, options=options).lower()
                    found = compile_with_first(lowered, repeatable(device)).run
            except Exception as error:  # a rule for vmap that is missing may be the user's own
                if width is None:
                    raise
                raise restated(error, "chunk", "a function that jax.vmap can map") from error
            seconds = time.perf_counter() - began
            self.compile_seconds += seconds
            return found, seconds

        return COMPILED.get((self._key, width, device), make)

    def _with_large(self) -> Callable[..., Any]:
        """Return the lane as a function of its large constants, the seed and the numbers."""
        closed = self.trace.closed
        large = {id(value) for value in self._large}

        def lane(given: Sequence[Any], *arguments: Any) -> Any:
            replaced = iter(given)
            consts = [next(replaced) if id(value) in large else value for value in closed.consts]
            return core.jaxpr_as_fun(core.ClosedJaxpr(closed.jaxpr, consts))(*arguments)

        return lane

    def call(self, width: int | None, device: jax.Device, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run lanes in one call, padded to its width with copies of the last lane, and return each of the results."""
        program, _ = self.compiled(width, device)
        count = len(arguments[0])
        if width is None:
            given = [array[0] for array in arguments]
        else:
            given = [np.pad(array, (0, width - count), mode="edge") for array in arguments]
        with jax.disable_jit(False):
            found = jax.device_get(program(self._placed(device), *given))
        return [array[None] if width is None else array[:count] for array in found]

    def _placed(self, device: jax.Device) -> Any:
        return PLACED.get((self._key, device), lambda: jax.device_put(self._large, device)) if self._large else []
