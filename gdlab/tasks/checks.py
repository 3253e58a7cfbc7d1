"""The check of a task's functions: they are evaluated abstractly, so nothing is computed or compiled."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from gdlab.arguments import abstract_result, describe
from gdlab.compute.programs import Cache
from gdlab.compute.snapshots import kept
from gdlab.tasks.task import Data, Functions, Task, abstract_batch, count_examples

CHECKED = Cache(8)
"""The names of the metrics of the tasks checked last."""

RESERVED = ("gradient_norm",)
"""Names that the training loop gives to measurements of its own."""


def require_task(name: str, task: Any) -> tuple[str, ...]:
    """Check that the functions of a task fit together and its data, and return the names of its metrics.

    Nothing is computed: the functions are evaluated abstractly.

    Args:
      name: the name of the argument, for error messages.
      task: the task to check.

    Returns:
      The names of the metrics that `task.evaluate` returns.

    Raises:
      TypeError: if `task` is not a `Task`; if one of its functions raises such an error or returns a value of another
        kind; if params have no leaf, or one that is not of floating-point or complex dtype; or if a metric is not
        real.
      ValueError: if one of its functions raises any other error or returns another number of values; if a metric does
        not have one number per example; if `loss`, `evaluate` or `after_epoch` changes the tree, the shapes or the
        dtypes of the state; or if `loss` and `evaluate` return different metrics, or none called "loss".
    """
    if not isinstance(task, Task):
        raise TypeError(
            f"{name}: expected a Task, as returned by the functions in gdlab.tasks.TASKS, got {describe(task)}"
        )
    functions, shapes = task.functions, _shapes(task.data)
    leaves, structure = jax.tree.flatten(shapes)
    with jax.disable_jit(False):
        key = (tuple((leaf.shape, leaf.dtype) for leaf in leaves), str(structure))
        found: tuple[str, ...] = kept(CHECKED, functions, key, lambda: _check(name, functions, shapes))
        return found


def _shapes(data: Data) -> Data:
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), data)


def _check(name: str, task: Functions, data: Data) -> tuple[str, ...]:
    """Check the functions of a task for data of these shapes, and return the names of its metrics."""
    key = jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32"))
    params, state = _several(
        f"{name}.init", "(params, state)", abstract_result(f"{name}.init", task.init, key, takes="a random key"), 2
    )
    _require_params(f"{name}.init", params)
    batch = abstract_batch(data.train, task.batch_size)
    takes = "params, state, a batch and a random key"
    returned = abstract_result(f"{name}.loss", task.loss, params, state, batch, key, takes=takes)
    loss, rest = _several(f"{name}.loss", "(loss, (state, metrics))", returned, 2)
    _require_loss(f"{name}.loss", loss)
    after, metrics = _several(f"{name}.loss", "(loss, (state, metrics))", rest, 2)
    _require_like(f"{name}.loss", "the state", state, after)
    trained = _require_metrics(f"{name}.loss", metrics, task.batch_size)
    evaluated: tuple[str, ...] = ()
    for part in (data.valid, data.test):
        if part is None:
            continue
        size = min(task.evaluation_batch, count_examples(part))
        batch = abstract_batch(part, size)
        returned = abstract_result(f"{name}.evaluate", task.evaluate, params, state, batch, key, takes=takes)
        after, metrics = _several(f"{name}.evaluate", "(state, metrics)", returned, 2)
        _require_like(f"{name}.evaluate", "the state", state, after)
        evaluated = _require_metrics(f"{name}.evaluate", metrics, size)
        if set(trained) != set(evaluated) or "loss" not in trained:
            raise ValueError(
                f'{name}: expected loss and evaluate to return the same metrics, including "loss", got '
                f"{sorted(trained)} and {sorted(evaluated)}"
            )
    after = abstract_result(f"{name}.after_epoch", task.after_epoch, state, takes="state")
    _require_like(f"{name}.after_epoch", "the state", state, after)
    return evaluated


def _several(name: str, expected: str, returned: Any, count: int) -> Any:
    """Return the parts of what a function returned, or raise an error unless it is a tuple of that many."""
    if not isinstance(returned, (tuple, list)):
        raise TypeError(f"{name}: expected a function that returns {expected}, got {_kind(returned)}")
    if len(returned) != count:
        raise ValueError(f"{name}: expected a function that returns {expected}, got {len(returned)} values")
    return returned


def _require_params(name: str, params: PyTree) -> None:
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    if not leaves:
        raise TypeError(f"{name}: expected params with an array to train, got none")
    for path, leaf in leaves:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise TypeError(
                f"{name}: expected params of floating-point dtype, got {leaf.dtype}{_at(path)}; "
                "what is not trained belongs into the state"
            )


def _require_loss(name: str, loss: Any) -> None:
    if getattr(loss, "shape", None) != ():
        raise ValueError(f"{name}: expected a loss of shape (), the mean over the batch, got {_kind(loss)}")
    if not jnp.issubdtype(loss.dtype, jnp.floating):
        raise TypeError(f"{name}: expected a loss of real floating-point dtype, got {loss.dtype}")


def _require_metrics(name: str, metrics: Any, size: int) -> tuple[str, ...]:
    """Return the names of the metrics, or raise an error unless each has `size` real numbers, one per example."""
    if not isinstance(metrics, Mapping):
        raise TypeError(f"{name}: expected metrics as a mapping from names to arrays, got {_kind(metrics)}")
    for metric, values in metrics.items():
        if not isinstance(metric, str) or metric in RESERVED:
            raise ValueError(f"{name}: expected metrics with names other than {', '.join(RESERVED)}, got {metric!r}")
        if getattr(values, "shape", None) != (size,):
            raise ValueError(
                f"{name}: expected metrics with one number per example, of shape ({size},), got "
                f'"{metric}" of {_kind(values)}'
            )
        if not (jnp.issubdtype(values.dtype, jnp.number) or values.dtype == bool) or _is_complex(values):
            raise TypeError(f'{name}: expected metrics of real numbers, got "{metric}" of dtype {values.dtype}')
    return tuple(metrics)


def _is_complex(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.complexfloating))


def _require_like(name: str, what: str, before: PyTree, after: PyTree) -> None:
    found = difference(before, after)
    if found:
        raise ValueError(f"{name}: expected {what} to keep its tree, shapes and dtypes, got {found}")


def difference(before: PyTree, after: PyTree) -> str | None:
    """Describe the first difference between two trees of shapes and dtypes; None if one may take the other's place."""
    structures: list[Any] = [jax.tree.structure(tree) for tree in (before, after)]
    if structures[0] != structures[1]:
        return f"{_tree(after)} in place of {_tree(before)}"
    one, other = (jax.tree_util.tree_flatten_with_path(tree)[0] for tree in (before, after))
    for (path, old), (_, new) in zip(one, other, strict=True):
        if old.shape != new.shape:
            return f"shape {tuple(new.shape)} in place of {tuple(old.shape)}{_at(path)}"
        if old.dtype != new.dtype:
            return f"dtype {new.dtype} in place of {old.dtype}{_at(path)}"
    return None


def _tree(tree: PyTree) -> str:
    text = str(jax.tree.structure(tree)).removeprefix("PyTreeDef").replace("\n", " ")
    return text if len(text) <= 60 else f"{text[:57]}..."


def _at(path: Any) -> str:
    where = jax.tree_util.keystr(path)
    return f" at {where}" if where else ""


def _kind(value: Any) -> str:
    """Describe what a function returned: the shape of an array, or the type of anything else."""
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" if shape is None else f"shape {tuple(shape)}"
