"""The compiled program of a sweep, which takes many lanes from one step to another, with all their arguments traced.

Lanes are processed in tiles small enough for the first-level cache, and a tile takes all its steps before the next
one begins. The number of tiles is an argument, so a batch that shrinks as lanes stop needs no second compilation.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Array

from gdlab.compute import fusion
from gdlab.compute.calls import metadata
from gdlab.compute.devices import compile_with_first, loops_as_graphs, wide_vectors
from gdlab.compute.programs import Cache, trace
from gdlab.compute.scalars import TooLargeError, as_scalars
from gdlab.sweeps.traces import LaneTrace, largest_array

MOST_OPERATIONS = 2000
"""The maximum number of scalar operations in one step; above it, lanes are mapped as vectors."""

UNROLLED, MOST_UNROLLED = 4, 1200
"""The number of steps in one pass of a loop on a GPU, where XLA merges them into one kernel and a few tiny ones; there
are fewer if they would have more scalar operations together, since compilation would then take long."""

MOST_DEVICES = 64
"""The number of devices for which a program is kept compiled."""

Flat = Callable[[Sequence[Any]], list[Any]]
"""A function from one list of values to another."""


class Arguments(NamedTuple):
    """The arguments of the program.

    Attributes:
      tiles: the number of tiles.
      t: the step that the lanes have reached.
      until: the step to which they are taken.
      which: the index of the function.
      shared_numbers: the hyperparameters that all lanes share, and the data of functions.
      lane_numbers: the hyperparameters with one value per lane, and the lanes' random keys; their first axis has the
        length of the chunk.
      shared: the part of the state that all lanes share.
      lanes: the part of the state that differs between lanes; its first axis has the length of the chunk.
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

    Attributes:
      advance: takes `Arguments` and returns a pair: the values, whether each point lies at a minimizer, the shared
        state, and the lanes' state; and the lanes' hyperparameters, as they were.
      arguments: the shapes and dtypes of the arguments.
      tile: the number of lanes per tile.
      chunk: the number of lanes per call.
      point_leaves: how many of the lane state's arrays are the point; `stop` and `first` come next.
      plain: whether every operation became scalar arithmetic.
      unrolled: the number of steps that one pass of the loop takes.
      compiled: the compiled program for each device.
      blanks: the placeholder state for each device.
    """

    advance: Callable[..., Any]
    arguments: Arguments
    tile: int
    chunk: int
    point_leaves: int
    plain: bool
    unrolled: int
    compiled: Cache = dataclasses.field(default_factory=lambda: Cache(MOST_DEVICES))
    blanks: Cache = dataclasses.field(default_factory=lambda: Cache(MOST_DEVICES))


class TracedLane(NamedTuple):
    """A lane as functions of flat lists: of the leaves of its state, or, after rewriting, of their elements.

    Attributes:
      begin: takes (start, which, numbers) as one flat list, and returns the state.
      step: takes (state, which, t, numbers) as one flat list, and returns the state.
      look: takes (start, which) as one flat list, and returns the value and whether the point lies at a minimizer; if
        functions take more than a point, it takes (start, which, stop, t, numbers).
      like: the shapes and dtypes of the state's parts.
      numbers: those of the numbers: the hyperparameters, and what functions take besides a point.
      points: how many of these parts are the point; `stop` and `first` come next.
      plain: whether every operation became scalar arithmetic.
      dated: whether `look` takes a step and the numbers too.
      unrolled: the number of steps that one pass of the loop takes.
    """

    begin: Flat
    step: Flat
    look: Flat
    like: list[jax.ShapeDtypeStruct]
    numbers: list[jax.ShapeDtypeStruct]
    points: int
    plain: bool
    dated: bool
    unrolled: int = 1


class Shared(NamedTuple):
    """Which parts of the state, and which hyperparameters, differ between lanes; all lanes share the others.

    Attributes:
      state: for each part of the state, whether it differs.
      numbers: for each hyperparameter, whether it differs.
    """

    state: list[bool]
    numbers: list[bool]


PROGRAMS = Cache(64)


def program_for(
    lane: LaneTrace, differing: Sequence[bool], lanes: int, chunk: int | None, backend: str
) -> TiledProgram:
    """Return the program of a lane. Programs are kept, by what they compute, so each is made once.

    Args:
      lane: the traced lane.
      differing: for each hyperparameter, whether it differs between lanes.
      lanes: the number of lanes that one thread can have at a time; the tiles are not larger than that.
      chunk: the number of lanes per call; None chooses it from the sizes of caches or of a GPU's memory.
      backend: the platform of the devices.
    """

    def rewrite() -> tuple[TracedLane, Shared]:
        traced = scalar_lane(lane, backend)
        own = find_shared(traced, differing)
        if traced.plain and backend != "cpu":  # a step of what lanes share, such as a count, would be a kernel
            own = own._replace(state=[True] * len(own.state))
        return traced, own

    key = (lane.digest or object(), tuple(differing), backend)  # code behind a call into Python may change
    traced, own = PROGRAMS.get(key, rewrite)
    held = sum(leaf.size * leaf.dtype.itemsize for leaf, mine in zip(traced.like, own.state, strict=True) if mine)
    tile, length = _sizes(held, 0 if traced.plain else largest_array(lane.step), lanes, chunk, backend)
    return PROGRAMS.get((*key, tile, length), lambda: make_loop(traced, own, tile, length, lane.dtype, backend))


def scalar_lane(lane: LaneTrace, backend: str) -> TracedLane:
    """Rewrite a lane over scalars, or leave it on arrays if it is too large for that."""
    traced = (lane.begin, lane.step, lane.look)
    dated = len(lane.look.in_avals) > 2
    try:
        # Stored calls are of use on CPUs only, unless XLA itself stores what is used twice. On a GPU, each would be a
        # separate kernel, which is 12 times as slow on an H200.
        store = backend == "cpu" and not fusion.in_force()
        _require_scalars(lane.numbers)
        scalar = [as_scalars(each, store=store, limit=MOST_OPERATIONS) for each in traced]
    except TooLargeError:
        begin_all, step_all, look_all = (_as_lists(core.jaxpr_as_fun(each)) for each in traced)
        return TracedLane(begin_all, step_all, look_all, lane.leaves, lane.numbers, 1, False, dated)
    like = [jax.ShapeDtypeStruct((), leaf.dtype) for leaf in lane.leaves for _ in range(leaf.size)]
    begin_one, step_one, look_one = (each.run for each in scalar)
    plain = all(each.plain for each in scalar)
    unrolled = 1 if backend == "cpu" or not plain else max(1, min(UNROLLED, MOST_UNROLLED // scalar[1].size))
    return TracedLane(begin_one, step_one, look_one, like, lane.numbers, lane.leaves[0].size, plain, dated, unrolled)


def _require_scalars(numbers: Sequence[jax.ShapeDtypeStruct]) -> None:
    """Raise TooLargeError if one of a lane's arguments is an array: a random key, or data that are not few."""
    if arrays := [each for each in numbers if each.shape]:
        raise TooLargeError(f"expected numbers, got an array of shape {arrays[0].shape}")


