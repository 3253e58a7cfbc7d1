"""`gdlab report` and `gdlab board verify`: results as one web page, and a judgement that is repeated."""

import sys
from collections.abc import Sequence
from pathlib import Path

from gdlab.cli.user_code import load_factory
from gdlab.plots.canvas import with_suffix
from gdlab.records.files import require_folder
from gdlab.reporting import board, page_of, save


def report_places(places: Sequence[Path], out: Path, title: str) -> None:
    """Write the page of these files and folders, and say what it holds and what could not be read."""
    require_folder(with_suffix(out, ".html").parent)
    page = page_of(places, title=title)
    for line in page.damaged:
        print(f"not read: {line}", file=sys.stderr)
    save(page, out)
    print(f"Written to {out}: {', '.join(page.sections)} ({len(page.html.encode()) / 1e6:.2g} MB)")


def verify(entry: Path, folder: Path | None) -> int:
    """Repeat the judgement of an entry, print what differs, and return the exit status."""
    try:
        differences = board.verify(entry, load_factory, folder=folder)
    except (OSError, ValueError, TypeError, KeyError, ImportError, RuntimeError) as error:
        print(f"gdlab: {error}", file=sys.stderr)
        return 2
    for one in differences:
        print(f"DIFFERS  {one.part} against {one.against}: {one.before}; now {one.now}")
    print("The entry holds." if not differences else f"{len(differences)} verdicts are beyond the entry's intervals.")
    return 1 if differences else 0
