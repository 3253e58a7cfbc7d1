"""What the tables of the page of results have in common."""

from collections.abc import Iterable, Sequence
from typing import Any

from gdlab.analysis.tables import Table

Results = dict[str, Any]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return Table(head, list(rows)).markdown()


def figure(value: float | None) -> str:
    """Three significant digits; nothing where nothing was measured."""
    return "" if value is None else f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"