def find_shared(traced: TracedLane, differing: Sequence[bool]) -> Shared:
    """Find which parts of the state differ between lanes, after any number of steps.

    Args:
      traced: the lane.
      differing: for each hyperparameter, whether it differs between lanes.
    """
    count = jax.ShapeDtypeStruct((), jnp.int32)
    numbers, points = traced.numbers, traced.points
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
    """Return which outputs depend on a marked input.

    Every output of a primitive counts as dependent on all its inputs.
    """
    marked = {var for var, mark in zip(jaxpr.invars, given, strict=True) if mark}
    for eqn in jaxpr.eqns:
        if any(not isinstance(atom, core.Literal) and atom in marked for atom in eqn.invars):
            marked.update(eqn.outvars)
    return [not isinstance(atom, core.Literal) and atom in marked for atom in jaxpr.outvars]


def make_loop(traced: TracedLane, own: Shared, tile: int, chunk: int, dtype: Any, backend: str) -> TiledProgram:
    """Return the loop over tiles of `tile` lanes and over the steps of each, for calls of at most `chunk` lanes."""
    points, unrolled = traced.points, traced.unrolled
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
    batch_look = jax.vmap(
        lambda start, which, more: traced.look([*start, which, *more]),
        ([0] * points, None, [0, None, *_axes(own.numbers)] if traced.dated else []),
    )

    def take_steps(flat: list[Array], which: Array, t: Array, until: Array, numbers: list[Array]) -> list[Array]:
        """Return a tile's state at step `until`, from that at step `t`; if t is 0, the lanes begin there."""
        fresh = batch_begin(flat[:points], which, numbers)
        current = [jnp.where(t == 0, new.astype(old.dtype), old) for new, old in zip(fresh, flat, strict=True)]

        def body(carry: tuple[Array, list[Array]]) -> tuple[Array, list[Array]]:
            now, flat = carry
            new = batch_step(flat, which, now, numbers)
            return now + 1, [jnp.asarray(a).astype(b.dtype) for a, b in zip(new, flat, strict=True)]

        def several(carry: tuple[Array, list[Array]]) -> tuple[Array, list[Array]]:
            for _ in range(unrolled):
                carry = body(carry)
            return carry

        carry = (t, current)
        if unrolled > 1:
            carry = jax.lax.while_loop(lambda carry: carry[0] + unrolled <= until, several, carry)
        return jax.lax.while_loop(lambda carry: carry[0] < until, body, carry)[1]

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
            more = [after[points], given.until, *numbers] if traced.dated else []
            found = batch_look(done[:points], given.which, more)
            return place + 1, common, list(map(put, arrays, done)), list(map(put, looks, found))

        looks = [jnp.zeros((chunk,), dtype), jnp.zeros((chunk,), bool)]
        begun = (jnp.zeros([], jnp.int32), given.shared, given.lanes, looks)
        if chunk == tile and backend != "cpu":  # the slices are the whole arrays, which XLA then does not copy
            _, shared, lanes, (values, reached) = one_tile(begun)
        else:
            _, shared, lanes, (values, reached) = jax.lax.while_loop(lambda c: c[0] < given.tiles, one_tile, begun)
        return values, reached, shared, lanes

    def kept(*arguments: Any) -> Any:
        return advance(*arguments), Arguments(*arguments).lane_numbers

    def whole(*arguments: Any) -> Any:
        if not (traced.plain and backend == "cpu"):
            return kept(*arguments)
        # A call with this attribute is compiled as one function, including its loops, so that operations are neither
        # dispatched one by one at every step nor divided among threads. XLA aborts the process if such a call does
        # not use an array that it is given, so the hyperparameters are results as well.
        with metadata(inlineable="false", xla_cpu_small_call="true"):
            return jax.jit(kept)(*arguments)

    arguments = _shapes(traced, own, chunk)
    return TiledProgram(whole, arguments, tile, chunk, points, traced.plain, unrolled)


