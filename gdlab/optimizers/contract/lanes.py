"""Hyperparameters as a batch axis: each lane (one run of the batch) must equal a solo run with the same values."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from gdlab.optimizers.contract.bowl import FIRST, SECOND, make_params
from gdlab.optimizers.contract.case import Case
from gdlab.optimizers.contract.compilation import Counted
from gdlab.optimizers.contract.equality import LOOSE, TIGHT, deviation
from gdlab.optimizers.contract.report import BrokenContractError

FACTORS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Factors that vary a default d: d times each if |d| < 1, d divided by each if |d| >= 1, 0.1 times each if d = 0."""


def equals_solo_in_float64(case: Case) -> str:
    """Check that every lane ends where its solo run does, and that at least one number changes the result."""
    detail, ends = _compare(case, "float64", FIRST, case.alone, TIGHT)
    plain = case.alone(case.defaults)
    idle = [
        name
        for k, name in enumerate(case.numbers)
        if all(deviation(end, plain) == 0 for end in ends[k * len(FACTORS) : (k + 1) * len(FACTORS)])
    ]
    if case.numbers and len(idle) == len(case.numbers):
        raise BrokenContractError("no hyperparameter changes the result")
    return detail + (f"; no effect in these runs: {', '.join(idle)}" if idle else "")


def equals_solo_in_float32(case: Case) -> str:
    """Check the same in float32, on other leaves."""
    alone = Counted(lambda values: case.run(values, make_params("float32", SECOND)))
    return _compare(case, "float32", SECOND, alone, LOOSE)[0]


def _compare(
    case: Case, dtype: str, names: Sequence[str], alone: Counted, tolerance: float
) -> tuple[str, list[PyTree]]:
    """Return a note on what was measured, and the end point of each lane."""
    values = np.array(_vary_each(list(case.numbers.values())), dtype)
    together = Counted(jax.vmap(lambda values: case.run(values, make_params(dtype, names))))
    all_ends = jax.tree.map(np.asarray, together(jnp.asarray(values)))
    together(jnp.asarray(values[::-1]))
    together.require_one("one vmapped program for all values")
    worst = 0.0
    ends = [jax.tree.map(lambda leaf, k=k: leaf[k], all_ends) for k in range(len(values))]
    for k, lane in enumerate(values):
        seen = deviation(ends[k], alone(jnp.asarray(lane)))
        worst = max(worst, seen)
        if not seen <= tolerance:
            name = list(case.numbers)[k // len(FACTORS)]
            raise BrokenContractError(
                f"{name}: vmapped and solo runs differ by {seen:.1e} (relative); the tolerance is {tolerance:g}"
            )
    alone.require_one("solo runs, one value after the other")
    return f"{len(values)} lanes in one compilation, largest deviation {worst:.1e}", ends


def _vary_each(defaults: list[float]) -> list[list[float]]:
    """Return one lane per number and factor, others at their defaults; the lanes of one number are adjacent."""
    return [
        [value if place == k else default for place, default in enumerate(defaults)]
        for k, varied in enumerate(defaults)
        for value in _vary(varied)
    ]


def _vary(default: float) -> list[float]:
    if default == 0:
        return [0.1 * factor for factor in FACTORS]
    return [default / factor if abs(default) >= 1 else default * factor for factor in FACTORS]
