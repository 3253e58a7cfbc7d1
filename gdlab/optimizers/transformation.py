"""What all optimizers and their building blocks share: schedules for any number, stable dtypes, checks, L2 decay."""

import functools
import inspect
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from gdlab.arguments import describe, require_callable, require_number, require_optimizer, restated
from gdlab.compute.promotion import standard_promotion
from gdlab.optimizers.trees import begin
from gdlab.types import Factory, Hyperparameter

AnyFactory = TypeVar("AnyFactory", bound=Factory)


class ScheduledState(NamedTuple):
    """The state of a transformation whose arguments follow schedules.

    Attributes:
      steps: the number of steps taken.
      inner: the state of the wrapped transformation.
    """

    steps: Int[Array, ""]
    inner: optax.OptState


class Construction(NamedTuple):
    """How a transformation was built: `factory(**numbers, **fixed)`.

    Attributes:
      factory: the decorated factory.
      numbers: the numeric arguments that it was given, which may be traced instead.
      fixed: its other arguments.
    """

    factory: Factory
    numbers: dict[str, float]
    fixed: dict[str, Any]


class Built(optax.GradientTransformationExtraArgs):
    """A transformation that knows its `construction`, so that `gdlab.training.train` compiles once for all numbers."""

    construction: Construction


def transformation(build: AnyFactory) -> AnyFactory:
    """Decorate an optimizer factory so that its numbers may be schedules and its dtypes are stable.

    An argument that is callable, or a list or tuple that contains callables, is treated as a schedule
    `count -> number` (count from 0). It is evaluated before each step, so `build` receives only numbers, which are
    then traced. Arguments are passed on unchanged if their default is a bool or a string, if their name contains
    "mask", or if their annotation says that they are callable or a tree of bools. Whatever `build` reads in `init` (an
    initial step size, for example) is read at count 0.

    `optax.inject_hyperparams` does something similar, but stores the values in float32 whatever the dtype of the
    parameters.

    Args:
      build: a function that returns an `optax.GradientTransformation`.

    Returns:
      The decorated function, with its attribute `takes_schedules` set to True. The transformations that it returns
      have passed through `stable_dtypes`. An invalid first value of a schedule raises at construction, as a number
      would; so does a callable that returns anything but a number, such as a mask under another name.
    """
    require_callable("build", build)
    try:
        signature = inspect.signature(build)
    except (TypeError, ValueError):
        raise TypeError(f"build: expected a function with a signature, got {describe(build)}") from None

    @functools.wraps(build)
    def scheduled(*args: Any, **kwargs: Any) -> optax.GradientTransformation:
        given = signature.bind(*args, **kwargs)
        varying = {
            name: value
            for name, value in given.arguments.items()
            if _has_schedule(value) and _takes_numbers(signature.parameters[name])
        }
        if not varying:
            built = Built(*stable_dtypes(build(*args, **kwargs)))
            numbers = {
                name: value
                for name, value in given.arguments.items()
                if isinstance(value, (int, float)) and _is_traceable(signature.parameters[name])
            }
            fixed = {name: value for name, value in given.arguments.items() if name not in numbers}
            built.construction = Construction(scheduled, numbers, fixed)
            return built

        def at(count: Array) -> optax.GradientTransformationExtraArgs:
            now = signature.bind(*args, **kwargs)
            now.arguments.update({name: _evaluate(name, value, count) for name, value in varying.items()})
            return stable_dtypes(build(*now.args, **now.kwargs))

        at(begin())  # Values outside their range raise here, at construction.

        def init(params: optax.Params) -> ScheduledState:
            return ScheduledState(begin(), at(begin()).init(params))

        def update(
            updates: optax.Updates, state: ScheduledState, params: optax.Params | None = None, **extra: Any
        ) -> tuple[optax.Updates, ScheduledState]:
            updates, inner = at(state.steps).update(updates, state.inner, params, **extra)
            return updates, ScheduledState(optax.safe_increment(state.steps), inner)

        return optax.GradientTransformationExtraArgs(init, update)

    scheduled.takes_schedules = True  # type: ignore[attr-defined]
    return scheduled  # type: ignore[return-value]


UNSCHEDULED = ("Callable", "callable", "Mask", "PyTree", "ArrayTree", "Params", "GradientTransform")
"""Words of an annotation that say that an argument is not a number, and so not a schedule of numbers either."""


STATIC = (int, bool, str, int | None, "int", "bool", "str", "int | None")
"""Annotations that say that an argument is static: it determines a shape or the program."""


def _takes_numbers(parameter: inspect.Parameter) -> bool:
    if isinstance(parameter.default, (bool, str)) or "mask" in parameter.name.lower():
        return False
    note = parameter.annotation
    text = note.__name__ if isinstance(note, type) else str(note)
    truth = "bool" in text.lower() and "float" not in text.lower()
    return not truth and not any(word in text for word in UNSCHEDULED)


def _is_traceable(parameter: inspect.Parameter) -> bool:
    static = parameter.annotation in STATIC
    return _takes_numbers(parameter) and not static and parameter.kind is not parameter.VAR_POSITIONAL


def _has_schedule(value: Any) -> bool:
    return callable(value) or (type(value) in (list, tuple) and any(callable(entry) for entry in value))


