"""Figures of a scan of one hyperparameter: scores against its values, and loss over values and epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gdlab.analysis.intervals import Interval
from gdlab.arguments import require_count, require_instance, require_mapping, require_number, require_strings
from gdlab.plots.checks import as_drawn, as_positive, require_flags, require_labels, require_texts
from gdlab.plots.style import line_style


def sensitivity(
    values: Float[np.ndarray, " values"],
    scores: Mapping[str, Interval],
    *,
    title: str = "",
    labels: tuple[str, str] = ("learning rate", "score"),
    chance: float | None = None,
) -> Figure:
    """Plot scores against a hyperparameter, with shaded intervals and a dot at each best estimate.

    Args:
      values: the hyperparameter's values, on a logarithmic axis.
      scores: for each name, an interval per value, as `seeds_interval` returns it for scores of shape (values,
        seeds). Higher is better.
      title: the figure's title.
      labels: the labels of the x and y axes.
      chance: the score of guessing, drawn as a gray line. Default None.

    Returns:
      The figure.

    Raises:
      ValueError: if shapes differ, or a score is not finite.
    """
    require_texts(title=title)
    require_labels(labels)
    values = as_positive("values", values)
    curves = _estimates(scores, values.size)
    if chance is not None:
        require_number("chance", chance)
    figure = Figure(figsize=(8.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    if chance is not None:
        axes.axhline(chance, color="0.6", lw=0.8, zorder=1)
        at_the_right: Any = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
        axes.annotate("chance", (1, chance), (3, 0), color="0.4", fontsize=8, **at_the_right)
    for index, (name, (mean, low, high)) in enumerate(curves.items()):
        style = line_style(index)
        axes.plot(values, mean, lw=1.7, label=name, zorder=3, **style)
        if np.isfinite([low, high]).all() and not np.array_equal(low, high):  # one seed has no interval
            axes.fill_between(values, low, high, color=style["color"], alpha=0.18, lw=0, zorder=2)
        best = int(np.argmax(mean))
        axes.plot(values[best], mean[best], "o", color=style["color"], mec="white", ms=8, zorder=4)
    axes.set_xscale("log")
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.set_title(title, fontsize=11)
    axes.grid(which="major", color="0.9", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def interval_panels(
    values: Float[np.ndarray, " values"],
    panels: Mapping[str, Mapping[str, Interval]],
    *,
    title: str = "",
    labels: tuple[str, str] = ("x", "y"),
    columns: int = 3,
    ticks: bool = False,
) -> Figure:
    """Plot scores with shaded intervals in several panels that share their axes and one legend.

    Args:
      values: the x coordinates, on a logarithmic axis.
      panels: for each panel, intervals by name, with one entry per value. All panels have the same names.
      title: the figure's title.
      labels: the labels of the x and y axes.
      columns: the largest number of panels beside each other. Default 3.
      ticks: whether the x axis is labelled at the values, and only there. Default False.

    Returns:
      The figure.

    Raises:
      ValueError: if shapes or names differ, or a score is not finite.
    """
    require_texts(title=title)
    require_labels(labels)
    require_count("columns", columns)
    require_flags(ticks=ticks)
    values = as_positive("values", values)
    require_mapping("panels", panels, "from names to scores", least=1)
    drawn = {str(name): _estimates(scores, values.size, f"panels[{name!r}]") for name, scores in panels.items()}
    names = list(next(iter(drawn.values())))
    if any(list(curves) != names for curves in drawn.values()):
        raise ValueError(f"panels: expected the same names in all, got {[list(curves) for curves in drawn.values()]}")
    across = min(columns, len(drawn))
    down = -(-len(drawn) // across)
    figure = Figure(figsize=(3.2 * across + 2.2, 3.0 * down + 0.3), layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes, (panel, curves) in zip(grid.flat, drawn.items(), strict=False):
        for index, (name, (mean, low, high)) in enumerate(curves.items()):
            style = line_style(index)
            axes.plot(values, mean, lw=1.7, label=name, zorder=3, **style)
            axes.fill_between(values, low, high, color=style["color"], alpha=0.15, lw=0, zorder=2)
        axes.set_xscale("log")
        axes.set_title(panel, fontsize=10)
        axes.grid(which="major", color="0.9", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if ticks:
            axes.set_xticks(values, [f"{value:g}" for value in values])
            axes.minorticks_off()
    for axes in grid.flat[len(drawn) :]:
        axes.set_axis_off()
    figure.suptitle(title, fontsize=11)
    figure.supxlabel(labels[0], fontsize=10)
    figure.supylabel(labels[1], fontsize=10)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)
    return figure


def _estimates(scores: Any, count: int, label: str = "scores") -> dict[str, list[np.ndarray]]:
    """Return the estimate and the two ends of each interval as vectors."""
    require_mapping(label, scores, "from names to intervals", least=1)
    found = {}
    for name, given in scores.items():
        require_instance(f"{label}[{name!r}]", given, tuple, "an Interval of scores")
        if len(given) != 3:
            raise ValueError(f"{label}[{name!r}]: expected an Interval of scores, got {len(given)} values")
        ends = []
        for field, end in zip(Interval._fields, given, strict=True):
            ends.append(as_drawn(f"{label}[{name!r}].{field}", end, finite=False))
            if ends[-1].shape != (count,) or (field == "estimate" and not np.isfinite(ends[-1]).all()):
                raise ValueError(
                    f"{label}[{name!r}].{field}: expected finite numbers of shape ({count},), got shape "
                    f"{ends[-1].shape}"
                )
        found[str(name)] = ends
    return found


def score_map(
    values: Float[np.ndarray, " values"],
    scores: Float[np.ndarray, "names values"],
    names: Sequence[str],
    *,
    title: str = "",
    label: str = "score",
    value_label: str = "learning rate",
) -> Figure:
    """Draw scores over a hyperparameter, one row per name, for more names than `sensitivity` can distinguish.

    Light cells have high scores.

    Args:
      values: the hyperparameter's positive values, in any order, on a logarithmic axis. A cell extends halfway to its
        neighbors.
      scores: at least 0, where the color scale begins; NaN stays blank.
      names: the names of the rows, from the top.
      title: the figure's title.
      label: the label of the color bar.
      value_label: the label of the x axis.

    Returns:
      The figure.

    Raises:
      ValueError: if shapes differ.
    """
    require_texts(title=title, label=label, value_label=value_label)
    require_strings("names", names, expected="names")
    values, scores = as_positive("values", values), as_drawn("scores", scores, finite=False)
    if scores.shape != (len(names), len(values)) or scores.size == 0:
        raise ValueError(f"scores: expected shape {(len(names), len(values))}, got {scores.shape}")
    order = np.argsort(values)
    height = max(0.2 * len(names) + 1.7, 0.08 * len(label) + 0.4)  # the label runs along the color bar
    figure = Figure(figsize=(8.6, height), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.pcolormesh(
        cell_edges(values[order]),
        np.arange(len(names) + 1),
        np.ma.masked_invalid(scores[:, order]),
        vmin=0,
        vmax=max(float(np.nanmax(scores)), 0.01),
        cmap="viridis",
    )
    axes.set_xscale("log")
    axes.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(value_label)
    figure.colorbar(drawn, ax=axes, label=label, pad=0.01)
    axes.set_title(title, fontsize=11)
    return figure


def loss_maps(
    values: Float[np.ndarray, " values"],
    losses: Mapping[str, Float[np.ndarray, "values epochs"]],
    *,
    title: str = "",
    labels: tuple[str, str] = ("learning rate", "epoch"),
    label: str = "loss",
    ceiling: float | None = None,
    columns: int = 4,
) -> Figure:
    """Draw loss over a hyperparameter and epochs, one panel per name, on one color scale.

    Dark is low, and white is not finite. A white dot marks the value with the lowest loss of each epoch.

    Args:
      values: the hyperparameter's values, ascending, on a logarithmic axis.
      losses: the losses of each name.
      title: the figure's title.
      labels: the labels of the x and y axes.
      label: the label of the color bar.
      ceiling: the end of the color scale, such as twice the loss of guessing. Default None: the largest loss.
      columns: the largest number of panels per row. Default 4.

    Returns:
      The figure.

    Raises:
      ValueError: if no loss is finite.
    """
    require_texts(title=title, label=label)
    require_labels(labels)
    require_count("columns", columns)
    if ceiling is not None:
        require_number("ceiling", ceiling)
    values = as_positive("values", values)
    losses = _losses(losses, values.size)
    shown = np.concatenate([loss[np.isfinite(loss)] for loss in losses.values()])
    if shown.size == 0:
        raise ValueError("losses: expected at least one finite value, got none")
    columns = min(columns, len(losses))
    rows = -(-len(losses) // columns)
    figure = Figure(figsize=(2.3 * columns + 1.1, 2.0 * rows + 0.6), layout="constrained")
    panels: Any = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    low, high = float(shown.min()), min(float(shown.max()), np.inf if ceiling is None else ceiling)
    high = high if high > low else low + 1.0
    norm = LogNorm(low, high) if low > 0 and high > 3 * low else Normalize(low, high)
    edges = cell_edges(values)
    for place, (axes, (name, loss)) in enumerate(zip(panels.ravel(), losses.items(), strict=False)):
        z = loss.T
        epochs = np.arange(len(z) + 1) + 0.5
        drawn = axes.pcolormesh(edges, epochs, np.ma.masked_invalid(z), norm=norm, cmap="viridis", rasterized=True)
        for epoch, row in enumerate(z, 1):
            if np.isfinite(row).any():
                axes.plot(values[np.nanargmin(row)], epoch, "o", mfc="white", mec="black", mew=0.5, ms=3.5)
        axes.set_title(name, fontsize=9)
        axes.set_xscale("log")
        axes.tick_params(labelsize=8, labelbottom=place + columns >= len(losses))
    for axes in panels.ravel()[len(losses) :]:
        axes.set_visible(False)
    figure.supxlabel(labels[0], fontsize=9)
    figure.supylabel(labels[1], fontsize=9)
    bar = figure.colorbar(drawn, ax=panels, label=label, extend="max" if high < shown.max() else "neither", pad=0.01)
    if isinstance(norm, LogNorm):
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 1e3 * low else (1.0,)))
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.ax.tick_params(which="both", labelsize=8)
    figure.suptitle(title, fontsize=11)
    return figure


def _losses(losses: Any, count: int) -> dict[str, np.ndarray]:
    require_mapping("losses", losses, "from names to losses", least=1)
    found = {}
    for name, loss in losses.items():
        found[str(name)] = as_drawn(f"losses[{name!r}]", loss, shape=(count, None), finite=False, least=1)
    return found


def cell_edges(values: Float[np.ndarray, " values"], *, logarithmic: bool = True) -> Float[np.ndarray, " edges"]:
    """Return cell edges that are halfway between neighboring values, in their logarithm if `logarithmic` is set."""
    at = np.log(values) if logarithmic else np.asarray(values, float)
    if len(at) == 1:
        edges = np.array([at[0] - 0.5, at[0] + 0.5])
    else:
        middle = (at[1:] + at[:-1]) / 2
        edges = np.concatenate([[2 * at[0] - middle[0]], middle, [2 * at[-1] - middle[-1]]])
    return np.exp(edges) if logarithmic else edges
