"""Static pictures of functions and of descents on them, as matplotlib Figures."""

import math
import textwrap
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

from gdlab.arguments import describe, require_count
from gdlab.plots.style import GROUND, STAR, line_style
from gdlab.runs import atomic_path
from gdlab.types import Grid

SURFACE_MAP = "viridis"


def save(figure: Figure, path: str | Path, dpi: int = 150) -> None:
    """Write a figure in the format of the path's suffix (png, pdf, svg), atomically."""
    if not Path(path).suffix:
        raise ValueError(f"path: wanted a suffix that names the format, such as .png, got {str(path)!r}")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def levels(z: Float[np.ndarray, "ny nx"], count: int = 12) -> Float[np.ndarray, " levels"]:
    """About `count` contour levels at round values, with the least and the largest at the ends.

    Where values are skewed they stand at round distances from the least value, spaced in logarithm. Skewed means that
    half of all values lie within the lowest tenth of the range, as in Rosenbrock's valley.
    """
    z = np.asarray(z, float)
    z = z[np.isfinite(z)]
    if z.size == 0:
        raise ValueError("z: wanted at least one finite value, got none")
    low, high = float(z.min()), float(z.max())
    if high <= low:
        return np.array([low, low + max(abs(low), 1.0)])
    above = z - low
    if np.median(above) >= 0.1 * (high - low):
        inner = np.asarray(MaxNLocator(count).tick_values(low, high))
    else:
        smallest = max(float(np.quantile(above[above > 0], 0.002)), 1e-6 * (high - low))
        decades = np.arange(np.floor(np.log10(smallest)), np.ceil(np.log10(high - low)) + 1)
        steps = (1, 2, 5) if decades.size < count / 3 else (1, 3) if decades.size < count else (1,)
        marks = np.outer(10.0**decades, steps).ravel()
        inner = low + marks[marks >= smallest]
        if np.sum(inner < high) < 3:  # few values, as of a step function
            inner = np.asarray(MaxNLocator(count).tick_values(low, high))
    return np.concatenate([[low], inner[(inner > low) & (inner < high)], [high]])


def _text(value: float, gap: float) -> str:
    """`value` with as many digits as tell it from a neighbour at distance `gap`, two at least."""
    digits = 2 if value == 0 or gap <= 0 else max(2, math.ceil(math.log10(abs(value) / gap)) + 1)
    if 10 ** (digits - 1) <= abs(value) < 1e6 or (100 <= abs(value) < 1e5 and digits <= 3):
        return f"{value:.0f}"
    return f"{value:.{min(digits, 15)}g}"


def _texts(at: Float[np.ndarray, " levels"]) -> FuncFormatter:
    """A format for values among `at`: each with the digits that its nearest neighbour asks for."""
    gaps = np.diff(at)
    nearest = np.minimum(np.append(gaps, np.inf), np.insert(gaps, 0, np.inf))
    scale = 1e-9 * float(np.abs(at).max())

    def text(value: float, position: Any = None) -> str:
        index = int(np.argmin(np.abs(at - value)))
        return _text(0.0 if abs(value) <= scale else value, float(nearest[index]))

    return FuncFormatter(text)


def _labels(axes: Axes, labels: tuple[str, str]) -> None:
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])


