"""Learning curves over seeds: their mean, its interval, and the treatment of seeds that diverge."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from gdlab.analysis.intervals import Interval, seeds_interval
from gdlab.arguments import as_numbers, require_callable, require_mapping, require_sequence


class Band(NamedTuple):
    """The learning curve of several seeds.

    Attributes:
      mean: the mean over seeds, for the epochs that all seeds reach with finite values.
      low: the lower end of the mean's interval; None if there is one seed or no such epoch.
      high: the upper end of the mean's interval; None if there is one seed or no such epoch.
      rows: each seed's own curve, up to the epoch before its first value that is not finite.
      failed: whether each seed diverged.
      epochs: the number of epochs of the longest curve, including those after a divergence.
    """

    mean: Float[np.ndarray, " common"]
    low: Float[np.ndarray, " common"] | None
    high: Float[np.ndarray, " common"] | None
    rows: tuple[Float[np.ndarray, " epochs"], ...]
    failed: tuple[bool, ...]
    epochs: int


def band(
    rows: Sequence[Any], interval: Callable[[Float[np.ndarray, "epochs seeds"]], Interval] = seeds_interval
) -> Band:
    """Combine the learning curves of several seeds.

    The mean extends only as far as all seeds do, because a mean over the remaining seeds would jump.

    Args:
      rows: one vector per seed with one value per epoch. Lengths may differ, for example because runs stop early.
      interval: a function that returns the `Interval` of samples along the last axis. Default `seeds_interval`.

    Returns:
      The `Band`.

    Raises:
      TypeError: if an argument has a wrong type.
      ValueError: if there is no seed, or a row is not a vector of at least one epoch.
    """
    require_sequence("rows", rows, "vectors of epochs, one per seed")
    require_callable("interval", interval)
    found = [as_numbers("rows", row, finite=False).astype(float) for row in rows]
    if not found or any(row.ndim != 1 or row.size == 0 for row in found):
        raise ValueError(f"rows: expected one vector of epochs per seed, got shapes {[row.shape for row in found]}")
    own = tuple(row[: _finite(row)] for row in found)
    common = min(row.size for row in own)
    together = np.stack([row[:common] for row in own], axis=-1)
    low = high = None
    if len(own) > 1 and common:
        _, low, high = interval(together)
    failed = tuple(part.size < row.size for part, row in zip(own, found, strict=True))
    return Band(together.mean(axis=-1), low, high, own, failed, max(row.size for row in found))


def bands(histories: Mapping[str, Sequence[Any]]) -> dict[str, Band]:
    """Apply `band` to the rows of each name; an error names the entry that it is about.

    Args:
      histories: the rows of each name, as in `band`.

    Returns:
      The `Band` of each name.

    Raises:
      TypeError: if `histories` is not a mapping, or the rows of a name are not numbers.
      ValueError: if the rows of a name are not vectors.
    """
    require_mapping("histories", histories, "from names to rows")
    found = {}
    for name, rows in histories.items():
        try:
            found[name] = band(rows)
        except (TypeError, ValueError) as error:
            raise type(error)(f"histories[{name!r}]: {str(error).removeprefix('rows: ')}") from None
    return found


def _finite(row: Float[np.ndarray, " epochs"]) -> int:
    """Return the number of epochs before the first value that is not finite."""
    bad = np.flatnonzero(~np.isfinite(row))
    return int(bad[0]) if bad.size else row.size
