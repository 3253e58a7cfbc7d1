"""An epoch as one program: shuffle, step through all batches, evaluate; nothing goes to the host before its end."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import optax
from jaxtyping import Array, Int, Key, PyTree

from gdlab.optimizers import evaluation_params
from gdlab.tasks import Task, count_examples, metric_names

Summary = dict[str, Array]
"""Means over an epoch by name: train_loss, train_accuracy, ..., valid_loss, ..., test_loss, ..., gradient_norm."""


class Learner(NamedTuple):
    """All that training carries from epoch to epoch.

    params, state: of the task. optimizer: its state. epoch: how many are done. failed_at: the first step of all, from
    1, whose loss was not finite, or after which an evaluation's was not; 0: none.
    """

    params: PyTree
    state: PyTree
    optimizer: optax.OptState
    epoch: Int[Array, ""]
    failed_at: Int[Array, ""]


class Data(NamedTuple):
    """A task's arrays, to be handed to the program; valid is None where nothing is held out."""

    train: PyTree
    valid: PyTree | None
    test: PyTree


def data_of(task: Task, device: jax.Device | None = None) -> Data:
    """The task's arrays on the device."""
    return jax.device_put(Data(task.train, task.valid, task.test), device)


def root_key(seed: Any) -> Key[Array, ""]:
    """The key that all of a run's randomness follows from; Threefry, whose streams stay apart under vmap."""
    return jax.random.key(seed, impl="threefry2x32")


def begin(task: Task, optimizer: optax.GradientTransformation, seed: Any) -> Learner:
    """The learner before its first step. The same seed gives the same parameters to every optimizer."""
    params, state = task.init(jax.random.fold_in(root_key(seed), 0))
    nothing = jnp.zeros([], jnp.int32)
    return Learner(params, state, optimizer.init(params), nothing, nothing)


