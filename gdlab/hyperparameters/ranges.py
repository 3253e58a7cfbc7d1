"""Ranges of hyperparameters: axes of evenly spaced values, and points sampled independently or from a sequence."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import scipy  # loads scipy.stats when it is used, which takes half a second

from gdlab.arguments import describe, require_choice, require_count, require_flag, require_number


class Range(NamedTuple):
    """The range of one hyperparameter, as `log_range` and `linear_range` return it.

    Attributes:
      low: the lower end.
      high: the upper end.
      logarithmic: whether the logarithm of the value is evenly distributed, rather than the value itself.
      length: the number of values that the range has as an axis; None for a range that is only sampled from.
    """

    low: float
    high: float
    logarithmic: bool
    length: int | None = None

    def require(self, where: str) -> None:
        """Raise an error, which names the argument `where`, unless the fields are those of a range."""
        require_flag(f"{where}.logarithmic", self.logarithmic)
        require_number(f"{where}.low", self.low, 0.0 if self.logarithmic else -np.inf, open_low=self.logarithmic)
        require_number(f"{where}.high", self.high, self.low, open_low=True)
        if self.length is not None:
            require_count(f"{where}.length", self.length)

    def at(self, shares: np.ndarray) -> np.ndarray:
        """Return the values at these shares of the way from the lower end, 0, to the upper end, 1."""
        if self.logarithmic:
            return self.low * (self.high / self.low) ** shares
        return self.low + (self.high - self.low) * shares

    def values(self) -> np.ndarray:
        """Return the `length` values of an axis: evenly spaced from end to end, or the middle if there is only one."""
        if self.length == 1:
            return self.at(np.array([0.5]))
        found = self.at(np.linspace(0.0, 1.0, self.length or 0))
        found[-1] = self.high  # to the last digit
        return found


def log_range(low: float, high: float, count: int | None = None) -> Range:
    """Return a range whose values are evenly distributed in their logarithm.

    This suits hyperparameters that vary over orders of magnitude, such as a learning rate.

    Args:
      low: the lower end, greater than 0.
      high: the upper end, greater than `low`.
      count: the number of values if the range is an axis of `scan`, `sweep` or `train_many`; they are evenly spaced,
        and include both ends. None, the default, is for `sample_hyperparameters`, which samples from the range.

    Returns:
      The range.

    Raises:
      ValueError: unless 0 < low < high.
    """
    require_number("low", low, 0.0, open_low=True)
    require_number("high", high, low, open_low=True)
    if count is not None:
        require_count("count", count)
    return Range(float(low), float(high), True, count)


def linear_range(low: float, high: float, count: int | None = None) -> Range:
    """Return a range whose values are evenly distributed.

    Args:
      low: the lower end.
      high: the upper end, greater than `low`.
      count: the number of values if the range is an axis; see `log_range`. Default None.

    Returns:
      The range.

    Raises:
      ValueError: unless low < high.
    """
    require_number("low", low)
    require_number("high", high, low, open_low=True)
    if count is not None:
        require_count("count", count)
    return Range(float(low), float(high), False, count)


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
        entry.require(f"ranges[{name!r}]")
    unit = _SAMPLERS[method](len(ranges), count, seed)
    columns = {name: entry.at(column) for column, (name, entry) in zip(unit.T, ranges.items(), strict=True)}
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
