"""The type `Task`: data, model and loss as pure functions, which is all that the training loop needs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from gdlab.arguments import (
    abstract_result,
    describe,
    require_callable,
    require_count,
    require_flag,
    require_instance,
    require_mapping,
    require_text,
)

Metrics = dict[str, Float[Array, " batch"]]
"""Metrics by name, with one number per example; "loss" is one of the names."""

Init = Callable[[Key[Array, ""]], tuple[PyTree, PyTree]]
Loss = Callable[[PyTree, PyTree, PyTree, Key[Array, ""]], tuple[Array, tuple[PyTree, Metrics]]]
Evaluate = Callable[[PyTree, PyTree, PyTree, Key[Array, ""]], tuple[PyTree, Metrics]]


def unchanged(state: PyTree) -> PyTree:
    """Return the state unchanged."""
    return state


class Functions(NamedTuple):
    """The part of a task from which a compiled program is made; see `Task` for the fields.

    Two equal instances make the same program.
    """

    init: Init
    loss: Loss
    evaluate: Evaluate
    after_epoch: Callable[[PyTree], PyTree]
    batch_size: int
    evaluation_batch: int
    shuffled: bool


class Data(NamedTuple):
    """The part of a task that is passed to a compiled program: pytrees of arrays whose first axis counts examples.

    Attributes:
      train: the training examples.
      valid: the held-out examples; None if there are none.
      test: the test examples.
    """

    train: PyTree
    valid: PyTree | None
    test: PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A training problem: data, model and loss as pure functions.

    To add a task, write a model and a function that returns a `Task`. Creating a `Task` checks that the data and the
    batch sizes fit; `gdlab.tasks.require_task` checks the functions.

    Attributes:
      init: `init(key)` returns (params, state). The optimizer updates params; state is everything else that the model
        carries from step to step (batch statistics, the memory of a recurrent network, a flag), or () if there is
        nothing else.
      loss: `loss(params, state, batch, key)` returns (loss, (state, metrics)) in training mode: the mean loss of the
        batch, which is differentiated, the new state, and the metrics of each example, "loss" among them.
      evaluate: `evaluate(params, state, batch, key)` returns (state, metrics) in evaluation mode.
      train: the training examples, a pytree of arrays whose first axis counts examples.
      test: the test examples, in the same form.
      batch_size: the number of examples in a training batch. Batches are consecutive examples in the order of the
        epoch; examples that do not fill a batch at the end of the epoch are left out.
      valid: examples that are held out of the training data, in the same form; None if there are none.
      after_epoch: `after_epoch(state)` returns the new state at the end of an epoch's training, before its evaluation.
        Default: unchanged.
      evaluation_batch: the largest number of examples in a batch of evaluation. Default 500.
      shuffled: whether each epoch draws a new order of the training examples. Default True.
      name: the name in progress bars and files.
      description: a mapping that describes the task in the config of a run.

    Raises:
      TypeError: if a field has the wrong type.
      ValueError: if the arrays of a part differ in length, or a part has too few examples.
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
        require_flag("shuffled", self.shuffled)
        require_text("name", self.name)
        require_mapping("description", self.description, "from names to what is recorded")
        for part, least in (("train", self.batch_size), ("valid", 1), ("test", 1)):
            _require_examples(part, getattr(self, part), least)

    @property
    def functions(self) -> Functions:
        """The functions and sizes from which a compiled program is made."""
        return Functions(**{name: getattr(self, name) for name in Functions._fields})

    @property
    def data(self) -> Data:
        """The examples that are passed to a compiled program."""
        return Data(self.train, self.valid, self.test)

    @property
    def steps(self) -> int:
        """Number of optimizer steps in one epoch."""
        return count_examples(self.train) // self.batch_size


def count_examples(examples: PyTree) -> int:
    """Return the number of examples: the length of the first axis, which all arrays share.

    Raises:
      TypeError: if `examples` are not arrays.
      ValueError: if there is no array, or their lengths differ.
    """
    return _count("examples", examples)


def _require_examples(part: str, examples: PyTree, least: int) -> None:
    if examples is None and part == "valid":
        return
    count = _count(part, examples)
    if count < least:
        what = "examples, the batch size" if part == "train" else "example"
        raise ValueError(f"{part}: expected at least {least} {what}, got {count}")


def _count(name: str, examples: PyTree) -> int:
    """Return the length that all arrays share, or raise an error."""
    leaves = jax.tree.leaves(examples)
    for leaf in leaves:
        if not hasattr(leaf, "shape") or not _is_numeric(leaf):
            raise TypeError(f"{name}: expected arrays of numbers, got {describe(leaf)}")
    lengths = {leaf.shape[:1] for leaf in leaves}
    if len(lengths) != 1 or lengths == {()}:
        raise ValueError(f"{name}: expected arrays of equal length, got lengths {sorted(lengths)}")
    return int(leaves[0].shape[0])


def _is_numeric(array: Any) -> bool:
    kinds = (np.number, np.bool_, jax.dtypes.prng_key)
    return any(jax.dtypes.issubdtype(array.dtype, kind) for kind in kinds)


def abstract_batch(examples: PyTree, size: int) -> PyTree:
    """Return the shapes and dtypes of a batch of `size` examples."""
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct((size, *array.shape[1:]), array.dtype), examples)


def metric_names(functions: Functions, params: PyTree, state: PyTree, examples: PyTree) -> tuple[str, ...]:
    """Return the names of the metrics that `evaluate` returns, without running it.

    Args:
      functions: the functions of the task; see `Task.functions`.
      params: the parameters of the model, or their shapes.
      state: the state of the model, or its shapes.
      examples: a part of the task's data, or its shapes.

    Returns:
      The names as a tuple.
    """
    require_instance("functions", functions, Functions, "the functions of a task, task.functions")
    batch = abstract_batch(examples, min(functions.evaluation_batch, count_examples(examples)))
    takes = "params, state, a batch and a random key"
    key = jax.random.key(0)
    returned = abstract_result("functions.evaluate", functions.evaluate, params, state, batch, key, takes=takes)
    return tuple(returned[1])
