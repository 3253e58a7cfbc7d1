"""What a task is: data, model and loss as pure functions, which is all that the training loop knows of a problem."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from gdlab.arguments import describe, require_callable, require_count

Metrics = dict[str, Float[Array, " batch"]]
"""One number per example and name; "loss" is among the names."""

Init = Callable[[Key[Array, ""]], tuple[PyTree, PyTree]]
Loss = Callable[[PyTree, PyTree, PyTree, Key[Array, ""]], tuple[Array, tuple[PyTree, Metrics]]]
Evaluate = Callable[[PyTree, PyTree, PyTree, Key[Array, ""]], tuple[PyTree, Metrics]]


def unchanged(state: PyTree) -> PyTree:
    """The state as it is."""
    return state


class Functions(NamedTuple):
    """What of a task a compiled program is made from; see `Task` for each. Two that are equal make the same program."""

    init: Init
    loss: Loss
    evaluate: Evaluate
    after_epoch: Callable[[PyTree], PyTree]
    batch_size: int
    evaluation_batch: int
    shuffled: bool


class Data(NamedTuple):
    """What of a task a compiled program is given: pytrees of arrays whose first axis counts examples.

    valid: None where nothing is held out.
    """

    train: PyTree
    valid: PyTree | None
    test: PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Pure functions and data. Adding a task is one model and one function that returns this.

    init(key) -> (params, state): params are what an optimizer steps; state is all else that a model carries from step
        to step (batch statistics, a recurrent net's memory, a flag), or () where there is nothing.
    loss(params, state, batch, key) -> (loss, (state, metrics)): the mean over the batch that is differentiated, in
        training mode, and the metrics of each example, "loss" among them.
    evaluate(params, state, batch, key) -> (state, metrics): in evaluation mode.
    train, test: pytrees of arrays whose first axis counts examples.
    batch_size: examples of a training batch: consecutive ones of an epoch's order. What is left at the end of an epoch
        is left out.
    valid: examples that are held out of the training data, in the form of `train`; None: there are none.
    after_epoch(state) -> state: what happens to the state when an epoch's training is over, before evaluation.
    evaluation_batch: examples of a batch of evaluation, at most.
    shuffled: whether each epoch draws a new order of the training data.
    name: in progress bars and files.
    description: what a run's config says of the task.

    Raises TypeError and ValueError where data and batches do not fit; that the functions do is seen by `require_task`.
    """

    init: Init
    loss: Loss
    evaluate: Evaluate
    train: PyTree
    test: PyTree
    batch_size: int
    valid: PyTree | None = None
    after_epoch: Callable[[PyTree], PyTree] = unchanged
    evaluation_batch: int = 500
    shuffled: bool = True
    name: str = "task"
    description: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("init", "loss", "evaluate", "after_epoch"):
            require_callable(name, getattr(self, name))
        require_count("batch_size", self.batch_size)
        require_count("evaluation_batch", self.evaluation_batch)
        for part, least in (("train", self.batch_size), ("valid", 1), ("test", 1)):
            _require_examples(part, getattr(self, part), least)

    @property
    def functions(self) -> Functions:
        """What a compiled program is made from."""
        return Functions(**{name: getattr(self, name) for name in Functions._fields})

    @property
    def data(self) -> Data:
        """What a compiled program is given."""
        return Data(self.train, self.valid, self.test)

    @property
    def steps(self) -> int:
        """Optimizer steps of one epoch."""
        return count_examples(self.train) // self.batch_size


def count_examples(examples: PyTree) -> int:
    """The length of the first axis, which all arrays share."""
    return len(jax.tree.leaves(examples)[0])


def _require_examples(part: str, examples: PyTree, least: int) -> None:
    if examples is None and part == "valid":
        return
    lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(examples)}
    if len(lengths) != 1 or lengths == {()}:
        raise ValueError(f"{part}: wanted arrays of one length, got lengths {sorted(lengths)}")
    if count_examples(examples) < least:
        what = "examples, a batch" if part == "train" else "example"
        raise ValueError(f"{part}: wanted at least {least} {what}, got {count_examples(examples)}")


def require_task(name: str, task: Any) -> tuple[str, ...]:
    """The names of the task's metrics; TypeError unless `task` is a Task, ValueError where its functions do not fit."""
    if not isinstance(task, Task):
        raise TypeError(f"{name}: wanted a Task, as the functions in gdlab.tasks.TASKS return, got {describe(task)}")
    key = jax.random.key(0)
    params, state = jax.eval_shape(task.init, key)
    batch = abstract_batch(task.train, task.batch_size)
    trained = tuple(jax.eval_shape(task.loss, params, state, batch, key)[1][1])
    evaluated = metric_names(task.functions, params, state, task.test)
    if set(trained) != set(evaluated) or "loss" not in trained:
        raise ValueError(
            f'{name}: wanted the same metrics, "loss" among them, from loss and evaluate, got {sorted(trained)} and '
            f"{sorted(evaluated)}"
        )
    return evaluated


def abstract_batch(examples: PyTree, size: int) -> PyTree:
    """Shapes and dtypes of so many of the examples."""
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct((size, *array.shape[1:]), array.dtype), examples)


def metric_names(functions: Functions, params: PyTree, state: PyTree, examples: PyTree) -> tuple[str, ...]:
    """The names of what `evaluate` returns, found without running it."""
    batch = abstract_batch(examples, min(functions.evaluation_batch, count_examples(examples)))
    return tuple(jax.eval_shape(functions.evaluate, params, state, batch, jax.random.key(0))[1])
