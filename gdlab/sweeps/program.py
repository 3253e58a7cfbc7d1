"""The one compiled program of a sweep: many lanes, from one step to another, with every argument of theirs traced.

Lanes go through in tiles small enough for the first-level cache, and a tile takes all its steps before the next begins.
How many tiles there are is an argument, so a batch that shrinks as lanes stop needs no second compilation.
"""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Array

from gdlab.sweeps.lane import Task, make_lane
from gdlab.sweeps.scalars import TooLargeError, as_scalars, metadata

_KEPT = 64
"""Programs kept for sweeps to come; the oldest go first."""

MOST_OPERATIONS = 2000
"""Scalar operations in one step, above which lanes are mapped as vectors."""


class Arguments(NamedTuple):
    """What the program takes: how many tiles go from step `t` to step `until` on which function, and their arrays.

    shared_numbers, lane_numbers: hyperparameters that all lanes have in common, and those that they have of their own.
    shared, lanes: the same of the state. Arrays of lanes have the chunk's length in front.
    """

    tiles: Any
    t: Any
    until: Any
    which: Any
    shared_numbers: Any
    lane_numbers: Any
    shared: Any
    lanes: Any


class Blueprint(NamedTuple):
    """The program before it is compiled for a device.

    advance: `Arguments` -> (values, whether at a minimizer, shared state, lane state). arguments: their shapes.
    point_leaves: how many of the lane state's arrays are the point; `stop` and `first` come next. plain: whether all
    became scalar arithmetic. compiled, blanks: what was made of it for each device.
    """

    advance: Callable[..., Any]
    arguments: Arguments
    tile: int
    chunk: int
    point_leaves: int
    plain: bool
    compiled: dict[jax.Device, Callable[..., Any]]
    blanks: dict[jax.Device, list[jax.Array]]


def varies(jaxpr: core.Jaxpr, given: Sequence[bool]) -> list[bool]:
    """Which outputs depend on an input that is marked; a primitive mixes all its inputs into all its outputs."""
    marked = {var for var, mark in zip(jaxpr.invars, given, strict=True) if mark}
    for eqn in jaxpr.eqns:
        if any(not isinstance(atom, core.Literal) and atom in marked for atom in eqn.invars):
            marked.update(eqn.outvars)
    return [not isinstance(atom, core.Literal) and atom in marked for atom in jaxpr.outvars]


_PLANS: dict[Any, Any] = {}


def plan_for(task: Task, dim: int, dtype: Any, differing: Sequence[bool], chunk: int | None, backend: str) -> Blueprint:
    """`draw_up`, once for the same functions and factory; as with `jax.jit`, what they read must not change."""
    aims = None if task.minimizers is None else (task.minimizers.shape, task.minimizers.tobytes())
    wide = jax.config.read("jax_enable_x64")
    key = (task._replace(minimizers=None, max_steps=0), aims, dim, dtype, tuple(differing), chunk, backend, wide)
    try:
        known = _PLANS.get(key)
    except TypeError:  # a function that cannot be hashed cannot be remembered
        return draw_up(task, dim, dtype, differing, chunk, backend)
    if known is None:
        known = draw_up(task, dim, dtype, differing, chunk, backend)
        while len(_PLANS) >= _KEPT:
            _PLANS.pop(next(iter(_PLANS)), None)
        _PLANS[key] = known
    return known


