"""Curves: values over steps, or any numbers over others, with a legend outside."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gdlab.plots.style import line_style


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
