"""Learning curves: how a metric changes from epoch to epoch, with its mean and an interval over seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from gdlab.analysis.learning_curves import Band
from gdlab.arguments import as_path, require_choice, require_flag, require_mapping, require_sequence, require_text
from gdlab.plots.canvas import save
from gdlab.plots.checks import require_bands, require_texts
from gdlab.plots.style import line_style

LOG_RATIO = 30.0
"""By default (None), an axis is logarithmic if the largest value is more than this many times the smallest."""


def learning(bands: Mapping[str, Band], *, title: str = "", label: str = "", log_y: bool | None = False) -> Figure:
    """Plot mean curves over epochs, with their intervals over seeds shaded and a legend outside the axes.

    The mean is drawn as far as all seeds of a name extend. Seeds that extend further continue as thin lines. A cross
    marks the last finite value of a seed that diverged, and the legend counts these seeds.

    Args:
      bands: the learning curve of each name, as `gdlab.analysis.learning_curves.bands` returns them.
      title: the figure's title.
      label: the metric, with its unit.
      log_y: whether the y axis is logarithmic; None: if the range of the values is large (see `LOG_RATIO`). Default
        False.

    Returns:
      The figure.
    """
    require_texts(title=title, label=label)
    require_bands("bands", bands)
    if log_y is not None:
        require_flag("log_y", log_y)
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, bands, label, log_y)
    axes.set_title(title, fontsize=11)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)
    return figure


def learning_panels(
    panels: Mapping[str, Mapping[str, Band]],
    *,
    title: str = "",
    log_y: Sequence[bool | None] | None = None,
    notes: Mapping[str, str] | None = None,
) -> Figure:
    """Plot several metrics of the same names in one figure, two panels per row, with one legend.

    Args:
      panels: the learning curves of each metric, by the metric's label.
      title: the figure's title.
      log_y: for each panel, as in `learning`. Default None: all axes are linear.
      notes: what is written below a panel, by the metric's label, one or more lines. Default None: nothing.

    Returns:
      The figure.
    """
    logs = _checked(panels, title, log_y)
    below = _notes(panels, notes)
    rows = -(-len(panels) // 2)
    lines = max((text.count("\n") + 1 for text in below.values() if text), default=0)
    figure = Figure(figsize=(9.6 if not lines else 12.0, 0.6 + (2.9 + 0.19 * lines) * rows), layout="constrained")
    drawn = figure.subplots(rows, 2, squeeze=False, sharex=True).ravel()
    for axes, (label, bands), log in zip(drawn, panels.items(), logs, strict=False):
        _draw(axes, bands, label, log)
        axes.tick_params(labelbottom=True)
        if below.get(label):
            offset = {"xytext": (0, -38), "textcoords": "offset points", "annotation_clip": False}
            axes.annotate(below[label], (0, 0), xycoords="axes fraction", va="top", fontsize=8.5, **offset)
    for axes in drawn[len(panels) :]:
        axes.set_visible(False)
    figure.suptitle(title, fontsize=11)
    figure.legend(*drawn[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)
    return figure


def save_learning(
    panels: Mapping[str, Mapping[str, Band]],
    folder: str | Path,
    *,
    title: str = "",
    log_y: Sequence[bool | None] | None = None,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write a figure of each panel, and one of all panels as learning.png.

    The file of a panel is named after its label, in lower case and without the unit.

    Args:
      panels: the learning curves of each metric, by the metric's label.
      folder: the folder to write to.
      title: the title of all figures.
      log_y: for each panel, as in `learning`. Default None: all axes are linear.
      notes: what is written below the panels of learning.png, as in `learning_panels`. Default None: nothing.
    """
    place, logs = as_path("folder", folder), _checked(panels, title, log_y)
    _notes(panels, notes)
    for (label, bands), log in zip(panels.items(), logs, strict=True):
        name = label.split(" (")[0].strip().lower().replace(" ", "_")
        save(learning(bands, title=title, label=label, log_y=log), place / f"{name}.png")
    save(learning_panels(panels, title=title, log_y=log_y, notes=notes), place / "learning.png")


def _checked(panels: Any, title: Any, log_y: Any) -> Sequence[bool | None]:
    """Check the arguments of several panels, and return `log_y` for each of them."""
    require_texts(title=title)
    require_mapping("panels", panels, "from labels to bands", least=1)
    for label, bands in panels.items():
        require_texts(panels=label)
        require_bands(f"panels[{label!r}]", bands)
    if log_y is None:
        return [False] * len(panels)
    require_sequence("log_y", log_y, "one of True, False and None for each panel")
    if len(log_y) != len(panels):
        raise ValueError(
            f"log_y: expected one of True, False and None for each of {len(panels)} panels, got {len(log_y)}"
        )
    for log in log_y:
        if log is not None:
            require_flag("log_y", log)
    return log_y


def _notes(panels: Mapping[str, Any], notes: Any) -> Mapping[str, str]:
    """Check what is written below panels, and return it."""
    if notes is None:
        return {}
    require_mapping("notes", notes, "from labels of panels to text")
    for label, text in notes.items():
        require_choice("notes", label, tuple(panels))
        require_text(f"notes[{label!r}]", text, empty=True)
    found: Mapping[str, str] = notes
    return found


def _draw(axes: Axes, bands: Mapping[str, Band], label: str, log_y: bool | None) -> None:
    longest = max((band.epochs for band in bands.values()), default=1)
    epochs = np.arange(1, longest + 1)
    for index, (name, band) in enumerate(bands.items()):
        style, common = line_style(index), band.mean.size
        failed = sum(band.failed)
        text = name + (f" ({failed} of {len(band.rows)} diverged)" if failed else "")
        marker: dict[str, Any] = {"marker": "o", "ms": 3.5} if longest <= 10 else {}
        axes.plot(epochs[:common], band.mean, lw=1.7, label=text, zorder=3, **style, **marker)
        if band.low is not None and band.high is not None:
            axes.fill_between(epochs[:common], band.low, band.high, color=style["color"], alpha=0.18, lw=0, zorder=2)
        for row, lost in zip(band.rows, band.failed, strict=True):
            if row.size > common:  # from the end of the mean
                part = slice(max(common - 1, 0), row.size)
                axes.plot(epochs[part], row[part], lw=0.8, zorder=3, **style)
            if lost and row.size:
                axes.plot(epochs[row.size - 1], row[-1], "x", color=style["color"], ms=8, mew=2, zorder=4)
    shown = np.concatenate([*(row for band in bands.values() for row in band.rows), np.empty(0)])
    if log_y is None:
        log_y = shown.size > 0 and shown.min() > 0 and bool(shown.max() > LOG_RATIO * shown.min())
    if log_y and shown.size:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if shown.max() < 1e3 * shown.min() else (1.0,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(1 - 0.02 * longest, longest + 0.02 * longest)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.grid(which="major", color="0.9", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
