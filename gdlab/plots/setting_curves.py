"""Curves over one hyperparameter: the score of every setting, or the marginal of each hyperparameter of several."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gdlab.analysis.importance import Importance
from gdlab.analysis.landscapes import Landscape
from gdlab.arguments import require_count, require_instance, require_mapping
from gdlab.plots.checks import require_texts
from gdlab.plots.scores import FAILED, ScoreScale, require_landscape, rule, score_label, score_scale
from gdlab.plots.style import line_style


def marginals(landscape: Landscape, *, title: str = "", label: str = "", columns: int = 4) -> Figure:
    """Plot the scores over each hyperparameter, one panel each, with bands over seeds or starts.

    The line is the median over the other hyperparameters (the mean of flags), and the dashed line the best setting with
    that value. The band is a 95% bootstrap interval over the seeds or starts. Trials of a search are dots, and the line
    joins bins of equally many. Crosses at the edge where scores are bad are settings of which most runs failed.

    Args:
      landscape: as from `gdlab.analysis.landscapes.landscape`.
      title: the figure's title.
      label: the label of the scores. Default: their name.
      columns: the largest number of panels per row. Default 4.

    Returns:
      The figure.

    Raises:
      TypeError: if `landscape` is none.
    """
    landscape = require_landscape(landscape)
    require_texts(title=title, label=label)
    require_count("columns", columns)
    count = len(landscape.axes)
    across = min(columns, count)
    down = -(-count // across)
    size = (5.2, 3.6) if count == 1 else (2.9, 2.6)
    figure = Figure(figsize=(size[0] * across + 1.0, size[1] * down + 0.5), layout="constrained")
    panels: Any = figure.subplots(down, across, squeeze=False, sharey=True)
    for axes in panels.flat[count:]:
        axes.set_visible(False)
    draw_marginals(list(panels.flat[:count]), landscape)
    figure.supylabel(score_label(landscape, label), fontsize=9)
    figure.suptitle(title, fontsize=11)
    figure.legend(handles=marginal_entries(landscape), loc="outside right upper", frameon=False, fontsize=8)
    return figure


def draw_marginals(panels: Sequence[Axes], landscape: Landscape) -> None:
    """Draw the marginal of each hyperparameter on axes of its own."""
    scale = score_scale(landscape.typical(), landscape.higher)
    for which, axes in enumerate(panels):
        for group in range(len(landscape.groups)):
            _draw_marginal(axes, landscape, which, group, scale)
        rule(axes, "x", landscape.axes[which])
        if landscape.axes[which].labels:
            axes.set_xlim(-0.5, len(landscape.axes[which].labels) - 0.5)
        scale.limit(axes)
        axes.tick_params(labelsize=8)
        axes.grid(which="major", color="0.9", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)


def _draw_marginal(axes: Axes, landscape: Landscape, which: int, group: int, scale: ScoreScale) -> None:
    marginal, style = landscape.marginal(which, group), line_style(group)
    typical = landscape.typical()[group]
    column = landscape.points[group, :, which]
    several = len(landscape.axes) > 1
    if landscape.shape is None:
        faint = float(np.clip(60 / len(column), 0.08, 0.35))
        axes.plot(
            column, scale.drawable(typical), "o", color=style["color"], ms=2.5, alpha=faint, mew=0, ls="none", zorder=2
        )
    axes.plot(marginal.values, scale.drawable(marginal.typical.estimate), lw=1.7, marker="o", ms=3, zorder=4, **style)
    beyond = (
        (scale.low / 1e3, scale.high * 1e3)
        if scale.logarithmic
        else (2 * scale.low - scale.high, 2 * scale.high - scale.low)
    )
    ends = [np.clip(end, *beyond) for end in marginal.typical[1:]]
    if np.isfinite(marginal.typical.low).any() or np.isfinite(marginal.typical.high).any():
        axes.fill_between(marginal.values, *ends, color=style["color"], alpha=0.18, lw=0, zorder=3)
    if several:
        axes.plot(marginal.values, scale.drawable(marginal.best), lw=1, ls=(0, (4, 2)), color=style["color"], zorder=3)
    failed = np.isinf(typical)
    if failed.any():
        # Every group has a row of its own at the edge where scores are bad.
        height = (0.03 + 0.035 * group) if landscape.higher else (0.97 - 0.035 * group)
        where = np.full(int(failed.sum()), height)
        axes.plot(
            column[failed],
            where,
            "x",
            color=FAILED if len(landscape.groups) == 1 else style["color"],
            ms=4,
            mew=1,
            ls="none",
            transform=axes.get_xaxis_transform(),
            zorder=5,
        )


def marginal_entries(landscape: Landscape) -> list[Any]:
    """Return the legend of marginals."""
    found = []
    grouped = landscape.groups != ("",)
    for group, name in enumerate(landscape.groups if grouped else ()):
        found.append(Line2D([], [], lw=1.7, label=name, **line_style(group)))
    color = "0.3" if grouped else line_style(0)["color"]
    if len(landscape.axes) > 1:
        if not grouped:
            word = "mean" if landscape.flags else "median"
            found.append(Line2D([], [], color=color, lw=1.7, marker="o", ms=3, label=f"{word} over the others"))
        found.append(Line2D([], [], color=color, lw=1, ls=(0, (4, 2)), label="best setting"))
    if np.isinf(landscape.typical()).any():
        cross = FAILED if not grouped or len(landscape.groups) == 1 else "0.3"
        found.append(Line2D([], [], color=cross, marker="x", ms=4, ls="none", label="diverged"))
    return found


def importance(importances: Mapping[str, Importance], *, title: str = "") -> Figure:
    """Plot the importance of each hyperparameter: alone (filled) and with its interactions (open), with intervals.

    Args:
      importances: an `Importance` by the name of each optimizer, as `gdlab.analysis.importance.importances` returns
        them, all of the same hyperparameters.
      title: the figure's title.

    Returns:
      The figure.

    Raises:
      TypeError: if `importances` is no mapping to `Importance`s.
      ValueError: if they are not of the same hyperparameters.
    """
    require_texts(title=title)
    require_mapping("importances", importances, "from names to importances", least=1)
    for name, one in importances.items():
        require_instance(f"importances[{name!r}]", one, Importance, "an Importance, as importances returns")
    names = next(iter(importances.values())).names
    if any(one.names != names for one in importances.values()):
        raise ValueError(
            f"importances: expected the same hyperparameters in all, got {[one.names for one in importances.values()]}"
        )
    height = 0.28 * len(names) * max(len(importances), 1.3) + 1.3
    figure = Figure(figsize=(5.6, height), layout="constrained")
    axes = figure.add_subplot()
    draw_importance(axes, importances)
    figure.suptitle(title, fontsize=11)
    figure.legend(handles=importance_entries(importances), loc="outside right upper", frameon=False, fontsize=8)
    return figure


def draw_importance(axes: Axes, importances: Mapping[str, Importance]) -> None:
    """Draw the indices on existing axes, the most important hyperparameter at the top."""
    every = list(importances.values())
    names, searched = every[0].names, every[0].explained < 1
    order = np.argsort(np.mean([one.total.estimate for one in every], axis=0))
    rows = 2 * len(every)
    for group, one in enumerate(every):
        color = line_style(group)["color"]
        for part, interval in enumerate((one.first, one.total)):
            at = np.arange(len(names)) + 0.7 * (0.5 - (2 * group + part + 0.5) / rows)
            middle, low, high = (np.asarray(end)[order] for end in interval)
            axes.hlines(at, low, high, color=color, lw=1.4, alpha=0.6, zorder=2)
            axes.plot(middle, at, "o", color=color, mfc="white" if part else color, ms=4.5, ls="none", zorder=3)
    axes.set_yticks(range(len(names)), [names[place].replace("_", " ") for place in order], fontsize=9)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlim(-0.03, 1.03)
    axes.tick_params(axis="x", labelsize=8)
    fit = f"\nof a polynomial that predicts {100 * every[0].explained:.0f}% of it"
    axes.set_xlabel(f"share of the variance of ranks{fit if len(every) == 1 and searched else ''}", fontsize=9)
    axes.grid(axis="x", color="0.9", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def importance_entries(importances: Mapping[str, Importance]) -> list[Any]:
    """Return the legend of importances; that of several searches says how much each fitted polynomial predicts."""
    found: list[Any] = []
    for group, (name, one) in enumerate(importances.items() if len(importances) > 1 else ()):
        text = name if one.explained == 1 else f"{name} (the fit predicts {100 * one.explained:.0f}%)"
        found.append(Line2D([], [], color=line_style(group)["color"], marker="o", ms=4.5, ls="none", label=text))
    color = "0.3" if found else line_style(0)["color"]
    for fill, text in ((color, "alone"), ("white", "with interactions")):
        found.append(Line2D([], [], color=color, mfc=fill, marker="o", ms=4.5, ls="none", label=text))
    return found
