"""A diagram of average ranks over tasks on one axis, and of which of them do not differ significantly."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gdlab.arguments import as_numbers, require_count, require_number, require_sequence, require_strings
from gdlab.plots.checks import require_texts


def rank_diagram(
    names: Sequence[str],
    ranks: Sequence[float] | np.ndarray,
    *,
    difference: float,
    groups: Sequence[Sequence[int]],
    intervals: tuple[Any, Any] | None = None,
    title: str = "",
) -> Figure:
    """Draw Demsar's rank diagram: the best rank on the left, and bars below solvers that do not differ significantly.

    Args:
      names: the solvers' names.
      ranks: the average rank of each solver.
      difference: the critical difference, drawn as a ruler.
      groups: lists of indices of the solvers that a bar joins.
      intervals: the low and high ends of the ranks' intervals, drawn as a whisker on the line of each name. Default
        None.
      title: the figure's title.

    Returns:
      The figure.

    Raises:
      ValueError: if lengths differ, or an index is out of range.

    References:
      Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", 2006, Journal of Machine Learning
        Research 7, figure 1.
    """
    require_texts(title=title)
    require_strings("names", names, expected="names")
    count = len(names)
    ranks = _ranks(ranks, count)
    require_number("difference", difference, 0.0)
    ends = None if intervals is None else _ends(intervals, count)
    _require_groups(groups, count)
    order = np.argsort(ranks, kind="stable")
    half = (count + 1) // 2
    spans = [(min(ranks[list(group)]) - 0.05, max(ranks[list(group)]) + 0.05) for group in groups if len(group) > 1]
    bars = _in_rows(sorted(spans))
    first = 0.55 + 0.28 * len(bars)  # the first label's depth below the axis
    depth = first + 0.5 * half + 0.1
    figure = Figure(figsize=(8.0, 0.9 + 0.42 * (depth + 1.6)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlim(1 - 0.36 * count, count + 0.36 * count)
    axes.set_ylim(-depth - 0.1, 1.75)
    axes.axis("off")
    axes.plot([1, count], [0, 0], color="0.15", lw=1.2)
    for tick in range(1, count + 1):
        axes.plot([tick, tick], [0, 0.16], color="0.15", lw=1.0)
        axes.text(tick, 0.26, str(tick), ha="center", va="bottom", fontsize=9)
    if 0 < difference <= count - 1:
        axes.plot([1, 1 + difference], [1.15, 1.15], color="0.15", lw=1.2)
        for end in (1, 1 + difference):
            axes.plot([end, end], [1.05, 1.25], color="0.15", lw=1.2)
        # The text above a short ruler is wider than the ruler, and must not touch its ends.
        text = f"critical difference {difference:.2f}"
        axes.text(1 + difference / 2, 1.32, text, ha="center", va="bottom", fontsize=9)
    elif difference > 0:
        axes.text(1, 1.15, f"critical difference {difference:.2f}: wider than the axis", fontsize=9)
    for row, beside in enumerate(bars):
        height = -0.3 - 0.28 * row
        for span in beside:
            axes.plot(span, [height, height], color="#3d53ad", lw=3.2, solid_capstyle="round")
    for place, index in enumerate(order):
        left = place < half
        # The right column lies between the left one's lines, so that no whisker covers another.
        height = -first - 0.5 * place if left else -first - 0.5 * (count - 1 - place) - 0.25
        side, edge = ("right", 0.8) if left else ("left", count + 0.2)
        axes.plot([ranks[index], ranks[index], edge], [0, height, height], color="0.45", lw=0.8, zorder=1)
        axes.plot(ranks[index], 0, "o", color="#ad2679", ms=4.5, zorder=3)
        label = f"{names[index]}  {ranks[index]:.2f}" if left else f"{ranks[index]:.2f}  {names[index]}"
        axes.text(edge - 0.08 if left else edge + 0.08, height, label, ha=side, va="center", fontsize=9)
        if ends is not None and np.isfinite([end[index] for end in ends]).all():
            axes.plot([end[index] for end in ends], [height, height], color="#ad2679", lw=2.4, alpha=0.55, zorder=2)
    axes.set_title(title, fontsize=11)
    return figure


def _ranks(ranks: Any, count: int) -> np.ndarray:
    ranks = as_numbers("ranks", ranks, finite=False).astype(float)
    if ranks.shape != (count,) or count < 2 or not np.isfinite(ranks).all():
        raise ValueError(
            f"ranks: expected {count} finite numbers, one per name and at least two, got shape {ranks.shape}"
        )
    return ranks


def _ends(intervals: Any, count: int) -> list[np.ndarray]:
    require_sequence("intervals", intervals, "two ends, low and high")
    ends = [as_numbers("intervals", end, finite=False).astype(float) for end in intervals]
    if len(ends) != 2 or any(end.shape != (count,) for end in ends):
        raise ValueError(
            f"intervals: expected two ends for each of {count} names, got shapes {[e.shape for e in ends]}"
        )
    return ends


def _require_groups(groups: Any, count: int) -> None:
    require_sequence("groups", groups, "lists of places")
    for group in groups:
        require_sequence("groups", group, "lists of places")
        for place in group:
            require_count("groups", place, low=0)
            if place >= count:
                raise ValueError(f"groups: expected places from 0 to {count - 1}, got {place}")


def _in_rows(spans: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Put spans, in order of their low ends, into rows: each into the first row whose last span it does not touch."""
    rows: list[list[tuple[float, float]]] = []
    for low, high in spans:
        row = next((row for row in rows if row[-1][1] + 0.1 < low), None)
        if row is None:
            rows.append([(low, high)])
        else:
            row.append((low, high))
    return rows
