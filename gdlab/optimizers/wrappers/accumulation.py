"""Gradient accumulation: one step of an optimizer for the mean gradient of several batches."""

from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array, Int, PyTree

from gdlab.arguments import require_number
from gdlab.optimizers.transformation import require_params, transformation
from gdlab.optimizers.trees import begin, zeros
from gdlab.optimizers.wrappers.base import is_due, prepare, wide
from gdlab.types import Hyperparameter


class EveryState(NamedTuple):
    """State of `every_k`.

    Attributes:
      mean: the mean of the gradients since the last step of base, shaped like the parameters.
      gathered: their number.
      steps: number of all gradients.
      inner: the state of the wrapped optimizer.
    """

    mean: PyTree
    gathered: Int[Array, ""]
    steps: Int[Array, ""]
    inner: optax.OptState


@transformation
def every_k(base: optax.GradientTransformation, *, k: Hyperparameter = 4) -> optax.GradientTransformationExtraArgs:
    """Gradient accumulation: every k gradients, x <- the step of base with their mean; otherwise x <- x.

    For losses that are means over a batch, k batches then act as one that is k times as large, in the memory of one.

    Args:
      base: the optimizer that makes the steps. Its schedules count its own steps.
      k: the number of gradients for a step, >= 1. Default 4.

    State:
      the mean, one value per parameter, in float32 or wider, and that of base.

    Example:
      >>> optimizer = every_k(adam(1e-3), k=8)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `optax.MultiSteps` with every_k_schedule = k. Base receives `value`, `value_fn` and `grad_fn` of the
    last of the k batches; so write sam(every_k(base)), which perturbs on each batch, rather than every_k(sam(base)).

    References:
      Ott, Edunov, Grangier and Auli, "Scaling Neural Machine Translation", 2018, section 3.2
      (https://arxiv.org/abs/1806.00187).
    """
    base = prepare("base", base)
    require_number("k", k, 1.0)

    def init(params: optax.Params) -> EveryState:
        return EveryState(zeros(wide(params)), begin(), begin(), base.init(params))

    def update(
        updates: optax.Updates, state: EveryState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, EveryState]:
        params = require_params("every_k", params)
        count, steps = optax.safe_increment(state.gathered), optax.safe_increment(state.steps)
        mean = jax.tree.map(lambda a, g: (a + (g - a) / count).astype(a.dtype), state.mean, updates)

        def take() -> tuple[optax.Updates, EveryState]:
            moves, inner = base.update(mean, state.inner, params, **extra)
            return moves, EveryState(zeros(mean), begin(), steps, inner)

        def wait() -> tuple[optax.Updates, EveryState]:
            return zeros(params), EveryState(mean, count, steps, state.inner)

        return jax.lax.cond(is_due(steps, k), take, wait)

    return optax.GradientTransformationExtraArgs(init, update)
