"""How scores of settings are drawn: their scale, where dark is good, and the mark of settings that failed."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from gdlab.analysis.landscapes import Axis, Landscape
from gdlab.arguments import require_instance

FAILED = "#ff6307"
"""The color of the marks of settings that failed."""


class ScoreScale(NamedTuple):
    """The range of scores that is told apart; the worst tenth may lie beyond it.

    Attributes:
      low: its lower end.
      high: its upper end.
      logarithmic: whether the scale is logarithmic.
      higher: whether higher scores are better.
      extend: which ends scores lie beyond, in matplotlib's words: "neither", "min", "max" or "both".
    """

    low: float
    high: float
    logarithmic: bool
    higher: bool
    extend: str

    def norm(self) -> Normalize:
        """Return the scale for colors."""
        return (LogNorm if self.logarithmic else Normalize)(self.low, self.high, clip=False)

    def colors(self) -> Colormap:
        """Return colors that are dark for good scores."""
        return colormaps["viridis_r" if self.higher else "viridis"]

    def places(self, scores: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return where scores lie between the lower end, at 0, and the upper end, at 1; those beyond are at an end."""
        within = np.clip(scores, self.low, self.high)
        return np.asarray(np.ma.filled(self.norm()(within), 0.0), float)

    def drawable(self, scores: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Return the scores with NaN for infinite ones, and with zeros at the lower end of a logarithmic scale."""
        finite = np.where(np.isfinite(scores), scores, np.nan)
        return np.maximum(finite, self.low) if self.logarithmic else finite

    def limit(self, axes: Axes) -> None:
        """Set up a vertical axis of scores."""
        if self.logarithmic:
            axes.set_yscale("log")
            room = (self.high / self.low) ** 0.08
            axes.set_ylim(self.low / room, self.high * room)
        else:
            room = 0.08 * (self.high - self.low)
            axes.set_ylim(self.low - room, self.high + room)


def score_scale(scores: Float[np.ndarray, "..."], higher: bool) -> ScoreScale:
    """Return the scale of scores: logarithmic if they are positive and differ by a factor of 100 or more."""
    finite = scores[np.isfinite(scores)]
    if finite.size == 0:
        return ScoreScale(0.0, 1.0, False, higher, "neither")
    low, high = float(finite.min()), float(finite.max())
    positive = finite[finite > 0]
    logarithmic = low >= 0 and positive.size >= 0.9 * finite.size and high > 100 * positive.min()
    low = float(positive.min()) if logarithmic else low
    least, most = (low, high) if higher else (low, float(np.quantile(finite, 0.9)))
    if higher and not logarithmic:
        least = float(np.quantile(finite, 0.1))
    if most <= least:
        least, most = low, high
    if most <= least:
        most = least + max(abs(least), 1.0)
    ends = ("min" if finite.min() < least else "") + ("max" if high > most else "")
    return ScoreScale(least, most, logarithmic, higher, {"minmax": "both", "": "neither"}.get(ends, ends))


def require_landscape(landscape: Any) -> Landscape:
    """Raise TypeError unless this is a landscape; return it."""
    require_instance("landscape", landscape, Landscape, "a Landscape, as gdlab.analysis.landscapes.landscape returns")
    found: Landscape = landscape
    return found


def variable_name(landscape: Landscape) -> str:
    """Return the name of the score in words."""
    return landscape.variable.replace("_", " ")


def score_label(landscape: Landscape, label: str) -> str:
    """Return the label of scores: the given one, or the variable with what is taken of its repeats."""
    if label:
        return label
    name = variable_name(landscape)
    if landscape.scores.shape[-1] == 1:
        return name
    return f"{name}, {'share of' if landscape.flags else 'median over'} {landscape.repeats}s"


def short(value: float) -> str:
    """Return a number with three digits, or more if it is a whole one such as 1024."""
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e5 else f"{value:.3g}"


def rule(axes: Axes, which: str, axis: Axis) -> None:
    """Set the scale, the ticks and the label of a hyperparameter on the axis "x" or "y"."""
    axes.set(**{f"{which}scale": "log" if axis.logarithmic else "linear"})
    ruler = axes.xaxis if which == "x" else axes.yaxis
    if axis.labels:
        ruler.set_major_locator(FixedLocator(list(axis.values)))
        ruler.set_major_formatter(FuncFormatter(lambda value, _: axis.labels[round(value)]))
        ruler.set_minor_locator(NullLocator())
    elif len(axis.values) <= 4:
        ruler.set_major_locator(FixedLocator(list(axis.values)))
        ruler.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        ruler.set_minor_locator(NullLocator())
    elif axis.logarithmic and axis.values[-1] < 1e3 * axis.values[0]:
        ruler.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        ruler.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ruler.set_minor_formatter(NullFormatter())
    ruler.set_label_text(axis.name.replace("_", " "))


def add_colors(figure: Figure, scale: ScoreScale, beside: Any, label: str) -> None:
    """Add the color bar of a scale."""
    bar = figure.colorbar(
        ScalarMappable(scale.norm(), scale.colors()), ax=beside, label=label, extend=scale.extend, pad=0.01
    )
    bar.ax.tick_params(which="both", labelsize=8)
