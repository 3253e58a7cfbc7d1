"""What every optimizer and every piece of one shares: schedules for any number, stable dtypes, checks, L2 decay."""

import functools
import inspect
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from gdlab.arguments import require_number
from gdlab.optimizers.trees import begin
from gdlab.types import Factory, Hyperparameter

AnyFactory = TypeVar("AnyFactory", bound=Factory)


class ScheduledState(NamedTuple):
    """steps: how many were done. inner: the state of the transformation whose arguments follow schedules."""

    steps: Int[Array, ""]
    inner: optax.OptState


def transformation(build: AnyFactory) -> AnyFactory:
    """Decorate a function that returns a gradient transformation: its numbers may be schedules, its dtypes are stable.

    Any argument that is callable, or a list or tuple that holds callables, is taken for a schedule `count -> number`
    (count from 0) and evaluated before each step; `build` then sees numbers only, traced ones. Arguments whose default
    is a bool or a string, or that are annotated `Callable`, are left alone. `optax.inject_hyperparams` does the like,
    but holds the values in float32 whatever the parameters' dtype. What `build` reads in `init` (a first step size,
    say) it reads at count 0.

    The result goes through `stable_dtypes`. A bad first value of a schedule raises at construction, as a number would.
    """
    signature = inspect.signature(build)

    @functools.wraps(build)
    def scheduled(*args: Any, **kwargs: Any) -> optax.GradientTransformation:
        given = signature.bind(*args, **kwargs)
        varying = {
            name: value
            for name, value in given.arguments.items()
            if _has_schedule(value) and _takes_numbers(signature.parameters[name])
        }
        if not varying:
            return stable_dtypes(build(*args, **kwargs))

        def at(count: Array) -> optax.GradientTransformationExtraArgs:
            now = signature.bind(*args, **kwargs)
            now.arguments.update({name: _evaluate(value, count) for name, value in varying.items()})
            return stable_dtypes(build(*now.args, **now.kwargs))

        at(begin())  # a value out of range raises here

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


def _takes_numbers(parameter: inspect.Parameter) -> bool:
    return not isinstance(parameter.default, (bool, str)) and "Callable" not in str(parameter.annotation)


def _has_schedule(value: Any) -> bool:
    return callable(value) or (isinstance(value, (list, tuple)) and any(callable(entry) for entry in value))


def _evaluate(value: Any, count: Array) -> Any:
    if callable(value):
        return value(count)
    return tuple(entry(count) if callable(entry) else entry for entry in value)


def stable_dtypes(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`inner`, with updates in the parameters' dtypes, a state whose dtypes never change, and arithmetic in 32 bits.

    A traced float32 hyperparameter is not weakly typed: times a bfloat16 gradient it gives float32, the state changes
    its dtype, and `lax.scan` refuses it. So the results are cast back: updates to the dtypes of the parameters (of the
    gradients, where no parameters are handed over), the state to its own. Leaves of 16 bits are calculated with in
    float32, whatever the dtype of a hyperparameter, and rounded once, at the end; 0.999 would be 1 in bfloat16.

    `init` copies what it keeps, so that parameters and state can be donated. Complex leaves raise TypeError: a square
    is not a squared modulus.
    """
    inner = optax.with_extra_args_support(inner)

    def init(params: optax.Params) -> optax.OptState:
        for leaf in jax.tree.leaves(params):
            if jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating):
                raise TypeError(f"params: wanted real leaves, got dtype {jnp.result_type(leaf)}")
        return jax.tree.map(lambda leaf: jnp.array(leaf, _dtype(leaf), copy=True), inner.init(params))

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        wide = jax.tree.map(_in_32_bits, (updates, state, params))
        new_updates, new_state = inner.update(*wide, **extra)
        like = updates if params is None else params
        return jax.tree.map(_cast_like, new_updates, like), jax.tree.map(_cast_like, new_state, state)

    return optax.GradientTransformationExtraArgs(init, update)


def _dtype(leaf: Any) -> Any:
    """The dtype of an array, a number or a random key."""
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)


def _in_32_bits(leaf: Any) -> Any:
    dtype = _dtype(leaf)
    return jnp.asarray(leaf, jnp.float32) if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4 else leaf


def _cast_like(new: Any, old: Any) -> jax.Array:
    """`new` in the dtype of `old`; integers that became fractions stay fractions."""
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
    """Raise TypeError unless each named value is True or False; such an argument shapes the program."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name}: wanted True or False (it shapes the program), got {value!r}")


def require_params(name: str, params: optax.Params | None) -> optax.Params:
    """The parameters, or a ValueError that says which optimizer needs them."""
    if params is None:
        raise ValueError(f"{name}: wanted the parameters too, as update(gradients, state, params); got None")
    return params


def decoupled_decay(name: str, weight_decay: Hyperparameter) -> optax.GradientTransformation:
    """u + weight_decay x, after the direction u is made; `name` is that of the optimizer, for the error.

    A concrete 0 adds nothing and needs no parameters.
    """

    def add(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        return jax.tree.map(lambda u, x: u + weight_decay * x, updates, require_params(name, params))

    if isinstance(weight_decay, (int, float)) and weight_decay == 0:
        return optax.identity()
    return optax.stateless(add)


def add_l2(weight_decay: Hyperparameter) -> optax.GradientTransformation:
    """g + weight_decay x, before all else."""
    return decoupled_decay("weight_decay", weight_decay)
