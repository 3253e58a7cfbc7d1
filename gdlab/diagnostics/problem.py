"""The record of a diagnostic problem, the function that registers one, and the pieces that problems are made of.

A problem is judged by an error that has no noise: the distance from a known solution, or the loss that is left. A
problem is solved if the mean of this error over the last tenth of the steps is at most `goal` times the error at the
start. So a start cannot solve a problem, however lucky it is, and neither can a learning rate that is too small to
move, a single lucky batch, or a point that is passed through and left again.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PyTree

from gdlab.arguments import (
    require_callable,
    require_count,
    require_instance,
    require_number,
    require_sequence,
    require_text,
)

DIM = 16
"""The number of coordinates of problems whose points are vectors."""

LEVELS = ("easy", "medium", "hard", "extreme")
"""The names of the levels of every problem."""

STEPS = 1000
"""The number of steps of most problems."""


class Problem(NamedTuple):
    """A problem: what an optimizer is asked, at four levels of difficulty, and how the answer is judged.

    All functions are pure, and the level is a traced number, so that one compiled program serves all levels, seeds and
    settings of an optimizer. `data` is what one instance of the problem consists of, such as a rotation and a solution.

    Attributes:
      name: the name in snake_case.
      family: the name of its family.
      measures: what the problem asks of an optimizer, in one line.
      difficulty: what the number of a level means, in a few words.
      levels: four numbers, the easiest first.
      begin: `begin(key, level)` returns a start and the data of an instance.
      loss: `loss(params, data, step)` returns the loss without noise. The step matters only to problems that drift.
      error: `error(params, data, step)` returns the non-negative number that is judged, likewise without noise.
      goal: the problem is solved if the error falls below this part of its value at the start.
      references: names of optimizers of gdlab; at each level, one of them solves the problem when it is tuned.
      steps: the number of steps, the same for every optimizer.
      sampled: `sampled(params, data, memory, key, step)` returns the loss whose value and gradient the optimizer
        receives. Default None: the loss without noise.
      recall: `recall(params, data)` returns the memory before the first step. Default None: there is no memory.
      remember: `remember(memory, params, key, step)` returns the memory with which a step is sampled. Default None.
    """

    name: str
    family: str
    measures: str
    difficulty: str
    levels: Sequence[float]
    begin: Callable[[Key[Array, ""], Any], tuple[PyTree, Any]]
    loss: Callable[[Any, Any, Any], Array]
    error: Callable[[Any, Any, Any], Array]
    goal: float
    references: Sequence[str]
    steps: int = STEPS
    sampled: Callable[..., Array] | None = None
    recall: Callable[[Any, Any], Any] | None = None
    remember: Callable[..., Any] | None = None


ENTRIES: dict[str, Problem] = {}
"""The problems that `define` has registered, by name."""


def define(name: str, **fields: Any) -> Problem:
    """Register a problem of the collection; `fields` are those of `Problem`."""
    if name in ENTRIES:
        raise ValueError(f"name: expected a name that no other problem has, got {name!r}")
    ENTRIES[name] = Problem(name, **fields)
    return ENTRIES[name]


def require_problem(name: str, problem: Any) -> None:
    """Raise unless `problem` is a `Problem` whose fields fit together.

    Args:
      name: the name of the argument, for error messages.
      problem: the value to check.
    """
    require_instance(name, problem, Problem, 'a Problem, such as gdlab.diagnostics.PROBLEMS["saddle"]')
    for field in ("name", "family", "measures", "difficulty"):
        require_text(f"{name}.{field}", getattr(problem, field))
    for field in ("begin", "loss", "error"):
        require_callable(f"{name}.{field}", getattr(problem, field))
    for field in ("sampled", "recall", "remember"):
        if getattr(problem, field) is not None:
            require_callable(f"{name}.{field}", getattr(problem, field))
    require_sequence(f"{name}.levels", problem.levels, "numbers")
    for level in problem.levels:
        require_number(f"{name}.levels", level)
    if len(problem.levels) != len(LEVELS):
        raise ValueError(f"{name}.levels: expected {len(LEVELS)} numbers, the easiest first, got {len(problem.levels)}")
    require_sequence(f"{name}.references", problem.references, "names")
    for each in problem.references:
        require_text(f"{name}.references", each)
    require_number(f"{name}.goal", problem.goal, 0.0, 0.9, open_low=True)
    require_count(f"{name}.steps", problem.steps, low=10)
    if (problem.recall is None) != (problem.remember is None):
        raise ValueError(f"{name}.remember: expected it together with recall, or neither, got one of them")


def rotation(key: Key[Array, ""], size: int) -> Float[Array, "size size"]:
    """Return a rotation from the uniform (Haar) distribution, reflections included."""
    basis, triangle = jnp.linalg.qr(jax.random.normal(key, (size, size)))
    return basis * jnp.sign(jnp.diagonal(triangle))


def spectrum(size: int, condition: Any) -> Float[Array, " size"]:
    """Return `size` numbers from 1 down to 1 / condition, evenly spaced on a logarithmic scale."""
    return jnp.asarray(condition, jnp.float32) ** -jnp.linspace(0.0, 1.0, size)


def apart(key: Key[Array, ""], size: int = DIM) -> tuple[Array, Array]:
    """Return a random start and a random solution, both normal, so that neither lies at the origin."""
    first, second = jax.random.split(key)
    return jax.random.normal(first, (size,)), jax.random.normal(second, (size,))


def distance(params: Any, data: Any, step: Any) -> Array:
    """Return the root mean square of the difference from `data["target"]`, over all coordinates."""
    del step
    squares = jax.tree.map(lambda x, aim: jnp.mean((x.astype(aim.dtype) - aim) ** 2), params, data["target"])
    return jnp.sqrt(sum(jax.tree.leaves(squares)))


def bowl(x: Array, data: Any, step: Any) -> Array:
    """Return the quadratic function around `data["target"]`, with `data["curvatures"]` or the curvature 1."""
    del step
    return jnp.sum(data.get("curvatures", 1.0) * (x - data["target"]) ** 2) / 2


def tilted(value: Array, params: PyTree, slope: PyTree) -> Array:
    """Return `value`, with a gradient to which `slope` is added: the loss that a gradient with noise belongs to."""
    return value + optax.tree.vdot(params, jax.lax.stop_gradient(slope))


def replaced(value: Array, params: PyTree, slope: PyTree) -> Array:
    """Return `value` with the gradient `slope` in place of its own: a field of gradients that belongs to no loss."""
    away = optax.tree.sub(params, jax.lax.stop_gradient(params))  # 0, with a derivative of 1
    return tilted(jax.lax.stop_gradient(value), away, slope)
