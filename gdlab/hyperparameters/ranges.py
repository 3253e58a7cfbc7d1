"""Ranges of hyperparameters, and points sampled from them: independent, or from a low-discrepancy sequence."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import scipy  # loads scipy.stats when it is used, which takes half a second

from gdlab.arguments import describe, require_choice, require_count, require_flag, require_number


class Range(NamedTuple):
    """The range that one hyperparameter is sampled from, as `log_range` and `linear_range` return it.

    Attributes:
      low: the lower end.
      high: the upper end.
      logarithmic: whether the logarithm of the value is sampled evenly, rather than the value itself.
    """

    low: float
    high: float
    logarithmic: bool


def log_range(low: float, high: float) -> Range:
    """Return a range whose values are sampled evenly in their logarithm.

    This suits hyperparameters that vary over orders of magnitude, such as a learning rate.

    Args:
      low: the lower end, greater than 0.
      high: the upper end, greater than `low`.

    Returns:
      The range, for `sample_hyperparameters`.

    Raises:
      ValueError: unless 0 < low < high.
    """
    require_number("low", low, 0.0, open_low=True)
    require_number("high", high, low, open_low=True)
    return Range(float(low), float(high), True)


def linear_range(low: float, high: float) -> Range:
    """Return a range whose values are sampled evenly.

    Args:
      low: the lower end.
      high: the upper end, greater than `low`.

    Returns:
      The range, for `sample_hyperparameters`.

    Raises:
      ValueError: unless low < high.
    """
    require_number("low", low)
    require_number("high", high, low, open_low=True)
    return Range(float(low), float(high), False)


def sample_hyperparameters(
    ranges: Mapping[str, Range], count: int, *, method: str = "sobol", seed: int = 0
) -> list[dict[str, float]]:
    """Sample points of a search space, as the list that `sweep` takes for its hyperparameters.

    Args:
      ranges: for each argument, a `log_range` or a `linear_range`.
      count: the number of points.
      method: "random" samples independently and uniformly (random search); "sobol" (scrambled; best at powers of
        two), "halton" and "latin_hypercube" are the low-discrepancy methods of `scipy.stats.qmc`. Default "sobol".
      seed: the same seed gives the same points. Default 0.

    Returns:
      A list of `count` dicts, each from arguments to numbers.

    Raises:
      TypeError: if a range is not a `log_range` or a `linear_range`.
      ValueError: if `ranges` is not a mapping or is empty, and for an unknown method.

    References:
      Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization", 2012, Journal of Machine Learning
        Research 13.
    """
    require_count("count", count)
    require_count("seed", seed, low=0)
    require_choice("method", method, tuple(_SAMPLERS))
    if not isinstance(ranges, Mapping) or not ranges:
        raise ValueError(
            f"ranges: expected a mapping from arguments to log_range or linear_range, got {describe(ranges)}"
        )
    for name, entry in ranges.items():
        if not isinstance(entry, Range):
            raise TypeError(
                f"ranges[{name!r}]: expected log_range(low, high) or linear_range(low, high), got {entry!r}"
            )
        where = f"ranges[{name!r}]"
        require_flag(f"{where}.logarithmic", entry.logarithmic)
        require_number(f"{where}.low", entry.low, 0.0 if entry.logarithmic else -np.inf, open_low=entry.logarithmic)
        require_number(f"{where}.high", entry.high, entry.low, open_low=True)
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
    return scipy.stats.qmc.Sobol(dim, rng=np.random.default_rng(seed)).random_base2(powers)[:count]


_SAMPLERS: dict[str, Callable[[int, int, int], np.ndarray]] = {
    "random": lambda dim, count, seed: np.random.default_rng(seed).random((count, dim)),
    "sobol": _sobol,
    "halton": lambda dim, count, seed: scipy.stats.qmc.Halton(dim, rng=np.random.default_rng(seed)).random(count),
    "latin_hypercube": lambda dim, count, seed: scipy.stats.qmc.LatinHypercube(
        dim, rng=np.random.default_rng(seed)
    ).random(count),
}
