"""Arrivals at a target: from which starts it is reached, after how many steps, and which setting does best.

`first` is an array of arrivals: for each start, the first step at the target, where 0 is the start itself and -1
means never. It is the variable `first_reached` of a sweep.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Int

from gdlab.analysis.intervals import share_interval
from gdlab.arguments import (
    as_flags,
    as_numbers,
    require_callable,
    require_count,
    require_instance,
    require_mapping,
    require_number,
)

Arrivals = Int[np.ndarray, "*batch starts"]


def first_arrival(
    path: Float[np.ndarray, "points dim"], minimizers: Float[np.ndarray, "count dim"], distance: float
) -> int:
    """Return the index of the first point of a path within a distance of a minimizer, or -1 if there is none.

    Args:
      path: the points, shape (points, dim).
      minimizers: shape (count, dim).
      distance: the largest Euclidean distance that counts as an arrival.

    Raises:
      TypeError: if an argument is not made of numbers.
      ValueError: if shapes do not fit, or a number is out of range.
    """
    path = as_numbers("path", path, shape=(None, None), finite=False)
    minimizers = as_numbers("minimizers", minimizers, shape=(None, path.shape[1]), least=1)
    require_number("distance", distance, 0.0)
    distances = np.linalg.norm(path[:, None] - minimizers, axis=-1).min(axis=-1)
    arrived = np.flatnonzero(distances <= distance)
    return int(arrived[0]) if arrived.size else -1


def share_record(arrived: Bool[np.ndarray, " starts"]) -> dict[str, Any]:
    """Return the share of starts that arrive and its 95% interval (Wilson's), as an entry for a JSON file.

    Args:
      arrived: whether each start arrived.

    Returns:
      A dictionary with the keys starts, share, share_low and share_high.

    Raises:
      TypeError: if `arrived` is not a vector of flags.
    """
    arrived = as_flags("arrived", arrived)
    interval = share_interval(int(arrived.sum()), arrived.size)
    return {
        "starts": arrived.size,
        "share": float(interval.estimate),
        "share_low": float(interval.low),
        "share_high": float(interval.high),
    }


def arrivals_record(runs: xr.Dataset) -> dict[str, Any]:
    """Summarize the arrivals of one setting as an entry for a JSON file.

    Args:
      runs: a sweep of one function and one setting, with the dimension "start". Its lanes (one run per start) must
        continue after they have arrived.

    Returns:
      A dictionary with the keys of `share_record` and: share_stayed, the share of starts that are also at a minimum
        at the end; share_diverged; median_steps and fewest_steps of the starts that arrive (inf and None if none
        does); and median_final_value.
    """
    require_instance("runs", runs, xr.Dataset, "a dataset, as from gdlab.sweep")
    if missing := [name for name in ("first_reached", "value", "reached", "diverged") if name not in runs]:
        raise ValueError(f"runs: expected a sweep with a target, with {missing[0]}, got {', '.join(map(str, runs))}")
    first, values = runs.first_reached.values, runs.value.values
    return {
        **share_record(first >= 0),
        "share_stayed": float(runs.reached.values.mean()),
        "share_diverged": float(runs.diverged.values.mean()),
        "median_steps": float(median_steps(first)),
        "fewest_steps": int(first[first >= 0].min()) if (first >= 0).any() else None,
        "median_final_value": float(np.median(np.where(np.isfinite(values), values, np.inf))),
    }


def share_cells(record: Mapping[str, Any]) -> tuple[str, str]:
    """Format a record's share and its interval as two table cells, such as "87.5%" and "71.9 to 95.0%"."""
    require_mapping("record", record, "from names to shares, as from share_record")
    if missing := [key for key in ("share", "share_low", "share_high") if key not in record]:
        raise ValueError(f"record: expected the keys of share_record, got none called {missing[0]}")
    share, low, high = (100 * record[key] for key in ("share", "share_low", "share_high"))
    return f"{share:.1f}%", f"{low:.1f} to {high:.1f}%"


def percent(share: float) -> str:
    """Format a share in whole percent, with "0%" and "100%" only for exactly none and all."""
    require_number("share", share, 0.0, 1.0)
    if 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{100 * share:.0f}%"


def _arrivals(first: Any) -> Arrivals:
    """Convert arrivals to an array, and raise unless there is at least one start, along the last axis."""
    array = as_numbers("first", first)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"first: expected the arrivals of at least one start, got shape {array.shape}")
    if (array != np.floor(array)).any():
        raise ValueError(f"first: expected whole numbers of steps, got {array[array != np.floor(array)].flat[0]:g}")
    return array


def median_steps(first: Arrivals) -> Float[np.ndarray, "*batch"]:
    """Return the median number of steps of the starts that arrive, or inf if none does."""
    first = _arrivals(first)
    arrived = first >= 0
    steps = np.where(arrived, first, np.where(arrived.any(axis=-1, keepdims=True), np.nan, np.inf))
    return np.asarray(np.nanmedian(steps, axis=-1))


def mean_steps(first: Arrivals, max_steps: int) -> Float[np.ndarray, "*batch"]:
    """Return the mean number of steps over all starts; a start that does not arrive counts as `max_steps`."""
    require_count("max_steps", max_steps)
    first = _arrivals(first)
    return np.asarray(np.where(first >= 0, first, max_steps).mean(axis=-1))


def best_settings(
    first: Int[np.ndarray, "*batch settings starts"],
    values: Float[np.ndarray, "*batch settings starts"],
    *,
    steps: Callable[[Arrivals], Float[np.ndarray, "*batch"]] = median_steps,
    negligible: float = 0.0,
) -> Int[np.ndarray, "*batch"]:
    """Return the index of the setting from which most starts arrive.

    Of settings with equal shares, the one with the fewest steps is best. Where the steps are equal too, as where
    nothing arrives, the lowest median of the final values decides, and then the order of the settings.

    Args:
      first: the arrivals, shape (..., settings, starts).
      values: the function's value at the end of each descent, of the same shape. Values that are not finite count as
        inf.
      steps: a function that summarizes the steps of many starts in one number. Default `median_steps`.
      negligible: shares up to this one count as no arrival at all, so that a lucky start does not decide. For example
        `share_interval(0, starts).high`, the share that chance may bring. Default 0.

    Returns:
      The index of the best setting, shape (...).

    Raises:
      ValueError: if the shapes of `first` and `values` differ, or have fewer than two axes.
    """
    first, values = _arrivals(first), as_numbers("values", values, finite=False).astype(np.float64)
    require_callable("steps", steps)
    if first.shape != values.shape or first.ndim < 2 or first.size == 0:
        raise ValueError(
            f"values: expected the shape (..., settings, starts) of first, {first.shape}, got {values.shape}"
        )
    require_number("negligible", negligible, 0.0, 1.0)
    shares = (first >= 0).mean(axis=-1)
    shares[shares <= negligible] = 0.0
    typical = np.where(shares > 0, steps(first), np.inf)
    finals = np.median(np.where(np.isfinite(values), values, np.inf), axis=-1)
    return np.asarray(np.lexsort((finals, typical, -shares), axis=-1)[..., 0])