def _axes(marks: Sequence[bool]) -> list[int | None]:
    return [0 if mark else None for mark in marks]


def _merge(mine: Sequence[Any], shared: Sequence[Any], marks: Sequence[bool]) -> list[Any]:
    a, b = iter(mine), iter(shared)
    return [next(a) if mark else next(b) for mark in marks]


def _shapes(traced: TracedLane, own: Shared, chunk: int) -> Arguments:
    """Return the shapes and dtypes of the program's arguments."""

    def shape(*lengths: int, of: Any) -> Any:
        return jax.ShapeDtypeStruct(lengths, of)

    lanes = list(zip(traced.like, own.state, strict=True))
    numbers = list(zip(traced.numbers, own.numbers, strict=True))
    count = shape(of=jnp.int32)
    return Arguments(
        tiles=count,
        t=count,
        until=count,
        which=count,
        shared_numbers=[shape(*each.shape, of=each.dtype) for each, mine in numbers if not mine],
        lane_numbers=[shape(chunk, *each.shape, of=each.dtype) for each, mine in numbers if mine],
        shared=[shape(*leaf.shape, of=leaf.dtype) for leaf, mine in lanes if not mine],
        lanes=[shape(chunk, *leaf.shape, of=leaf.dtype) for leaf, mine in lanes if mine],
    )


def _as_lists(fn: Callable[..., Any]) -> Flat:
    return lambda flat: list(fn(*flat))


def _sizes(held: int, used: int, lanes: int, chunk: int | None, backend: str) -> tuple[int, int]:
    """Return the number of lanes in a tile and in a call.

    On a CPU, a tile's state and about as much again of intermediate results fit a first-level cache of 32 KiB, or a
    second-level cache of 512 KiB if a step works on arrays, which then take at most 8 MiB. On a GPU, a call is
    one tile, whose state takes at most 256 MiB and whose arrays take at most 1 GiB. It has at most 2^18 lanes, as a
    block has: starting a kernel then takes less time than running it, and while one call runs, the host prepares and
    collects others. Its lanes are a power of two, so that few numbers of lanes have a program of their own.

    Args:
      held: the bytes that a lane carries from step to step.
      used: the bytes of the largest array that a step computes for a lane; 0 if it consists of scalar arithmetic.
      lanes: the number of lanes that one thread can have at a time. On a GPU, and where steps work on arrays, no tile
        is much larger.
      chunk: the number of lanes per call, or None.
      backend: the platform of the devices.
    """
    if backend == "cpu":
        tile = _power_of_two((1 << 19 if used else 1 << 15) / (2 * held), 1 if used else 64, 1024)
        tile = min(tile, _power_of_two((1 << 23) / max(used, 1), 1, 1024))
    else:
        tile = min(_power_of_two((1 << 28) / held, 1024, 1 << 18), _power_of_two((1 << 30) / max(used, 1), 1, 1 << 18))
    if used or backend != "cpu":
        tile = min(tile, max(16 if used else 1024, 1 << (lanes - 1).bit_length()))
    tiles = min(32, max(1, (1 << 26) // (held * tile))) if backend == "cpu" else 1
    if chunk is None:
        return tile, tile * tiles
    tile = min(tile, max(16, 1 << (chunk - 1).bit_length()))
    return tile, -(-chunk // tile) * tile


def _power_of_two(number: float, low: int, high: int) -> int:
    return int(min(max(1 << int(np.log2(max(number, 1))), low), high))


def compile_for(program: TiledProgram, device: jax.Device) -> Callable[..., Any]:
    """Return the program compiled for a device; the same program is not compiled twice."""

    def make() -> Callable[..., Any]:
        traced = trace(program.advance, program.arguments, device, options=wide_vectors(device))
        return compile_with_first(traced.lower(), loops_as_graphs(device) if program.plain else []).run

    return program.compiled.get(device, make)


def blank_state(program: TiledProgram, device: jax.Device) -> list[jax.Array]:
    """Return zeros on the device as a placeholder for the state of lanes that begin; they are made once."""

    def make() -> list[jax.Array]:
        return jax.device_put([np.zeros(leaf.shape, leaf.dtype) for leaf in program.arguments.lanes], device)

    return program.blanks.get(device, make)
