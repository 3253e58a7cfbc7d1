"""Checks of the arguments that figures share: texts, names, numbers, grids, paths and curves."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from gdlab.analysis.learning_curves import Band
from gdlab.arguments import (
    as_numbers,
    describe,
    require_count,
    require_flag,
    require_instance,
    require_mapping,
    require_sequence,
    require_strings,
    require_text,
)
from gdlab.types import Grid

LARGEST = 1e307
"""The largest number in size that is drawn: matplotlib adds and subtracts the ends of axes, which must not overflow."""

Curve = tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]


def require_texts(**texts: Any) -> None:
    """Raise unless each named value is text, which may be empty."""
    for name, text in texts.items():
        require_text(name, text, empty=True)


def require_flags(**flags: Any) -> None:
    """Raise unless each named value is True or False."""
    for name, flag in flags.items():
        require_flag(name, flag)


def require_labels(labels: Any, count: int = 2) -> None:
    """Raise unless `labels` is one text for each axis."""
    require_strings("labels", labels, count, f"{count} texts, one for each axis")


def as_drawn(
    name: str, value: Any, *, shape: tuple[int | None, ...] | None = None, finite: bool = True, least: int = 0
) -> Float[np.ndarray, "..."]:
    """Convert to an array of float64 as `as_numbers` does, and raise unless the finite ones are at most `LARGEST`."""
    array = as_numbers(name, value, shape=shape, finite=finite, least=least).astype(float)
    if (np.isfinite(array) & (np.abs(array) > LARGEST)).any():
        top = float(np.abs(array[np.isfinite(array)]).max())
        raise ValueError(f"{name}: expected numbers up to {LARGEST:g} in size, got {top:g}")
    return array


def as_vector(name: str, value: Any, *, finite: bool = True, least: int = 1) -> Float[np.ndarray, " length"]:
    """Convert to a vector of float64, and raise unless it has at least `least` numbers."""
    return as_drawn(name, value, shape=(None,), finite=finite, least=least)


def as_limits(name: str, limits: Any) -> tuple[float, float]:
    """Return the two ends of a range, and raise unless they are finite numbers in order."""
    require_sequence(name, limits, "two numbers")
    low, high = as_drawn(name, limits, shape=(2,))
    if low > high:
        raise ValueError(f"{name}: expected two numbers, the lower one first, got {low:g} and {high:g}")
    return float(low), float(high)


def as_positive(name: str, values: Any) -> Float[np.ndarray, " length"]:
    """Convert the values of a logarithmic axis to a vector, and raise unless all are positive."""
    vector = as_vector(name, values)
    if vector.min() <= 0:
        raise ValueError(f"{name}: expected positive numbers for a logarithmic axis, got {vector.min():g}")
    return vector


def as_box(name: str, box: Any) -> tuple[float, float, float, float]:
    """Return the range of a plane (x from, x to, y from, y to), and raise unless each part is ascending."""
    require_sequence(name, box, "four numbers (x from, x to, y from, y to)")
    left, right, low, high = (float(end) for end in as_drawn(name, box, shape=(4,)))
    if left >= right or low >= high:
        raise ValueError(
            f"{name}: expected ascending ranges (x from, x to, y from, y to), got {left, right, low, high}"
        )
    return left, right, low, high


def as_grid(grid: Any) -> Grid:
    """Raise unless `grid` is a `Grid` whose values fit its coordinates; returns it in float64."""
    require_instance("grid", grid, Grid, "a Grid, as evaluate_grid returns")
    x, y = (as_vector(f"grid.{axis}", getattr(grid, axis), least=2) for axis in "xy")
    for axis, at in (("x", x), ("y", y)):
        if not (np.all(np.diff(at) > 0) or np.all(np.diff(at) < 0)):
            raise ValueError(f"grid.{axis}: expected ascending coordinates, got some that are not")
    return Grid(x, y, as_drawn("grid.z", grid.z, shape=(y.size, x.size), finite=False))


def as_minimizers(minimizers: Any) -> Float[np.ndarray, "count 2"] | None:
    """Convert minimizers to an array, or to None if there are none; raise ValueError for a wrong shape."""
    if minimizers is None:
        return None
    array = np.atleast_2d(as_numbers("minimizers", minimizers).astype(float))
    if array.size == 0:
        return None
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"minimizers: expected points of shape (count, 2), got shape {np.shape(minimizers)}")
    return array


def as_tracks(paths: Any) -> dict[str, Float[np.ndarray, "points 2"]]:
    """Convert paths to arrays of points by name; raise for anything but a mapping to points of shape (count, 2)."""
    require_mapping("paths", paths, "from names to points")
    tracks = {}
    for name, path in paths.items():
        track = as_numbers(f"paths[{name!r}]", path, finite=False).astype(float)
        if track.ndim != 2 or track.shape[1] != 2 or track.shape[0] == 0:
            raise ValueError(f"paths[{name!r}]: expected points of shape (count, 2), got shape {track.shape}")
        if not np.isfinite(track).all(axis=1).any():
            raise ValueError(f"paths[{name!r}]: expected at least one finite point, got none")
        tracks[str(name)] = track
    return tracks


def as_curves(name: str, series: Any, *, least: int = 1) -> dict[str, Curve]:
    """Convert a mapping from names to the x and y coordinates of curves; each needs a point that is finite."""
    require_mapping(name, series, "from names to the x and y coordinates of curves", least=least)
    curves = {}
    for key, curve in series.items():
        entry = f"{name}[{key!r}]"
        require_sequence(entry, curve, "x and y coordinates")
        if len(curve) != 2:
            raise ValueError(f"{entry}: expected x and y coordinates, got {len(curve)} values")
        curves[str(key)] = as_curve(entry, *curve)
    return curves


def as_curve(name: str, x: Any, y: Any) -> Curve:
    """Convert the coordinates of a curve, which must be of equal length and have a finite point."""
    across, up = (as_numbers(name, at, shape=(None,), finite=False, least=1).astype(float) for at in (x, y))
    if across.shape != up.shape:
        raise ValueError(f"{name}: expected x and y of equal length, got {across.size} and {up.size}")
    if not (np.isfinite(across) & np.isfinite(up)).any():
        raise ValueError(f"{name}: expected at least one finite point, got none")
    return across, up


def as_guides(name: str, guides: Any) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Convert lines with a text at their ends."""
    require_sequence(name, guides, "lines (x, y, text)")
    found = []
    for guide in guides:
        require_sequence(name, guide, "lines (x, y, text)")
        if len(guide) != 3:
            raise ValueError(f"{name}: expected lines (x, y, text), got {len(guide)} values")
        require_text(name, guide[2], empty=True)
        found.append((*as_curve(name, *guide[:2]), guide[2]))
    return found


