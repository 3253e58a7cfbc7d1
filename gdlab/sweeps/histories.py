"""Lanes that keep their path, or pass their descent to a function of the caller, run as plain descents in chunks."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from gdlab.arguments import describe, restated
from gdlab.compute.programs import Cache, digest_jaxprs, trace
from gdlab.compute.threads import Crew
from gdlab.descent import Descent, descend
from gdlab.sweeps.crew import Ledger, Part
from gdlab.sweeps.space import RESULT_NAMES, Space
from gdlab.sweeps.step import LaneSpec, choose, is_near
from gdlab.sweeps.traces import largest_array

Reduce = Callable[[Descent], Any]

PROGRAMS = Cache(64)
"""Compiled programs, by what they compute."""


class HistoryTrace(NamedTuple):
    """A lane as JAX has traced it: what decides both its program and the identity of its results.

    Attributes:
      closed: takes (start, which, *numbers) and returns the arrays that the result keeps of the lane.
      names: their names, in order.
      digest: a digest of the lane; None if it calls back into Python.
      largest: the size in bytes of the largest array that it computes.
    """

    closed: core.ClosedJaxpr
    names: list[str]
    digest: str | None
    largest: int

    def run(self, start: Any, which: Any, numbers: Sequence[Any]) -> dict[str, Any]:
        """Return what the result keeps of one lane, by name."""
        return dict(zip(self.names, core.jaxpr_as_fun(self.closed)(start, which, *numbers), strict=True))


def trace_history(spec: LaneSpec, record: str, reduce: Reduce | None, dim: int, dtype: Any) -> HistoryTrace:
    """Trace a lane: what its functions read from outside is what it is now."""
    lane = make_history(spec, record, reduce)
    arguments = (jax.ShapeDtypeStruct((dim,), dtype), jax.ShapeDtypeStruct((), jnp.int32), spec.types(dtype))
    closed, found = jax.make_jaxpr(lane, return_shape=True)(*arguments)
    return HistoryTrace(closed, sorted(found), digest_jaxprs([closed]), largest_array(closed))


def make_history(spec: LaneSpec, record: str, reduce: Reduce | None) -> Callable[..., dict[str, Any]]:
    """Return one lane: a function from (start, function, numbers) to the arrays that the result keeps of it."""

    def lane(start: jax.Array, which: jax.Array, numbers: Sequence[Any]) -> dict[str, Any]:

        def value(x: jax.Array, *given: Any) -> jax.Array:
            return choose(which, spec.functions, x, *given)

        def slope(x: jax.Array, *given: Any) -> jax.Array:
            return choose(which, spec.gradients or (), x, *given)

        extras = spec.extras(numbers)
        descent = descend(
            value,
            spec.build(**dict(zip(spec.names, numbers[: len(spec.names)], strict=True))),
            start,
            max_steps=spec.max_steps,
            tolerance=spec.tolerance,
            gradient=slope if spec.gradients else None,
            record=record,
            key=extras.key,
            data=extras.data,
        )
        found: dict[str, Any] = {name: getattr(descent, name) for name in ("steps", "converged", "diverged")}
        if spec.minimizers is not None:
            near = is_near(spec, descent.path, which)
            found["reached"] = near[-1]
            if record == "path":
                found["first_reached"] = jnp.where(near.any(), jnp.argmax(near), -1).astype(jnp.int32)
        if reduce is None:
            return found | {"value": descent.value, "point": descent.path}
        if spec.tree is not None:
            descent = descent._replace(path=jax.vmap(spec.tree.params)(descent.path))
        kept = reduced(reduce, descent)
        clash = sorted(set(kept) & ({*found, *RESULT_NAMES, *spec.names} - {"value", "point"}))
        if clash:
            raise ValueError(f"reduce: expected names that are not reserved for the result, got {clash[0]!r}")
        return found | kept

    return lane


def reduced(reduce: Reduce, descent: Descent) -> dict[str, Any]:
    """Return `reduce(descent)`, or raise one line that says what is wrong with it."""
    try:
        kept = reduce(descent)
    except Exception as error:  # the user's function may raise anything
        raise restated(error, "reduce", "a function that JAX can trace") from error
    if not isinstance(kept, dict) or not all(isinstance(name, str) for name in kept):
        raise TypeError(f"reduce: expected a function that returns a dict of arrays, got {describe(kept)}")
    for name, value in kept.items():
        try:
            jnp.asarray(value)
        except (TypeError, ValueError):
            raise TypeError(f"reduce: expected an array for {name!r}, got {describe(value)}") from None
    return kept


def run_histories(
    lane: HistoryTrace,
    space: Space,
    factory: int,
    parts: Sequence[Part],
    devices: Sequence[jax.Device],
    chunk: int,
    ledger: Ledger,
) -> None:
    """Run all lanes of the parts, `chunk` lanes per call."""
    differing = tuple(space.differing())
    batch = jax.vmap(lane.run, (0, None, [0 if differs else None for differs in differing]))
    lock = threading.Lock()
    which = (lane.digest or object(), tuple(lane.names), differing, chunk)  # code behind a call into Python may change
    left = {part: part.high - part.low for part in parts}

    def call(job: tuple[Part, range], device: jax.Device) -> None:
        part, lanes = job
        starts = np.pad(space.points(part.function, lanes), ((0, chunk - len(lanes)), (0, 0)), mode="edge")
        numbers = space.values(factory, part.function, lanes, chunk, device)
        given = jax.device_put((starts, np.int32(part.function), numbers), device)
        with ledger.compiling():
            program = PROGRAMS.get((which, device), lambda: trace(batch, given, device).lower().compile())
        found = {name: np.asarray(array)[: len(lanes)] for name, array in program(*given).items()}
        with lock:
            ledger.record(part, slice(lanes.start, lanes.stop), found)
            left[part] -= len(lanes)
            if not left[part]:
                ledger.finish(part)

    ranges = [
        (part, range(low, min(low + chunk, part.high))) for part in parts for low in range(part.low, part.high, chunk)
    ]
    if len(ranges) == 1 and (which, devices[0]) in PROGRAMS:
        call(ranges[0], devices[0])  # starting a thread would take longer
    else:
        Crew(devices[: len(ranges)]).run(call, ranges)


def history_chunk(lane: HistoryTrace, space: Space, max_steps: int, record: str) -> int:
    """Return the number of lanes per call, whose paths take at most 16 MiB, and whose largest arrays at most 64 MiB."""
    path = (max_steps + 1 if record == "path" else 1) * (space.dim + 1) * space.starts.dtype.itemsize
    each = max(path, lane.largest / 4)
    return int(np.clip(1 << int(np.log2(max((1 << 24) / each, 1))), 1, 2048))
