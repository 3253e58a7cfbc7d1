"""Figures of a function of two variables in the plane and in space, and of descents on it."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gdlab.arguments import require_count
from gdlab.plots.canvas import banded, levels, masked, value_format
from gdlab.plots.checks import as_grid, as_minimizers, as_tracks, require_labels, require_texts
from gdlab.plots.style import GROUND, STAR, line_style
from gdlab.types import Grid

SURFACE_MAP = "viridis"


def contour(
    grid: Grid,
    *,
    minimizers: Any = None,
    title: str = "",
    labels: tuple[str, str] = ("$x_1$", "$x_2$"),
) -> Figure:
    """Draw labeled contour lines over the filled contours of a function of two variables.

    Args:
      grid: the function's values, as returned by `evaluate_grid`.
      minimizers: global minimizers of shape (count, 2), drawn as stars. Default None.
      title: the figure's title.
      labels: the labels of the x and y axes.

    Returns:
      The figure.
    """
    grid, minimizers = _checked(grid, title, labels), as_minimizers(minimizers)
    named = ["global minimizer"] if minimizers is not None else []
    figure, axes, bar = _ground(grid, labels, title, named)
    _mark(axes, None, minimizers)
    if named:
        _legend(figure, axes, bar)
    return figure


def paths(
    grid: Grid,
    paths: Mapping[str, Any],
    *,
    minimizers: Any = None,
    title: str = "",
    labels: tuple[str, str] = ("$x_1$", "$x_2$"),
) -> Figure:
    """Draw the paths of several descents over one contour plot.

    Each path has its own color and dash pattern (12 before they repeat) and a filled dot at its end. Starts are white
    circles, minimizers are stars, and the legend is outside the axes.

    Args:
      grid: the function's values, as returned by `evaluate_grid`.
      paths: the points of each descent, of shape (count, 2), start first, by name. Points outside the grid are not
        visible.
      minimizers: global minimizers of shape (count, 2), drawn as stars. Default None.
      title: the figure's title.
      labels: the labels of the x and y axes.

    Returns:
      The figure.
    """
    return draw_tracks(grid, paths, minimizers=minimizers, title=title, labels=labels)[0]


def draw_tracks(
    grid: Grid,
    paths: Mapping[str, Any],
    *,
    minimizers: Any = None,
    title: str = "",
    labels: tuple[str, str] = ("$x_1$", "$x_2$"),
) -> tuple[Figure, list[tuple[Line2D, Line2D, Line2D]]]:
    """Return the figure of `paths`, and the white edge, the line and the end dot of each path, for animations.

    Lines become thinner from the first to the last, and all edges lie below all lines, so that paths that coincide
    are all visible.
    """
    grid, tracks, minimizers = _checked(grid, title, labels), as_tracks(paths), as_minimizers(minimizers)
    figure, axes, bar = _ground(grid, labels, title, [*tracks, "start", "global minimizer"])
    drawn = []
    for index, (name, track) in enumerate(tracks.items()):
        style = line_style(index)
        width = 1.2 + 1.4 * (1 - index / max(len(tracks) - 1, 1))
        x, y = track.T
        (edge,) = axes.plot(x, y, color="white", lw=width + 1.2, zorder=3.5, solid_joinstyle="round")
        (line,) = axes.plot(x, y, lw=width, label=name, zorder=4, solid_joinstyle="round", gid="named", **style)
        (end,) = axes.plot(x[-1:], y[-1:], "o", mfc=style["color"], mec="white", ms=7, zorder=5)
        drawn.append((edge, line, end))
    _mark(axes, [track[0] for track in tracks.values()] if tracks else None, minimizers)
    _legend(figure, axes, bar)
    return figure, drawn


def scatter(
    grid: Grid,
    *,
    points: int = 61,
    title: str = "",
    labels: tuple[str, str] = ("$x_1$", "$x_2$"),
) -> Figure:
    """Draw a function's values as points in space, colored by value.

    Args:
      grid: the function's values, as returned by `evaluate_grid`.
      points: the largest number of points per side. Default 61.
      title: the figure's title.
      labels: the labels of the x and y axes.

    Returns:
      The figure.
    """
    require_count("points", points, low=2)
    grid = _checked(grid, title, labels)
    figure, axes = _space(title, labels)
    i = np.unique(np.linspace(0, grid.x.size - 1, min(points, grid.x.size)).round().astype(int))
    j = np.unique(np.linspace(0, grid.y.size - 1, min(points, grid.y.size)).round().astype(int))
    x, y = np.meshgrid(grid.x[i], grid.y[j])
    z = masked(grid.z)[np.ix_(j, i)]
    drawn = axes.scatter(
        x.ravel(),
        y.ravel(),
        z.ravel(),
        c=z.ravel(),
        cmap=SURFACE_MAP,
        norm=banded(levels(grid.z, 24)),
        s=5,
        depthshade=False,
    )
    _colour_bar(figure, axes, drawn)
    return figure


def contour3d(
    grid: Grid,
    *,
    count: int = 40,
    title: str = "",
    labels: tuple[str, str] = ("$x_1$", "$x_2$"),
) -> Figure:
    """Draw contour lines of a function in space, each at its own height.

    Args:
      grid: the function's values, as returned by `evaluate_grid`.
      count: about how many lines to draw. Default 40.
      title: the figure's title.
      labels: the labels of the x and y axes.

    Returns:
      The figure.
    """
    require_count("count", count)
    grid = _checked(grid, title, labels)
    figure, axes = _space(title, labels)
    at = levels(grid.z, count)
    axes.contour3D(grid.x, grid.y, masked(grid.z), at, cmap=SURFACE_MAP, norm=banded(at), linewidths=0.9)
    _colour_bar(figure, axes, ScalarMappable(banded(at), SURFACE_MAP))
    return figure


def surface(
    grid: Grid,
    *,
    title: str = "",
    labels: tuple[str, str] = ("$x_1$", "$x_2$"),
) -> Figure:
    """Draw a function as a shaded surface, with its filled contours on the floor below.

    Args:
      grid: the function's values, as returned by `evaluate_grid`.
      title: the figure's title.
      labels: the labels of the x and y axes.

    Returns:
      The figure.
    """
    grid = _checked(grid, title, labels)
    figure, axes = _space(title, labels)
    x, y = np.meshgrid(grid.x, grid.y)
    z = np.where(np.isfinite(grid.z), grid.z, np.nan)
    fine, at = banded(levels(grid.z, 40)), levels(grid.z)
    drawn = axes.plot_surface(
        x, y, z, cmap=SURFACE_MAP, norm=fine, rcount=min(120, grid.y.size), ccount=min(120, grid.x.size), lw=0
    )
    floor = at[0] - 0.35 * (at[-1] - at[0])
    axes.contourf(
        grid.x, grid.y, masked(z), zdir="z", offset=floor, levels=at, norm=banded(at), cmap=SURFACE_MAP, alpha=0.8
    )
    axes.set_zlim(floor, at[-1])
    _colour_bar(figure, axes, drawn)
    return figure


def _checked(grid: Any, title: Any, labels: Any) -> Grid:
    require_texts(title=title)
    require_labels(labels)
    return as_grid(grid)


def _space(title: str, labels: tuple[str, str]) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.8, 5.4), layout="constrained")
    axes: Any = figure.add_subplot(projection="3d")
    axes.set_title(_wrapped(title))
    _label_axes(axes, labels)
    axes.set_zlabel("value")
    axes.view_init(elev=32, azim=-55)
    return figure, axes


def _colour_bar(figure: Figure, axes: Any, drawn: Any) -> None:
    """Add a color bar beside axes in space, with labels at some of the levels."""
    at = drawn.norm.boundaries
    ticks = at[:: max(1, len(at) // 8)]
    figure.colorbar(drawn, ax=axes, shrink=0.65, pad=0.12, label="value", ticks=ticks, format=value_format(at))


def _ground(grid: Grid, labels: tuple[str, str], title: str, names: Sequence[str]) -> tuple[Figure, Axes, float]:
    """Make a figure of filled contours, labeled lines over them and a color bar, with room on the right for a legend.

    Sizes are set by hand, in inches, because matplotlib's automatic layouts cut off labels beside a legend outside
    the axes. The returned number is the width of the color bar with its labels, in inches: the legend begins there.
    """
    ratio = float(np.ptp(grid.y) / np.ptp(grid.x))
    ratio = ratio if 0.5 <= ratio <= 2 else 1.0
    wide, high = (4.3, 4.3 * ratio) if ratio <= 1 else (4.3 / ratio, 4.3)
    title = _wrapped(title)
    at, z = levels(grid.z), masked(grid.z)
    format_value = value_format(at)
    left, bottom, top = 0.75, 0.55, 0.3 + 0.22 * len(title.splitlines())
    bar = 0.75 + 0.09 * max(len(format_value(value)) for value in at)
    legend = 0.75 + 0.085 * max((len(name) for name in names), default=0) if names else 0.1
    bottom = max(bottom, 0.21 * (len(names) + 1) - high)  # a long legend reaches below the axes
    width, height = left + wide + bar + legend, bottom + high + top
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, bottom / height, wide / width, high / height))
    filled = axes.contourf(grid.x, grid.y, z, levels=at, cmap=GROUND, norm=banded(at))
    lines = axes.contour(grid.x, grid.y, z, levels=at[1:-1], colors="#33485a", linewidths=0.5, alpha=0.7)
    axes.clabel(lines, np.asarray(lines.levels)[::3], fontsize=7, fmt=format_value, inline_spacing=2)
    figure.colorbar(filled, cax=axes.inset_axes((1.03, 0, 0.04, 1)), label="value", format=format_value)
    axes.set_xlim(grid.x[0], grid.x[-1])
    axes.set_ylim(grid.y[0], grid.y[-1])
    _label_axes(axes, labels)
    axes.set_title(title)
    return figure, axes, bar


def _legend(figure: Figure, axes: Axes, bar: float) -> None:
    """Add a legend on the right of the color bar, with names that begin with an underscore too."""
    inches = axes.get_position().width * figure.get_figwidth()
    named = [line for line in axes.get_lines() if line.get_gid() == "named"]
    axes.legend(
        named,
        [str(line.get_label()) for line in named],
        loc="upper left",
        bbox_to_anchor=(1 + bar / inches, 1.02),
        frameon=False,
        fontsize=9,
    )


def _mark(axes: Axes, starts: Any, minimizers: Any) -> None:
    if starts is not None:
        x, y = np.unique(starts, axis=0).T
        axes.plot(x, y, "o", mfc="white", mec="black", ms=7, label="start", zorder=6, gid="named")
    if minimizers is not None:
        x, y = minimizers.T
        axes.plot(x, y, "*", mfc=STAR, mec="black", ms=13, label="global minimizer", zorder=7, gid="named")


def _label_axes(axes: Axes, labels: tuple[str, str]) -> None:
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])


def _wrapped(title: str) -> str:
    """Break a title into lines that fit above the axes."""
    return "\n".join(line for part in title.splitlines() for line in textwrap.wrap(part, 58))
