"""The one compiled program of a sweep: many lanes, from one step to another, with every argument of theirs traced.

Lanes go through in tiles small enough for the first-level cache, and a tile takes all its steps before the next begins.
How many tiles there are is an argument, so a batch that shrinks as lanes stop needs no second compilation.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Array

from gdlab.compute.calls import metadata
from gdlab.compute.devices import wide_vectors
from gdlab.compute.programs import Cache, trace
from gdlab.compute.scalars import TooLargeError, as_scalars
from gdlab.sweeps.step import LaneSpec, make_lane

MOST_OPERATIONS = 2000
"""Scalar operations in one step, above which lanes are mapped as vectors."""

MOST_DEVICES = 64
"""For which a program is kept compiled."""

Flat = Callable[[Sequence[Any]], list[Any]]
"""A function from one list of values to another."""


class Arguments(NamedTuple):
    """What the program takes: how many tiles go from step `t` to step `until` on which function, and their arrays.

    shared_numbers, lane_numbers: hyperparameters that all lanes have in common, and those that they have of their own.
    shared, lanes: the same of the state. Arrays of lanes have the chunk's length in front.
    """

    tiles: Array
    t: Array
    until: Array
    which: Array
    shared_numbers: list[Array]
    lane_numbers: list[Array]
    shared: list[Array]
    lanes: list[Array]


@dataclasses.dataclass
class TiledProgram:
    """The program before it is compiled for a device.

    advance: `Arguments` -> (values, whether at a minimizer, shared state, lane state). arguments: their shapes.
    point_leaves: how many of the lane state's arrays are the point; `stop` and `first` come next. plain: whether all
    became scalar arithmetic.
    """

    advance: Callable[..., Any]
    arguments: Arguments
    tile: int
    chunk: int
    point_leaves: int
    plain: bool
    compiled: Cache = dataclasses.field(default_factory=lambda: Cache(MOST_DEVICES))
    blanks: Cache = dataclasses.field(default_factory=lambda: Cache(MOST_DEVICES))


class TracedLane(NamedTuple):
    """A lane, traced to functions of flat lists: of its state's leaves, or, where `scalar`, of their elements.

    begin(start, which, numbers), step(state, which, t, numbers) and look(start, which), arguments and results laid out
    in a row. like: the state's parts. points: how many of them are the point; `stop` and `first` come next. plain:
    whether every operation became scalar arithmetic.
    """

    begin: Flat
    step: Flat
    look: Flat
    like: list[jax.ShapeDtypeStruct]
    points: int
    plain: bool


class Shared(NamedTuple):
    """What of the state and of the hyperparameters each lane has of its own; the rest all lanes share."""

    state: list[bool]
    numbers: list[bool]


PROGRAMS = Cache(64)


def program_for(
    spec: LaneSpec, dim: int, dtype: Any, differing: Sequence[bool], chunk: int | None, backend: str
) -> TiledProgram:
    """The program of lanes with this spec, made once; as with `jax.jit`, what its functions read must not change.

    differing: of each hyperparameter, whether it differs between lanes. chunk: lanes of a call; None: by the sizes of
    caches or of a GPU's memory.
    """
    aims = None if spec.minimizers is None else (spec.minimizers.shape, spec.minimizers.tobytes())
    key = (spec._replace(minimizers=None, max_steps=0), aims, dim, dtype, tuple(differing), chunk, backend)

    def make() -> TiledProgram:
        traced = trace_lane(spec, dim, dtype, backend)
        own = find_shared(traced, differing, dtype)
        held = sum(leaf.size * leaf.dtype.itemsize for leaf, mine in zip(traced.like, own.state, strict=True) if mine)
        tile, chunk_size = _sizes(held, traced.plain, chunk, backend)
        return make_loop(traced, own, tile, chunk_size, dtype, backend)

    return PROGRAMS.get(key, make)


def trace_lane(spec: LaneSpec, dim: int, dtype: Any, backend: str) -> TracedLane:
    """Trace the lane, and rewrite it over scalars where it is not too large for that."""
    begin, step, look = make_lane(spec)
    x = jax.ShapeDtypeStruct((dim,), dtype)
    count = jax.ShapeDtypeStruct((), jnp.int32)
    numbers = [jax.ShapeDtypeStruct((), dtype) for _ in spec.names]
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

    traced = (
        jax.make_jaxpr(flat_begin)(x, count, *numbers),
        jax.make_jaxpr(flat_step)(*leaves, count, count, *numbers),
        jax.make_jaxpr(look)(x, count),
    )
    try:
        # On a GPU a call that is stored would be a kernel of its own: 12 times as slow on an H200.
        scalar = [as_scalars(each, store=backend == "cpu", limit=MOST_OPERATIONS) for each in traced]
    except TooLargeError:
        begin_all, step_all, look_all = (_as_lists(core.jaxpr_as_fun(each)) for each in traced)
        return TracedLane(begin_all, step_all, look_all, leaves, 1, False)
    like = [jax.ShapeDtypeStruct((), leaf.dtype) for leaf in leaves for _ in range(leaf.size)]
    begin_one, step_one, look_one = (each.run for each in scalar)
    return TracedLane(begin_one, step_one, look_one, like, dim, all(each.plain for each in scalar))


def find_shared(traced: TracedLane, differing: Sequence[bool], dtype: Any) -> Shared:
    """Which parts of the state differ between lanes, after however many steps.

    differing: of each hyperparameter, whether it differs between lanes.
    """
    count = jax.ShapeDtypeStruct((), jnp.int32)
    numbers = [jax.ShapeDtypeStruct((), dtype)] * len(differing)
    points = traced.points
    begun = jax.make_jaxpr(lambda *flat: traced.begin(flat))(*traced.like[:points], count, *numbers)
    own = varies(begun.jaxpr, [*[True] * points, False, *differing])
    own[: points + 2] = [True] * (points + 2)  # the point, stop and first
    taken = jax.make_jaxpr(lambda *flat: traced.step(flat))(*traced.like, count, count, *numbers)
    while True:
        after = [a or b for a, b in zip(own, varies(taken.jaxpr, [*own, False, False, *differing]), strict=True)]
        if after == own:
            return Shared(own, list(differing))
        own = after


def varies(jaxpr: core.Jaxpr, given: Sequence[bool]) -> list[bool]:
    """Which outputs depend on an input that is marked; a primitive mixes all its inputs into all its outputs."""
    marked = {var for var, mark in zip(jaxpr.invars, given, strict=True) if mark}
    for eqn in jaxpr.eqns:
        if any(not isinstance(atom, core.Literal) and atom in marked for atom in eqn.invars):
            marked.update(eqn.outvars)
    return [not isinstance(atom, core.Literal) and atom in marked for atom in jaxpr.outvars]


def make_loop(traced: TracedLane, own: Shared, tile: int, chunk: int, dtype: Any, backend: str) -> TiledProgram:
    """The loop over tiles of `tile` lanes and the steps of each, for calls of at most `chunk` lanes."""
    points = traced.points
    batch_step = jax.vmap(
        lambda flat, which, t, values: traced.step([*flat, which, t, *values]),
        (_axes(own.state), None, None, _axes(own.numbers)),
        _axes(own.state),
    )
    batch_begin = jax.vmap(
        lambda start, which, values: traced.begin([*start, which, *values]),
        ([0] * points, None, _axes(own.numbers)),
        _axes(own.state),
    )
    batch_look = jax.vmap(lambda start, which: traced.look([*start, which]), ([0] * points, None))

    def take_steps(flat: list[Array], which: Array, t: Array, until: Array, numbers: list[Array]) -> list[Array]:
        """A tile's state at step `until`, from that at step `t`, which is begun where t is 0."""
        fresh = batch_begin(flat[:points], which, numbers)
        current = [jnp.where(t == 0, new.astype(old.dtype), old) for new, old in zip(fresh, flat, strict=True)]

        def body(carry: tuple[Array, list[Array]]) -> tuple[Array, list[Array]]:
            now, flat = carry
            new = batch_step(flat, which, now, numbers)
            return now + 1, [jnp.asarray(a).astype(b.dtype) for a, b in zip(new, flat, strict=True)]

        return jax.lax.while_loop(lambda carry: carry[0] < until, body, (t, current))[1]

    def advance(*flat_arguments: Any) -> tuple[Array, Array, list[Array], list[Array]]:
        given = Arguments(*flat_arguments)

        def one_tile(carry: tuple[Array, list[Array], list[Array], list[Array]]) -> Any:
            place, _, arrays, looks = carry

            def cut(array: Array) -> Array:
                return jax.lax.dynamic_slice_in_dim(array, place * tile, tile)

            def put(array: Array, part: Array) -> Array:
                return jax.lax.dynamic_update_slice_in_dim(array, part, place * tile, 0)

            numbers = _merge(list(map(cut, given.lane_numbers)), given.shared_numbers, own.numbers)
            flat = _merge(list(map(cut, arrays)), given.shared, own.state)
            after = take_steps(flat, given.which, given.t, given.until, numbers)
            done = [leaf for leaf, mine in zip(after, own.state, strict=True) if mine]
            common = [leaf for leaf, mine in zip(after, own.state, strict=True) if not mine]
            found = batch_look(done[:points], given.which)
            return place + 1, common, list(map(put, arrays, done)), list(map(put, looks, found))

        looks = [jnp.zeros((chunk,), dtype), jnp.zeros((chunk,), bool)]
        begun = (jnp.zeros([], jnp.int32), given.shared, given.lanes, looks)
        _, shared, lanes, (values, reached) = jax.lax.while_loop(lambda c: c[0] < given.tiles, one_tile, begun)
        return values, reached, shared, lanes

    def whole(*arguments: Any) -> Any:
        if not (traced.plain and backend == "cpu"):
            return advance(*arguments)
        # A call of this name is compiled as one function, loops and all: no dispatch of every operation at every step,
        # and no attempt to share out each of them among threads.
        with metadata(inlineable="false", xla_cpu_small_call="true"):
            return jax.jit(advance)(*arguments)

    arguments = _shapes(traced.like, own, chunk, dtype)
    return TiledProgram(whole, arguments, tile, chunk, points, traced.plain)