def draw_up(task: Task, dim: int, dtype: Any, differing: Sequence[bool], chunk: int | None, backend: str) -> Blueprint:
    """Trace the lane, find out what its lanes share, and lay out the loop over tiles and steps.

    differing: of each hyperparameter, whether it differs between lanes.
    """
    begin, step, look = make_lane(task)
    x = jax.ShapeDtypeStruct((dim,), dtype)
    count = jax.ShapeDtypeStruct((), jnp.int32)
    numbers = [jax.ShapeDtypeStruct((), dtype) for _ in task.names]
    state = jax.eval_shape(begin, x, count, numbers)
    layout: Any
    leaves, layout = jax.tree.flatten(state)
    if any(jnp.issubdtype(leaf.dtype, jax.dtypes.extended) for leaf in leaves):
        raise TypeError(
            "factory: wanted an optimizer whose state holds numbers, got one with random keys; keep their data in it, "
            "jax.random.key_data(key)"
        )

    def flat_step(*flat: Any) -> list[Any]:
        before = layout.unflatten(flat[: len(leaves)])
        return jax.tree.leaves(step(before, flat[len(leaves)], flat[len(leaves) + 1], flat[len(leaves) + 2 :]))

    def flat_begin(start: Any, which: Any, *values: Any) -> list[Any]:
        return jax.tree.leaves(begin(start, which, values))

    traced_step = jax.make_jaxpr(flat_step)(*leaves, count, count, *numbers)
    traced_begin = jax.make_jaxpr(flat_begin)(x, count, *numbers)
    traced_look = jax.make_jaxpr(look)(x, count)
    try:
        scalar_step, scalar_begin, scalar_look = (
            as_scalars(traced, keep=_stored, limit=MOST_OPERATIONS)
            for traced in (traced_step, traced_begin, traced_look)
        )
        run_step, run_begin, run_look = scalar_step.run, scalar_begin.run, scalar_look.run
        plain = scalar_step.plain and scalar_begin.plain and scalar_look.plain
        scalar = True
    except TooLargeError:
        run_step, run_begin, run_look = map(_as_lists, map(core.jaxpr_as_fun, (traced_step, traced_begin, traced_look)))
        plain, scalar = False, False
    carried = [leaf for leaf in leaves for _ in range(leaf.size)] if scalar else leaves
    like = [jax.ShapeDtypeStruct((), leaf.dtype) for leaf in carried] if scalar else leaves
    points = dim if scalar else 1
    start_like = like[:points]

    differing = list(differing)
    begun = jax.make_jaxpr(lambda *flat: run_begin(flat))(*start_like, count, *numbers)
    lane = varies(begun.jaxpr, [*[True] * points, False, *differing])
    lane[: points + 2] = [True] * (points + 2)  # the point, stop and first
    taken = jax.make_jaxpr(lambda *flat: run_step(flat))(*like, count, count, *numbers)
    while True:
        after = [a or b for a, b in zip(lane, varies(taken.jaxpr, [*lane, False, False, *differing]), strict=True)]
        if after == lane:
            break
        lane = after

    held = sum(leaf.size * leaf.dtype.itemsize for leaf, mine in zip(like, lane, strict=True) if mine)
    tile, chunk = _sizes(held, plain, chunk, backend)

    def merge(mine: Sequence[Any], shared: Sequence[Any], marks: Sequence[bool]) -> list[Any]:
        a, b = iter(mine), iter(shared)
        return [next(a) if mark else next(b) for mark in marks]

    def axes(marks: Sequence[bool]) -> list[int | None]:
        return [0 if mark else None for mark in marks]

    batch_step = jax.vmap(
        lambda flat, which, t, values: run_step([*flat, which, t, *values]),
        (axes(lane), None, None, axes(differing)),
        axes(lane),
    )
    batch_begin = jax.vmap(
        lambda start, which, values: run_begin([*start, which, *values]),
        ([0] * points, None, axes(differing)),
        axes(lane),
    )
    batch_look = jax.vmap(lambda start, which: run_look([*start, which]), ([0] * points, None))

    def advance(
        tiles: Array,
        t: Array,
        until: Array,
        which: Array,
        shared_numbers: Any,
        lane_numbers: Any,
        shared: Any,
        lanes: Any,
    ) -> tuple[Array, Array, list[Array], list[Array]]:
        def one_tile(carry: tuple[Array, list[Array], list[Array], list[Array]]) -> Any:
            place, _, arrays, looks = carry

            def cut(array: Array) -> Array:
                return jax.lax.dynamic_slice_in_dim(array, place * tile, tile)

            mine, numbers_here = [cut(array) for array in arrays], [cut(array) for array in lane_numbers]
            both = merge(numbers_here, shared_numbers, differing)
            fresh = batch_begin(mine[:points], which, both)
            current = merge(mine, shared, lane)
            current = [jnp.where(t == 0, new.astype(old.dtype), old) for new, old in zip(fresh, current, strict=True)]

            def body(carry: tuple[Array, list[Array]]) -> tuple[Array, list[Array]]:
                now, flat = carry
                new = batch_step(flat, which, now, both)
                return now + 1, [jnp.asarray(a).astype(b.dtype) for a, b in zip(new, flat, strict=True)]

            _, current = jax.lax.while_loop(lambda carry: carry[0] < until, body, (t, current))
            done = [leaf for leaf, mark in zip(current, lane, strict=True) if mark]
            common = [leaf for leaf, mark in zip(current, lane, strict=True) if not mark]
            found = batch_look(done[:points], which)

            def put(array: Array, part: Array) -> Array:
                return jax.lax.dynamic_update_slice_in_dim(array, part, place * tile, 0)

            return place + 1, common, list(map(put, arrays, done)), list(map(put, looks, found))

        begun = (jnp.zeros([], jnp.int32), shared, lanes, [jnp.zeros((chunk,), dtype), jnp.zeros((chunk,), bool)])
        _, shared, lanes, (values, reached) = jax.lax.while_loop(lambda carry: carry[0] < tiles, one_tile, begun)
        return values, reached, shared, lanes

    def whole(*arguments: Any) -> Any:
        if not (plain and backend == "cpu"):
            return advance(*arguments)
        # A call of this name is compiled as one function, loops and all: no dispatch of every operation at every step,
        # and no attempt to share out each of them among threads.
        with metadata(inlineable="false", xla_cpu_small_call="true"):
            return jax.jit(advance)(*arguments)

    shared_like = [leaf for leaf, mark in zip(like, lane, strict=True) if not mark]
    lanes_like = [
        jax.ShapeDtypeStruct((chunk, *leaf.shape), leaf.dtype) for leaf, mark in zip(like, lane, strict=True) if mark
    ]
    arguments = Arguments(
        count,
        count,
        count,
        count,
        [n for n, mark in zip(numbers, differing, strict=True) if not mark],
        [jax.ShapeDtypeStruct((chunk,), dtype) for mark in differing if mark],
        shared_like,
        lanes_like,
    )
    return Blueprint(whole, arguments, tile, chunk, points, plain, {}, {})