def _ground(grid: Grid, labels: tuple[str, str], title: str, names: Sequence[str]) -> tuple[Figure, Axes, float]:
    """A figure of filled contours, labelled lines over them and a colour bar, with room at the right for a legend.

    Returns the colour bar's width with its labels too, in inches: the legend begins there.

    Sizes are set by hand, in inches: matplotlib's automatic layouts cut labels off beside a legend outside the axes.
    """
    _require_grid(grid)
    ratio = float(np.ptp(grid.y) / np.ptp(grid.x))
    ratio = ratio if 0.5 <= ratio <= 2 else 1.0
    wide, high = (4.3, 4.3 * ratio) if ratio <= 1 else (4.3 / ratio, 4.3)
    title = _wrapped(title)
    at, z = levels(grid.z), _finite(grid.z)
    format_value = _texts(at)
    left, bottom, top = 0.75, 0.55, 0.3 + 0.22 * len(title.splitlines())
    bar = 0.75 + 0.09 * max(len(format_value(value)) for value in at)
    legend = 0.75 + 0.085 * max((len(name) for name in names), default=0) if names else 0.1
    bottom = max(bottom, 0.21 * (len(names) + 1) - high)  # a long legend reaches below the axes
    width, height = left + wide + bar + legend, bottom + high + top
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, bottom / height, wide / width, high / height))
    filled = axes.contourf(grid.x, grid.y, z, levels=at, cmap=GROUND, norm=_norm(at))
    lines = axes.contour(grid.x, grid.y, z, levels=at[1:-1], colors="#33485a", linewidths=0.5, alpha=0.7)
    axes.clabel(lines, np.asarray(lines.levels)[::3], fontsize=7, fmt=format_value, inline_spacing=2)
    figure.colorbar(filled, cax=axes.inset_axes((1.03, 0, 0.04, 1)), label="value", format=format_value)
    axes.set_xlim(grid.x[0], grid.x[-1])
    axes.set_ylim(grid.y[0], grid.y[-1])
    _labels(axes, labels)
    axes.set_title(title)
    return figure, axes, bar


def _legend(figure: Figure, axes: Axes, bar: float) -> None:
    """A legend at the right of the colour bar; names that begin with an underscore are shown too."""
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


def _wrapped(title: str) -> str:
    """A title in lines that fit over the axes."""
    return "\n".join(line for part in title.splitlines() for line in textwrap.wrap(part, 58))


def _finite(z: Float[np.ndarray, "ny nx"]) -> Any:
    """The values with those that are not finite masked, so that they stay blank."""
    return np.ma.masked_invalid(z)


def _norm(at: np.ndarray) -> BoundaryNorm:
    """One shade a band, whatever the bands' widths."""
    return BoundaryNorm(at, 256)


def _mark(axes: Axes, starts: Any, minimizers: Any) -> None:
    if starts is not None:
        x, y = np.unique(starts, axis=0).T
        axes.plot(x, y, "o", mfc="white", mec="black", ms=7, label="start", zorder=6, gid="named")
    if minimizers is not None:
        x, y = minimizers.T
        axes.plot(x, y, "*", mfc=STAR, mec="black", ms=13, label="global minimizer", zorder=7, gid="named")


def _as_minimizers(minimizers: Any) -> Float[np.ndarray, "count 2"] | None:
    """Minimizers as an array, None where there are none; raises ValueError for another shape."""
    if minimizers is None or np.size(minimizers) == 0:
        return None
    array = np.atleast_2d(np.asarray(minimizers, float))
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"minimizers: wanted points of shape (count, 2), got shape {np.shape(minimizers)}")
    return array


def _require_grid(grid: Any) -> None:
    if not isinstance(grid, Grid):
        raise TypeError(f"grid: wanted a Grid, as evaluate_grid makes, got {describe(grid)}")


def contour(
    grid: Grid,
    *,
    minimizers: Any = None,
    title: str = "",
    labels: tuple[str, str] = ("$x_1$", "$x_2$"),
) -> Figure:
    """Labelled contour lines over filled contours of a 2-D function. minimizers: shape (count, 2), drawn as stars."""
    minimizers = _as_minimizers(minimizers)
    named = ["global minimizer"] if minimizers is not None else []
    figure, axes, bar = _ground(grid, labels, title, named)
    _mark(axes, None, minimizers)
    if named:
        _legend(figure, axes, bar)
    return figure


def _space(grid: Grid, title: str, labels: tuple[str, str]) -> tuple[Figure, Any]:
    _require_grid(grid)
    figure = Figure(figsize=(6.8, 5.4), layout="constrained")
    axes: Any = figure.add_subplot(projection="3d")
    axes.set_title(_wrapped(title))
    _labels(axes, labels)
    axes.set_zlabel("value")
    axes.view_init(elev=32, azim=-55)
    return figure, axes


