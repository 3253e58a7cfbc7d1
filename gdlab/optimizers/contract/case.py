"""A case: a factory, the numbers that are traced and varied, and the arguments that stay fixed."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from gdlab.optimizers.contract.bowl import make_params, run, slope
from gdlab.optimizers.contract.compilation import Counted
from gdlab.optimizers.transformation import STATIC
from gdlab.types import Factory


@dataclasses.dataclass
class Case:
    """A factory and the numbers that are varied to test it.

    Attributes:
      factory: the function that returns the optimizer.
      fixed: the other arguments, passed on unchanged.
      numbers: maps the name of each number (or "betas[0]" for an entry of a tuple) to its default.
      lengths: maps the name of each tuple of numbers to its length.
      static: the names of all arguments that are not varied.
      steps: the number of steps of each run.
    """

    factory: Factory
    fixed: dict[str, Any]
    numbers: dict[str, float]
    lengths: dict[str, int]
    static: tuple[str, ...]
    steps: int

    @functools.cached_property
    def alone(self) -> Counted:
        """One run in float64 from traced numbers, the reference for other runs."""
        return Counted(lambda values: self.run(values, make_params("float64")))

    @property
    def defaults(self) -> Array:
        """The default of every number as one array, to be traced."""
        return jnp.asarray(list(self.numbers.values()))

    def build(self, values: Sequence[Any] | None = None) -> optax.GradientTransformationExtraArgs:
        """Return the optimizer for these values of `numbers`, by default for the defaults as Python numbers."""
        values = list(self.numbers.values()) if values is None else values
        named = dict(zip(self.numbers, values, strict=True))
        arguments = dict(self.fixed)
        for name, length in self.lengths.items():
            arguments[name] = tuple(named.pop(f"{name}[{k}]") for k in range(length))
        return optax.with_extra_args_support(self.factory(**arguments, **named))

    def run(
        self, values: Array | Sequence[Any], params: PyTree, slope: Callable[[PyTree], PyTree] = slope
    ) -> tuple[PyTree, PyTree]:
        """Return the parameters after a run with these values, and the parameters to evaluate at."""
        return run(self.build(list(values)), params, self.steps, slope)


def make_case(factory: Factory, arguments: Mapping[str, Any], steps: int) -> Case:
    """Sort the factory's arguments into numbers, which are varied, and static arguments.

    A number, or a tuple of numbers, is varied unless its annotation is int, bool or str.

    Raises:
      TypeError: if `arguments` has a name that the factory does not have, or if an argument has no value.
    """
    case = Case(factory, fixed={}, numbers={}, lengths={}, static=(), steps=steps)
    parameters = inspect.signature(factory).parameters
    for name in arguments:
        if name not in parameters:
            raise TypeError(f"arguments: expected names of the factory's arguments, got {name!r}")
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        value = arguments.get(name, parameter.default)
        if value is parameter.empty:
            raise TypeError(f"arguments: expected a value for {name}, which has no default; got none")
        declared = parameter.annotation in STATIC
        if not declared and _is_number(value):
            case.numbers[name] = float(value)
        elif not declared and isinstance(value, (list, tuple)) and value and all(_is_number(v) for v in value):
            case.lengths[name] = len(value)
            case.numbers |= {f"{name}[{k}]": float(v) for k, v in enumerate(value)}
        else:
            case.static += (name,)
            if name in arguments:
                case.fixed[name] = value
    return case


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)


def find_untraceable(case: Case) -> list[str]:
    """Return the names of the numbers that cannot be traced, because the factory branches on their values in Python."""
    found = []
    for name in case.numbers:

        def step(value: Array, name: str = name) -> PyTree:
            optimizer = case.build([value if n == name else d for n, d in case.numbers.items()])
            params = make_params("float32")
            return optimizer.update(params, optimizer.init(params), params)

        try:
            jax.eval_shape(step, jnp.float32(1.0))
        except jax.errors.ConcretizationTypeError:
            found.append(name)
    return found
