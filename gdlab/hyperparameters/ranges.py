"""Points of a search space: independent, or of a low-discrepancy sequence."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.stats import qmc

from gdlab.arguments import describe, require_choice, require_count, require_number


class Range(NamedTuple):
    """The values from low to high that one hyperparameter is sampled from, evenly in logarithm or in itself."""

    low: float
    high: float
    logarithmic: bool


def log_range(low: float, high: float) -> Range:
    """Values from low to high, sampled evenly in logarithm; 0 < low < high."""
    require_number("low", low, 0.0, open_low=True)
    require_number("high", high, low, open_low=True)
    return Range(float(low), float(high), True)


def linear_range(low: float, high: float) -> Range:
    """Values from low to high, sampled evenly; low < high."""
    require_number("low", low)
    require_number("high", high, low, open_low=True)
    return Range(float(low), float(high), False)


def sample_hyperparameters(
    ranges: Mapping[str, Range], count: int, *, method: str = "sobol", seed: int = 0
) -> list[dict[str, float]]:
    """`count` points of a search space, as the list that `sweep` takes for its hyperparameters.

    ranges: of each argument, a `log_range` or a `linear_range`. method: "random" (independent, uniform: Bergstra &
    Bengio 2012, JMLR 13), or the low-discrepancy sequences "sobol" (scrambled; best at powers of two), "halton" and
    "latin_hypercube" of `scipy.stats.qmc`. The same seed gives the same points.
    """
    require_count("count", count)
    require_choice("method", method, tuple(_SAMPLERS))
    if not isinstance(ranges, Mapping) or not ranges:
        raise ValueError(
            f"ranges: wanted a mapping from arguments to log_range or linear_range, got {describe(ranges)}"
        )
    for name, entry in ranges.items():
        if not isinstance(entry, Range):
            raise TypeError(f"ranges[{name!r}]: wanted log_range(low, high) or linear_range(low, high), got {entry!r}")
    unit = _SAMPLERS[method](len(ranges), count, seed)
    columns = {}
    for column, (name, entry) in zip(unit.T, ranges.items(), strict=True):
        if entry.logarithmic:
            columns[name] = entry.low * (entry.high / entry.low) ** column
        else:
            columns[name] = entry.low + (entry.high - entry.low) * column
    return [{name: float(columns[name][i]) for name in ranges} for i in range(count)]


def _sobol(dim: int, count: int, seed: int) -> np.ndarray:
    powers = (count - 1).bit_length()
    return qmc.Sobol(dim, rng=np.random.default_rng(seed)).random_base2(powers)[:count]


_SAMPLERS: dict[str, Callable[[int, int, int], np.ndarray]] = {
    "random": lambda dim, count, seed: np.random.default_rng(seed).random((count, dim)),
    "sobol": _sobol,
    "halton": lambda dim, count, seed: qmc.Halton(dim, rng=np.random.default_rng(seed)).random(count),
    "latin_hypercube": lambda dim, count, seed: qmc.LatinHypercube(dim, rng=np.random.default_rng(seed)).random(count),
}
