"""A surface to turn with the mouse, with descents on it: a plotly figure, for a notebook or a web page.

Needs the extra `interactive` (`pip install 'gdlab[interactive]'`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from scipy.interpolate import RegularGridInterpolator

from gdlab.plots.canvas import as_tracks
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
    """The function's surface with descents drawn a little above it; hover for numbers, click names to hide them.

    paths: a name to points of shape (count, 2); heights are interpolated in the grid, points outside it left out.
    """
    figure = go.Figure(go.Surface(x=grid.x, y=grid.y, z=grid.z, colorscale="Viridis", opacity=0.95, name="value"))
    height = RegularGridInterpolator((grid.y, grid.x), grid.z, bounds_error=False, fill_value=np.nan)
    lift = 0.01 * float(np.nanmax(grid.z) - np.nanmin(grid.z))
    for index, (name, track) in enumerate(as_tracks(paths or {}).items()):
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
    with atomic_path(path) as temporary:
        figure.write_html(temporary, include_plotlyjs=True)
