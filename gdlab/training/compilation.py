"""The two programs of a run, which begin a learner and train it for an epoch: traced, kept and compiled."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from gdlab.compute.devices import repeatable
from gdlab.compute.programs import Cache, digest_programs, trace
from gdlab.tasks.task import Data, Functions
from gdlab.training.epoch import Learner, Summary, begin, run_epoch
from gdlab.types import Factory

Begin = Callable[..., Learner]
"""begin(values, seed) -> Learner."""

Epoch = Callable[..., tuple[Learner, Summary]]
"""epoch(values, seed, learner, data, ...) -> (Learner, Summary); compiled, it takes the learner's memory."""


class TracedRun(NamedTuple):
    """The programs of a run, traced but not compiled yet.

    like: the learner's shapes. digest: see `digest_programs`. lowered: of `Begin` and `Epoch`. device: where they are
    to run.
    """

    like: Learner
    digest: str | None
    lowered: tuple[Any, Any]
    device: jax.Device


class CompiledRun(NamedTuple):
    """The programs of a run, compiled."""

    begin: Begin
    epoch: Epoch


KEPT = 8
"""Tasks whose programs are kept, traced and compiled, so that a second seed traces and compiles nothing."""

TRACED, COMPILED = Cache(KEPT), Cache(KEPT)


def functions_of(task: Functions, factory: Factory, names: Sequence[str]) -> tuple[Begin, Epoch]:
    """`Begin` and `Epoch` of one run as pure functions; epoch takes a limit too, see `run_epoch`.

    names: of the hyperparameters whose values they take, and with which the optimizer is built inside.
    """

    def optimizer(values: Sequence[Array]) -> Any:
        return factory(**dict(zip(names, values, strict=True)))

    def start(values: Sequence[Array], seed: Array) -> Learner:
        return begin(task, optimizer(values), seed)

    def epoch(
        values: Sequence[Array], seed: Array, learner: Learner, data: Data, limit: Array | None = None
    ) -> tuple[Learner, Summary]:
        return run_epoch(task, optimizer(values), learner, data, seed, limit)

    return start, epoch


def trace_both(
    device: jax.Device, start: Begin, epoch: Epoch, arguments: Sequence[Any], more: Sequence[Any]
) -> TracedRun:
    """Both programs for the device. arguments: the shapes of start's; epoch takes the learner and `more` after them."""
    like = jax.eval_shape(start, *arguments)
    options = repeatable(device)
    traced = (
        trace(start, arguments, device, options=options),
        trace(epoch, (*arguments, like, *more), device, options=options, donate=len(arguments)),
    )
    lowered = (traced[0].lower(), traced[1].lower())
    return TracedRun(like, digest_programs(traced, lowered), lowered, device)


def trace_run(
    task: Functions, factory: Factory, names: tuple[str, ...], data: Data, device: jax.Device, token: Any
) -> TracedRun:
    """The programs of a run with `factory(**hyperparameters)`, or what was traced for the same.

    names: of the hyperparameters. token: what stands for `factory` in memory: two that are equal are one optimizer.
    """
    shapes = shapes_of(data)
    leaves, structure = jax.tree.flatten(shapes)

    def make() -> TracedRun:
        start, epoch = functions_of(task, factory, names)
        arguments = [jax.ShapeDtypeStruct((), np.float32)] * len(names), jax.ShapeDtypeStruct((), np.uint32)
        return trace_both(device, start, epoch, arguments, (shapes,))

    return TRACED.get((task, token, names, tuple(leaves), structure, device), make)


def compile_run(traced: TracedRun) -> CompiledRun:
    """Compile, or find what was compiled for the same text and the same trees of arguments and results.

    A text alone does not tell an argument that is not used from none.
    """

    def make() -> CompiledRun:
        return CompiledRun(traced.lowered[0].compile(), traced.lowered[1].compile())

    if traced.digest is None:
        return make()
    trees = tuple((each.in_tree, tuple(jax.tree.leaves(each.in_avals)), each.out_tree) for each in traced.lowered)
    return COMPILED.get((traced.digest, trees, traced.device), make)


def shapes_of(data: Data) -> Data:
    """Shapes and dtypes, to trace with."""
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), data)
