"""What every factory shares: dtypes that do not drift, L2 decay, and the checks of shared arguments."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from gdlab.arguments import require_number
from gdlab.types import Number, Schedule


def stable_dtypes(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`inner`, with updates in the gradients' dtypes and a state whose dtypes never change.

    A traced float32 hyperparameter is not weakly typed: times a bfloat16 gradient it gives float32, the state changes
    its dtype, and `lax.scan` refuses it. The arithmetic is left as it is; only its results are cast back.
    """
    inner = optax.with_extra_args_support(inner)

    def init(params: optax.Params) -> optax.OptState:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), inner.init(params))

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        new_updates, new_state = inner.update(updates, state, params, **extra)
        return jax.tree.map(_cast_like, new_updates, updates), jax.tree.map(_cast_like, new_state, state)

    return optax.GradientTransformationExtraArgs(init, update)


def _cast_like(new: Any, old: Any) -> jax.Array:
    return jnp.asarray(new, jnp.result_type(old))


def require_learning_rate(learning_rate: Number | Schedule) -> None:
    """Raise unless the learning rate is a schedule, a traced scalar or a number >= 0."""
    if not callable(learning_rate):
        require_number("learning_rate", learning_rate, 0.0)


def require_fractions(**values: Number) -> None:
    """Raise unless each named value is traced or a number in [0, 1)."""
    for name, value in values.items():
        require_number(name, value, 0.0, 1.0, open_high=True)


def require_non_negative(**values: Number) -> None:
    """Raise unless each named value is traced or a number >= 0."""
    for name, value in values.items():
        require_number(name, value, 0.0)


def add_l2(weight_decay: Number) -> optax.GradientTransformation:
    """g + weight_decay x. A concrete 0 adds nothing and needs no parameters."""
    if isinstance(weight_decay, (int, float)) and weight_decay == 0:
        return optax.identity()
    return optax.add_decayed_weights(weight_decay)
