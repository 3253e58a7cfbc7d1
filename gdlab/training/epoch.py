"""An epoch as one program: shuffle, step through all batches, evaluate; nothing goes to the host before its end."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key, PyTree

from gdlab.optimizers import evaluation_params
from gdlab.tasks.task import Data, Functions, count_examples, metric_names

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


def root_key(seed: Any) -> Key[Array, ""]:
    """The key that all of a run's randomness follows from; Threefry, whose streams stay apart under vmap."""
    return jax.random.key(seed, impl="threefry2x32")


def begin(task: Functions, optimizer: optax.GradientTransformation, seed: Any) -> Learner:
    """The learner before its first step. The same seed gives the same parameters to every optimizer."""
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
    task: Functions, params: PyTree, state: PyTree, examples: PyTree, key: Key[Array, ""], limit: Any = None
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
