"""Learning curves: how a metric changes from epoch to epoch, the mean and an interval over seeds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from gdlab.plots.style import line_style
from gdlab.statistics import Interval, bootstrap_interval

Histories = Mapping[str, Sequence[Any]]
"""A name to one vector a seed, a value an epoch; they may differ in length, and one that is not finite has diverged."""

LOG_RATIO = 30.0
"""A logarithmic axis is asked for where the largest value is more than this many times the least."""


def learning(
    histories: Histories,
    *,
    title: str = "",
    label: str = "",
    log_y: bool | None = False,
    interval: Callable[[Float[np.ndarray, "epochs seeds"]], Interval] = bootstrap_interval,
) -> Figure:
    """Mean curves over epochs, each with its interval over seeds shaded, and a legend outside.

    histories: see `Histories`. label: of the metric, with its unit. log_y: None: where the values' range asks for it.
    interval: of the samples along the last axis; one seed has none. The mean is drawn as far as all of a name's seeds
    go: a mean over those that are left would jump. Seeds that go on are drawn thin, one by one. A cross is the last
    finite value of a seed that diverged, and the legend counts them. Raises ValueError where a name has no seed or a
    history is not a vector.
    """
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, _checked(histories), label, log_y, interval)
    axes.set_title(title, fontsize=11)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)
    return figure


def learning_panels(
    panels: Mapping[str, Histories],
    *,
    title: str = "",
    log_y: Sequence[bool | None] | None = None,
    interval: Callable[[Float[np.ndarray, "epochs seeds"]], Interval] = bootstrap_interval,
) -> Figure:
    """Several metrics of the same names in one figure, two a row, with one legend.

    panels: a metric's label to its histories. log_y: of each panel, see `learning`; None: all linear.
    """
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(9.6, 0.6 + 2.9 * rows), layout="constrained")
    drawn = figure.subplots(rows, 2, squeeze=False, sharex=True).ravel()
    for axes, (label, histories), log in zip(drawn, panels.items(), log_y or [False] * len(panels), strict=False):
        _draw(axes, _checked(histories), label, log, interval)
        axes.tick_params(labelbottom=True)
    for axes in drawn[len(panels) :]:
        axes.set_visible(False)
    figure.suptitle(title, fontsize=11)
    figure.legend(*drawn[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _checked(histories: Histories) -> dict[str, list[np.ndarray]]:
    checked = {name: [np.asarray(row, float) for row in rows] for name, rows in histories.items()}
    for name, rows in checked.items():
        if not rows or any(row.ndim != 1 or row.size == 0 for row in rows):
            shapes = [row.shape for row in rows]
            raise ValueError(f"histories[{name!r}]: wanted one vector of epochs a seed, got shapes {shapes}")
    return checked


def _well(row: Float[np.ndarray, " epochs"]) -> int:
    """The number of epochs before the first value that is not finite."""
    bad = np.flatnonzero(~np.isfinite(row))
    return int(bad[0]) if bad.size else row.size


def _draw(
    axes: Axes, histories: dict[str, list[np.ndarray]], label: str, log_y: bool | None, interval: Callable[..., Any]
) -> None:
    longest = max((row.size for rows in histories.values() for row in rows), default=1)
    for index, (name, rows) in enumerate(histories.items()):
        style = line_style(index)
        lengths = [_well(row) for row in rows]
        common = min(lengths)
        epochs = np.arange(1, longest + 1)
        failed = sum(length < row.size for length, row in zip(lengths, rows, strict=True))
        text = name + (f" ({failed} of {len(rows)} diverged)" if failed else "")
        together = np.stack([row[:common] for row in rows], axis=-1)
        marker: dict[str, Any] = {"marker": "o", "ms": 3.5} if longest <= 10 else {}
        axes.plot(epochs[:common], together.mean(axis=-1), lw=1.7, label=text, zorder=3, **style, **marker)
        if len(rows) > 1 and common:
            _, low, high = interval(together)
            axes.fill_between(epochs[:common], low, high, color=style["color"], alpha=0.18, lw=0, zorder=2)
        for length, row in zip(lengths, rows, strict=True):
            if length > common:  # from where the mean ends
                part = slice(max(common - 1, 0), length)
                axes.plot(epochs[part], row[part], lw=0.8, zorder=3, **style)
            if 0 < length < row.size:
                axes.plot(epochs[length - 1], row[length - 1], "x", color=style["color"], ms=8, mew=2, zorder=4)
    values = [row[: _well(row)] for rows in histories.values() for row in rows]
    shown = np.concatenate([*values, np.empty(0)])
    if log_y is None:
        log_y = shown.size > 0 and shown.min() > 0 and bool(shown.max() > LOG_RATIO * shown.min())
    if log_y:
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
