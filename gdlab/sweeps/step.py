"""One lane (one run of a sweep's batch): how it begins, what one step does, and when it stops."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from gdlab.arguments import needs_gradient, require_no_tolerance
from gdlab.compute.calls import stored
from gdlab.compute.extras import Extras
from gdlab.compute.trees import is_key, without_key
from gdlab.descent import move
from gdlab.optimizers.protocol import with_any_arguments
from gdlab.sweeps.inputs import Frame
from gdlab.sweeps.trees import Tree
from gdlab.types import Factory, GradientFunction, ScalarFunction

RUNNING = 0
AT_TARGET = 2**30
"""The offset in `stop` that marks a lane at the target.

`stop` is 0 while a lane runs, s if it converged in s steps, AT_TARGET + s if it stopped at the target after s
steps, and -1 - s if it diverged in s steps.
"""


def steps_taken(stop: Any) -> Any:
    """Return after how many steps lanes stopped, from the `stop` of lanes that do not run any more."""
    return abs(stop + (stop < 0).astype(stop.dtype)) % AT_TARGET


class LaneSpec(NamedTuple):
    """The definition of a lane. The program fixes all of it; only the values of the hyperparameters are its arguments.

    Attributes:
      functions: the functions, of which each lane descends one.
      gradients: their gradients, or None for automatic differentiation.
      minimizers: the minimizers of each function, of shape (count, dim), or None if reaching them is not recorded.
      build: makes an optimizer from the values of the hyperparameters.
      names: the names of the hyperparameters.
      max_steps: the maximum number of steps.
      tolerance: the tolerance at which a lane has converged, or None.
      target: the distance within which a point has reached a minimizer.
      stop_at_target: whether a lane stops there.
      tree: the tree of a point, which functions that reduce a descent see; None if points are vectors.
      frame: how arguments of the program become what functions take besides a point; None if they take nothing else.
    """

    functions: tuple[ScalarFunction, ...]
    gradients: tuple[GradientFunction, ...] | None
    minimizers: Float[np.ndarray, "functions count dim"] | None
    build: Factory
    names: tuple[str, ...]
    max_steps: int
    tolerance: float | None
    target: float | None
    stop_at_target: bool
    tree: Tree | None = None
    frame: Frame | None = None

    def types(self, dtype: Any) -> list[jax.ShapeDtypeStruct]:
        """Return the shapes and dtypes of the program's arguments: hyperparameters of this dtype, then the frame's."""
        numbers = [jax.ShapeDtypeStruct((), dtype) for _ in self.names]
        return numbers + ([] if self.frame is None else self.frame.types())

    def extras(self, numbers: Sequence[Any]) -> Extras:
        """Return what functions take besides a point, from the program's arguments: hyperparameters, then these."""
        return Extras() if self.frame is None else self.frame.extras(numbers[len(self.names) :])


class State(NamedTuple):
    """The state of one lane.

    Attributes:
      point: the current point.
      stop: whether and how the lane has stopped; see `AT_TARGET`.
      first: the first step within the target distance of a minimizer; -1 while there is none.
      optimizer: the optimizer's state.
    """

    point: Float[Array, " dim"]
    stop: Int[Array, ""]
    first: Int[Array, ""]
    optimizer: optax.OptState


def choose(which: Any, functions: Sequence[Callable], x: Any, *given: Any) -> Any:
    """Return functions[which](x, *given) in the dtype of x; `which` is ignored if there is only one function."""

    def cast(function: Callable) -> Callable:
        return lambda y: jax.tree.map(lambda out: out.astype(y.dtype), function(y, *given))

    return cast(functions[0])(x) if len(functions) == 1 else jax.lax.switch(which, list(map(cast, functions)), x)


def is_near(spec: LaneSpec, x: Array, which: Any) -> Array:
    """Return whether x, of shape (..., dim), lies within the target distance of a minimizer; False if none is known."""
    if spec.minimizers is None:
        return jnp.zeros(x.shape[:-1], bool)
    every = jnp.asarray(spec.minimizers)
    aims = every[0] if len(spec.functions) == 1 else jax.lax.switch(which, [lambda a=a: a for a in every])
    aims = jnp.expand_dims(aims.astype(x.dtype), tuple(range(x.ndim - 1)))
    squares = jnp.sum((x[..., None, :] - aims) ** 2, axis=-1)
    return jnp.any(squares <= jnp.asarray(spec.target, x.dtype) ** 2, axis=-1)


def numeric(tree: Any) -> Any:
    """Return the tree with the data of random keys in place of the keys, since a lane holds numbers."""
    return jax.tree.map(without_key, tree)


def make_lane(spec: LaneSpec) -> tuple[Callable[..., State], Callable[..., State], Callable[..., tuple[Array, Array]]]:
    """Return the functions begin(x, which, numbers), step(state, which, t, numbers) and look(x, which) of one lane.

    `look` returns the value at x, and whether x lies at a minimizer. If functions take more than a point, it is
    look(x, which, stop, t, numbers), since the value is that of a step: of t, or of the one at which the lane stopped.
    """
    aimed = spec.minimizers is not None

    def look(x: Array, which: Array, *more: Any) -> tuple[Array, Array]:
        given: tuple[Any, ...] = ()
        if more:
            stop, t, numbers = more
            given = spec.extras(numbers).at(jnp.where(stop == RUNNING, t, steps_taken(stop)))
        return choose(which, spec.functions, x, *given), is_near(spec, x, which)

    def value_and_slope(x: Array, which: Array, *given: Any) -> tuple[Array, Array]:
        if spec.gradients is None:
            return choose(which, [jax.value_and_grad(fn) for fn in spec.functions], x, *given)
        return choose(which, spec.functions, x, *given), choose(which, spec.gradients, x, *given)

    def verdict(
        state: State, now: Array, which: Array, found: Array, slope: Array, moved: Array
    ) -> tuple[Array, Array, Array]:
        """Return `stop` and `first` after this step, and whether the lane makes it."""
        finite = jnp.isfinite(found) & jnp.all(jnp.isfinite(slope)) & jnp.all(jnp.isfinite(moved))
        running = state.stop == RUNNING
        stop = jnp.where(finite, RUNNING, -1 - now)
        if spec.tolerance is not None:
            short = jnp.sum(jnp.abs(moved - state.point)) < spec.tolerance
            stop = jnp.where(finite & short, now, stop)
        first = state.first
        if aimed:
            there = running & finite & is_near(spec, moved, which)
            first = jnp.where(there & (first < 0), now, first)
            if spec.stop_at_target:
                stop = jnp.where(there & (stop == RUNNING), AT_TARGET + now, stop)
        stop = jnp.where(running, stop, state.stop)
        # This is running & finite, computed from `stop` alone, so that neither of the two becomes an array of its own.
        moves = stop == RUNNING
        if spec.tolerance is not None:
            moves |= stop == now
        if aimed and spec.stop_at_target:
            moves |= stop == AT_TARGET + now
        return stop, first, moves

    # Where marked functions are stored, so are its results, rather than recomputed at each use.
    value_and_slope = stored(value_and_slope)

    def optimizer(numbers: Sequence[Any]) -> optax.GradientTransformationExtraArgs:
        own = numbers[: len(spec.names)]
        made = with_any_arguments(spec.build(**dict(zip(spec.names, own, strict=True))))
        require_no_tolerance(made, spec.tolerance)
        return made

    kinds: list[Any] = []
    """For each leaf of the optimizer's state, the kind of a random key, or None; known once a lane has begun."""

    def restored(state: optax.OptState) -> optax.OptState:
        leaves, structure = jax.tree.flatten(state)
        keys = [
            leaf if kind is None else jax.random.wrap_key_data(leaf, impl=kind)
            for leaf, kind in zip(leaves, kinds, strict=True)
        ]
        return jax.tree.unflatten(structure, keys)

    def begin(x: Array, which: Array, numbers: Sequence[Any]) -> State:
        zero = jnp.zeros([], jnp.int32)
        value, there = look(x, which) if spec.frame is None else look(x, which, zero + RUNNING, zero, numbers)
        fine = jnp.all(jnp.isfinite(x)) & jnp.isfinite(value)
        stop = jnp.where(fine, RUNNING, -1).astype(jnp.int32)
        first = jnp.where(there, 0, -1).astype(jnp.int32)
        if spec.stop_at_target:
            stop = jnp.where(there & fine, AT_TARGET, stop)
        begun = optimizer(numbers).init(x)
        kinds[:] = [jax.random.key_impl(leaf) if is_key(leaf) else None for leaf in jax.tree.leaves(begun)]
        return State(x, stop, first, jax.tree.map(jnp.asarray, numeric(begun)))

    def step(state: State, which: Array, t: Array, numbers: Sequence[Any]) -> State:
        x = state.point
        made, given = optimizer(numbers), spec.extras(numbers).at(t)
        if needs_gradient(made):
            found, slope = value_and_slope(x, which, *given)
        else:
            found, slope = choose(which, spec.functions, x, *given), jnp.zeros_like(x)
        moved, after = move(
            made,
            restored(state.optimizer),
            x,
            found,
            slope,
            lambda y: choose(which, spec.functions, y, *given),
            lambda y: value_and_slope(y, which, *given)[1],
        )
        now = t + 1
        stop, first, go = verdict(state, now, which, found, slope, moved)
        # The optimizer's state may change after a lane has stopped: nothing reads it. Its dtypes stay the same.
        after = jax.tree.map(lambda new, old: jnp.asarray(new).astype(old.dtype), numeric(after), state.optimizer)
        return State(jnp.where(go, moved, x), stop, first, after)

    return begin, step, look


def decode(arrays: Mapping[str, np.ndarray], max_steps: int, aimed: bool) -> dict[str, np.ndarray]:
    """Return the variables of a result, computed from the final states of lanes.

    Args:
      arrays: the arrays of the states.
      max_steps: the maximum number of steps.
      aimed: whether minimizers are known.
    """
    stop, value = arrays["stop"], arrays["value"]
    steps = np.full(stop.shape, max_steps, np.int32)
    converged, diverged = np.zeros(stop.shape, bool), ~np.isfinite(value)
    ended = stop != RUNNING
    if ended.any():  # otherwise several passes over arrays of all lanes change nothing
        code = stop[ended]
        steps[ended] = steps_taken(code)
        converged[ended] = (code > 0) & (code < AT_TARGET)
        diverged[ended] |= code < 0
    found = {
        "value": value,
        "point": arrays["point"],
        "steps": steps,
        "converged": converged,
        "diverged": diverged,
    }
    return found | ({"reached": arrays["reached"], "first_reached": arrays["first"]} if aimed else {})
