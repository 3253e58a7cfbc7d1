"""Figures to turn and to explore: a surface with descents on it, and a page of all the paths that a sweep recorded.

A surface is a web page by plotly, or a window or a picture by VisPy, which need the extras `interactive` and `vispy`.
The page of paths, which `explore` makes, needs neither.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from gdlab.arguments import require_choice, require_count, require_instance
from gdlab.functions import Function, evaluate_grid
from gdlab.functions.function import require_function
from gdlab.plots import webpage
from gdlab.plots.canvas import levels, with_suffix
from gdlab.plots.checks import as_grid, as_minimizers, as_tracks, require_labels, require_texts
from gdlab.plots.explorer import Explorer, explorer_of
from gdlab.plots.recorded import as_recordings
from gdlab.plots.relief import drape
from gdlab.plots.screens import blank_canvas, has_display
from gdlab.plots.turntable import Turntable
from gdlab.types import Grid

__all__ = ["BACKENDS", "explore", "has_display", "require_backend", "save", "show", "surface"]

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
    grid = _grid_of(function)
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


def _grid_of(function: Any) -> Grid:
    """Return the values of a function over its own domain, or those that were given."""
    require_instance("function", function, (Function, Grid), "a Function, or a Grid as evaluate_grid returns")
    if isinstance(function, Function):
        require_function("function", function, 2)
        function = evaluate_grid(function)
    return as_grid(function)


def explore(
    function: Function | Grid,
    runs: xr.Dataset | Mapping[str, xr.Dataset],
    *,
    minimizers: Any = None,
    thin: int = 1,
    title: str = "",
    labels: tuple[str, str, str] = ("x₁", "x₂", "value"),
) -> Explorer:
    """Make a web page on which the paths that sweeps recorded are explored.

    Sliders over the swept axes and over the starts move the paths on the contour, with the values against the steps
    beside it. The paths can be played, and a drag of the start picks the nearest one that was computed. A table says
    the same in words. The page needs no network; it has half a megabyte and the paths, in compressed single precision.

    Args:
      function: the test function that was minimized, drawn over its own domain, or the values of any function, as
        `evaluate_grid` returns them.
      runs: what `sweep(..., record="path")` returned, for one function of two variables; or several of these by name,
        of optimizers with axes of their own. An axis that several have must have as many values in all, and one slider
        moves it in all.
      minimizers: the minimizers of shape (count, 2), drawn as stars. None, the default: those of a test function.
      thin: every `thin`-th step is kept, and the last one. Default 1, all steps.
      title: the page's title. "", the default: the name of a test function.
      labels: the names of the two variables and of the value.

    Returns:
      The page; `save` writes and `show` opens it.

    Raises:
      ValueError: if there are no paths, they are not of two variables, or the page would have more than 20 MB.
    """
    require_texts(title=title)
    require_labels(labels, 3)
    require_count("thin", thin)
    stars, minimum, name = as_minimizers(minimizers), np.nan, ""
    recordings = as_recordings(runs)
    grid = _even(_grid_of(function))
    levels(grid.z)  # raises if there is nothing to draw
    if isinstance(function, Function):
        stars = as_minimizers(function.minimizers(2)) if stars is None else stars
        minimum, name = function.minimum(2), f" on {function.name}"
    return explorer_of(
        grid,
        recordings,
        minimizers=stars,
        minimum=minimum,
        thin=thin,
        title=title or f"Descents{name}",
        labels=labels,
        notes=_notes(runs if isinstance(runs, xr.Dataset) else next(iter(runs.values()))),
    )


def _even(grid: Grid) -> Grid:
    """Return the grid with ascending coordinates; raise unless they are evenly spaced."""
    for axis in ("x", "y"):
        gaps = np.diff(getattr(grid, axis))
        if not np.allclose(gaps, gaps.mean(), rtol=1e-3):
            raise ValueError(
                f"function.{axis}: expected evenly spaced coordinates, got gaps from {gaps.min():g} to {gaps.max():g}"
            )
    x, y = (slice(None, None, 1 if at[-1] > at[0] else -1) for at in (grid.x, grid.y))
    return Grid(grid.x[x], grid.y[y], grid.z[y, x])


def _notes(runs: xr.Dataset) -> list[str]:
    """Return what a sweep's attributes say of it, as one sentence."""
    before = {"dtype": "computed in", "device": "on", "jax": "by JAX"}
    parts = [f"{words} {runs.attrs[name]}" for name, words in before.items() if name in runs.attrs]
    return [f"Paths were {' '.join(parts)}."] if parts else []


def save(figure: Any, path: str | Path) -> None:
    """Write a surface or a page of paths to a file, atomically.

    Args:
      figure: what `surface` or `explore` returned.
      path: the file: .html for plotly and for paths, one web page that needs no network, or .png for VisPy, what the
        camera sees.
    """
    if isinstance(figure, Explorer):
        webpage.write_text(figure.page, with_suffix(path, ".html"))
        return
    if isinstance(figure, Turntable):
        figure.save(with_suffix(path, BACKENDS["vispy"]))
        return
    webpage.require_figure(figure)
    webpage.write_page(figure, with_suffix(path, BACKENDS["plotly"]))


def show(figure: Any) -> Path | None:
    """Open a surface or a page of paths: VisPy's in a window, until it is closed; the others in the browser.

    Args:
      figure: what `surface` or `explore` returned.

    Returns:
      The file of the page, which is written even if there is no display; None for VisPy.

    Raises:
      OSError: for VisPy, if there is no display.
    """
    if isinstance(figure, Explorer):
        return webpage.open_page("paths.html", lambda page: webpage.write_text(figure.page, page))
    if isinstance(figure, Turntable):
        figure.show()
        return None
    webpage.require_figure(figure)
    return webpage.open_page("surface.html", lambda page: webpage.write_page(figure, page))
