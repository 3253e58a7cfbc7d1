"""What a task is: data, model and loss as pure functions, which is all that the training loop knows of a problem."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from gdlab.arguments import describe, require_count

Metrics = dict[str, Float[Array, " batch"]]
"""One number an example and name; "loss" is among the names."""


class Task(NamedTuple):
    """Pure functions and data. Adding a task is one model and one function that returns this.

    init(key) -> (params, state): params are what an optimizer steps; state is all else that a model carries from step
    to step (batch statistics, a recurrent net's memory, a flag).
    loss(params, state, batch, key) -> (loss, (state, metrics)): the mean over the batch that is differentiated, in
    training mode, and the metrics of each example.
    evaluate(params, state, batch, key) -> (state, metrics): in evaluation mode.
    after_epoch(state) -> state: what happens to the state when an epoch's training is over, before evaluation.
    train, test: pytrees of arrays whose first axis counts examples; valid: the like, held out of the training data, or
    None. shuffled: whether each epoch draws a new order of the training data; a batch is `batch_size` consecutive
    examples of that order, and what is left at the end of an epoch is left out.
    description: what a run's config says of the task.
    """

    name: str
    init: Callable[[Key[Array, ""]], tuple[PyTree, PyTree]]
    loss: Callable[[PyTree, PyTree, PyTree, Key[Array, ""]], tuple[Array, tuple[PyTree, Metrics]]]
    evaluate: Callable[[PyTree, PyTree, PyTree, Key[Array, ""]], tuple[PyTree, Metrics]]
    after_epoch: Callable[[PyTree], PyTree]
    train: PyTree
    valid: PyTree | None
    test: PyTree
    batch_size: int
    evaluation_batch: int
    shuffled: bool
    description: dict[str, Any]

    @property
    def steps(self) -> int:
        """Optimizer steps of one epoch."""
        return count_examples(self.train) // self.batch_size


def count_examples(examples: PyTree) -> int:
    """The length of the first axis, which all arrays share."""
    return len(jax.tree.leaves(examples)[0])


def require_task(name: str, task: Any) -> tuple[str, ...]:
    """The names of the task's metrics; TypeError unless `task` is a Task, ValueError where its parts do not fit."""
    if not isinstance(task, Task):
        raise TypeError(f"{name}: wanted a Task, as the functions in gdlab.tasks.TASKS return, got {describe(task)}")
    require_count(f"{name}.batch_size", task.batch_size)
    require_count(f"{name}.evaluation_batch", task.evaluation_batch)
    for part, least in (("train", task.batch_size), ("valid", 1), ("test", 1)):
        examples = getattr(task, part)
        if examples is None and part == "valid":
            continue
        lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(examples)}
        if len(lengths) != 1 or lengths == {()}:
            raise ValueError(f"{name}: wanted arrays of one length in {part}, got lengths {sorted(lengths)}")
        if count_examples(examples) < least:
            what = "training examples, a batch" if part == "train" else f"example in {part}"
            raise ValueError(f"{name}: wanted at least {least} {what}, got {count_examples(examples)}")
    key = jax.random.key(0)
    params, state = jax.eval_shape(task.init, key)
    batch = abstract_batch(task.train, task.batch_size)
    trained = tuple(jax.eval_shape(task.loss, params, state, batch, key)[1][1])
    evaluated = metric_names(task, params, state, task.test)
    if set(trained) != set(evaluated) or "loss" not in trained:
        raise ValueError(
            f'{name}: wanted the same metrics, "loss" among them, from loss and evaluate, got {sorted(trained)} and '
            f"{sorted(evaluated)}"
        )
    return evaluated


def abstract_batch(examples: PyTree, size: int) -> PyTree:
    """Shapes and dtypes of so many of the examples."""
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct((size, *array.shape[1:]), array.dtype), examples)


def metric_names(task: Task, params: PyTree, state: PyTree, examples: PyTree) -> tuple[str, ...]:
    """The names of what the task's `evaluate` returns, found without running it."""
    batch = abstract_batch(examples, min(task.evaluation_batch, count_examples(examples)))
    return tuple(jax.eval_shape(task.evaluate, params, state, batch, jax.random.key(0))[1])
