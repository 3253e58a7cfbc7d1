"""What all strategies share: an optax transformation that needs no gradient, and the flat vector that it works on."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from gdlab.arguments import require_count
from gdlab.compute.promotion import standard_promotion

Vector = Float[Array, " dim"]
Begin = Callable[[Vector], Any]
Round = Callable[[Any, Vector, Callable[[Vector], Array], Callable[[], Array]], tuple[Vector, Any]]


class Strategy(optax.GradientTransformationExtraArgs):
    """An optimizer that needs no gradient, and knows how often a round evaluates the function.

    Attributes:
      needs_gradient: False; `gdlab.descend` and `gdlab.sweep` then compute none.
      first_evaluations: the evaluations before the first round: 1, that of the start.
    """

    needs_gradient = False
    first_evaluations = 1
    _per_round: Callable[[int], int]

    def evaluations(self, dim: int) -> int:
        """Return the number of function evaluations per round, for points of `dim` coordinates."""
        require_count("dim", dim)
        return self._per_round(dim)


def make_strategy(name: str, per_round: Callable[[int], int], begin: Begin, take_round: Round) -> Strategy:
    """Return a strategy of functions that see one flat vector, of float32 or wider.

    Args:
      name: its name, for error messages.
      per_round: the number of evaluations per round, from the number of coordinates.
      begin: returns the state for a start.
      take_round: takes (state, point, fn, value_of_start) and returns the best point so far and the state. Values of
        `fn` that are NaN are inf. `value_of_start()` is the function's value at `point`.
    """

    def init(params: optax.Params) -> Any:
        with standard_promotion():
            return begin(_flat(params)[0])

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        value: Array | None = None,
        value_fn: Callable[[Any], Array] | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, Any]:
        del updates, extra
        if params is None:
            raise ValueError(f"{name}: expected the parameters as update's third argument, got None")
        if value_fn is None:
            raise ValueError(f"value_fn: expected the function, which {name} evaluates itself, got None")
        with standard_promotion():
            flat, unravel = _flat(params)

            def fn(x: Vector) -> Array:
                found = value_fn(unravel(x)).astype(flat.dtype)
                return jnp.where(jnp.isnan(found), jnp.inf, found)

            def value_of_start() -> Array:
                return fn(flat) if value is None else jnp.asarray(value, flat.dtype)

            best, after = take_round(state, flat, fn, value_of_start)
            moved = unravel(best - flat)
            # A state keeps its dtypes, whatever those of traced hyperparameters and of JAX's settings.
            return moved, jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, state)

    made = Strategy(init, update)
    made._per_round = per_round
    return made


def _flat(params: optax.Params) -> tuple[Vector, Callable[[Vector], Any]]:
    """Return the parameters as one vector of float32 or wider, and a function that gives a vector their shapes."""
    for leaf in jax.tree.leaves(params):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(f"params: expected floating-point leaves, got dtype {jnp.result_type(leaf)}")
    flat, unravel = ravel_pytree(params)
    narrow = flat.dtype
    return flat.astype(jnp.promote_types(narrow, jnp.float32)), lambda x: unravel(x.astype(narrow))
