"""Nelder and Mead's simplex method as a strategy that evaluates one point per round, exactly as SciPy's does."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gdlab.arguments import require_flag, require_number
from gdlab.strategies.strategy import Strategy, Vector, make_strategy
from gdlab.types import Hyperparameter

BUILD, REFLECT, EXPAND, OUTSIDE, INSIDE, SHRINK = range(6)
"""What the point of the next round is for: see `nelder_mead`."""


class NelderMeadState(NamedTuple):
    """State of Nelder and Mead's method.

    Attributes:
      vertices: the simplex, the best vertex first, except while it is built or shrunk.
      values: their values; inf while they are unknown.
      stage: what the next point is for.
      place: the vertex that comes next while the simplex is built or shrunk.
      reflected: the value at the reflected point.
      best: the best point so far.
      best_value: its value.
    """

    vertices: Float[Array, "vertices dim"]
    values: Float[Array, " vertices"]
    stage: Int[Array, ""]
    place: Int[Array, ""]
    reflected: Float[Array, ""]
    best: Vector
    best_value: Float[Array, ""]


def nelder_mead(
    *, edge: Hyperparameter = 0.05, edge_at_zero: Hyperparameter = 0.00025, adaptive: bool = False
) -> Strategy:
    """Nelder and Mead's method: a simplex of dim + 1 points moves by reflecting its worst vertex in the others' mean.

    The reflected point is expanded if it is the best; if it is not even better than the second worst, the simplex
    contracts, outside or inside, and where this fails, it shrinks towards its best vertex. The method is the usual one
    for a few coordinates; beyond some ten it stalls, and it can converge to a point that is no minimum.

    A round evaluates one point, so rounds are evaluations: the first dim rounds build the simplex, an iteration takes
    one or two, and one that shrinks 2 + dim. All points are those that
    `scipy.optimize.minimize(method="Nelder-Mead")` evaluates, in its order. There are no tolerances: it runs on.

    Args:
      edge: the length of the first simplex's edge along a coordinate, as a multiple of the coordinate. Default 0.05,
        SciPy's.
      edge_at_zero: its length where the coordinate is 0. Default 0.00025, SciPy's.
      adaptive: whether expansion, contraction and shrinkage depend on the dimension, as Gao and Han propose for many
        coordinates. Default False.

    Returns:
      The `Strategy`.

    References:
      Nelder and Mead, "A Simplex Method for Function Minimization", 1965, The Computer Journal 7.
      Gao and Han, "Implementing the Nelder-Mead Simplex Algorithm with Adaptive Parameters", 2012, Computational
        Optimization and Applications 51.
    """
    require_number("edge", edge, 0.0, open_low=True)
    require_number("edge_at_zero", edge_at_zero, 0.0, open_low=True)
    require_flag("adaptive", adaptive)

    def begin(flat: Vector) -> NelderMeadState:
        ends = jnp.where(flat == 0, edge_at_zero, (1 + edge) * flat).astype(flat.dtype)
        corner = jnp.where(jnp.eye(flat.size, dtype=bool), ends, flat)
        unknown = jnp.full(flat.size + 1, jnp.inf, flat.dtype)
        number = jnp.zeros([], jnp.int32)
        vertices = jnp.concatenate([flat[None], corner])
        return NelderMeadState(vertices, unknown, number + BUILD, number + 1, unknown[0], flat, unknown[0])

    def take_round(
        state: NelderMeadState, flat: Vector, fn: Callable[[Vector], Array], value_of_start: Callable[[], Array]
    ) -> tuple[Vector, NelderMeadState]:
        fresh = (state.stage == BUILD) & (state.place == 1)
        values = state.values.at[0].set(jnp.where(fresh, value_of_start(), state.values[0]))
        state = state._replace(values=values, best_value=jnp.where(fresh, values[0], state.best_value))
        return _advance(state, fn, _coefficients(flat.size, adaptive))

    return make_strategy("nelder_mead", lambda dim: 1, begin, take_round)


class _Coefficients(NamedTuple):
    expansion: float
    contraction: float
    shrinkage: float


def _coefficients(dim: int, adaptive: bool) -> _Coefficients:
    return _Coefficients(1 + 2 / dim, 0.75 - 0.5 / dim, 1 - 1 / dim) if adaptive else _Coefficients(2.0, 0.5, 0.5)


def _advance(
    state: NelderMeadState, fn: Callable[[Vector], Array], by: _Coefficients
) -> tuple[Vector, NelderMeadState]:
    """Evaluate the next point, decide what it is for, and prepare the one after it."""
    vertices, values, stage, place = state.vertices, state.values, state.stage, state.place
    dim = vertices.shape[1]
    point = _next_point(state, by)
    value = fn(point)
    in_turn = (stage == BUILD) | (stage == SHRINK)
    lowest, second, worst = values[0], values[-2], values[-1]
    reflecting = stage == REFLECT
    better_than_reflected = value < state.reflected
    replaces = jnp.select(
        [reflecting, stage == EXPAND, stage == OUTSIDE, stage == INSIDE],
        [
            (value >= lowest) & (value < second),
            jnp.array(True),
            value <= state.reflected,
            value < worst,
        ],
        in_turn,
    )
    keeps_reflected = (stage == EXPAND) & ~better_than_reflected
    new = jnp.where(keeps_reflected, _reflection(vertices), point)
    new_value = jnp.where(keeps_reflected, state.reflected, value)
    where = jnp.where(in_turn, place, dim)
    held = jnp.where(replaces, new, vertices[where])
    vertices = vertices.at[where].set(held)
    values = values.at[where].set(jnp.where(replaces, new_value, values[where]))
    finished = jnp.where(in_turn, place == dim, replaces)  # an iteration, or the first simplex
    order = jnp.where(finished, jnp.argsort(values), jnp.arange(dim + 1))
    after_reflection = jnp.where(value < lowest, EXPAND, jnp.where(value < worst, OUTSIDE, INSIDE))
    unfinished = jnp.where(reflecting, after_reflection, jnp.where(in_turn, stage, SHRINK))
    better = value < state.best_value
    best = jnp.where(better, point, state.best)
    return best, NelderMeadState(
        vertices[order],
        values[order],
        jnp.where(finished, REFLECT, unfinished),
        jnp.where(in_turn & ~finished, place + 1, 1),
        jnp.where(reflecting, value, state.reflected),
        best,
        jnp.where(better, value, state.best_value),
    )


def _reflection(vertices: Float[Array, "vertices dim"]) -> Vector:
    return 2 * jnp.sum(vertices[:-1], axis=0) / (len(vertices) - 1) - vertices[-1]


def _next_point(state: NelderMeadState, by: _Coefficients) -> Vector:
    """Return the point of this round: of the first simplex, on the line through the worst vertex, or of a shrinkage."""
    vertices, turn = state.vertices, state.vertices[state.place]
    mean = jnp.sum(vertices[:-1], axis=0) / (len(vertices) - 1)
    # The line is (1 + t) mean - t worst.
    t = jnp.array([0.0, 1.0, by.expansion, by.contraction, -by.contraction, 0.0], vertices.dtype)[state.stage]
    on_line = (1 + t) * mean - t * vertices[-1]
    shrunk = vertices[0] + by.shrinkage * (turn - vertices[0])
    return jnp.where(state.stage == BUILD, turn, jnp.where(state.stage == SHRINK, shrunk, on_line))
