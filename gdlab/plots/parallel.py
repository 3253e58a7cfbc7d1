"""Parallel coordinates: every setting of many hyperparameters as one line, colored by its score."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gdlab.analysis.landscapes import Axis, Landscape
from gdlab.arguments import require_count
from gdlab.plots.checks import require_texts
from gdlab.plots.scores import FAILED, ScoreScale, require_landscape, score_label, score_scale, short

BEYOND = 1.08
"""Where the line of a setting that failed ends; scores lie between 0 and 1."""


class _Ruler(NamedTuple):
    """A vertical axis: its title, and its ticks with their texts."""

    title: str
    places: np.ndarray
    texts: list[str]


def parallel(landscape: Landscape, *, title: str = "", label: str = "", shown: int = 500) -> Figure:
    """Draw every setting as a line across one vertical axis for each hyperparameter, which ends at its score.

    Dark lines are good settings, and lie above the others. Dotted lines are settings of which most runs failed. Where
    many settings share a value, their lines fan out a little. With several optimizers the first axis has their names.

    Args:
      landscape: as from `gdlab.analysis.landscapes.landscape`.
      title: the figure's title.
      label: the label of the scores. Default: their name.
      shown: the largest number of settings to draw: the best half of them, and others evenly spaced by rank. Default
        500.

    Returns:
      The figure.

    Raises:
      TypeError: if `landscape` is none.
    """
    landscape = require_landscape(landscape)
    require_texts(title=title, label=label)
    require_count("shown", shown, low=2)
    figure = Figure(figsize=(1.6 * (len(landscape.axes) + 1 + (len(landscape.groups) > 1)) + 1.0, 4.2))
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    draw_parallel(axes, landscape, label=label, shown=shown)
    figure.suptitle(title, fontsize=11)
    return figure


def draw_parallel(axes: Axes, landscape: Landscape, *, label: str = "", shown: int = 500) -> None:
    """Draw the picture of `parallel` on existing axes."""
    scale = score_scale(landscape.typical(), landscape.higher)
    scores = landscape.typical().ravel()
    places, rulers = _columns(landscape)
    fanned = _fanned(np.stack(places, axis=-1), scores * (-1 if scale.higher else 1))
    columns = np.concatenate([fanned, _ends(scores, scale)[:, None]], axis=-1)
    order = np.argsort(scores * (1 if scale.higher else -1), kind="stable")  # the best one last, above all others
    kept = _kept(order, shown)
    _draw_lines(axes, columns[kept], scores[kept], scale)
    rulers.append(_score_ruler(scale, score_label(landscape, label), np.isinf(scores).any()))
    for place, ruler in enumerate(rulers):
        _draw_ruler(axes, place, ruler)
    axes.set_xlim(-0.15, len(rulers) - 0.55)
    axes.set_ylim(-0.06, BEYOND + 0.05)
    axes.set_axis_off()
    if len(kept) < len(scores):
        axes.annotate(
            f"{len(kept)} of {len(scores):,} settings",
            (0, 0),
            xycoords="axes fraction",
            fontsize=8,
            color="0.4",
            va="top",
        )


def _columns(landscape: Landscape) -> tuple[list[np.ndarray], list[_Ruler]]:
    """Return the place of every setting of all groups on each axis, and the axes."""
    groups, settings = landscape.points.shape[:2]
    columns, rulers = [], []
    if groups > 1:
        names = Axis("optimizer", np.arange(groups, dtype=float), False, landscape.groups)
        columns.append(np.repeat(names.places(names.values), settings))
        rulers.append(_ruler(names))
    for which, axis in enumerate(landscape.axes):
        columns.append(axis.places(landscape.points[..., which].ravel()))
        rulers.append(_ruler(axis))
    return columns, rulers


def _ruler(axis: Axis) -> _Ruler:
    title = axis.name.replace("_", " ")
    if axis.labels:
        return _Ruler(title, axis.places(axis.values), list(axis.labels))
    values = axis.values if len(axis.values) <= 9 else _round_values(axis.values[0], axis.values[-1], axis.logarithmic)
    return _Ruler(title, axis.places(values), [_text(value, axis.logarithmic) for value in values])


def _round_values(low: float, high: float, logarithmic: bool) -> Float[np.ndarray, " values"]:
    """Return round values between two ends."""
    if not logarithmic:
        values = np.asarray(MaxNLocator(5).tick_values(low, high))
    else:
        decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        few = high < 1e3 * low
        stride = 1 if few else -(-len(decades) // 7)
        values = np.sort(np.outer(decades[::stride], (1.0, 3.0) if few else (1.0,)).ravel())
    slack = 1e-9 * abs(high)
    return values[(values >= low - slack) & (values <= high + slack)]


def _text(value: float, logarithmic: bool) -> str:
    exponent = np.log10(value) if logarithmic else 0.5
    if abs(exponent - round(exponent)) < 1e-9 and abs(exponent) >= 3:
        return f"$10^{{{round(exponent)}}}$"
    return short(value)


def _score_ruler(scale: ScoreScale, title: str, failed: bool) -> _Ruler:
    values = _round_values(scale.low, scale.high, scale.logarithmic)
    places, texts = list(scale.places(values)), [_text(value, scale.logarithmic) for value in values]
    if failed:
        places, texts = [*places, -BEYOND + 1 if scale.higher else BEYOND], [*texts, "diverged"]
    return _Ruler(title, np.array(places), texts)


def _ends(scores: np.ndarray, scale: ScoreScale) -> np.ndarray:
    """Return where each line ends: at its score, or beyond the bad end."""
    worst = 1 - BEYOND if scale.higher else BEYOND
    return np.where(np.isfinite(scores), scale.places(np.where(np.isfinite(scores), scores, scale.low)), worst)


def _fanned(places: np.ndarray, costs: np.ndarray, width: float = 0.025) -> np.ndarray:
    """Move lines that share a place apart, in the order of their costs."""
    moved = places.copy()
    for column in range(places.shape[1]):
        distinct, where = np.unique(places[:, column], return_inverse=True)
        if len(distinct) > 30:
            continue
        for place in range(len(distinct)):
            own = np.flatnonzero(where == place)
            ranks = np.empty(len(own))
            ranks[np.argsort(costs[own], kind="stable")] = np.linspace(-width, width, len(own)) if len(own) > 1 else 0.0
            moved[own, column] += ranks
    return moved


def _kept(order: np.ndarray, shown: int) -> np.ndarray:
    """Return which settings to draw, of those in this order: the last ones, and some of the others."""
    if len(order) <= shown:
        return order
    others, best = order[: -(shown // 2)], order[-(shown // 2) :]
    spread = np.linspace(0, len(others) - 1, shown - len(best)).round().astype(int)
    return np.concatenate([others[spread], best])


def _draw_lines(axes: Axes, columns: np.ndarray, scores: np.ndarray, scale: ScoreScale) -> None:
    across = np.arange(columns.shape[1], dtype=float)
    lines = np.stack([np.broadcast_to(across, columns.shape), columns], axis=-1)
    finite = np.isfinite(scores)
    faint = float(np.clip(40 / max(len(scores), 1), 0.12, 0.6))
    rank = np.linspace(0, 1, int(finite.sum()))  # the best one last
    failed = LineCollection(
        list(lines[~finite]), colors=FAILED, linewidths=0.6, linestyles=":", alpha=min(2 * faint, 1)
    )
    axes.add_collection(failed)
    colors = scale.colors()(scale.places(scores[finite]))
    sharpness = max(4.0, len(scores) / 40)  # only the best ones of many are strong
    colors[:, 3] = faint + (1 - faint) * rank**sharpness
    axes.add_collection(
        LineCollection(list(lines[finite]), colors=colors, linewidths=0.7 + 1.3 * rank ** (2 * sharpness))
    )


def _draw_ruler(axes: Axes, place: int, ruler: _Ruler) -> None:
    axes.plot([place, place], [0, 1], color="0.2", lw=1, zorder=5)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
    for at, text in zip(ruler.places, ruler.texts, strict=True):
        axes.plot([place, place + 0.03], [at, at], color="0.2", lw=1, zorder=5)
        axes.text(place + 0.045, at, text, fontsize=8, va="center", bbox=box, zorder=6)
    axes.text(place, BEYOND + 0.06, ruler.title, fontsize=9, ha="center", va="bottom", weight="bold", wrap=False)
