"""Lanes that keep their path, or hand their descent to a function of the caller's: plain descents, chunk by chunk."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.descent import Descent, descend
from gdlab.sweeps.lane import Task, choose, is_near
from gdlab.sweeps.space import RESERVED, Space
from gdlab.sweeps.workers import Part, with_settings

Reduce = Callable[[Descent], Any]


def make_history(task: Task, record: str, reduce: Reduce | None) -> Callable[..., dict[str, Any]]:
    """One lane: (start, function, numbers) -> the arrays that the result keeps of it."""

    def lane(start: jax.Array, which: jax.Array, numbers: Sequence[Any]) -> dict[str, Any]:
        descent = descend(
            lambda x: choose(which, task.functions, x),
            task.build(**dict(zip(task.names, numbers, strict=True))),
            start,
            max_steps=task.max_steps,
            tolerance=task.tolerance,
            gradient=None if task.gradients is None else (lambda x: choose(which, task.gradients or (), x)),
            record=record,
        )
        found: dict[str, Any] = {name: getattr(descent, name) for name in ("steps", "converged", "diverged")}
        if task.minimizers is not None:
            near = is_near(task, descent.path, which)
            found["reached"] = near[-1]
            if record == "path":
                found["first_reached"] = jnp.where(near.any(), jnp.argmax(near), -1).astype(jnp.int32)
        if reduce is None:
            return found | {"value": descent.value, "point": descent.path}
        kept = reduce(descent)
        if not isinstance(kept, dict) or not all(isinstance(name, str) for name in kept):
            raise TypeError(f"reduce: wanted a function that returns a dict of arrays, got {type(kept).__name__}")
        clash = sorted(set(kept) & ({*found, *RESERVED, *task.names} - {"value", "point"}))
        if clash:
            raise ValueError(f"reduce: {clash[0]!r} is a variable of the result's own; give it another name")
        return found | kept

    return lane


def run_histories(
    lane: Callable[..., dict[str, Any]],
    space: Space,
    factory: int,
    parts: Sequence[Part],
    devices: Sequence[jax.Device],
    workers: int,
    chunk: int,
    record: Callable[[Part, np.ndarray | slice, dict[str, np.ndarray]], None],
    finish: Callable[[Part], None],
    tick: Callable[[int], None],
) -> float:
    """All lanes of the parts, in calls of `chunk`; returns the seconds that compilation took."""
    differing = space.differing()
    batch = jax.vmap(lane, (0, None, [0 if differs else None for differs in differing]))
    lock = threading.Lock()
    locks = {device: threading.Lock() for device in devices}
    programs: dict[jax.Device, Any] = {}
    compiling = [0.0]
    left = {part: part.high - part.low for part in parts}

    def arguments(function: int, lanes: range) -> tuple[Any, ...]:
        places = np.pad(np.asarray(lanes), (0, chunk - len(lanes)), mode="edge")
        starts = space.starts[function][places % space.starts.shape[1]]
        return starts, np.int32(function), space.padded_values(factory, function, lanes, chunk)

    def call(place: int, part: Part, low: int) -> None:
        device = devices[place % len(devices)]
        lanes = range(low, min(low + chunk, part.high))
        given = jax.device_put(arguments(part.function, lanes), device)
        with locks[device]:
            if device not in programs:
                began = time.perf_counter()
                programs[device] = jax.jit(batch).lower(*given).compile()
                compiling[0] += time.perf_counter() - began
        found = {name: np.asarray(array)[: len(lanes)] for name, array in programs[device](*given).items()}
        with lock:
            record(part, slice(lanes.start, lanes.stop), found)
            tick(len(lanes))
            left[part] -= len(lanes)
            if not left[part]:
                finish(part)

    calls = [(part, low) for part in parts for low in range(part.low, part.high, chunk)]
    with ThreadPoolExecutor(workers) as pool:
        tasks = [pool.submit(with_settings(call), i, part, low) for i, (part, low) in enumerate(calls)]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            for task in tasks:
                task.cancel()
            raise
    return compiling[0]


def history_chunk(space: Space, max_steps: int, record: str) -> int:
    """Lanes of a call: their paths take at most 16 MiB."""
    each = (max_steps + 1 if record == "path" else 1) * (space.dim + 1) * space.starts.dtype.itemsize
    return int(np.clip(1 << int(np.log2(max((1 << 24) / each, 1))), 1, 2048))
