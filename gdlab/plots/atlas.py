"""Maps: where descents from each point of a plane end, and how a number depends on two others."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, hsv_to_rgb, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gdlab.analysis.basins import DIVERGED
from gdlab.arguments import as_numbers, describe, require_count, require_mapping, require_sequence
from gdlab.plots.checks import (
    as_box,
    as_curves,
    as_drawn,
    as_limits,
    as_vector,
    require_flags,
    require_labels,
    require_parts,
    require_texts,
)
from gdlab.plots.style import PALETTE, STAR

_NOWHERE, _LOST, _GLOBAL = "#c9c9c9", "#000000", "#141433"
WIDEST_KEY = 12
"""The largest number of minima that get a color of the palette each; colors of more show their positions."""


class Basins(NamedTuple):
    """The minimum in which descents from each start of a grid end, and the steps they take, for one optimizer.

    Attributes:
      labels: indices of minima, or SETTLED_NOWHERE or DIVERGED of `gdlab.analysis.basins`. Row j and column i belong
        to the start (x[i], y[j]).
      steps: the numbers of steps; NaN where a descent does not stop at a minimum.
      note: text under the optimizer's name. Default none.
    """

    labels: Int[np.ndarray, "ny nx"]
    steps: Float[np.ndarray, "ny nx"]
    note: str = ""


def basins(
    atlas: Mapping[str, Basins],
    minima: Float[np.ndarray, "minima 2"],
    best: Sequence[int],
    box: tuple[float, float, float, float],
    *,
    title: str = "",
) -> Figure:
    """Draw basins of attraction, with one column per optimizer.

    The upper map colors each start by the minimum in which the descent ends, and the lower map by its number of
    steps.

    Args:
      atlas: the basins of each optimizer, by name.
      minima: the positions of the minima.
      best: indices of the global minima, which are drawn as stars.
      box: the range of the plane (x from, x to, y from, y to).
      title: the figure's title.

    Returns:
      The figure.

    Raises:
      ValueError: if there is no map, or the shape or labels of a map do not fit.
    """
    require_texts(title=title)
    box, minima = as_box("box", box), as_drawn("minima", minima, shape=(None, 2))
    _require_best(best, len(minima))
    require_parts("atlas", atlas, Basins, "Basins of an optimizer")
    atlas = {name: _as_basins(f"atlas[{name!r}]", entry, len(minima)) for name, entry in atlas.items()}
    colours = np.vstack([basin_colours(minima, best, box), to_rgb(_LOST), to_rgb(_NOWHERE)])  # the labels -2 and -1
    finite = np.concatenate([entry.steps[np.isfinite(entry.steps)] for entry in atlas.values()])
    low, high = np.percentile(finite, [0.5, 99.5]) if finite.size else (1.0, 2.0)
    norm = LogNorm(max(low, 1.0), max(high, low + 1, 2.0))
    width = 2.9 * len(atlas) + 1.0
    figure = Figure(figsize=(width, 7.1), layout="constrained")
    axes = figure.subplots(2, len(atlas), squeeze=False, sharex=True, sharey=True)
    for column, (name, entry) in enumerate(atlas.items()):
        picture = colours[entry.labels]
        axes[0, column].imshow(picture, origin="lower", extent=box, aspect="auto")
        axes[1, column].set_facecolor(_NOWHERE)
        axes[1, column].imshow(entry.steps, origin="lower", extent=box, aspect="auto", norm=norm, cmap="viridis")
        axes[0, column].set_title(f"{name}\n{entry.note}" if entry.note else name, fontsize=10)
        for row in (0, 1):
            _mark(axes[row, column], minima, best, box, stars_only=row == 1 or len(minima) > WIDEST_KEY)
        axes[1, column].set_xlabel("$x_1$")
    for row in (0, 1):
        axes[row, 0].set_ylabel("$x_2$")
    bar = figure.colorbar(ScalarMappable(norm, "viridis"), ax=list(axes[1]), fraction=0.05, pad=0.02)
    bar.set_label("steps until it stops")
    handles = [Patch(color=_NOWHERE, label="above: ends at no minimum; below: does not stop at one")]
    if any((entry.labels == DIVERGED).any() for entry in atlas.values()):
        handles.append(Patch(color=_LOST, label="diverges"))
    if len(minima) > WIDEST_KEY:
        handles.insert(0, Patch(color=_GLOBAL, label="global minimum"))
        handles.insert(1, Patch(color="#d98880", label="local minimum: hue is its direction, saturation its distance"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9, frameon=False)
    if title:
        figure.suptitle(title)
    return figure


def _require_best(best: Any, minima: int) -> None:
    require_sequence("best", best, "indices of minima")
    for index in best:
        require_count("best", index, low=0)
        if index >= minima:
            raise ValueError(f"best: expected indices below {minima}, the number of minima, got {index}")


def _as_basins(name: str, entry: Basins, minima: int) -> Basins:
    """Convert the fields of one map to arrays, and raise unless they fit."""
    labels = as_numbers(f"{name}.labels", entry.labels)
    steps = as_drawn(f"{name}.steps", entry.steps, finite=False)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"{name}.labels: expected integers, got dtype {labels.dtype}")
    fits = labels.ndim == 2 and labels.size and labels.shape == steps.shape
    if not fits or labels.max() >= minima or labels.min() < DIVERGED:
        top = f" and labels from {labels.min()} to {labels.max()}" if labels.size else ""
        raise ValueError(
            f"{name}: expected labels below {minima} and steps of the same 2-D shape, got shapes "
            f"{labels.shape} and {steps.shape}{top}"
        )
    require_texts(**{f"{name}.note": entry.note})
    return Basins(labels, steps, entry.note)


def basin_colours(
    minima: Float[np.ndarray, "minima 2"], best: Sequence[int], box: tuple[float, float, float, float]
) -> Float[np.ndarray, "minima 3"]:
    """Return an RGB color for each minimum.

    Up to `WIDEST_KEY` minima take colors of the palette. More minima are colored by position, except that all global
    minima share one color.

    Args:
      minima: the positions of the minima.
      best: indices of the global minima.
      box: the range of the plane (x from, x to, y from, y to).
    """
    if len(minima) <= WIDEST_KEY:
        return np.array([to_rgb(PALETTE[i]) for i in range(len(minima))])
    middle = np.array([box[0] + box[1], box[2] + box[3]]) / 2
    reach = np.array([box[1] - box[0], box[3] - box[2]]) / 2
    place = (minima - middle) / reach
    hue = np.arctan2(place[:, 1], place[:, 0]) / (2 * np.pi) % 1
    distance = np.clip(np.linalg.norm(place, axis=1) / np.sqrt(2), 0, 1)
    # Neighbors on a lattice also differ in lightness, so that their basins are easy to distinguish.
    rank = np.argsort(np.argsort(np.round(minima).sum(axis=1) % 2 * 10 + distance))
    shade = np.where(rank < len(minima) / 2, 0.95, 0.78)
    colours = hsv_to_rgb(np.stack([hue, 0.25 + 0.6 * distance, shade], axis=1))
    colours[list(best)] = to_rgb(_GLOBAL)
    return np.asarray(colours)


def _mark(axes: Axes, minima: np.ndarray, best: Sequence[int], box: Sequence[float], *, stars_only: bool) -> None:
    inside = (minima[:, 0] >= box[0]) & (minima[:, 0] <= box[1]) & (minima[:, 1] >= box[2]) & (minima[:, 1] <= box[3])
    chosen = np.isin(np.arange(len(minima)), list(best))
    stars, rest = minima[chosen & inside], minima[~chosen & inside]
    edge: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.8, "zorder": 3}
    axes.scatter(stars[:, 0], stars[:, 1], marker="*", s=110, c=STAR, **edge)
    if not stars_only:
        axes.scatter(rest[:, 0], rest[:, 1], marker="o", s=22, c="white", **edge)
    axes.set_xlim(box[0], box[1])
    axes.set_ylim(box[2], box[3])


class Map(NamedTuple):
    """Values over a plane, with lines and points to draw over them.

    Attributes:
      x: the coordinates of the columns of `z`.
      y: the coordinates of the rows of `z`.
      z: the values; z[j, i] is the value at (x[i], y[j]).
      lines: the x and y coordinates of lines, by label.
      points: points to mark, by label.
    """

    x: Float[np.ndarray, " nx"]
    y: Float[np.ndarray, " ny"]
    z: Float[np.ndarray, "ny nx"]
    lines: Mapping[str, tuple[Any, Any]] = {}
    points: Mapping[str, tuple[float, float]] = {}


def maps(
    panels: Mapping[str, Map],
    *,
    labels: tuple[str, str],
    colour_label: str,
    limits: tuple[float, float] | None = None,
    log_x: bool = False,
    colours: str = "viridis",
    title: str = "",
) -> Figure:
    """Draw maps side by side, on one color scale. Cells that are not finite stay gray.

    Args:
      panels: the maps, by title.
      labels: the labels of the x and y axes.
      colour_label: the label of the color bar.
      limits: the range of the color scale. Default: that of all finite values.
      log_x: whether the x axis is logarithmic. Default False.
      colours: the name of matplotlib's color map. Default "viridis".
      title: the figure's title.

    Returns:
      The figure.

    Raises:
      ValueError: if there is no map, or the shape of a map does not fit.
    """
    require_labels(labels)
    require_texts(title=title, colour_label=colour_label)
    require_flags(log_x=log_x)
    if not isinstance(colours, str) or colours not in colormaps:
        raise ValueError(f"colours: expected the name of a color map of matplotlib, got {describe(colours)}")
    require_parts("panels", panels, Map, "a Map")
    panels = {name: _as_map(f"panels[{name!r}]", panel) for name, panel in panels.items()}
    finite = np.concatenate([panel.z[np.isfinite(panel.z)] for panel in panels.values()])
    if limits is None and finite.size == 0:
        raise ValueError("panels: expected at least one finite value, got none")
    low, high = (float(finite.min()), float(finite.max())) if limits is None else as_limits("limits", limits)
    norm = Normalize(low, high)
    figure = Figure(figsize=(4.6 * len(panels) + 0.8, 4.9), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    handles: dict[str, Any] = {}
    for place, (name, panel) in zip(axes, panels.items(), strict=True):
        place.set_facecolor(_NOWHERE)
        place.pcolormesh(panel.x, panel.y, panel.z, norm=norm, cmap=colours, shading="nearest", rasterized=True)
        if log_x:
            place.set_xscale("log")
        bounds = place.get_xlim(), place.get_ylim()
        for number, (label, (x, y)) in enumerate(panel.lines.items()):
            dash = ("solid", "dashed", "dotted")[number % 3]
            place.plot(x, y, color="white", linewidth=3.2)
            handles[label] = place.plot(x, y, color="#b2182b", linewidth=1.6, linestyle=dash, label=label)[0]
        for label, (x, y) in panel.points.items():
            handles[label] = place.scatter(
                [x], [y], marker="*", s=150, c=STAR, edgecolors="black", linewidths=0.9, zorder=3, label=label
            )
        place.set_xlim(*bounds[0])
        place.set_ylim(*bounds[1])
        place.set_title(name, fontsize=11)
        place.set_xlabel(labels[0])
    axes[0].set_ylabel(labels[1])
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[
        bool((finite < low).any()), bool((finite > high).any())
    ]
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=list(axes), fraction=0.05, pad=0.02, extend=extend)
    bar.set_label(colour_label)
    if handles:
        figure.legend(
            handles=list(handles.values()), loc="outside lower center", ncols=len(handles), fontsize=9, frameon=False
        )
    if title:
        figure.suptitle(title)
    return figure


def _as_map(name: str, panel: Map) -> Map:
    """Convert the fields of one map to arrays, and raise unless they fit."""
    x, y = as_vector(f"{name}.x", panel.x), as_vector(f"{name}.y", panel.y)
    z = as_drawn(f"{name}.z", panel.z, finite=False)
    if z.shape != (y.size, x.size):
        raise ValueError(f"{name}: expected z of shape {(y.size, x.size)}, got {z.shape}")
    as_curves(f"{name}.lines", panel.lines, least=0)
    require_mapping(f"{name}.points", panel.points, "from labels to x and y coordinates")
    for label, point in panel.points.items():
        as_numbers(f"{name}.points[{label!r}]", point, shape=(2,))
    return panel._replace(x=x, y=y, z=z)