def _colour_bar(figure: Figure, axes: Any, drawn: Any) -> None:
    """A colour bar beside axes in space, with at most nine of the levels named."""
    at = drawn.norm.boundaries
    ticks = at[:: max(1, len(at) // 8)]
    figure.colorbar(drawn, ax=axes, shrink=0.65, pad=0.12, label="value", ticks=ticks, format=_texts(at))


def scatter(
    grid: Grid,
    *,
    points: int = 61,
    title: str = "",
    labels: tuple[str, str] = ("$x_1$", "$x_2$"),
) -> Figure:
    """The function's values as points in space, thinned to at most `points` a side and coloured by value."""
    require_count("points", points, low=2)
    figure, axes = _space(grid, title, labels)
    i = np.unique(np.linspace(0, grid.x.size - 1, min(points, grid.x.size)).round().astype(int))
    j = np.unique(np.linspace(0, grid.y.size - 1, min(points, grid.y.size)).round().astype(int))
    x, y = np.meshgrid(grid.x[i], grid.y[j])
    z = _finite(grid.z)[np.ix_(j, i)]
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
    require_count("count", count)
    figure, axes = _space(grid, title, labels)
    at = levels(grid.z, count)
    axes.contour3D(grid.x, grid.y, _finite(grid.z), at, cmap=SURFACE_MAP, norm=_norm(at), linewidths=0.9)
    _colour_bar(figure, axes, ScalarMappable(_norm(at), SURFACE_MAP))
    return figure


def surface(
    grid: Grid,
    *,
    title: str = "",
    labels: tuple[str, str] = ("$x_1$", "$x_2$"),
) -> Figure:
    """The function as a shaded surface with its filled contours on the floor below."""
    figure, axes = _space(grid, title, labels)
    x, y = np.meshgrid(grid.x, grid.y)
    z = np.where(np.isfinite(grid.z), grid.z, np.nan)
    fine, at = _norm(levels(grid.z, 40)), levels(grid.z)
    drawn = axes.plot_surface(
        x, y, z, cmap=SURFACE_MAP, norm=fine, rcount=min(120, grid.y.size), ccount=min(120, grid.x.size), lw=0
    )
    floor = at[0] - 0.35 * (at[-1] - at[0])
    axes.contourf(
        grid.x, grid.y, _finite(z), zdir="z", offset=floor, levels=at, norm=_norm(at), cmap=SURFACE_MAP, alpha=0.8
    )
    axes.set_zlim(floor, at[-1])
    _colour_bar(figure, axes, drawn)
    return figure


def as_tracks(paths: Any) -> dict[str, Float[np.ndarray, "points 2"]]:
    """Paths as arrays of points by name; raises for anything but a mapping to points of shape (count, 2)."""
    if not isinstance(paths, Mapping):
        raise TypeError(f"paths: wanted a mapping from names to points, got {describe(paths)}")
    tracks = {str(name): np.asarray(path, float) for name, path in paths.items()}
    for name, track in tracks.items():
        if track.ndim != 2 or track.shape[1] != 2 or track.shape[0] == 0:
            raise ValueError(f"paths[{name!r}]: wanted points of shape (count, 2), got shape {track.shape}")
    return tracks


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
    return draw_tracks(grid, paths, minimizers=minimizers, title=title, labels=labels)[0]


def draw_tracks(
    grid: Grid,
    paths: Mapping[str, Any],
    *,
    minimizers: Any = None,
    title: str = "",
    labels: tuple[str, str] = ("$x_1$", "$x_2$"),
) -> tuple[Figure, list[tuple[Line2D, Line2D, Line2D]]]:
    """The figure of `paths`, and of each path its white edge, its line and the dot at its end, to be moved.

    Lines grow thinner from the first to the last and all edges lie below all lines, so that tracks that coincide are
    still all seen.
    """
    tracks = as_tracks(paths)
    minimizers = _as_minimizers(minimizers)
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