def require_bands(name: str, bands: Any) -> None:
    """Raise unless `bands` maps names to at least one `Band`."""
    require_mapping(name, bands, "from names to bands", least=1)
    for key, band in bands.items():
        entry = f"{name}[{key!r}]"
        require_text(name, key, empty=True)
        require_instance(entry, band, Band, "a Band, as gdlab.analysis.learning_curves.bands returns")
        _require_fields(entry, band)


def _require_fields(entry: str, band: Band) -> None:
    mean = as_vector(f"{entry}.mean", band.mean, least=0)
    for field in ("low", "high"):
        if getattr(band, field) is not None:
            as_numbers(f"{entry}.{field}", getattr(band, field), shape=mean.shape, finite=False)
    require_sequence(f"{entry}.rows", band.rows, "one curve per seed", least=1)
    for row in band.rows:
        as_vector(f"{entry}.rows", row, least=0)
    require_sequence(f"{entry}.failed", band.failed, "one flag per seed")
    if len(band.failed) != len(band.rows):
        raise ValueError(f"{entry}.failed: expected one flag per seed, got {len(band.failed)}")
    require_count(f"{entry}.epochs", band.epochs)


def require_parts(name: str, values: Any, kind: type, expected: str) -> None:
    """Raise unless `values` maps names to at least one object of this kind."""
    if isinstance(values, Mapping) and not values:
        raise ValueError(f"{name}: expected at least one map, got none")
    require_mapping(name, values, f"from names to {expected}")
    for key, value in values.items():
        if not isinstance(value, kind):
            raise TypeError(f"{name}[{key!r}]: expected {expected}, got {describe(value)}")
