"""The page of results: sections of tables and figures in one file, which opens from disk without a network."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gdlab.arguments import as_path, require_instance, require_sequence
from gdlab.plots.canvas import with_suffix
from gdlab.plots.style import DARK_PALETTE, DASHES, PALETTE
from gdlab.plots.webfile import LARGEST_PAGE, WEB, filled, libraries
from gdlab.plots.webpage import write_text
from gdlab.reporting.pieces import Section
from gdlab.reporting.sources import find
from gdlab.version import VERSION

OWN = Path(__file__).with_name("web")
STYLES = (WEB / "page.css", OWN / "report.css")
SCRIPTS = (WEB / "page.js", *(OWN / f"{name}.js" for name in ("tables", "charts", "dots", "report")))


class Page(NamedTuple):
    """A page of results.

    Attributes:
      html: the page.
      sections: the headings of its sections.
      damaged: for each file that could not be read, one line.
    """

    html: str
    sections: tuple[str, ...]
    damaged: tuple[str, ...]


def page_of(places: Sequence[str | os.PathLike[str]], *, title: str = "") -> Page:
    """Make one page of results: judgements, studies, trainings, and datasets of sweeps and scans.

    The page holds all that it needs and opens from disk. Its tables can be sorted, filtered and downloaded as CSV, and
    its figures as SVG; a click on a dot tells its setting, its seed and how to repeat it. Names in the results are
    shown as text, whatever they contain.

    Args:
      places: files and folders: a judgement's folder or judgement.json, a study's folder, a training's folder, a
        dataset in NetCDF, or folders of these.
      title: the title of the page. Default: the headings of its sections.

    Returns:
      The page; `save` writes it.

    Raises:
      TypeError: if an argument has the wrong type.
      FileNotFoundError: if a place does not exist.
      ValueError: if a place holds no result, or the page would have more than 20 MB.

    Example:
      >>> page = page_of(["runs/judge_cautious_qhadam", "sweep.nc"])
      >>> save(page, "report.html")
    """
    require_sequence("places", places, "files and folders")
    require_instance("title", title, str, "text")
    if not places:
        raise ValueError("places: expected at least one file or folder, got none")
    found = find([as_path(f"places[{index}]", place) for index, place in enumerate(places)])
    return page_from(found.sections, found.damaged, title)


def page_from(
    sections: Sequence[Section], damaged: Sequence[str], title: str, *, links: Mapping[str, str] | None = None
) -> Page:
    """Make the page of these sections.

    Args:
      sections: the sections, at least one.
      damaged: for each file that could not be read, one line.
      title: the title; empty: the headings of the sections.
      links: the addresses of other pages, by the texts of the cells that lead there. Default None: none.

    Raises:
      ValueError: if the page would have more than 20 MB.
    """
    heads = tuple(section.title for section in sections)
    title = title or (heads[0] if len(heads) == 1 else f"{heads[0]} and {len(heads) - 1} more")
    data = {
        "title": title,
        "made": f"Made by gdlab {VERSION} on {time.strftime('%Y-%m-%d %H:%M')}, with {' and '.join(libraries())}.",
        "colours": {"light": PALETTE, "dark": DARK_PALETTE},
        "dashes": ["", "8 3", "2 3"][: len(DASHES)],
        "links": dict(links or {}),
        "sections": [_data(section) for section in sections],
        "damaged": list(damaged),
    }
    html = filled(OWN / "report.html", title, data, styles=STYLES, scripts=SCRIPTS)
    size = len(html.encode())
    if size > LARGEST_PAGE:
        raise ValueError(
            f"places: expected a page of at most {LARGEST_PAGE / 1e6:g} MB, got {size / 1e6:.3g} MB; "
            "report fewer results, or select runs by ds.isel(...) and save these"
        )
    return Page(html, heads, tuple(damaged))


def _data(section: Section) -> dict[str, object]:
    pieces = [{"kind": "text", "text": piece} if isinstance(piece, str) else piece.data() for piece in section.pieces]
    made = [[name, value] for name, value in section.provenance.items()]
    return {"title": section.title, "pieces": pieces, "provenance": made, "warnings": list(section.warnings)}


def save(page: Page, path: str | os.PathLike[str]) -> Path:
    """Write a page to a file, atomically.

    Args:
      page: what `page_of` returned.
      path: the file, .html.

    Returns:
      The file.
    """
    require_instance("page", page, Page, "what page_of returns")
    file = with_suffix(path, ".html")
    write_text(page.html, file)
    return file