def run_epoch(
    task: Task,
    optimizer: optax.GradientTransformation,
    learner: Learner,
    data: Data,
    seed: Any,
    limit: Any = None,
) -> tuple[Learner, Summary]:
    """One epoch of training and, after it, evaluation at `evaluation_params`; a pure function.

    limit: a bound on the training steps, which may be traced, for a look at how long they take; of each evaluation the
    same share is done. Training metrics are means over the examples seen, as they were seen: in training mode, before
    the step that they led to. Once a loss, of training or of evaluation, is not finite all metrics are NaN.
    """
    full = optax.with_extra_args_support(optimizer)
    # Each use of a key costs a part of a second to compile on a CPU: few are made here.
    key = jax.random.fold_in(root_key(seed), learner.epoch + 1)
    for_order, for_steps, for_evaluation = jax.random.split(key, 3)
    count, batch_size = count_examples(data.train), task.batch_size
    order = jnp.arange(count, dtype=jnp.int32)
    if task.shuffled:
        # Equal draws, which keep their places, are few: 0.3 pairs are expected among 50,000 draws of 32 bits.
        _, order = jax.lax.sort_key_val(jax.random.bits(for_order, (count,), jnp.uint32), order)
    done = learner.epoch * (count // batch_size)

    def step(number: Array, carried: tuple[Learner, Summary]) -> tuple[Learner, Summary]:
        learner, sums = carried
        number = number.astype(jnp.int32)
        index = jax.lax.dynamic_slice(order, (number * batch_size,), (batch_size,))
        batch = jax.tree.map(lambda array: jnp.take(array, index, axis=0, mode="clip"), data.train)
        step_key = jax.random.fold_in(for_steps, number)

        def value(params: PyTree) -> Array:
            return task.loss(params, learner.state, batch, step_key)[0]

        (loss, (state, metrics)), gradient = jax.value_and_grad(task.loss, has_aux=True)(
            learner.params, learner.state, batch, step_key
        )
        updates, after = full.update(
            gradient, learner.optimizer, learner.params, value=loss, grad=gradient, value_fn=value
        )
        params = optax.apply_updates(learner.params, updates)
        failed = (learner.failed_at == 0) & ~jnp.isfinite(loss)
        failed_at = jnp.where(failed, done + number + 1, learner.failed_at).astype(jnp.int32)
        found = _sums(metrics) | {"gradient_norm": optax.tree.norm(gradient).astype(jnp.float32)}
        return (
            Learner(params, state, after, learner.epoch, failed_at),
            jax.tree.map(jnp.add, sums, found),
        )

    names = metric_names(task, learner.params, learner.state, data.test)
    nothing = dict.fromkeys((*names, "gradient_norm"), jnp.zeros([], jnp.float32))
    steps = count // batch_size
    most = steps if limit is None else jnp.minimum(steps, limit)
    learner, sums = jax.lax.fori_loop(0, most, step, (learner, nothing))
    norm = sums.pop("gradient_norm") / most
    summary = {f"train_{name}": total / (most * batch_size) for name, total in sums.items()}
    learner = learner._replace(state=task.after_epoch(learner.state), epoch=learner.epoch + 1)
    params = evaluation_params(learner.optimizer, learner.params)
    for place, part in enumerate(("valid", "test")):
        examples = getattr(data, part)
        if examples is not None:
            part_key = jax.random.fold_in(for_evaluation, place)
            batches = -(-count_examples(examples) // task.evaluation_batch)
            few = None if limit is None else (most * batches + steps - 1) // steps
            found = run_evaluation(task, params, learner.state, examples, part_key, few)
            summary |= {f"{part}_{name}": mean for name, mean in found.items()}
    # Where data is held out the test set decides nothing, not even whether a run failed.
    blind = data.valid is not None
    losses = [
        value for name, value in summary.items() if name.endswith("_loss") and not (blind and name == "test_loss")
    ]
    failed = (learner.failed_at == 0) & ~jnp.isfinite(jnp.stack(losses)).all()
    learner = learner._replace(failed_at=jnp.where(failed, done + most, learner.failed_at).astype(jnp.int32))
    summary["gradient_norm"] = norm
    well = learner.failed_at == 0
    return learner, {name: jnp.where(well, value, jnp.nan) for name, value in summary.items()}


def run_evaluation(
    task: Task, params: PyTree, state: PyTree, examples: PyTree, key: Key[Array, ""], limit: Any = None
) -> Summary:
    """The mean of each metric over all examples, in evaluation mode, the last, partial batch included.

    It is filled up with copies of the last example, which are not counted: in evaluation mode no example depends on
    the others of its batch.
    """
    count = count_examples(examples)
    size = min(task.evaluation_batch, count)

    def step(number: Array, carried: tuple[PyTree, Summary]) -> tuple[PyTree, Summary]:
        state, sums = carried
        places = number * size + jnp.arange(size)
        batch = jax.tree.map(lambda array: jnp.take(array, places, axis=0, mode="clip"), examples)
        state, metrics = task.evaluate(params, state, batch, jax.random.fold_in(key, number))
        found = _sums({name: jnp.where(places < count, values, 0) for name, values in metrics.items()})
        return state, jax.tree.map(jnp.add, sums, found)

    nothing = dict.fromkeys(metric_names(task, params, state, examples), jnp.zeros([], jnp.float32))
    batches = -(-count // size)
    _, sums = jax.lax.fori_loop(0, batches if limit is None else jnp.minimum(batches, limit), step, (state, nothing))
    return {name: total / count for name, total in sums.items()}


def _sums(metrics: dict[str, Array]) -> Summary:
    return {name: jnp.sum(values.astype(jnp.float32)) for name, values in metrics.items()}


class Program(NamedTuple):
    """A run's programs, traced but not compiled yet.

    like: the learner's shapes. digest: see `digest_of`. lowered: of `begin(values, seed)` and
    `epoch(values, seed, learner, data)`. device: where they are to run.
    """

    like: Learner
    digest: str | None
    lowered: tuple[Any, Any]
    device: jax.Device


class Compiled(NamedTuple):
    """begin(values, seed) -> Learner; epoch(values, seed, learner, data) -> (Learner, Summary).

    The epoch takes the learner's memory.
    """

    begin: Callable[..., Learner]
    epoch: Callable[..., tuple[Learner, Summary]]


Build = Callable[..., optax.GradientTransformation]
"""A factory, called with the hyperparameters that the program is handed, by name."""

KEPT = 8
"""Programs that are remembered, traced and compiled, so that a second seed traces and compiles nothing."""

_TRACED: dict[Any, Program] = {}
_COMPILED: dict[Any, Compiled] = {}
_LOCKS: dict[Any, threading.Lock] = {}
"""One for each program, so that threads do not make the same one twice."""


def functions_of(
    task: Task, build: Build, names: Sequence[str]
) -> tuple[Callable[..., Learner], Callable[..., tuple[Learner, Summary]]]:
    """begin(values, seed) and epoch(values, seed, learner, data, limit) of one run, not compiled.

    values: of the hyperparameters `names`, with which the optimizer is built inside. limit: see `run_epoch`.
    """

    def optimizer(values: Sequence[Array]) -> optax.GradientTransformation:
        return build(**dict(zip(names, values, strict=True)))

    def start(values: Sequence[Array], seed: Array) -> Learner:
        return begin(task, optimizer(values), seed)

    def epoch(
        values: Sequence[Array], seed: Array, learner: Learner, data: Data, limit: Array | None = None
    ) -> tuple[Learner, Summary]:
        return run_epoch(task, optimizer(values), learner, data, seed, limit)

    return start, epoch


def trace_program(
    task: Task, build: Build, names: tuple[str, ...], data: Data, device: jax.Device, token: Any
) -> Program:
    """The programs of a run with `build(**hyperparameters)`, for the device; or what was traced for the same.

    names: of the hyperparameters. token: what stands for `build` in memory: two that are equal are the same optimizer.
    """
    functions = task._replace(train=None, valid=None, test=None, description={})
    shapes = shapes_of(data)
    leaves, structure = jax.tree.flatten(shapes)
    settings = tuple(getattr(jax.config, name) for name in SETTINGS)
    key = (*functions[:5], *functions[8:11], token, names, tuple(leaves), structure, device, settings)

    def trace() -> Program:
        start, epoch = functions_of(functions, build, names)
        arguments = [jax.ShapeDtypeStruct((), np.float32)] * len(names), jax.ShapeDtypeStruct((), np.uint32)
        like = jax.eval_shape(start, *arguments)
        traced, lowered = trace_pair(device, start, arguments, epoch, (*arguments, like, shapes), learner=2)
        return Program(like, digest_of(traced, lowered), lowered, device)

    try:
        hash(key)
    except TypeError:
        return trace()
    return _remembered(_TRACED, key, trace)


SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_numpy_dtype_promotion",
    "jax_debug_nans",
    "jax_disable_jit",
)
"""Of JAX, that a traced program depends on."""


def _remembered(held: dict[Any, Any], key: Any, make: Callable[[], Any]) -> Any:
    """`held[key]`, made where it is not there; those that were not used for longest make room."""
    try:
        with _LOCKS.setdefault(key, threading.Lock()):
            found = held.pop(key, None) or make()
            for oldest in list(held)[: max(0, len(held) - KEPT + 1)]:
                held.pop(oldest, None)
            held[key] = found  # last: the one that is used latest
    finally:
        _LOCKS.pop(key, None)
    return found


def shapes_of(data: Data) -> Data:
    """Shapes and dtypes, to trace with."""
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), data)


