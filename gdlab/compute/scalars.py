"""The program of one lane (one run of the batch), rewritten from short vectors to scalars.

A batch then becomes a plain loop over lanes. XLA compiles `vmap` of arithmetic on vectors of length two into many
passes over arrays of shape (lanes, 2), separated by sums over the short axis. Scalars under `vmap` have the lanes
as their only axis: whole steps are fused, and every pass runs at the full width of the vector unit. `as_scalars`
evaluates the jaxpr of a function that was traced once, with every array represented by a NumPy array of scalars.
Elementwise primitives are bound element by element, primitives that only move elements (slices, reshapes,
transposes, ...) become NumPy indexing, and sums become chains of additions. Any other primitive is bound once on
stacked arrays, and its result is split into scalars again: this is always correct, and the program is then reported
as not `plain`.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from gdlab.compute.calls import is_stored, stored_call

Cells = np.ndarray
"""An array of dtype object with the shape of the value that it represents, and one scalar per element."""

ELEMENTWISE = frozenset(
    [
        "abs",
        "acos",
        "acosh",
        "add",
        "add_any",
        "and",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "bitcast_convert_type",
        "cbrt",
        "ceil",
        "clamp",
        "convert_element_type",
        "copy",
        "copy_p",
        "cos",
        "cosh",
        "div",
        "eq",
        "erf",
        "erf_inv",
        "erfc",
        "exp",
        "exp2",
        "expm1",
        "floor",
        "ge",
        "gt",
        "integer_pow",
        "is_finite",
        "le",
        "lgamma",
        "log",
        "log1p",
        "logistic",
        "lt",
        "max",
        "min",
        "mul",
        "ne",
        "neg",
        "nextafter",
        "not",
        "or",
        "pow",
        "reduce_precision",
        "rem",
        "round",
        "rsqrt",
        "select_n",
        "shift_left",
        "shift_right_arithmetic",
        "shift_right_logical",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "square",
        "stop_gradient",
        "sub",
        "tan",
        "tanh",
        "xor",
    ]
)
CALLS = frozenset(("pjit", "jit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "checkpoint"))
FOLDS: dict[str, Callable[[Any, Any], Any]] = {
    "reduce_sum": jax.lax.add,
    "reduce_prod": jax.lax.mul,
    "reduce_max": jax.lax.max,
    "reduce_min": jax.lax.min,
    "reduce_and": jax.lax.bitwise_and,
    "reduce_or": jax.lax.bitwise_or,
}
LARGEST = 4096
"""The maximum number of scalars that one primitive may become; longer programs cost more to compile than they save."""


class TooLargeError(Exception):
    """The program exceeds the limit, or holds values (random keys, 16-bit numbers) that must stay in arrays."""


class ScalarProgram(NamedTuple):
    """A program over scalars.

    Attributes:
      run: takes and returns flat lists of scalars, in the order of the elements of the flattened arrays.
      plain: whether every primitive became scalar arithmetic.
      size: the number of scalar operations.
    """

    run: Callable[[Sequence[Any]], list[Any]]
    plain: bool
    size: int


def as_scalars(closed: core.ClosedJaxpr, *, store: bool = False, limit: int) -> ScalarProgram:
    """Rewrite `closed` to run on scalars: those of the first argument, then those of the second, and so on.

    Args:
      closed: the traced program.
      store: whether functions that `gdlab.compute.calls.stored` has marked remain separate calls, which benefits
        CPUs.
      limit: the maximum number of scalar operations.

    Raises:
      TooLargeError: if the program exceeds the limit, or holds 16-bit numbers, random keys or other extended
        dtypes.
    """
    counter = _Walker(False, limit)
    inputs = [var.aval for var in closed.jaxpr.invars]
    scalars = [jax.ShapeDtypeStruct((), aval.dtype) for aval in inputs for _ in range(int(np.prod(aval.shape)))]
    for aval in inputs:
        _require_plain_dtype(aval)
    jax.eval_shape(lambda values: _run(counter, closed, inputs, values), scalars)

    def run(values: Sequence[Any]) -> list[Any]:
        return _run(_Walker(store, limit), closed, inputs, values)

    return ScalarProgram(run, counter.plain, counter.size)


def _run(walker: "_Walker", closed: core.ClosedJaxpr, inputs: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    return _flat(walker.evaluate(closed.jaxpr, closed.consts, _regroup(values, [aval.shape for aval in inputs])))


def _cells(values: Sequence[Any], shape: tuple[int, ...]) -> Cells:
    cells = np.empty(len(values), object)
    for place, value in enumerate(values):
        cells[place] = value
    return cells.reshape(shape)


def _flat(arrays: Sequence[Cells]) -> list[Any]:
    return [scalar for cells in arrays for scalar in cells.reshape(-1)]


def _regroup(scalars: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> list[Cells]:
    rest = iter(scalars)
    return [_cells(list(itertools.islice(rest, int(np.prod(shape)))), shape) for shape in shapes]


def _constant(value: Any) -> Cells:
    return _take_apart(np.asarray(value))


def _stack(cells: Cells) -> Any:
    if cells.shape == ():
        return cells[()]
    return jnp.stack(list(cells.reshape(-1))).reshape(cells.shape) if cells.size else jnp.zeros(cells.shape)


def _take_apart(array: Any) -> Cells:
    return _cells([array[place] for place in np.ndindex(array.shape)], array.shape)


def _require_plain_dtype(aval: Any) -> None:
    if jnp.issubdtype(aval.dtype, jnp.floating) and aval.dtype.itemsize < 4:
        raise TooLargeError(f"expected at least 32 bits, in which sums are accumulated, got dtype {aval.dtype}")
    if jnp.issubdtype(aval.dtype, jax.dtypes.extended):
        raise TooLargeError(f"expected numbers, got values of dtype {aval.dtype}")


class _Walker:
    """Evaluates jaxprs on cells, counts the operations, and records whether any primitive was bound on whole arrays."""

    def __init__(self, store: bool, limit: int):
        self.store, self.limit = store, limit
        self.plain, self.size = True, 0
        self.within: Any = None

    def evaluate(self, jaxpr: core.Jaxpr, consts: Sequence[Any], inputs: Sequence[Cells]) -> list[Cells]:
        known: dict[core.Var, Cells] = {}
        known.update(zip(jaxpr.invars, inputs, strict=True))
        known.update(zip(jaxpr.constvars, map(_constant, consts), strict=True))

        def read(atom: Any) -> Cells:
            if isinstance(atom, core.Literal):
                aval: Any = atom.aval
                return _constant(np.asarray(atom.val, aval.dtype))
            return known[atom]

        for eqn in jaxpr.eqns:
            self.within = jaxpr
            for var in eqn.outvars:
                _require_plain_dtype(var.aval)
            outputs = self.bind(eqn, [read(atom) for atom in eqn.invars])
            known.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def count(self, number: int) -> None:
        self.size += number
        if number > LARGEST or self.size > self.limit:
            raise TooLargeError(f"expected at most {self.limit} scalar operations, got more")

    def bind(self, eqn: Any, inputs: list[Cells]) -> list[Cells]:
        name, params = eqn.primitive.name, eqn.params
        shape = eqn.outvars[0].aval.shape if eqn.outvars else ()
        if name == "bitcast_convert_type" and shape != inputs[0].shape:
            return self.whole(eqn, inputs)
        if name in ELEMENTWISE:
            self.count(int(np.prod(shape)))
            return [self.elementwise(eqn, inputs, shape)]
        if name in FOLDS:
            return [self.fold(FOLDS[name], inputs[0], params["axes"], shape)]
        if name in MOVES:
            return [MOVES[name](params, inputs, shape)]
        if name == "dot_general":
            return [self.dot(eqn, inputs)]
        if name == "split":
            ends = np.cumsum(params["sizes"])[:-1]
            return list(np.split(inputs[0], ends, axis=params["axis"]))
        if name == "unstack":  # a primitive of JAX 0.12
            rows = np.moveaxis(inputs[0], params["axis"], 0)
            return [rows[i : i + 1].reshape(rows.shape[1:]) for i in range(len(rows))]
        if name in CALLS:
            return self.call(eqn, inputs)
        if name == "cond":
            return self.cond(eqn, inputs)
        if name == "while":
            return self.loop(eqn, inputs)
        return self.whole(eqn, inputs)

    def elementwise(self, eqn: Any, inputs: list[Cells], shape: tuple[int, ...]) -> Cells:
        wide = [np.broadcast_to(cells, shape) for cells in inputs]  # a scalar predicate or bound may accompany arrays
        return _cells(
            [eqn.primitive.bind(*(cells[place] for cells in wide), **eqn.params) for place in np.ndindex(shape)], shape
        )

    def fold(
        self, combine: Callable[[Any, Any], Any], cells: Cells, axes: Sequence[int], shape: tuple[int, ...]
    ) -> Any:
        kept = [axis for axis in range(cells.ndim) if axis not in axes]
        rows = cells.transpose([*kept, *axes]).reshape(*shape, -1)
        self.count(rows.size)
        if rows.shape[-1] == 0:
            raise TooLargeError("expected at least one element to reduce, got none")
        return _cells([reduce(combine, rows[place]) for place in np.ndindex(shape)], shape)

    def dot(self, eqn: Any, inputs: list[Cells]) -> Cells:
        (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
        left, right = inputs
        left_free = [axis for axis in range(left.ndim) if axis not in (*left_sum, *left_batch)]
        right_free = [axis for axis in range(right.ndim) if axis not in (*right_sum, *right_batch)]
        aval = eqn.outvars[0].aval
        if any(var.aval.dtype != aval.dtype for var in eqn.invars) or not left_sum:
            return self.whole(eqn, inputs)[0]
        a = left.transpose([*left_batch, *left_free, *left_sum])
        b = right.transpose([*right_batch, *right_free, *right_sum])
        batch, n, m = len(left_batch), len(left_free), len(right_free)
        summed = a.shape[batch + n :]
        self.count(2 * int(np.prod(aval.shape)) * int(np.prod(summed)))
        out = np.empty(aval.shape, object)
        for place in np.ndindex(aval.shape):
            over, i, j = place[:batch], place[batch : batch + n], place[batch + n : batch + n + m]
            terms = [jax.lax.mul(a[(*over, *i, *k)], b[(*over, *j, *k)]) for k in np.ndindex(summed)]
            out[place] = reduce(jax.lax.add, terms)
        return out

    def call(self, eqn: Any, inputs: list[Cells]) -> list[Cells]:
        inner = next(eqn.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in eqn.params)
        jaxpr, consts = (inner.jaxpr, inner.consts) if isinstance(inner, core.ClosedJaxpr) else (inner, [])
        if not (self.store and is_stored(str(eqn.params.get("name", "")))):
            return self.evaluate(jaxpr, consts, inputs)
        shapes = [cells.shape for cells in inputs]

        def body(*scalars: Any) -> list[Any]:
            return _flat(self.evaluate(jaxpr, consts, _regroup(scalars, shapes)))

        return _regroup(stored_call(body, *_flat(inputs)), [var.aval.shape for var in eqn.outvars])

    def cond(self, eqn: Any, inputs: list[Cells]) -> list[Cells]:
        index, *operands = inputs
        shapes = [cells.shape for cells in operands]

        def branch(closed: core.ClosedJaxpr) -> Callable[..., list[Any]]:
            def run(*scalars: Any) -> list[Any]:
                return list(
                    map(jnp.asarray, _flat(self.evaluate(closed.jaxpr, closed.consts, _regroup(scalars, shapes))))
                )

            return run

        which: Any = index[()]
        if jnp.result_type(which) == jnp.bool_:
            which = jax.lax.convert_element_type(which, jnp.int32)
        outputs = jax.lax.switch(which, [branch(closed) for closed in eqn.params["branches"]], *_flat(operands))
        return _regroup(outputs, [var.aval.shape for var in eqn.outvars])

    def loop(self, eqn: Any, inputs: list[Cells]) -> list[Cells]:
        first, second = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        tests, others, carried = inputs[:first], inputs[first : first + second], inputs[first + second :]
        shapes = [cells.shape for cells in carried]
        condition, body = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"]

        def go_on(scalars: Sequence[Any]) -> Any:
            return self.evaluate(condition.jaxpr, condition.consts, [*tests, *_regroup(scalars, shapes)])[0][()]

        def step(scalars: Sequence[Any]) -> list[Any]:
            outputs = self.evaluate(body.jaxpr, body.consts, [*others, *_regroup(scalars, shapes)])
            return list(map(jnp.asarray, _flat(outputs)))

        begun = list(map(jnp.asarray, _flat(carried)))
        return _regroup(jax.lax.while_loop(go_on, step, begun), shapes)

    def whole(self, eqn: Any, inputs: list[Cells]) -> list[Cells]:
        self.plain = False
        given = {
            atom: _stack(cells)
            for atom, cells in zip(eqn.invars, inputs, strict=True)
            if not isinstance(atom, core.Literal)
        }
        names = self.within.debug_info
        alone = self.within.replace(
            constvars=[],
            invars=list(given),
            outvars=list(eqn.outvars),
            eqns=[eqn],
            debug_info=names.with_unknown_names() if hasattr(names, "with_unknown_names") else names,
        )
        outputs = core.jaxpr_as_fun(core.ClosedJaxpr(alone, []))(*given.values())
        return [_take_apart(output) for output in outputs]


def _broadcast(params: dict[str, Any], inputs: list[Cells], shape: tuple[int, ...]) -> Cells:
    cells, places = inputs[0], params["broadcast_dimensions"]
    spread = [1] * len(shape)
    for axis, place in enumerate(places):
        spread[place] = cells.shape[axis]
    return np.broadcast_to(cells.reshape(spread), shape)


def _slice(params: dict[str, Any], inputs: list[Cells], shape: tuple[int, ...]) -> Cells:
    steps = params["strides"] or [1] * len(params["start_indices"])
    bounds = zip(params["start_indices"], params["limit_indices"], steps, strict=True)
    return inputs[0][tuple(slice(a, b, s) for a, b, s in bounds)]


def _pad(params: dict[str, Any], inputs: list[Cells], shape: tuple[int, ...]) -> Cells:
    cells, filling = inputs
    out = np.empty(shape, object)
    for place in np.ndindex(shape):
        out[place] = filling[()]
    for place in np.ndindex(cells.shape):
        moved = tuple(low + i * (1 + inner) for i, (low, _, inner) in zip(place, params["padding_config"], strict=True))
        if all(0 <= i < n for i, n in zip(moved, shape, strict=True)):
            out[moved] = cells[place]
    return out


def _iota(params: dict[str, Any], inputs: list[Cells], shape: tuple[int, ...]) -> Cells:
    row = np.arange(shape[params["dimension"]]).astype(params["dtype"])
    return _constant(
        np.broadcast_to(np.expand_dims(row, [a for a in range(len(shape)) if a != params["dimension"]]), shape)
    )


MOVES: dict[str, Callable[[dict[str, Any], list[Cells], tuple[int, ...]], Cells]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda params, inputs, shape: np.concatenate(inputs, axis=params["dimension"]),
    "iota": _iota,
    "pad": _pad,
    "reshape": lambda params, inputs, shape: inputs[0].reshape(shape),
    "rev": lambda params, inputs, shape: np.flip(inputs[0], params["dimensions"]),
    "slice": _slice,
    "squeeze": lambda params, inputs, shape: inputs[0].reshape(shape),
    "stack": lambda params, inputs, shape: np.stack(inputs, axis=params.get("axis", params.get("dimension", 0))),
    "transpose": lambda params, inputs, shape: inputs[0].transpose(params["permutation"]),
}
