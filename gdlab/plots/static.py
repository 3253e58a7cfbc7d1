"""Static pictures of functions and of descents on them, as matplotlib Figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from gdlab.plots.style import GROUND, STAR, line_style
from gdlab.runs import atomic_path
from gdlab.types import Grid

SURFACE_MAP = "viridis"


def save(figure: Figure, path: str | Path, dpi: int = 150) -> None:
    """Write a figure in the format of the path's suffix (png, pdf, svg), atomically."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def levels(z: Float[np.ndarray, "ny nx"], count: int = 12) -> Float[np.ndarray, " levels"]:
    """About `count` contour levels at round values, with the least and the largest at the ends.

    Where values are skewed they stand at round distances from the least value, spaced in logarithm.

    Skewed means that half of all values lie within the lowest tenth of the range, as in Rosenbrock's valley.
    """
    z = np.asarray(z, float)
    z = z[np.isfinite(z)]
    if z.size == 0:
        raise ValueError("z: wanted at least one finite value, got none")
    low, high = float(z.min()), float(z.max())
    if high <= low:
        return np.array([low, low + max(abs(low), 1.0) * 1e-6])
    above = z - low
    if np.median(above) >= 0.1 * (high - low):
        inner = np.asarray(MaxNLocator(count).tick_values(low, high))
    else:
        smallest = max(float(np.quantile(above[above > 0], 0.002)), 1e-6 * (high - low))
        decades = np.arange(np.floor(np.log10(smallest)), np.ceil(np.log10(high - low)) + 1)
        steps = (1, 2, 5) if decades.size < count / 3 else (1, 3) if decades.size < count else (1,)
        marks = np.outer(10.0**decades, steps).ravel()
        inner = low + marks[marks >= smallest]
    return np.concatenate([[low], inner[(inner > low) & (inner < high)], [high]])


def _number(value: float, position: Any = None) -> str:
    text = f"{value:.0f}" if 100 <= abs(value) < 1e5 else f"{value:.2g}"
    return "0" if text == "-0" else text


VALUES = FuncFormatter(_number)


def _labels(axes: Axes, labels: tuple[str, str]) -> None:
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])


def _ground(grid: Grid, labels: tuple[str, str], title: str, names: Sequence[str]) -> tuple[Figure, Axes]:
    """A figure of filled contours, labelled lines over them and a colour bar, with room at the right for a legend.

    Sizes are set by hand, in inches: matplotlib's automatic layouts cut labels off beside a legend outside the axes.
    """
    ratio = float(np.ptp(grid.y) / np.ptp(grid.x))
    ratio = ratio if 0.5 <= ratio <= 2 else 1.0
    wide, high = (4.3, 4.3 * ratio) if ratio <= 1 else (4.3 / ratio, 4.3)
    left, bottom, top, bar = 0.65, 0.55, 0.3 + 0.22 * len(title.splitlines()), 1.1
    legend = 0.75 + 0.085 * max((len(name) for name in names), default=0) if names else 0.1
    width, height = left + wide + bar + legend, bottom + high + top
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, bottom / height, wide / width, high / height))
    at = levels(grid.z)
    filled = axes.contourf(grid.x, grid.y, grid.z, levels=at, cmap=GROUND, norm=_norm(at))
    lines = axes.contour(grid.x, grid.y, grid.z, levels=at[1:-1], colors="#33485a", linewidths=0.5, alpha=0.7)
    axes.clabel(lines, np.asarray(lines.levels)[::3], fontsize=7, fmt=_number, inline_spacing=2)
    figure.colorbar(filled, cax=axes.inset_axes((1.03, 0, 0.04, 1)), label="value", format=VALUES)
    axes.set_xlim(grid.x[0], grid.x[-1])
    axes.set_ylim(grid.y[0], grid.y[-1])
    _labels(axes, labels)
    axes.set_title(title)
    return figure, axes


def _legend(figure: Figure, axes: Axes) -> None:
    """A legend at the right of the colour bar."""
    inches = axes.get_position().width * figure.get_figwidth()
    axes.legend(loc="upper left", bbox_to_anchor=(1 + 1.1 / inches, 1.02), frameon=False, fontsize=9)