def _evaluate(name: str, value: Any, count: Array) -> Any:
    if callable(value):
        return _scheduled_number(name, value, count)
    return tuple(_scheduled_number(name, entry, count) if callable(entry) else entry for entry in value)


def _scheduled_number(name: str, schedule: Any, count: Array) -> Any:
    """Return the value of a schedule, or raise an error unless it is a number."""
    hint = "an argument that is annotated as Callable is passed on unchanged"
    try:
        value = schedule(count)
    except Exception as error:  # the user's function may raise anything
        raise restated(error, name, "a schedule, which maps a step to a number", after=f"; {hint}") from error
    if not all(map(_is_real, value if isinstance(value, (list, tuple)) else [value])):
        raise TypeError(
            f"{name}: expected a schedule, which maps a step to a number, got a function that returns "
            f"{describe(value)}; {hint}"
        )
    return value


def _is_real(value: Any) -> bool:
    if not (hasattr(value, "dtype") or isinstance(value, (int, float))):
        return False
    dtype = jnp.result_type(value)
    return bool(jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer))


def stable_dtypes(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Wrap a transformation so that dtypes never change and 16-bit leaves are computed in float32.

    A traced float32 hyperparameter is not weakly typed: multiplied by a bfloat16 gradient it gives float32, the state
    changes its dtype, and `lax.scan` rejects it. The results are therefore cast back: updates to the dtypes of the
    parameters (or of the gradients, if no parameters are passed), and the state to its own dtypes. 16-bit leaves are
    converted to float32, whatever the dtype of a hyperparameter, and rounded once, at the end: in bfloat16, 0.999
    would be 1.

    `init` copies what it stores, so that parameters and state can be donated to a compiled function.

    Args:
      inner: the transformation to wrap.

    Returns:
      A transformation that computes the same update. Its `init` raises TypeError for complex leaves, because the
      square of a complex number is not its squared modulus.
    """
    require_optimizer("inner", inner)
    inner = optax.with_extra_args_support(inner)

    def init(params: optax.Params) -> optax.OptState:
        for leaf in jax.tree.leaves(params):
            if jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating):
                raise TypeError(f"params: expected real leaves, got dtype {jnp.result_type(leaf)}")
        with standard_promotion():
            return jax.tree.map(lambda leaf: jnp.array(leaf, _dtype(leaf), copy=True), inner.init(params))

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        wide = jax.tree.map(_in_32_bits, (updates, state, params))
        with standard_promotion():
            new_updates, new_state = inner.update(*wide, **extra)
        like = updates if params is None else params
        return jax.tree.map(_cast_like, new_updates, like), jax.tree.map(_cast_like, new_state, state)

    return optax.GradientTransformationExtraArgs(init, update)


def _dtype(leaf: Any) -> Any:
    """Return the dtype of an array, a number or a random key."""
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)


def _in_32_bits(leaf: Any) -> Any:
    dtype = _dtype(leaf)
    return jnp.asarray(leaf, jnp.float32) if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4 else leaf


def _cast_like(new: Any, old: Any) -> jax.Array:
    """Cast `new` to the dtype of `old`, except where an integer has become a fraction."""
    dtype = _dtype(old)
    lossy = jnp.issubdtype(dtype, jnp.integer) and jnp.issubdtype(_dtype(new), jnp.floating)
    return jnp.asarray(new) if lossy else jnp.asarray(new, dtype)


def require_fractions(**values: Hyperparameter) -> None:
    """Raise unless each named value is traced or a number in [0, 1)."""
    for name, value in values.items():
        require_number(name, value, 0.0, 1.0, open_high=True)


def require_non_negative(**values: Hyperparameter) -> None:
    """Raise unless each named value is traced or a number >= 0."""
    for name, value in values.items():
        require_number(name, value, 0.0)


def require_positive(**values: Hyperparameter) -> None:
    """Raise unless each named value is traced or a number > 0."""
    for name, value in values.items():
        require_number(name, value, 0.0, open_low=True)


def require_flags(**values: bool) -> None:
    """Raise TypeError unless each named value is True or False; such arguments are static."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name}: expected True or False (a static argument), got {value!r}")


def require_params(name: str, params: optax.Params | None) -> optax.Params:
    """Return the parameters, or raise a ValueError that names the optimizer that needs them."""
    if params is None:
        raise ValueError(f"{name}: expected the parameters as update's third argument, got None")
    return params


def decoupled_decay(name: str, weight_decay: Hyperparameter) -> optax.GradientTransformation:
    """Add weight decay to a finished direction: u + weight_decay x.

    A concrete 0 adds nothing and needs no parameters. `name` is the optimizer's, for the error message.
    """

    def add(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        return jax.tree.map(lambda u, x: u + weight_decay * x, updates, require_params(name, params))

    if isinstance(weight_decay, (int, float)) and weight_decay == 0:
        return optax.identity()
    return optax.stateless(add)


def add_l2(weight_decay: Hyperparameter) -> optax.GradientTransformation:
    """Add L2 regularization to the gradient, before anything else: g + weight_decay x."""
    return decoupled_decay("weight_decay", weight_decay)
