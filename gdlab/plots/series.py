"""Line plots: values over steps, or any numbers over others, with a legend outside the axes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gdlab.arguments import require_count, require_instance, require_mapping, require_number
from gdlab.plots.checks import (
    as_curve,
    as_curves,
    as_drawn,
    as_guides,
    as_limits,
    as_positive,
    as_vector,
    require_flags,
    require_labels,
    require_texts,
)
from gdlab.plots.style import line_style


def values(
    series: Mapping[str, Any],
    *,
    minimum: float = 0.0,
    title: str = "",
    labels: tuple[str, str] = ("step", "value above the minimum"),
) -> Figure:
    """Plot values above a known minimum against steps, on a logarithmic axis.

    Args:
      series: the values at each step, by name.
      minimum: the known minimum, which is subtracted. Default 0.
      title: the figure's title.
      labels: the labels of the x and y axes.

    Returns:
      The figure.
    """
    require_number("minimum", minimum)
    require_mapping("series", series, "from names to values", least=1)
    heights = {
        name: as_curve(f"series[{name!r}]", np.arange(np.size(value)), value)[1] for name, value in series.items()
    }
    above = {name: (np.arange(height.size), height - minimum) for name, height in heights.items()}
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
    """Plot curves, with a legend outside the axes.

    Args:
      series: the x and y coordinates of each curve, by name.
      title: the figure's title.
      labels: the labels of the x and y axes.
      log_x: whether the x axis is logarithmic. Default True.
      log_y: whether the y axis is logarithmic. Default True.
      guides: thin gray lines, as (x, y, text at the end). Default none.

    Returns:
      The figure.
    """
    require_texts(title=title)
    require_labels(labels)
    figure = Figure(figsize=(7.6, 4.6), layout="constrained")
    axes = figure.add_subplot()
    draw_curves(axes, series, log_x=log_x, log_y=log_y, guides=guides)
    axes.set_title(title)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
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
    """Draw the curves and guides of `curves` on existing axes, for figures of several panels.

    Args:
      axes: the axes to draw on.
      series: the x and y coordinates of each curve, by name.
      log_x: whether the x axis is logarithmic. Default True.
      log_y: whether the y axis is logarithmic. Default True.
      guides: thin gray lines, as (x, y, text at the end). Default none.
    """
    require_instance("axes", axes, Axes, "matplotlib axes")
    require_flags(log_x=log_x, log_y=log_y)
    curves, lines = as_curves("series", series), as_guides("guides", guides)
    for name, (x, y) in curves.items():
        for log, at in ((log_x, x), (log_y, y)):
            if not log:
                as_drawn(f"series[{name!r}]", at, finite=False)
    for x, y, text in lines:
        axes.plot(x, y, color="0.6", lw=0.8, zorder=1)
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.5}
        axes.annotate(text, (x[-1], y[-1]), color="0.35", fontsize=8, ha="left", va="center", bbox=box, zorder=5)
    for index, (name, (x, y)) in enumerate(curves.items()):
        axes.plot(x, y, lw=1.7, label=name, zorder=3, **line_style(index))
    axes.set_xscale("log" if log_x else "linear")
    axes.set_yscale("log" if log_y else "linear")
    axes.grid(which="major", color="0.9", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def curve_panels(
    rows: Mapping[str, Mapping[str, Mapping[str, tuple[Any, Any]]]],
    *,
    labels: tuple[str, str] = ("x", "y"),
    log_x: bool = True,
    log_y: bool = True,
    guides: Mapping[str, Sequence[tuple[Any, Any, str]]] | None = None,
    limits: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Plot a table of panels as `curves` draws them; the panels of a row share their axes, and all share one legend.

    Args:
      rows: the panels of each row by the name of their column, with the same columns in all rows. Each panel maps
        names to the x and y coordinates of its curves, with the same names in all panels.
      labels: the labels of the x and y axes. The name of a row follows the label of its y axis.
      log_x: whether x axes are logarithmic. Default True.
      log_y: whether y axes are logarithmic. Default True.
      guides: the gray lines of each row, as in `curves`. Default none.
      limits: the range of y of each row. Default: that of its curves.

    Returns:
      The figure.

    Raises:
      ValueError: if the columns of the rows differ.
    """
    require_labels(labels)
    _require_rows(rows)
    guides, limits = {} if guides is None else guides, {} if limits is None else limits
    require_mapping("guides", guides, "from rows to lines")
    require_mapping("limits", limits, "from rows to ranges of y")
    ranges = {row: as_limits(f"limits[{row!r}]", limit) for row, limit in limits.items()}
    columns = list(next(iter(rows.values()), ()))
    if not columns or any(list(panels) != columns for panels in rows.values()):
        raise ValueError(
            f"rows: expected the same columns in all rows, got {[list(panels) for panels in rows.values()]}"
        )
    figure = Figure(figsize=(3.1 * len(columns) + 1.3, 3.1 * len(rows)), layout="constrained")
    drawn = figure.subplots(len(rows), len(columns), sharex="row", sharey="row", squeeze=False)
    for beside, (row, panels) in zip(drawn, rows.items(), strict=True):
        for axes, series in zip(beside, panels.values(), strict=True):
            draw_curves(axes, series, log_x=log_x, log_y=log_y, guides=guides.get(row, ()))
        if row in ranges:
            beside[0].set_ylim(*ranges[row])
        beside[0].set_ylabel(f"{labels[1]}, {row}")
    for above, below, column in zip(drawn[0], drawn[-1], columns, strict=True):
        above.set_title(column, fontsize=10)
        below.set_xlabel(labels[0])
    figure.legend(*drawn[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def _require_rows(rows: Any) -> None:
    require_mapping("rows", rows, "from names to panels", least=1)
    for row, panels in rows.items():
        require_mapping(f"rows[{row!r}]", panels, "from columns to curves")
        for column, series in panels.items():
            as_curves(f"rows[{row!r}][{column!r}]", series)


def profiles(
    ratios: Float[np.ndarray, " ratios"],
    shares: Mapping[str, Float[np.ndarray, " ratios"]],
    *,
    shown: int = 10,
    title: str = "",
    labels: tuple[str, str] = ("cost as a multiple of the lowest", "share of problems solved"),
) -> Figure:
    """Plot performance profiles: the share of problems that each solver solves within a multiple of the lowest cost.

    Args:
      ratios: the multiples, ascending and at least 1, on a logarithmic axis.
      shares: the shares of each solver by name, as `gdlab.analysis.statistics.performance_profile` returns them.
      shown: how many solvers get a color and an entry in the legend: those with the largest area under their curve.
        The others are drawn in gray. Default 10.
      title: the figure's title.
      labels: the labels of the x and y axes.

    Returns:
      The figure.

    Raises:
      ValueError: if shapes differ.
    """
    require_texts(title=title)
    require_labels(labels)
    require_count("shown", shown)
    ratios = as_positive("ratios", ratios)
    require_mapping("shares", shares, "from names to shares", least=1)
    curves = {str(name): as_vector(f"shares[{name!r}]", share) for name, share in shares.items()}
    for name, curve in curves.items():
        if curve.shape != ratios.shape:
            raise ValueError(
                f"shares[{name!r}]: expected one share for each of {len(ratios)} ratios, got shape {curve.shape}"
            )
    order = sorted(curves, key=lambda name: -np.trapezoid(curves[name], np.log(ratios)))
    figure = Figure(figsize=(8.2, 5.2), layout="constrained")
    axes = figure.add_subplot()
    for index, name in enumerate(order[:shown]):
        axes.plot(ratios, curves[name], lw=2, label=name, **line_style(index))
    for name in order[shown:]:
        axes.plot(ratios, curves[name], color="#d4d4d4", lw=0.9, zorder=1)
    if rest := len(order[shown:]):
        axes.plot([], [], color="#d4d4d4", lw=0.9, label=f"{rest} other{'s' if rest > 1 else ''}")
    axes.set_xscale("log", base=2)
    axes.set_xlim(ratios[0], ratios[-1])
    axes.set_ylim(0, 1)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure
