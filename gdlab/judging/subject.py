"""An optimizer under examination: its compiled step on quadratics that are given as arrays.

The quadratic is an argument of the compiled step, so one program serves every check: a descent with fixed curvatures, a
sequence of arbitrary gradients, and zero gradients.
"""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from gdlab.arguments import require_callable
from gdlab.compute.precision import exact_products
from gdlab.compute.programs import equations
from gdlab.compute.trees import is_key
from gdlab.hyperparameters.factories import optimizer_from
from gdlab.optimizers.contract.compilation import quick_jit
from gdlab.optimizers.evaluation import evaluation_params
from gdlab.optimizers.protocol import take_update, with_any_arguments
from gdlab.types import Factory

SHAPES: dict[str, tuple[int, ...]] = {"bias": (1,), "matrix": (6, 4), "vector": (5,)}
"""The leaves of the parameters on which every check runs."""

STEPS = 200
"""The number of steps of a descent."""

Tree = dict[str, Any]


class Quadratic(NamedTuple):
    """The function sum(curvature (x - center + offset)^2 / 2), whose smallest value is 0; each field is a tree.

    With a curvature of 1, the gradient at the center is the offset, without rounding.
    """

    curvature: Tree
    center: Tree
    offset: Tree

    def at(self, x: Tree) -> Array:
        """Return the value at `x`."""

        def one(x: Array, curvature: Array, center: Array, offset: Array) -> Array:
            return jnp.sum(0.5 * curvature * (x - center + offset) ** 2)

        return jnp.asarray(sum(jax.tree.leaves(jax.tree.map(one, x, *self))))


def random_tree(seed: int) -> Tree:
    """Return a tree of NumPy arrays with fixed normal numbers, none of them close to 0."""
    generator = np.random.default_rng(seed)
    drawn = {name: generator.standard_normal(shape) for name, shape in SHAPES.items()}
    return {name: array + 0.2 * np.sign(array) for name, array in drawn.items()}


def gradients(count: int) -> list[Tree]:
    """Return a sequence of gradients: noise around a mean, on scales that differ between the coordinates."""
    mean, scale = random_tree(1), random_tree(2)
    drawn = (random_tree(1000 + k) for k in range(count))
    return [jax.tree.map(lambda m, s, noise: s * (m + noise), mean, scale, each) for each in drawn]


def bowl() -> Quadratic:
    """Return a separable quadratic with curvatures between 0.1 and 1, its minimum far from the start and from 0."""
    generator = np.random.default_rng(3)
    curvature = {name: 10.0 ** generator.uniform(-1, 0, shape) for name, shape in SHAPES.items()}
    return Quadratic(curvature, random_tree(4), {name: np.zeros(shape) for name, shape in SHAPES.items()})


def start() -> Tree:
    """Return the parameters at which every run starts."""
    return random_tree(5)


class Steps:
    """The compiled steps of one optimizer, in one precision."""

    def __init__(self, factory: Factory, dtype: str = "float64", numbers: Mapping[str, float] | None = None):
        """Build the optimizer from these arguments of the factory, for parameters of this dtype."""
        self.dtype = dtype
        with self._precision():
            label = getattr(factory, "__name__", "the factory")
            self.optimizer = with_any_arguments(optimizer_from(label, factory, numbers or {}))
        self._init = quick_jit(exact_products(self._first))
        self._step = quick_jit(exact_products(self._take))

    def _precision(self) -> Any:
        return jax.enable_x64(self.dtype == "float64")

    def _first(self, params: Tree) -> Any:
        return _strong(self.optimizer.init(params))

    def _take(self, params: Tree, state: Any, function: Quadratic) -> tuple[Tree, Tree, Any]:
        value, slope = jax.value_and_grad(function.at)(params)
        updates, state = take_update(
            self.optimizer, slope, state, params, value=value, value_fn=function.at, grad_fn=jax.grad(function.at)
        )
        return updates, optax.apply_updates(params, updates), _strong(state)

    def begin(self, params: Tree) -> Any:
        """Return the state before the first step."""
        with self._precision():
            return self._init(self._cast(params))

    def take(self, params: Tree, state: Any, function: Quadratic) -> tuple[Tree, Tree, Any]:
        """Return the updates, the parameters and the state after a step on this function."""
        with self._precision():
            return self._step(self._cast(params), state, self._cast(function))

    def follow(self, params: Tree, state: Any, gradient: Tree) -> tuple[Tree, Tree, Any]:
        """Take a step on a quadratic with curvature 1 whose gradient at `params` is this one."""
        ones = {name: np.ones(shape) for name, shape in SHAPES.items()}
        return self.take(params, state, Quadratic(ones, params, gradient))

    def stay(self, params: Tree, sequence: Sequence[Tree]) -> list[Tree]:
        """Return the updates for a sequence of gradients, all of which are taken at the same parameters."""
        state, found = self.begin(params), []
        for gradient in sequence:
            updates, _, state = self.follow(params, state, gradient)
            found.append(to_numpy(updates))
        return found

    def descend(self, function: Quadratic, params: Tree) -> Tree:
        """Return the parameters to evaluate at, after a descent from these."""
        function = self._cast(function)
        state = self.begin(params)
        for _ in range(STEPS):
            _, params, state = self.take(params, state, function)
        with self._precision():
            return to_numpy(evaluation_params(state, params))

    def jaxpr(self) -> Any:
        """Trace the state before the first step and the step itself, and return them as one jaxpr."""

        def both(params: Tree, function: Quadratic) -> Any:
            return self._take(params, self._first(params), function)

        with self._precision():
            return jax.make_jaxpr(both)(self._cast(start()), self._cast(bowl()))

    def _cast(self, tree: Any) -> Any:
        """Return the tree in the precision of these steps; NumPy arrays stay such, because jit takes them faster."""
        return jax.tree.map(lambda leaf: leaf if leaf.dtype == self.dtype else np.asarray(leaf, self.dtype), tree)


