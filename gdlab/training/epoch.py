"""One epoch as one program: shuffle, step through all batches, evaluate.

Nothing is transferred to the host before the epoch ends.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key, PyTree

from gdlab.compute.promotion import standard_promotion
from gdlab.optimizers import evaluation_params
from gdlab.optimizers.protocol import take_update, with_any_arguments
from gdlab.tasks.task import Data, Functions, count_examples, metric_names
from gdlab.training.guards import blamed

Summary = dict[str, Array]
"""Means over an epoch, by name: train_loss, train_accuracy, ..., valid_loss, ..., test_loss, ..., gradient_norm."""


class Learner(NamedTuple):
    """Everything that training carries from one epoch to the next.

    Attributes:
      params: the parameters of the task's model.
      state: the state of the task's model.
      optimizer: the state of the optimizer.
      epoch: the number of finished epochs.
      failed_at: the first step, counted from 1 over the whole run, whose loss was not finite, or after which the loss
        of an evaluation was not finite; 0 if there is no such step.
    """

    params: PyTree
    state: PyTree
    optimizer: optax.OptState
    epoch: Int[Array, ""]
    failed_at: Int[Array, ""]


def root_key(seed: Any) -> Key[Array, ""]:
    """Return the key from which all randomness of a run is derived.

    It is a Threefry key, because Threefry keeps the streams of different keys distinct under `jax.vmap`.
    """
    return jax.random.key(seed, impl="threefry2x32")


def steepest(gradient: Array) -> Array:
    """Return the direction of steepest ascent, which optax expects; for complex numbers JAX returns its conjugate.

    For f(x + iy), JAX's gradient is df/dx - i df/dy, and f grows fastest along df/dx + i df/dy.
    """
    return jnp.conj(gradient) if jnp.iscomplexobj(gradient) else gradient


def begin(task: Functions, optimizer: optax.GradientTransformation, seed: Any) -> Learner:
    """Return the learner before its first step; a seed gives the same parameters to every optimizer."""
    params, state = task.init(jax.random.fold_in(root_key(seed), 0))
    nothing = jnp.zeros([], jnp.int32)
    return Learner(params, state, optimizer.init(params), nothing, nothing)


def run_epoch(
    task: Functions,
    optimizer: optax.GradientTransformation,
    learner: Learner,
    data: Data,
    seed: Any,
    limit: Any = None,
) -> tuple[Learner, Summary]:
    """Train for one epoch, then evaluate at `evaluation_params`; a pure function.

    Training metrics are means over the examples of the epoch, each measured in training mode and before the step that
    uses it. Once a loss of training or evaluation is not finite, all metrics are NaN.

    `limit` bounds the number of training steps, for measuring how long they take; it may be traced. Each evaluation is
    shortened by the same factor.
    """
    full = with_any_arguments(optimizer)
    # Each use of a key adds a fraction of a second to the compilation on a CPU, so there are few of them here.
    key = jax.random.fold_in(root_key(seed), learner.epoch + 1)
    for_order, for_steps, for_evaluation = jax.random.split(key, 3)
    count, batch_size = count_examples(data.train), task.batch_size
    order = jnp.arange(count, dtype=jnp.int32)
    if task.shuffled:
        # Examples with equal draws keep their order, but this is rare: 50,000 draws of 32 bits have 0.3 equal pairs on
        # average.
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

        def slope(params: PyTree) -> PyTree:
            return jax.tree.map(steepest, jax.grad(value)(params))

        with blamed("task.loss", "a function that JAX can differentiate with respect to params"):
            (loss, (state, metrics)), gradient = jax.value_and_grad(task.loss, has_aux=True)(
                learner.params, learner.state, batch, step_key
            )
        gradient = jax.tree.map(steepest, gradient)
        updates, after = take_update(
            full, gradient, learner.optimizer, learner.params, value=loss, value_fn=value, grad_fn=slope
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
    with standard_promotion():
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
    # If data is held out, the test set decides nothing, not even whether the run failed.
    blind = data.valid is not None
    watched = ("train_loss", "valid_loss") if blind else ("train_loss", "test_loss")
    losses = jnp.stack([summary[name] for name in watched])
    failed = (learner.failed_at == 0) & ~jnp.isfinite(losses).all()
    learner = learner._replace(failed_at=jnp.where(failed, done + most, learner.failed_at).astype(jnp.int32))
    summary["gradient_norm"] = norm
    well = learner.failed_at == 0
    return learner, {name: jnp.where(well, value, jnp.nan) for name, value in summary.items()}


def run_evaluation(
    task: Functions, params: PyTree, state: PyTree, examples: PyTree, key: Key[Array, ""], limit: Any = None
) -> Summary:
    """Return the mean of each metric over all examples in evaluation mode, including the last, partial batch.

    That batch is padded with copies of the last example, which are not counted. This is correct because in evaluation
    mode no example depends on the others in its batch.
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
