"""A table whose cells are shaded by their values."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from gdlab.arguments import require_flag, require_sequence, require_strings
from gdlab.plots.checks import as_drawn, as_limits, require_texts
from gdlab.plots.panels import fitted
from gdlab.plots.style import GROUND


def heatmap(
    values: Float[np.ndarray, "rows columns"],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    texts: Sequence[Sequence[str]] | None = None,
    limits: tuple[float, float] | None = None,
    title: str = "",
    label: str = "",
    upright: bool = False,
) -> Figure:
    """Draw a table whose cells are shaded by their values, darker for larger ones, with a text in each cell.

    Args:
      values: shape (rows, columns). Cells that are not finite stay white.
      rows: the names of the rows.
      columns: the names of the columns.
      texts: one text per cell, bold for the largest value of a column unless `upright` is set. Default None: the values
        with three digits.
      limits: the values of the lightest and the darkest shade. Default None: the smallest and the largest value.
      title: the figure's title.
      label: the meaning of the shades.
      upright: whether the names of the columns stand upright, so that many columns find room. Default False.

    Returns:
      The figure.

    Raises:
      ValueError: if shapes differ, or if no value is finite and no limits are given.
    """
    require_texts(title=title, label=label)
    require_flag("upright", upright)
    require_strings("rows", rows, expected="names")
    require_strings("columns", columns, expected="names")
    values = as_drawn("values", values, finite=False)
    if values.shape != (len(rows), len(columns)) or values.size == 0:
        raise ValueError(f"values: expected shape {(len(rows), len(columns))} like the names, got {values.shape}")
    if texts is None:
        texts = [[f"{value:.3g}" for value in row] for row in values]
    require_sequence("texts", texts, "rows of texts")
    for row in texts:
        require_strings("texts", row, expected="rows of texts")
    if [len(row) for row in texts] != [len(columns)] * len(rows):
        raise ValueError(f"texts: expected {len(rows)} rows of {len(columns)}, got {[len(row) for row in texts]}")
    if limits is None and not np.isfinite(values).any():
        raise ValueError("values: expected at least one finite value, got none")
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if limits is None else as_limits("limits", limits)
    longest = max(len(text) for row in texts for text in row)
    name = max(map(len, columns))
    cell = 0.1 + 0.07 * longest if upright else 0.35 + 0.075 * max(longest, name)
    left = 0.3 + 0.082 * max(len(name) for name in rows)
    inner = cell * len(columns), 0.2 * len(rows)
    width = max(left + inner[0] + 0.15, 3.5)
    title = fitted(title, 10, width - 0.2)
    top, bottom = 0.35 + 0.2 * len(title.splitlines()) + (0.085 * name if upright else 0.0), 0.62
    height = top + inner[1] + bottom
    figure = Figure(figsize=(width, height))
    figure.text(0.1 / width, 1 - 0.1 / height, title, fontsize=10, va="top", linespacing=1.3)
    axes = figure.add_axes((left / width, bottom / height, inner[0] / width, inner[1] / height))
    # Black text is readable on all of these shades.
    norm, shades = Normalize(low, high), ListedColormap(GROUND(np.linspace(1.0, 0.25, 256)))
    most = np.where(np.isfinite(values), values, -np.inf).max(axis=0)
    axes.imshow(np.ma.masked_invalid(values), aspect="auto", cmap=shades, norm=norm, interpolation="nearest")
    for j, row in enumerate(texts):
        for i, text in enumerate(row):
            weight = "bold" if values[j, i] == most[i] and not upright else "normal"
            axes.text(i, j, text, ha="center", va="center", fontsize=8, weight=weight)
    axes.set_xticks(range(len(columns)), columns, fontsize=9, weight="bold", rotation=90 if upright else 0)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=0)
    axes.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", lw=1.2)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    scale = figure.add_axes((left / width, 0.35 / height, inner[0] / width, 0.1 / height))
    bar = figure.colorbar(ScalarMappable(norm, shades), cax=scale, orientation="horizontal")
    bar.ax.tick_params(labelsize=7, length=2, pad=2)
    bar.ax.set_title(label, fontsize=8, pad=2, loc="left")
    return figure