def _axes(marks: Sequence[bool]) -> list[int | None]:
    return [0 if mark else None for mark in marks]


def _merge(mine: Sequence[Any], shared: Sequence[Any], marks: Sequence[bool]) -> list[Any]:
    a, b = iter(mine), iter(shared)
    return [next(a) if mark else next(b) for mark in marks]


def _shapes(like: Sequence[jax.ShapeDtypeStruct], own: Shared, chunk: int, dtype: Any) -> Arguments:
    """The program's arguments, as shapes and dtypes in the place of arrays."""

    def shape(*lengths: int, of: Any) -> Any:
        return jax.ShapeDtypeStruct(lengths, of)

    lanes = list(zip(like, own.state, strict=True))
    count = shape(of=jnp.int32)
    return Arguments(
        tiles=count,
        t=count,
        until=count,
        which=count,
        shared_numbers=[shape(of=dtype) for mine in own.numbers if not mine],
        lane_numbers=[shape(chunk, of=dtype) for mine in own.numbers if mine],
        shared=[shape(*leaf.shape, of=leaf.dtype) for leaf, mine in lanes if not mine],
        lanes=[shape(chunk, *leaf.shape, of=leaf.dtype) for leaf, mine in lanes if mine],
    )


def _as_lists(fn: Callable[..., Any]) -> Flat:
    return lambda flat: list(fn(*flat))


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


def compile_for(program: TiledProgram, device: jax.Device) -> Callable[..., Any]:
    """The program compiled for a device; the same program is not compiled twice."""
    return program.compiled.get(
        device,
        lambda: trace(program.advance, program.arguments, device, options=wide_vectors(device)).lower().compile(),
    )


def blank_state(program: TiledProgram, device: jax.Device) -> list[jax.Array]:
    """Zeros on the device in the place of a state that the program is about to begin; made once."""

    def make() -> list[jax.Array]:
        return jax.device_put([np.zeros(leaf.shape, leaf.dtype) for leaf in program.arguments.lanes], device)

    return program.blanks.get(device, make)
