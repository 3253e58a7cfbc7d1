"""A surface to turn, with descents on it: a web page by plotly, or a window or a picture by VisPy.

They need the extras `interactive` (plotly) and `vispy`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gdlab.arguments import require_choice, require_count, require_instance
from gdlab.functions import Function, evaluate_grid
from gdlab.functions.function import require_function
from gdlab.plots import webpage
from gdlab.plots.canvas import levels, with_suffix
from gdlab.plots.checks import as_grid, as_tracks, require_labels, require_texts
from gdlab.plots.relief import drape
from gdlab.plots.screens import blank_canvas, has_display
from gdlab.plots.turntable import Turntable
from gdlab.types import Grid

__all__ = ["BACKENDS", "has_display", "require_backend", "save", "show", "surface"]

BACKENDS = {"plotly": ".html", "vispy": ".png"}
"""The packages that draw surfaces to turn, and the suffixes of the files that `save` writes."""


def require_backend(backend: str) -> None:
    """Raise unless this backend can draw here, with the errors of `surface`; for use before long work.

    Args:
      backend: "plotly" or "vispy".
    """
    require_choice("backend", backend, BACKENDS)
    if backend == "plotly":
        webpage.import_plotly()
    else:
        blank_canvas("", {})[0].close()


def surface(
    function: Function | Grid,
    paths: Mapping[str, Any] | None = None,
    *,
    backend: str = "plotly",
    steps: int | None = None,
    title: str = "",
    labels: tuple[str, str, str] = ("x₁", "x₂", "value"),
) -> Any:
    """Draw a function's surface, with descents slightly above it.

    A long step follows the ground between its ends. Plotly's figure can be turned in a notebook or in any browser;
    hovering shows numbers, and a click on a name in the legend hides its descent. VisPy's is drawn by the graphics
    card, so that it turns without delay, and plays the descents step by step.

    Args:
      function: a test function, drawn over its own domain, or the values of any function, as `evaluate_grid` returns
        them.
      paths: the points of each descent, of shape (count, 2), start first, by name. Heights are interpolated in the
        grid, and points outside it are left out.
      backend: "plotly", the default, or "vispy".
      steps: how many steps of each descent are drawn. None, the default: all.
      title: the figure's title.
      labels: the labels of the three axes.

    Returns:
      The figure of plotly, or a `Turntable`; `save` writes and `show` opens either.

    Raises:
      ImportError: if the package is not installed.
      OSError: for VisPy, if there is neither a display nor a library that draws off-screen.
    """
    require_choice("backend", backend, BACKENDS)
    require_texts(title=title)
    require_labels(labels, 3)
    if steps is not None:
        require_count("steps", steps, low=0)
    tracks = as_tracks({} if paths is None else paths)
    require_instance("function", function, (Function, Grid), "a Function, or a Grid as evaluate_grid returns")
    if isinstance(function, Function):
        require_function("function", function, 2)
        function = evaluate_grid(function)
    grid = as_grid(function)
    levels(grid.z)  # raises if there is nothing to draw
    grid = grid._replace(z=np.where(np.isfinite(grid.z), grid.z, np.nan))
    trails = drape(grid, tracks)
    if backend == "vispy":
        table = Turntable(grid, trails, title, labels)
        table.play(table.most if steps is None else steps)
        return table
    if steps is not None:
        trails = {name: trail.first(steps) for name, trail in trails.items()}
    return webpage.figure_of(grid, trails, title, labels)


def save(figure: Any, path: str | Path) -> None:
    """Write a surface to a file, atomically.

    Args:
      figure: what `surface` returned.
      path: the file: .html for plotly, one web page that needs no network, or .png for VisPy, what the camera sees.
    """
    if isinstance(figure, Turntable):
        figure.save(with_suffix(path, BACKENDS["vispy"]))
        return
    webpage.require_figure(figure)
    webpage.write_page(figure, with_suffix(path, BACKENDS["plotly"]))


def show(figure: Any) -> Path | None:
    """Open a surface: VisPy's in a window, until it is closed; plotly's in the browser.

    Args:
      figure: what `surface` returned.

    Returns:
      The file of the page, which is written even if there is no display; None for VisPy.

    Raises:
      OSError: for VisPy, if there is no display.
    """
    if isinstance(figure, Turntable):
        figure.show()
        return None
    webpage.require_figure(figure)
    return webpage.open_page(figure)
