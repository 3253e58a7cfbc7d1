"""The two programs of a run: one initializes the learner, the other trains it for an epoch.

Both are cached. A traced program is used again only while nothing that it was traced from has changed, which
`gdlab.compute.snapshots` finds out; otherwise it is traced again. A compiled program is used again for the same text,
constants and trees of arguments and results.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from gdlab.compute.devices import compile_with_first, repeatable
from gdlab.compute.programs import Cache, digest_programs, trace
from gdlab.compute.snapshots import kept
from gdlab.tasks.task import Data, Functions
from gdlab.training.epoch import Learner, Summary, begin, run_epoch
from gdlab.training.guards import build
from gdlab.types import Factory

Begin = Callable[..., Learner]
"""`begin(values, seed)` returns the `Learner` before its first step."""

Epoch = Callable[..., tuple[Learner, Summary]]
"""`epoch(values, seed, learner, data, ...)` returns the new `Learner` and the `Summary` of the epoch.

The compiled program donates the buffers of `learner`, so the argument must not be used afterwards.
"""


class TracedRun(NamedTuple):
    """The programs of a run, traced and lowered but not yet compiled.

    Attributes:
      like: the shapes and dtypes of the learner.
      digest: the digest of the programs; see `digest_programs`.
      lowered: the lowered programs of `Begin` and `Epoch`.
      device: the device that the programs run on.
    """

    like: Learner
    digest: str | None
    lowered: tuple[Any, Any]
    device: jax.Device


class Program:
    """A compiled program, which runs whether or not `jax_disable_jit` is set.

    Attributes:
      compiled: the program as JAX compiled it, deterministic if it can be; see `repeatable`.
      options: the compiler options in force; None where there is no choice.
    """

    def __init__(self, lowered: Any, device: jax.Device):
        """Compile the lowered program for the device."""
        self.compiled, self.options = compile_with_first(lowered, repeatable(device))

    def __call__(self, *arguments: Any) -> Any:
        """Run the program."""
        with jax.disable_jit(False):
            return self.compiled(*arguments)


class CompiledRun(NamedTuple):
    """The compiled programs of a run."""

    begin: Program
    epoch: Program


KEPT = 8
"""Number of tasks whose traced and compiled programs are kept, so that a second seed traces and compiles nothing."""

TRACED, COMPILED = Cache(KEPT), Cache(KEPT)


def functions_of(task: Functions, factory: Factory, names: Sequence[str], argument: str) -> tuple[Begin, Epoch]:
    """Return `Begin` and `Epoch` of one run as pure functions; the latter also takes the limit of `run_epoch`.

    Both take the values of the hyperparameters called `names` and build the optimizer from them. If this fails, the
    error names the `argument` that the user gave as the optimizer.
    """

    def optimizer(values: Sequence[Array]) -> Any:
        return build(argument, factory, dict(zip(names, values, strict=True)))

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
    """Trace and lower both programs for the device.

    `arguments` are the shapes of the arguments of `start`; `epoch` takes these, the learner and then `more`.
    """
    with jax.disable_jit(False):  # loops are compiled whatever this setting says: without that there is no program
        like = jax.eval_shape(start, *arguments)
        traced = (
            trace(start, arguments, device),
            trace(epoch, (*arguments, like, *more), device, donate=len(arguments)),
        )
        lowered = (traced[0].lower(), traced[1].lower())
        return TracedRun(like, digest_programs(traced, lowered), lowered, device)


def trace_run(task: Functions, factory: Factory, names: tuple[str, ...], data: Data, device: jax.Device) -> TracedRun:
    """Trace the programs of a run with `factory(**hyperparameters)`, or return them from the cache.

    `names` are those of the hyperparameters.
    """
    shapes = shapes_of(data)

    def make() -> TracedRun:
        start, epoch = functions_of(task, factory, names, "optimizer")
        arguments = [jax.ShapeDtypeStruct((), np.float32)] * len(names), jax.ShapeDtypeStruct((), np.uint32)
        return trace_both(device, start, epoch, arguments, (shapes,))

    return kept_trace(task, factory, shapes, ("run", names, device), make)


def kept_trace(
    task: Functions, factory: Factory, shapes: Data, more: Hashable, make: Callable[[], TracedRun]
) -> TracedRun:
    """Return `make()`, or what it returned while nothing that the task and the factory read has changed since.

    `shapes` are those of the data, and `more` is what else the programs depend on.
    """
    leaves, structure = jax.tree.flatten(shapes)
    found: TracedRun = kept(TRACED, (task, factory), (tuple(leaves), structure, str(structure), more), make)
    return found


def compile_run(traced: TracedRun) -> CompiledRun:
    """Compile the programs, or return those compiled for the same text and the same trees of arguments and results.

    The text alone is not enough: an unused argument, a container without leaves, None and the static fields of a
    container leave no trace in it. Trees are compared by their text, too, because 1, 1.0 and True are equal.
    """

    def make() -> CompiledRun:
        begin, epoch = (Program(lowered, traced.device) for lowered in traced.lowered)
        return CompiledRun(begin, epoch)

    if traced.digest is None:
        return make()
    trees = tuple((each.in_tree, tuple(jax.tree.leaves(each.in_avals)), each.out_tree) for each in traced.lowered)
    return COMPILED.get((traced.digest, trees, str(trees), traced.device), make)


def shapes_of(data: Data) -> Data:
    """Return the shapes and dtypes of the data, for tracing."""
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), data)
