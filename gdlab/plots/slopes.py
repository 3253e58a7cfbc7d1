"""A slope chart: the score of each name under two or more conditions, joined by lines, so that crossings are seen."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from gdlab.arguments import require_mapping, require_strings
from gdlab.plots.checks import as_drawn, require_texts
from gdlab.plots.style import line_style

GAP = 0.045
"""The least distance of two names at a side, relative to the height of the axes."""


def slopes(scores: Mapping[str, Any], sides: Sequence[str], *, title: str = "", label: str = "") -> Figure:
    """Draw the score of each name under each condition, with its interval; lines cross where the order changes.

    Args:
      scores: for each name, an array of shape (conditions, 3): the estimate, and the low and high ends of its interval,
        which are NaN where there is none.
      sides: the names of the conditions, at least two, from left to right.
      title: the figure's title.
      label: what the scores are, with their unit.

    Returns:
      The figure, with the names beside both ends of their lines.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if a shape does not fit, or an estimate is not finite.
    """
    require_texts(title=title, label=label)
    require_strings("sides", sides, empty=False)
    if len(sides) < 2:
        raise ValueError(f"sides: expected at least two names, got {len(sides)}")
    require_mapping("scores", scores, "from names to arrays (conditions, 3)", least=1)
    shape = (len(sides), 3)
    drawn = {name: as_drawn(f"scores[{name!r}]", each, shape=shape, finite=False) for name, each in scores.items()}
    for name, each in drawn.items():
        if not np.isfinite(each[:, 0]).all():
            raise ValueError(f"scores[{name!r}]: expected finite estimates, got {each[:, 0]}")
    figure = Figure(figsize=(2.4 + 2.4 * len(sides), 1.6 + 0.42 * max(len(drawn), 6)), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(sides)) + 0.012 * (np.arange(len(drawn))[:, None] - (len(drawn) - 1) / 2)  # side by side
    for index, (at, each) in enumerate(zip(places, drawn.values(), strict=True)):
        style = line_style(index)
        axes.plot(at, each[:, 0], "o", ms=4.5, color=style["color"], zorder=3)
        axes.plot(at, each[:, 0], lw=1.6, zorder=2, **style)
        axes.vlines(at, each[:, 1], each[:, 2], color=style["color"], lw=1.2, zorder=2)
    ends = np.array([each[[0, -1], 0] for each in drawn.values()])
    low, high = axes.get_ylim()
    for _ in range(5):  # names that lie apart may need higher axes, and then lie farther apart
        beside = np.stack([_apart(column, GAP * (high - low)) for column in ends.T], axis=1)
        pad = GAP * (high - low) / 2
        low, high = min(low, beside.min() - pad), max(high, beside.max() + pad)
    axes.set_ylim(low, high)
    for side, place, align in ((0, -0.12, "right"), (-1, len(sides) - 0.88, "left")):
        for index, (name, end, height) in enumerate(zip(drawn, ends[:, side], beside[:, side], strict=True)):
            axes.plot([places[index, side], place], [end, height], color="0.7", lw=0.6, zorder=1)
            axes.text(place, height, f" {name} ", ha=align, va="center", fontsize=9, color=line_style(index)["color"])
    axes.set_xlim(-0.55, len(sides) - 0.45)
    axes.set_xticks(range(len(sides)), sides)
    axes.set_ylabel(label)
    axes.set_title(title, fontsize=11)
    axes.grid(axis="y", color="0.92", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _apart(values: Float[np.ndarray, " names"], gap: float) -> Float[np.ndarray, " names"]:
    """Return the nearest heights, in least squares, that keep the order and at least this gap."""
    order = np.argsort(values, kind="stable")
    steps = gap * np.arange(len(values))
    found = np.empty(len(values))
    found[order] = isotonic_regression(values[order] - steps).x + steps
    return found