def _strong(state: Any) -> Any:
    """Return the state as arrays without weak types, so that the state of each step has the types of the first."""
    return jax.tree.map(lambda leaf: leaf if is_key(leaf) else jnp.asarray(leaf, jnp.asarray(leaf).dtype), state)


def to_numpy(tree: Tree) -> Tree:
    """Return a tree of float64 NumPy arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def differ(a: Tree, b: Tree) -> bool:
    """Return whether two trees hold different numbers; 0 and -0 are the same, and so are two NaN."""
    return not np.array_equal(flat(a), flat(b), equal_nan=True)


def flat(tree: Tree) -> np.ndarray:
    """Return all numbers of a tree as one float64 vector."""
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])


class Subject:
    """The factory of the optimizer that is examined, with the runs that several checks share."""

    def __init__(self, factory: Factory):
        """Take a factory whose arguments all have defaults."""
        require_callable("factory", factory)
        self.factory = factory

    @functools.cached_property
    def steps(self) -> Steps:
        """The steps in float64, at the default hyperparameters."""
        return Steps(self.factory)

    @functools.cached_property
    def end(self) -> Tree:
        """The end of a descent in float64, on the function `bowl()`."""
        return self.steps.descend(bowl(), start())

    @functools.cached_property
    def narrow_end(self) -> Tree:
        """The end of the same descent in float32."""
        return Steps(self.factory, "float32").descend(bowl(), start())

    @functools.cached_property
    def shifted_end(self) -> Tree:
        """The end of the descent in float64 from a start that is rounded to float32."""
        return self.steps.descend(bowl(), jax.tree.map(lambda x: x.astype(np.float32).astype(x.dtype), start()))

    @functools.cached_property
    def draws(self) -> bool:
        """Whether the step draws random numbers; False if it cannot be traced."""
        try:
            return any(eqn.primitive.name.startswith("random_bits") for eqn in equations(self.steps.jaxpr().jaxpr))
        except Exception:  # an optimizer of the user may raise anything; the checks report it
            return False

    @functools.cached_property
    def needs_loss(self) -> bool:
        """Whether `update` fails without a loss, but not with one."""

        def plain(params: Tree) -> Any:
            return self.steps.optimizer.update(params, self.steps.optimizer.init(params), params)

        try:
            self.steps.jaxpr()
        except Exception:  # it fails either way
            return False
        try:
            jax.eval_shape(plain, start())
        except Exception:  # an optimizer of the user may raise anything
            return True
        return False

    @property
    def learning_rate(self) -> tuple[str | None, float | None]:
        """The name of the factory's learning rate and its default; None for what is missing or is not a number."""
        name = next((name for name in ("learning_rate", "lr") if self.has(name)), None)
        return name, None if name is None else self.number(name)

    def has(self, name: str) -> bool:
        """Return whether the factory has an argument of this name."""
        return name in inspect.signature(self.factory).parameters

    def number(self, *names: str) -> float | None:
        """Return the default of the first of these arguments that the factory has, if it is a number."""
        name = next((name for name in names if self.has(name)), None)
        value = None if name is None else inspect.signature(self.factory).parameters[name].default
        return float(value) if isinstance(value, (int, float, np.number)) else None
