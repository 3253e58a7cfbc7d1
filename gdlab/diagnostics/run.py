"""One run of a problem: a start, an optimizer and a number of steps, judged by an error that has no noise."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from gdlab.arguments import require_count, require_number, require_optimizer
from gdlab.compute.trees import all_finite
from gdlab.diagnostics.problem import Problem, require_problem
from gdlab.optimizers.evaluation import evaluation_params
from gdlab.optimizers.protocol import take_update, with_any_arguments


class Outcome(NamedTuple):
    """What came of a run.

    Attributes:
      error: the mean error over the last tenth of the steps, relative to that of the start; infinite after a step that
        left the finite numbers.
      arrived: the first step after which the error was small enough, even if it grew again; -1 if there was none.
    """

    error: Float[Array, ""]
    arrived: Int[Array, ""]


class _State(NamedTuple):
    params: Any
    optimizer: optax.OptState
    memory: Any
    alive: Array
    arrived: Array
    total: Array


def run_problem(problem: Problem, optimizer: optax.GradientTransformation, level: Any, seed: int = 0) -> Outcome:
    """Let an optimizer take all steps of one instance of a problem. The function is pure.

    Args:
      problem: the problem, one of `PROBLEMS` or your own.
      optimizer: an optax transformation.
      level: the number of a level, such as `problem.levels[0]`; may be traced.
      seed: the seed of the instance, of the start and of the noise. Default 0.

    Returns:
      The `Outcome`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if a number is out of range.

    Example:
      >>> outcome = run_problem(PROBLEMS["saddle"], adam(0.03), PROBLEMS["saddle"].levels[0])
      >>> outcome.error <= PROBLEMS["saddle"].goal  # it is solved
    """
    require_problem("problem", problem)
    require_optimizer("optimizer", optimizer)
    require_number("level", level)
    require_count("seed", seed, low=0)
    return take_steps(problem, optimizer, *begin_instance(problem, level, jax.random.key(seed)))


def begin_instance(problem: Problem, level: Any, key: Array) -> tuple[Any, Any, Array]:
    """Return the start and the data of an instance, in float32 or narrower, and the key of its noise."""
    first, noise = jax.random.split(key)
    params, data = problem.begin(first, jnp.asarray(level, jnp.float32))
    return _narrow(params), _narrow(data), noise


def _narrow(tree: Any) -> Any:
    """Return the tree with float32 in place of float64, JAX's default where 64 bits are enabled."""
    arrays = jax.tree.map(jnp.asarray, tree)
    return jax.tree.map(lambda x: x.astype(np.float32) if x.dtype == np.float64 else x, arrays)


def take_steps(
    problem: Problem, optimizer: optax.GradientTransformation, params: Any, data: Any, noise: Array
) -> Outcome:
    """Take all steps of an instance and judge them; `begin_instance` returns the last three arguments."""
    optimizer = with_any_arguments(optimizer)
    start = problem.error(params, data, 0)
    judged = problem.steps // 10

    def step(state: _State, now: Array) -> tuple[_State, None]:
        key = jax.random.fold_in(noise, now)
        memory = state.memory
        if problem.remember is not None:
            memory = problem.remember(memory, state.params, jax.random.fold_in(key, 1), now)

        def loss(x: Any) -> Array:
            if problem.sampled is None:
                return problem.loss(x, data, now)
            return problem.sampled(x, data, memory, key, now)

        value, slope = jax.value_and_grad(loss)(state.params)
        updates, after = take_update(
            optimizer, slope, state.optimizer, state.params, value=value, value_fn=loss, grad_fn=jax.grad(loss)
        )
        moved = optax.apply_updates(state.params, updates)
        alive = state.alive & jnp.isfinite(value) & all_finite(moved)
        moved = jax.tree.map(lambda new, old: jnp.where(alive, new, old), moved, state.params)
        after = jax.tree.map(lambda new, old: jnp.asarray(new).astype(old.dtype), after, state.optimizer)
        error = problem.error(evaluation_params(after, moved), data, now + 1)
        error = jnp.where(alive & jnp.isfinite(error), error / start, jnp.inf)
        arrived = jnp.where((state.arrived < 0) & (error <= problem.goal), now + 1, state.arrived)
        total = state.total + jnp.where(now < problem.steps - judged, 0.0, error)
        return _State(moved, after, memory, alive, arrived, total), None

    memory = None if problem.recall is None else problem.recall(params, data)
    begun = jax.tree.map(jnp.asarray, optimizer.init(params))
    state = _State(params, begun, memory, jnp.array(True), jnp.full([], -1), jnp.zeros([], start.dtype))
    state, _ = jax.lax.scan(step, state, jnp.arange(problem.steps))
    return Outcome(state.total / judged, state.arrived)