def _norm(at: np.ndarray) -> BoundaryNorm:
    """One shade a band, whatever the bands' widths."""
    return BoundaryNorm(at, 256)


def _mark(axes: Axes, starts: Any, minimizers: Any) -> None:
    if starts is not None:
        points = np.unique(np.atleast_2d(starts), axis=0)
        axes.plot(points[:, 0], points[:, 1], "o", mfc="white", mec="black", ms=7, label="start", zorder=6, ls="none")
    if minimizers is not None and np.size(minimizers):
        points = np.atleast_2d(minimizers)
        axes.plot(
            points[:, 0], points[:, 1], "*", mfc=STAR, mec="black", ms=13, label="global minimizer", zorder=7, ls="none"
        )


def contour(
    grid: Grid,
    *,
    minimizers: Any = None,
    title: str = "",
    labels: tuple[str, str] = ("$x_1$", "$x_2$"),
) -> Figure:
    """Labelled contour lines over filled contours of a 2-D function. minimizers: shape (count, 2), drawn as stars."""
    named = ["global minimizer"] if minimizers is not None else []
    figure, axes = _ground(grid, labels, title, named)
    _mark(axes, None, minimizers)
    if named:
        _legend(figure, axes)
    return figure


def _space(title: str, labels: tuple[str, str]) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.8, 5.4), layout="constrained")
    axes: Any = figure.add_subplot(projection="3d")
    axes.set_title(title)
    _labels(axes, labels)
    axes.set_zlabel("value")
    axes.view_init(elev=32, azim=-55)
    return figure, axes


