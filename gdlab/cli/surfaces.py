"""`gdlab show NAME --interactive`: a test function's surface, in the browser, in a window or in a file."""

from pathlib import Path

from gdlab.arguments import require_names
from gdlab.functions import FUNCTIONS
from gdlab.plots import interactive


def open_surface(name: str, backend: str | None, save: Path | None) -> Path | None:
    """Draw the surface of a test function, and open or save it; returns the file that was written.

    Args:
      name: the function.
      backend: "plotly" or "vispy". None: that of the file's suffix, or else plotly.
      save: the file. None: a window, or a page of the browser.
    """
    require_names("name", [name], FUNCTIONS)
    if backend is None:
        suffix = None if save is None else save.suffix.lower()
        backend = next((one for one, own in interactive.BACKENDS.items() if own == suffix), "plotly")
    figure = interactive.surface(FUNCTIONS[name], backend=backend, title=name)
    if save is None:
        return interactive.show(figure)
    interactive.save(figure, save)
    return save
