"""Learning curves over seeds: their mean, its interval, and what becomes of seeds that diverge."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from gdlab.analysis.statistics import Interval, bootstrap_interval


class Band(NamedTuple):
    """A curve of several seeds.

    mean, low, high: over the epochs that all seeds reach with finite values; low and high are None for one seed. rows:
    each seed's own curve, up to the epoch before its first value that is not finite. epochs: of the longest row, those
    after a divergence included. failed: how many seeds diverged.
    """

    mean: Float[np.ndarray, " common"]
    low: Float[np.ndarray, " common"] | None
    high: Float[np.ndarray, " common"] | None
    rows: tuple[Float[np.ndarray, " epochs"], ...]
    failed: tuple[bool, ...]
    epochs: int


def band(
    rows: Sequence[Any], interval: Callable[[Float[np.ndarray, "epochs seeds"]], Interval] = bootstrap_interval
) -> Band:
    """The band of one vector per seed, a value per epoch; they may differ in length, as where runs stop early.

    interval: of the samples along the last axis. The mean goes as far as all seeds do: a mean over those that are left
    would jump. Raises ValueError where there is no seed or a row is not a vector.
    """
    found = [np.asarray(row, float) for row in rows]
    if not found or any(row.ndim != 1 or row.size == 0 for row in found):
        raise ValueError(f"rows: wanted one vector of epochs per seed, got shapes {[row.shape for row in found]}")
    own = tuple(row[: _finite(row)] for row in found)
    common = min(row.size for row in own)
    together = np.stack([row[:common] for row in own], axis=-1)
    low = high = None
    if len(own) > 1 and common:
        _, low, high = interval(together)
    failed = tuple(part.size < row.size for part, row in zip(own, found, strict=True))
    return Band(together.mean(axis=-1), low, high, own, failed, max(row.size for row in found))


def bands(histories: Mapping[str, Sequence[Any]]) -> dict[str, Band]:
    """`band` of each name's rows; the error names the one that it is about."""
    found = {}
    for name, rows in histories.items():
        try:
            found[name] = band(rows)
        except ValueError as error:
            raise ValueError(f"histories[{name!r}]: {str(error).removeprefix('rows: ')}") from None
    return found


def _finite(row: Float[np.ndarray, " epochs"]) -> int:
    """The number of epochs before the first value that is not finite."""
    bad = np.flatnonzero(~np.isfinite(row))
    return int(bad[0]) if bad.size else row.size
