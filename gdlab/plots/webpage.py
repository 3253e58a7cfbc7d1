"""A surface with descents on it as a web page that turns it, drawn by plotly."""

import tempfile
import webbrowser
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gdlab.arguments import require_instance
from gdlab.plots.relief import AZIMUTH, ELEVATION, Trail, box_of
from gdlab.plots.screens import has_display
from gdlab.plots.style import PALETTE
from gdlab.records.files import atomic_path
from gdlab.types import Grid


def import_plotly() -> Any:
    """Import `plotly.graph_objects`; where it is missing, the error says how to install it."""
    try:
        import plotly.graph_objects
    except ImportError:
        raise ImportError(
            "backend: expected the package plotly, got none installed; run pip install 'gdlab[interactive]'"
        ) from None
    return plotly.graph_objects


def figure_of(grid: Grid, trails: Mapping[str, Trail], title: str, labels: tuple[str, str, str]) -> Any:
    """Draw the surface and the descents on it; hovering shows numbers, and a click on a name hides its descent."""
    go = import_plotly()
    bar = {"title": {"text": labels[2]}, "len": 0.6}
    surface = {"x": grid.x, "y": grid.y, "z": grid.z, "colorscale": "Viridis", "colorbar": bar, "name": labels[2]}
    figure = go.Figure(go.Surface(**surface))
    for index, (name, (points, marks)) in enumerate(trails.items()):
        colour = PALETTE[index % len(PALETTE)]
        steps = points[marks][np.isfinite(points[marks]).all(axis=1)]
        common = {"name": name, "legendgroup": str(index)}
        line = {"mode": "lines", "line": {"color": colour, "width": 5}, "hoverinfo": "skip"}
        dots = {"mode": "markers", "marker": {"color": colour, "size": 2.5}, "showlegend": False}
        figure.add_trace(go.Scatter3d(**dict(zip("xyz", points.T, strict=True)), **common, **line))
        figure.add_trace(go.Scatter3d(**dict(zip("xyz", steps.T, strict=True)), **common, **dots))
    scene: dict[str, Any] = {"aspectmode": "manual", "camera": {"eye": _point(_eye())}}
    scene["aspectratio"] = _point(1.15 * box_of(grid).half)
    for axis, text, ends in zip("xyz", labels, (_ends(grid.x), _ends(grid.y), None), strict=True):
        scene[f"{axis}axis"] = {"title": {"text": text}, "range": ends}
    legend = {"x": 0, "y": 1, "bgcolor": "rgba(0, 0, 0, 0)"}  # clear, as it may lie over a corner
    figure.update_layout(title=title, scene=scene, legend=legend, margin={"l": 0, "r": 0, "b": 0})
    return figure


def _ends(at: np.ndarray) -> list[float]:
    return [float(at.min()), float(at.max())]


def _eye() -> np.ndarray:
    """Return where the camera stands, in plotly's units."""
    azimuth, elevation = np.radians([AZIMUTH, ELEVATION])
    across = np.cos(elevation) * np.array([np.sin(azimuth), -np.cos(azimuth)])
    return 2.3 * np.append(across, np.sin(elevation))


def _point(at: np.ndarray) -> dict[str, float]:
    return dict(zip("xyz", at.tolist(), strict=True))


def require_figure(figure: Any) -> None:
    """Raise unless this is a figure of plotly."""
    require_instance("figure", figure, import_plotly().Figure, "what surface or explore returns")


def write_page(figure: Any, path: Path) -> None:
    """Write one web page that needs no network, atomically."""
    with atomic_path(path) as temporary:
        figure.write_html(temporary, include_plotlyjs=True)


def write_text(page: str, path: Path) -> None:
    """Write a web page that is there as text, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def open_page(name: str, write: Callable[[Path], None]) -> Path:
    """Write a page of this name to a new temporary folder, and open it in the browser if there is a display.

    Returns:
      The path of the page.
    """
    page = Path(tempfile.mkdtemp(prefix="gdlab-")) / name
    write(page)
    if has_display():
        webbrowser.open(page.as_uri())
    return page
