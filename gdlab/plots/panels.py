"""Small multiples: each descent on a contour plot of its own."""

import textwrap
from collections.abc import Collection, Mapping, Set
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator

from gdlab.arguments import require_count, require_mapping, require_strings
from gdlab.plots.canvas import banded, levels, masked, value_format
from gdlab.plots.checks import as_grid, as_minimizers, as_tracks, require_labels, require_texts
from gdlab.plots.style import GROUND, PALETTE, STAR
from gdlab.types import Grid

PANEL = 1.3
"""Width of a panel in inches."""


def panels(
    grid: Grid,
    paths: Mapping[str, Any],
    *,
    notes: Mapping[str, str] | None = None,
    groups: Mapping[str, Collection[str]] | None = None,
    minimizers: Any = None,
    columns: int = 7,
    title: str = "",
    caption: str = "",
    labels: tuple[str, str] = ("$x_1$", "$x_2$"),
) -> Figure:
    """Draw each descent on a contour plot of its own, for more paths than one plot can distinguish.

    All panels share their axes and the color scale.

    Args:
      grid: the function's values, as returned by `evaluate_grid`.
      paths: the points of each descent, of shape (count, 2), start first, by name. There is one panel per path, row
        by row in the mapping's order. Points outside the grid are not visible.
      notes: a line of text under each name. Default none.
      groups: the names of the paths in each group, by a word that describes them. Each group has one color (12 before
        they repeat), which is explained below the panels. Paths in no group have the first color. Default none.
      minimizers: global minimizers of shape (count, 2), drawn as stars. Default None.
      columns: the number of panels per row. Default 7.
      title: the figure's title.
      caption: small lines of text under the title.
      labels: the labels of the x and y axes.

    Returns:
      The figure.

    Raises:
      ValueError: if there is no path, if `notes` or `groups` name a path that does not exist, or if points have
        another shape.
    """
    require_count("columns", columns)
    require_texts(title=title, caption=caption)
    require_labels(labels)
    grid, tracks, stars = as_grid(grid), as_tracks(paths), as_minimizers(minimizers)
    if not tracks:
        raise ValueError("paths: expected at least one path, got none")
    notes, groups = {} if notes is None else notes, {} if groups is None else groups
    group_of = _require_words(notes, groups, tracks)
    columns = min(columns, len(tracks))
    rows = -(-len(tracks) // columns)
    ratio = float(np.ptp(grid.y) / np.ptp(grid.x))
    high = PANEL * (ratio if 0.5 <= ratio <= 2 else 1.0)
    head, gap, left, right = 0.36 if notes else 0.22, 0.1, 0.5, 0.1
    width = max(left + columns * (PANEL + gap) - gap + right, 7.2)
    title, caption = fitted(title, 11, width - left - right), fitted(caption, 8, width - left - right)
    heading = 0.14 + 0.2 * len(title.splitlines())
    top, bottom = heading + 0.16 * len(caption.splitlines()) + 0.06, 0.95
    height = top + rows * (head + high) + bottom
    figure = Figure(figsize=(width, height))
    figure.text(left / width, 1 - 0.1 / height, title, fontsize=11, va="top", linespacing=1.3)
    figure.text(left / width, 1 - heading / height, caption, fontsize=8, va="top", linespacing=1.35)
    at = levels(grid.z)
    colours = {group: PALETTE[k % len(PALETTE)] for k, group in enumerate(groups)}
    for index, (name, track) in enumerate(tracks.items()):
        row, column = divmod(index, columns)
        corner = left + column * (PANEL + gap), height - top - (row + 1) * (head + high)
        axes = figure.add_axes((corner[0] / width, corner[1] / height, PANEL / width, high / height))
        _draw_ground(axes, grid, at)
        _draw_track(axes, track, colours.get(group_of.get(name, ""), PALETTE[0]), stars)
        if name in notes:
            axes.annotate(notes[name], (0, 1), (0, 3), **_line(notes[name], 6.5))
        axes.annotate(name, (0, 1), (0, 11.5 if notes else 3), **_line(name, 8, "bold"))
        axes.tick_params(
            length=2, pad=2, labelsize=6.5, labelleft=column == 0, labelbottom=index + columns >= len(tracks)
        )
    middle = top + rows * (head + high) / 2
    figure.text(0.12 / width, 1 - middle / height, labels[1], rotation=90, va="center", ha="center", fontsize=9)
    centre = left + (columns * (PANEL + gap) - gap) / 2
    figure.text(centre / width, (bottom - 0.27) / height, labels[0], va="center", ha="center", fontsize=9)
    scale = figure.add_axes((left / width, 0.3 / height, 2.6 / width, 0.1 / height))
    bar = figure.colorbar(
        ScalarMappable(banded(at), GROUND), cax=scale, orientation="horizontal", format=value_format(at)
    )
    bar.set_ticks(list(at[:: max(1, len(at) // 5)]))
    bar.ax.tick_params(labelsize=6.5, length=2, pad=2)
    bar.ax.set_title("value", fontsize=7, pad=2, loc="left")
    _explain(figure, colours, stars is not None, ((left + 2.9) / width, 0.12 / height))
    return figure


def _require_words(notes: Any, groups: Any, tracks: Mapping[str, Any]) -> dict[str, str]:
    """Raise unless notes and groups are about paths that exist, and return the group of each path."""
    require_mapping("notes", notes, "from names of paths to texts")
    require_texts(**{f"notes[{name!r}]": note for name, note in notes.items()})
    require_mapping("groups", groups, "from words to names of paths")
    for group, names in groups.items():
        require_strings(
            f"groups[{group!r}]", list(names) if isinstance(names, Set) else names, expected="names of paths"
        )
    group_of = {name: group for group, names in groups.items() for name in names}
    for argument, stray in (("notes", set(notes) - set(tracks)), ("groups", set(group_of) - set(tracks))):
        if stray:
            raise ValueError(f"{argument}: expected names of paths, got {min(stray, key=str)!r}")
    return group_of


def _draw_ground(axes: Axes, grid: Grid, at: Float[np.ndarray, " levels"]) -> None:
    """Draw bands of value as an image: small, quick to draw, and alike in every panel."""
    dx, dy = np.diff(grid.x[:2])[0] / 2, np.diff(grid.y[:2])[0] / 2
    frame = (grid.x[0] - dx, grid.x[-1] + dx, grid.y[0] - dy, grid.y[-1] + dy)
    axes.imshow(masked(grid.z), origin="lower", extent=frame, aspect="auto", cmap=GROUND, norm=banded(at))
    axes.set_xlim(grid.x[0], grid.x[-1])
    axes.set_ylim(grid.y[0], grid.y[-1])
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        rim = 0.06 * (high - low)  # labels there would touch those of the next panel
        axis.set_ticks([tick for tick in MaxNLocator(5).tick_values(low, high) if low + rim < tick < high - rim])
    axes.spines[:].set_linewidth(0.5)


def _draw_track(axes: Axes, track: Float[np.ndarray, "points 2"], colour: str, stars: np.ndarray | None) -> None:
    x, y = track.T
    if stars is not None:
        axes.plot(*stars.T, "*", mfc=STAR, mec="black", mew=0.5, ms=8, zorder=5)
    axes.plot(x, y, color="white", lw=1.9, zorder=3, solid_joinstyle="round")
    axes.plot(x, y, color=colour, lw=1.0, zorder=4, solid_joinstyle="round")
    axes.plot(x[:1], y[:1], "o", mfc="white", mec="black", mew=0.6, ms=3.6, zorder=6)
    axes.plot(x[-1:], y[-1:], "o", mfc=colour, mec="white", mew=0.5, ms=3.8, zorder=7)


def fitted(text: str, size: float, wide: float) -> str:
    """Break a text into lines of at most `wide` inches, for letters with a mean width of 0.53 times their size."""
    fit = int(72 * wide / (0.53 * size))
    return "\n".join(line for part in text.splitlines() for line in textwrap.wrap(part, fit))


def _line(text: str, size: float, weight: str = "normal") -> dict[str, Any]:
    """Return how to set a line of text over a panel: in `size` points, or smaller if it is wider than the panel."""
    font = FontProperties(weight=weight)
    wide = TextPath((0, 0), text or " ", size=size, prop=font).get_extents().width if text.strip() else 0.0
    return {
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "weight": weight,
        "fontsize": size * min(1.0, 72 * (PANEL - 0.05) / max(wide, 1.0)),
    }


def _explain(figure: Figure, colours: Mapping[str, str], stars: bool, corner: tuple[float, float]) -> None:
    """Add a legend on the strip below the panels."""
    marks = [Line2D([], [], ls="", marker="o", mfc="white", mec="black", mew=0.6, ms=4, label="start")]
    if stars:
        marks.append(Line2D([], [], ls="", marker="*", mfc=STAR, mec="black", mew=0.5, ms=8, label="global minimizer"))
    for group, colour in colours.items():
        marks.append(Line2D([], [], color=colour, marker="o", mec="white", ms=5, lw=1.2, label=group))
    figure.legend(
        handles=marks, loc="lower left", bbox_to_anchor=corner, ncols=2, frameon=False, fontsize=7.5, columnspacing=1.5
    )