def _colour_bar(figure: Figure, axes: Any, drawn: Any) -> None:
    """A colour bar beside axes in space, with at most nine of the levels named."""
    at = drawn.norm.boundaries
    ticks = at[:: max(1, len(at) // 8)]
    figure.colorbar(drawn, ax=axes, shrink=0.65, pad=0.12, label="value", ticks=ticks, format=VALUES)


def scatter(
    grid: Grid,
    *,
    points: int = 61,
    title: str = "",
    labels: tuple[str, str] = ("$x_1$", "$x_2$"),
) -> Figure:
    """The function's values as points in space, thinned to at most `points` a side and coloured by value."""
    figure, axes = _space(title, labels)
    i = np.unique(np.linspace(0, grid.x.size - 1, min(points, grid.x.size)).round().astype(int))
    j = np.unique(np.linspace(0, grid.y.size - 1, min(points, grid.y.size)).round().astype(int))
    x, y = np.meshgrid(grid.x[i], grid.y[j])
    z = grid.z[np.ix_(j, i)]
    drawn = axes.scatter(
        x.ravel(),
        y.ravel(),
        z.ravel(),
        c=z.ravel(),
        cmap=SURFACE_MAP,
        norm=_norm(levels(grid.z, 24)),
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
    """`count` contour lines of the function, each at its own height in space."""
    figure, axes = _space(title, labels)
    at = levels(grid.z, count)
    axes.contour3D(grid.x, grid.y, grid.z, at, cmap=SURFACE_MAP, norm=_norm(at), linewidths=0.9)
    _colour_bar(figure, axes, ScalarMappable(_norm(at), SURFACE_MAP))
    return figure


def surface(
    grid: Grid,
    *,
    title: str = "",
    labels: tuple[str, str] = ("$x_1$", "$x_2$"),
) -> Figure:
    """The function as a shaded surface with its filled contours on the floor below."""
    figure, axes = _space(title, labels)
    x, y = np.meshgrid(grid.x, grid.y)
    fine, at = _norm(levels(grid.z, 40)), levels(grid.z)
    drawn = axes.plot_surface(
        x, y, grid.z, cmap=SURFACE_MAP, norm=fine, rcount=min(120, grid.y.size), ccount=min(120, grid.x.size), lw=0
    )
    low, high = float(np.nanmin(grid.z)), float(np.nanmax(grid.z))
    floor = low - 0.35 * (high - low)
    axes.contourf(
        grid.x, grid.y, grid.z, zdir="z", offset=floor, levels=at, norm=_norm(at), cmap=SURFACE_MAP, alpha=0.8
    )
    axes.set_zlim(floor, high)
    _colour_bar(figure, axes, drawn)
    return figure


def as_path(name: str, path: Any) -> Float[np.ndarray, "points 2"]:
    """A path as an array of points; raises ValueError for any other shape."""
    array = np.asarray(path, float)
    if array.ndim != 2 or array.shape[1] != 2 or array.shape[0] == 0:
        raise ValueError(f"paths[{name!r}]: wanted points of shape (count, 2), got shape {array.shape}")
    return array


def paths(
    grid: Grid,
    paths: Mapping[str, Any],
    *,
    minimizers: Any = None,
    title: str = "",
    labels: tuple[str, str] = ("$x_1$", "$x_2$"),
) -> Figure:
    """Several descents' paths on one contour.

    paths: a name to points of shape (count, 2), start first; points outside the grid leave the picture. Each path has
    its own colour and dash pattern (12 before they repeat) and a filled end; starts are white circles, minimizers
    stars, and the legend is outside.
    """
    tracks = {name: as_path(name, path) for name, path in paths.items()}
    figure, axes = _ground(grid, labels, title, [*tracks, "global minimizer"])
    draw_tracks(axes, tracks)
    _mark(axes, [track[0] for track in tracks.values()] if tracks else None, minimizers)
    _legend(figure, axes)
    return figure


def draw_tracks(axes: Axes, tracks: Mapping[str, Float[np.ndarray, "points 2"]]) -> list[list[Line2D]]:
    """Draw each track as a line over a white edge, with a dot at its end; returns [edge, line, end] of each.

    Lines grow thinner from the first to the last and all edges lie below all lines, so that tracks that coincide are
    still all seen.
    """
    drawn = []
    for index, (name, track) in enumerate(tracks.items()):
        style = line_style(index)
        width = 1.2 + 1.4 * (1 - index / max(len(tracks) - 1, 1))
        x, y = track.T
        (edge,) = axes.plot(x, y, color="white", lw=width + 1.2, zorder=3.5, solid_joinstyle="round")
        (line,) = axes.plot(x, y, lw=width, label=name, zorder=4, solid_joinstyle="round", **style)
        (end,) = axes.plot(x[-1:], y[-1:], "o", mfc=style["color"], mec="white", ms=7, zorder=5)
        drawn.append([edge, line, end])
    return drawn


def values(
    series: Mapping[str, Any],
    *,
    minimum: float = 0.0,
    title: str = "",
    labels: tuple[str, str] = ("step", "value above the minimum"),
) -> Figure:
    """Value against step, on a logarithmic axis above the known minimum. series: a name to values of shape (steps,)."""
    above = {name: (np.arange(len(value)), np.asarray(value, float) - minimum) for name, value in series.items()}
    return curves(above, title=title, labels=labels, log_x=False)


def curves(
    series: Mapping[str, tuple[Any, Any]],
    *,
    title: str = "",
    labels: tuple[str, str] = ("x", "y"),
    log_x: bool = True,
    log_y: bool = True,
    guides: Sequence[tuple[Any, Any, str]] = (),
) -> Figure:
    """Curves with a legend outside. series: a name to (x, y). guides: thin grey lines (x, y, text at the end)."""
    figure = Figure(figsize=(7.6, 4.6), layout="constrained")
    axes = figure.add_subplot()
    draw_curves(axes, series, log_x=log_x, log_y=log_y, guides=guides)
    axes.set_title(title)
    _labels(axes, labels)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def draw_curves(
    axes: Axes,
    series: Mapping[str, tuple[Any, Any]],
    *,
    log_x: bool = True,
    log_y: bool = True,
    guides: Sequence[tuple[Any, Any, str]] = (),
) -> None:
    """Draw what `curves` draws on axes of your own, for figures of several panels."""
    for x, y, text in guides:
        axes.plot(x, y, color="0.6", lw=0.8, zorder=1)
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.5}
        axes.annotate(text, (x[-1], y[-1]), color="0.35", fontsize=8, ha="left", va="center", bbox=box, zorder=5)
    for index, (name, (x, y)) in enumerate(series.items()):
        axes.plot(x, y, lw=1.7, label=name, zorder=3, **line_style(index))
    axes.set_xscale("log" if log_x else "linear")
    axes.set_yscale("log" if log_y else "linear")
    axes.grid(which="major", color="0.9", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
