"""Maps of two hyperparameters: the score of every setting of a grid."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from gdlab.analysis.landscapes import Landscape
from gdlab.arguments import require_count
from gdlab.plots.checks import require_texts
from gdlab.plots.scans import cell_edges
from gdlab.plots.scores import FAILED, ScoreScale, add_colors, require_landscape, rule, score_label, score_scale
from gdlab.plots.style import STAR


def setting_maps(landscape: Landscape, *, title: str = "", label: str = "", columns: int = 4) -> Figure:
    """Draw the scores over two hyperparameters, one panel for each optimizer and function, on one color scale.

    Dark is good, and a star marks the best setting. Settings of which most runs failed are hatched; a small cross marks
    those of which some did.

    Args:
      landscape: the scores of a grid of two hyperparameters, as from `gdlab.analysis.landscapes.landscape`.
      title: the figure's title.
      label: the label of the color bar. Default: the name of the score.
      columns: the largest number of panels per row. Default 4.

    Returns:
      The figure.

    Raises:
      TypeError: if `landscape` is none.
      ValueError: if it is not that of a grid of two hyperparameters.
    """
    landscape = require_landscape(landscape)
    require_texts(title=title, label=label)
    require_count("columns", columns)
    if landscape.shape is None or len(landscape.shape) != 2:
        raise ValueError(
            f"landscape: expected a grid of two hyperparameters, got {len(landscape.axes)} of a "
            f"{'search' if landscape.shape is None else 'grid'}; plots.settings chooses the picture"
        )
    across = min(columns, len(landscape.groups))
    down = -(-len(landscape.groups) // across)
    size = (4.6, 3.5) if across * down == 1 else (2.6, 2.3)
    size = (size[0], max(size[1], 0.2 * len(landscape.axes[1].labels)))
    figure = Figure(figsize=(size[0] * across + 1.2, size[1] * down + 0.5), layout="constrained")
    panels: Any = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    scale = score_scale(landscape.typical(), landscape.higher)
    for axes, group in zip(panels.flat, range(len(landscape.groups)), strict=False):
        _draw_map(axes, landscape, group, scale)
        axes.set_title(landscape.groups[group], fontsize=9)
    for place, axes in enumerate(panels.flat):
        if place >= len(landscape.groups):
            axes.set_visible(False)
        axes.label_outer()
        if place + across >= len(landscape.groups):  # the last panel of its column
            axes.tick_params(labelbottom=True)
            axes.xaxis.label.set_visible(True)
            axes.set_xlabel(landscape.axes[0].name.replace("_", " "))
    add_colors(figure, scale, panels, score_label(landscape, label))
    if entries := _entries(landscape):
        figure.legend(handles=entries, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw_map(axes: Axes, landscape: Landscape, group: int, scale: ScoreScale) -> None:
    """Draw one group; the first hyperparameter runs to the right."""
    x, y = landscape.axes
    order = np.lexsort(landscape.points[group].T)  # the second hyperparameter slowest
    shape = (len(y.values), len(x.values))
    typical, failed = landscape.typical()[group], landscape.failed()[group]
    cells = np.ma.masked_invalid(scale.drawable(typical[order]).reshape(shape))
    edges = [cell_edges(axis.values, logarithmic=axis.logarithmic) for axis in (x, y)]
    rule(axes, "x", x)
    rule(axes, "y", y)
    axes.tick_params(labelsize=8)
    axes.add_patch(_ground(axes))
    axes.pcolormesh(*edges, cells, norm=scale.norm(), cmap=scale.colors(), rasterized=True)
    partly = (failed > 0) & np.isfinite(typical)
    if partly.any():
        axes.plot(*landscape.points[group][partly].T, "x", color=FAILED, ms=3, mew=1, ls="none")
    best = landscape.best()[group]
    if np.isfinite(typical[best]):
        axes.plot(*landscape.points[group][best], "*", color=STAR, mec="black", mew=0.7, ms=12)
    axes.set_xlim(edges[0][0], edges[0][-1])
    axes.set_ylim(*(edges[1][[-1, 0]] if y.labels else edges[1][[0, -1]]))  # labels are read from the top


def _ground(axes: Axes) -> Patch:
    """Return the hatched ground, which shows where no cell is drawn."""
    return Rectangle((0, 0), 1, 1, transform=axes.transAxes, fc="0.93", ec="0.7", hatch="////", lw=0, zorder=0)


def _entries(landscape: Landscape) -> list[Any]:
    """Return what the legend says of runs that failed."""
    typical, failed = landscape.typical(), landscape.failed()
    found: list[Any] = []
    if np.isinf(typical).any():
        found.append(Patch(fc="0.93", ec="0.7", hatch="////", lw=0, label="diverged"))
    if ((failed > 0) & np.isfinite(typical)).any():
        name = f"some {landscape.repeats}s diverged" if landscape.repeats else "diverged"
        found.append(Line2D([], [], color=FAILED, marker="x", ms=4, ls="none", label=name))
    return found