def _as_lists(fn: Callable[..., Any]) -> Callable[[Sequence[Any]], list[Any]]:
    return lambda flat: list(fn(*flat))


def _stored(name: str) -> bool:
    return name.lstrip("_") in ("value_and_slope", "sincospi_float32", "ripple_float32", "expm1_float32")


def _sizes(held: int, plain: bool, chunk: int | None, backend: str) -> tuple[int, int]:
    """Lanes in a tile and in a call. held: bytes that a lane carries from step to step.

    On a CPU a tile's state and about as much again of intermediate results fit a first-level cache of 32 KiB, or, where
    a step works on vectors, a second-level cache of 512 KiB. On a GPU a call is one tile of at most 256 MiB.
    """
    if backend == "cpu":
        room = (1 << 15) if plain else (1 << 19)
        tile = _power_of_two(room / (2 * held), 64 if plain else 1, 1024)
        tiles = min(32, max(1, (1 << 26) // (held * tile)))
    else:
        tile, tiles = _power_of_two((1 << 28) / held, 1024, 1 << 20), 1
    if chunk is None:
        return tile, tile * tiles
    tile = min(tile, max(16, 1 << (chunk - 1).bit_length()))
    return tile, -(-chunk // tile) * tile


def _power_of_two(number: float, low: int, high: int) -> int:
    return int(min(max(1 << int(np.log2(max(number, 1))), low), high))


def compiler_options(backend: str) -> dict[str, Any]:
    """What XLA is told for a sweep's program on this backend: on a CPU with AVX-512, to use all of its width."""
    if backend == "cpu" and _has_avx512():
        return {"xla_cpu_prefer_vector_width": 512}
    return {}


@functools.cache
def _has_avx512() -> bool:
    try:
        return " avx512f" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def compile_for(blueprint: Blueprint, device: jax.Device) -> tuple[Callable[..., Any], float]:
    """The program compiled for a device, and the seconds that took; the same program is not compiled twice."""
    if device in blueprint.compiled:
        return blueprint.compiled[device], 0.0
    began = time.perf_counter()
    placement = jax.sharding.SingleDeviceSharding(device)
    arguments = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placement), blueprint.arguments
    )
    lowered = jax.jit(blueprint.advance).lower(*arguments)
    compiled = lowered.compile(compiler_options=compiler_options(device.platform))
    blueprint.compiled[device] = compiled
    return compiled, time.perf_counter() - began


def blank_state(blueprint: Blueprint, device: jax.Device) -> list[jax.Array]:
    """Zeros on the device in the place of a state that the program is about to begin; made once."""
    if device not in blueprint.blanks:
        blueprint.blanks[device] = jax.device_put(
            [np.zeros(leaf.shape, leaf.dtype) for leaf in blueprint.arguments.lanes], device
        )
    return blueprint.blanks[device]
