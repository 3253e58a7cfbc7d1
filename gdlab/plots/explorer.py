"""A web page that explores recorded paths: sliders over the swept axes move them on the function's contour.

The page holds everything that it needs. It is drawn by D3 and Observable Plot, which lie in the folder `web` beside
their licenses. Paths are stored as compressed float32.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.colors import LinearSegmentedColormap, to_hex

from gdlab.plots.canvas import levels, value_format
from gdlab.plots.recorded import OUTCOMES, Recording, starts_of
from gdlab.plots.style import DARK_GROUND, DARK_PALETTE, DASHES, GROUND, PALETTE
from gdlab.plots.webfile import LARGEST_PAGE, WEB, filled, libraries, packed
from gdlab.types import Grid
from gdlab.version import VERSION

STYLES = (WEB / "page.css", WEB / "explore.css")
SCRIPTS = tuple(WEB / f"{name}.js" for name in ("page", "paths", "charts", "explore"))

FAR = 1000.0
"""Points are stored at most that many widths of the map from its middle, so that a browser can draw lines to them."""


class Explorer(NamedTuple):
    """A page on which recorded paths are explored.

    Attributes:
      page: the page, as HTML.
    """

    page: str


def explorer_of(
    grid: Grid,
    recordings: Mapping[str, Recording],
    *,
    minimizers: Float[np.ndarray, "count 2"] | None,
    minimum: float,
    thin: int,
    title: str,
    labels: tuple[str, str, str],
    notes: Sequence[str],
) -> Explorer:
    """Make the page of these paths; raise ValueError if it would be larger than `LARGEST_PAGE`.

    Args:
      grid: the function's values, on evenly spaced coordinates.
      recordings: the paths of each optimizer.
      minimizers: the minimizers, drawn as stars, or None.
      minimum: the function's minimum, or NaN if it is not known.
      thin: every `thin`-th step is kept, and the last one.
      title: the page's title.
      labels: the names of the two variables and of the value.
      notes: what is said at the end of the page, one paragraph each.
    """
    one = next(iter(recordings.values()))
    kept = np.union1d(np.arange(0, one.steps.size, thin), [one.steps.size - 1])
    stored = "stored in single precision" if thin == 1 else f"stored in single precision, every {thin} steps"
    data: dict[str, Any] = {
        "title": title,
        "labels": list(labels),
        "ground": _ground(grid),
        "far": FAR,
        "minimizers": [] if minimizers is None else minimizers.tolist(),
        "heights": _heights(recordings, minimum),
        "steps": one.steps[kept].tolist(),
        "starts": starts_of(one).tolist(),
        "start": _first_start(starts_of(one), grid),
        "axes": _axes(recordings),
        "outcomes": OUTCOMES,
        "series": [_series(i, name, each, grid, kept) for i, (name, each) in enumerate(recordings.items())],
        "notes": [*notes, f"Paths are {stored}. Made by gdlab {VERSION}, with {' and '.join(libraries())}."],
    }
    page = filled(WEB / "explore.html", title, data, styles=STYLES, scripts=SCRIPTS)
    _require_small(len(page.encode()), sum(len(each["paths"]["data"]) for each in data["series"]), thin, kept.size)
    return Explorer(page)


def _require_small(size: int, paths: int, thin: int, steps: int) -> None:
    """Raise ValueError if a page of this size, of which the paths are a part, is too large; say what to leave out."""
    if size <= LARGEST_PAGE:
        return
    room = max(LARGEST_PAGE - (size - paths), 1)
    times = math.ceil(1.25 * paths / room)  # what is thinned is less regular, and compresses less
    advice = f"keep every {thin * times}th step by thin={thin * times}, or " if times <= steps / 8 else ""
    raise ValueError(
        f"runs: expected a page of at most {LARGEST_PAGE / 1e6:g} MB, got {size / 1e6:.3g} MB; "
        f"{advice}leave out starts, settings or optimizers"
    )


def _series(index: int, name: str, recording: Recording, grid: Grid, kept: np.ndarray) -> dict[str, Any]:
    place = index % len(PALETTE)
    points, values = recording.points[..., kept, :], recording.values[..., kept]
    starts = values.shape[-2]
    near = _near(points, grid)
    return {
        "name": name,
        "colours": {"light": PALETTE[place], "dark": DARK_PALETTE[place]},
        "dash": ["", "8 3", "2 3"][place // 4 % len(DASHES)],
        "axes": [{"name": axis, "labels": texts} for axis, texts in recording.axes.items()],
        "paths": packed(np.stack([near[..., 0], near[..., 1], values]).reshape(3, -1, starts, kept.size), "float32"),
        "ends": packed(recording.ends.reshape(-1, starts), "int32"),
        "outcomes": packed(recording.outcomes.reshape(-1, starts), "uint8"),
    }


def _near(points: Float[np.ndarray, "... 2"], grid: Grid) -> Float[np.ndarray, "... 2"]:
    """Return the points, those that are very far from the map moved towards its middle."""
    ends = np.array([[grid.x.min(), grid.x.max()], [grid.y.min(), grid.y.max()]])
    middle, width = ends.mean(axis=1), np.ptp(ends, axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        away = np.abs((points - middle) / width).max(axis=-1, keepdims=True)
        return np.where(away > FAR, middle + (points - middle) * (FAR / away), points)


def _first_start(starts: Float[np.ndarray, "starts 2"], grid: Grid) -> int:
    """Return the start that is shown first: the one nearest to a place halfway between the middle and a corner."""
    left, right, low, high = grid.x[0], grid.x[-1], grid.y[0], grid.y[-1]
    away = (starts - [left + 0.25 * (right - left), low + 0.75 * (high - low)]) / [right - left, high - low]
    return int(np.argmin(np.where(np.isfinite(away).all(axis=1), np.hypot(*away.T), np.inf)))


def _axes(recordings: Mapping[str, Recording]) -> list[dict[str, Any]]:
    """Return the swept axes, and where their sliders stand at first: at the best mean rank over the optimizers."""
    names = dict.fromkeys(name for one in recordings.values() for name in one.axes)
    found = []
    for name in names:
        ranks = np.array([one.ranks(name) for one in recordings.values() if name in one.axes])
        found.append({"name": name, "count": ranks.shape[1], "at": int(np.argmin(ranks.mean(axis=0)))})
    return found


def _heights(recordings: Mapping[str, Recording], minimum: float) -> dict[str, Any]:
    """Return how values are drawn: above the minimum, or above the lowest one found, on a logarithmic axis."""
    every = np.concatenate([one.values[np.isfinite(one.values)] for one in recordings.values()])
    first = np.concatenate([one.values[..., 0][np.isfinite(one.values[..., 0])] for one in recordings.values()])
    if every.size == 0:
        raise ValueError("runs: expected at least one finite value, got none")
    known = np.isfinite(minimum)
    floor = float(minimum) if known else float(every.min())
    above = every[every > floor] - floor
    top = 2.0 * float((first - floor).max(initial=0.0)) or 1.0
    low = max(float(np.quantile(above, 0.001)) if above.size else 0.1 * top, 1e-12 * top)
    return {
        "floor": floor,
        "name": "above the minimum" if known else "above the lowest one found",
        "range": [10.0 ** np.floor(np.log10(min(low, 0.1 * top))), 10.0 ** np.ceil(np.log10(top))],
    }


def _ground(grid: Grid) -> dict[str, Any]:
    at = levels(grid.z)
    text = value_format(at)
    return {
        "x": [float(grid.x[0]), float(grid.x[-1])],
        "y": [float(grid.y[0]), float(grid.y[-1])],
        "values": packed(np.where(np.isfinite(grid.z), grid.z, np.nan), "float32"),
        "levels": at.tolist(),
        "texts": [text(level) for level in at],
        "shades": {"light": _shades(GROUND, at.size - 1), "dark": _shades(DARK_GROUND, at.size - 1)},
    }


def _shades(colours: LinearSegmentedColormap, count: int) -> list[str]:
    return [to_hex(colours(place)) for place in np.linspace(0, 1, count)]
