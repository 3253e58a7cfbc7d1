"""Guards around what a user gave: an error raised inside an optimizer becomes one line that names the argument."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gdlab.arguments import describe, is_optimizer, require_optimizer, restated
from gdlab.compute.promotion import standard_promotion
from gdlab.hyperparameters.factories import READS
from gdlab.optimizers.protocol import with_any_arguments
from gdlab.tasks.checks import difference
from gdlab.types import Factory


@contextmanager
def blamed(argument: str, expected: str, *, names: tuple[str, ...] = ()) -> Iterator[None]:
    """Replace any error by one line: the argument, what was expected, and the first line of the error.

    If `names` are given, those of traced hyperparameters, an error that reads a traced value passes:
    `gdlab.hyperparameters.factories.explained` explains it.
    """
    try:
        yield
    except Exception as error:  # the user's code may raise anything
        if names and isinstance(error, READS):
            raise
        raise restated(error, argument, expected) from error


def build(argument: str, factory: Factory, numbers: Mapping[str, Any]) -> optax.GradientTransformationExtraArgs:
    """Return the optimizer that the factory builds from these numbers, guarded by `guarded`.

    Args:
      argument: the name of the argument that the caller gave, for error messages.
      factory: the function that returns the optimizer.
      numbers: the hyperparameters, which may be traced.
    """
    names = tuple(numbers)
    with blamed(argument, f"a function that returns an optimizer{_from(names)}", names=names):
        optimizer = factory(**numbers)
    if names and not is_optimizer(optimizer):
        raise TypeError(f"{argument}: expected a function that returns an optimizer, got {describe(optimizer)}")
    require_optimizer(argument, optimizer)
    return guarded(argument, optimizer, names)


def _from(names: tuple[str, ...]) -> str:
    return f" for {', '.join(names)}" if names else ""


def guarded(
    argument: str, optimizer: optax.GradientTransformation, names: tuple[str, ...] = ()
) -> optax.GradientTransformationExtraArgs:
    """Wrap an optimizer so that whatever is wrong with it raises one line that names the argument.

    Errors of `init` and `update` are replaced, and `update` must return updates shaped like the parameters and a state
    shaped like the one that it received, because a compiled loop carries it.

    Args:
      argument: the name of the argument, for error messages.
      optimizer: the optimizer.
      names: the names of the hyperparameters that are traced.
    """
    inner = with_any_arguments(optimizer)

    def init(params: optax.Params) -> optax.OptState:
        expected = "an optimizer that can be initialized with the params of the task"
        with blamed(argument, expected, names=names), standard_promotion():
            return inner.init(params)

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        expected = "an optimizer whose update takes (gradient, state, params)"
        with blamed(argument, expected, names=names), standard_promotion():
            moves, after = inner.update(updates, state, params, **extra)
        found = difference(_shapes(params), _shapes(moves))
        if found:
            raise ValueError(f"{argument}: expected an optimizer whose updates are shaped like params, got {found}")
        found = difference(jax.tree.map(jax.typeof, state), jax.tree.map(jax.typeof, after))
        if found:
            raise ValueError(
                f"{argument}: expected an optimizer whose state keeps its tree, shapes and dtypes, got {found}"
            )
        return moves, after

    return optax.GradientTransformationExtraArgs(init, update)


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.float32), tree)
