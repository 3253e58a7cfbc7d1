"""An interactive surface with descents on it: a plotly figure for a notebook or a web page.

It needs the extra `interactive` (`pip install 'gdlab[interactive]'`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from scipy.interpolate import RegularGridInterpolator

from gdlab.arguments import as_path, require_instance
from gdlab.plots.canvas import levels
from gdlab.plots.checks import as_grid, as_tracks, require_labels, require_texts
from gdlab.plots.style import PALETTE
from gdlab.records.files import atomic_path
from gdlab.types import Grid


def surface(
    grid: Grid,
    paths: Mapping[str, Any] | None = None,
    *,
    title: str = "",
    labels: tuple[str, str, str] = ("x₁", "x₂", "value"),
) -> go.Figure:
    """Draw a function's surface, with descents slightly above it.

    Hovering shows numbers, and clicking a name in the legend hides its descent.

    Args:
      grid: the function's values, as returned by `evaluate_grid`.
      paths: the points of each descent, of shape (count, 2), by name. Heights are interpolated in the grid, and
        points outside it are left out.
      title: the figure's title.
      labels: the labels of the three axes.

    Returns:
      The plotly figure.
    """
    require_texts(title=title)
    require_labels(labels, 3)
    grid, tracks = as_grid(grid), as_tracks({} if paths is None else paths)
    levels(grid.z)  # raises if there is nothing to draw
    figure = go.Figure(go.Surface(x=grid.x, y=grid.y, z=grid.z, colorscale="Viridis", opacity=0.95, name="value"))
    height = RegularGridInterpolator((grid.y, grid.x), grid.z, bounds_error=False, fill_value=np.nan)
    lift = 0.01 * float(np.nanmax(grid.z) - np.nanmin(grid.z))
    for index, (name, track) in enumerate(tracks.items()):
        z = height(track[:, ::-1])
        seen = np.isfinite(z)
        figure.add_trace(
            go.Scatter3d(
                x=track[seen, 0],
                y=track[seen, 1],
                z=z[seen] + lift,
                name=name,
                mode="lines+markers",
                line={"color": PALETTE[index % len(PALETTE)], "width": 5},
                marker={"size": 2.5},
            )
        )
    axes = {f"{axis}axis": {"title": {"text": text}} for axis, text in zip("xyz", labels, strict=True)}
    figure.update_layout(title=title, scene=axes, legend={"x": 0, "y": 1}, margin={"l": 0, "r": 0, "b": 0})
    return figure


def write_html(path: str | Path, figure: go.Figure) -> None:
    """Write the figure as one web page that needs no network, atomically."""
    require_instance("figure", figure, go.Figure, "a plotly figure")
    with atomic_path(as_path("path", path)) as temporary:
        figure.write_html(temporary, include_plotlyjs=True)