def trace_pair(
    device: jax.Device,
    start: Callable[..., Learner],
    start_arguments: Sequence[Any],
    epoch: Callable[..., tuple[Learner, Summary]],
    epoch_arguments: Sequence[Any],
    *,
    learner: int,
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Both programs of a run or of lanes, traced, and lowered for the device.

    learner: the place among epoch's arguments of the learner, whose memory is taken.
    """
    place = jax.sharding.SingleDeviceSharding(device)
    settings: dict[str, Any] = {"out_shardings": place, "compiler_options": compiler_options(device)}
    traced = (
        jax.jit(start, **settings).trace(*start_arguments),
        jax.jit(epoch, donate_argnums=learner, in_shardings=place, **settings).trace(*epoch_arguments),
    )
    return traced, (traced[0].lower(), traced[1].lower())


def digest_of(traced: Sequence[Any], lowered: Sequence[Any]) -> str | None:
    """By which programs are told apart: two that share it compute the same on one version of JAX and kind of device.

    It covers the programs' text and the arrays that their functions close over. None where they call back into Python:
    what is behind the call cannot be told.
    """
    digest = hashlib.sha256()
    for one, text in zip(traced, (each.as_text() for each in lowered), strict=True):
        if "callback" in text:
            return None
        digest.update(text.encode())
        for constant in one.jaxpr.consts:
            array = np.asarray(constant)
            digest.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
    return digest.hexdigest()


def compile_program(program: Program) -> Compiled:
    """Compile, or find what was compiled for the same text."""

    def compile_both() -> Compiled:
        return Compiled(program.lowered[0].compile(), program.lowered[1].compile())

    if program.digest is None:
        return compile_both()
    return _remembered(_COMPILED, (program.digest, program.device), compile_both)


def compiler_options(device: jax.Device) -> dict[str, Any] | None:
    """What keeps a program's numbers the same from one process to the next: on a GPU, no choice by the clock."""
    return {"xla_gpu_deterministic_ops": True} if device.platform == "gpu" else None


def platform_of(device: jax.Device) -> str:
    """What else the bits of a result depend on: versions, and the kind of device."""
    return f"jax {jax.__version__}, jaxlib {jaxlib.__version__}, {device.platform} {device.device_kind}"
