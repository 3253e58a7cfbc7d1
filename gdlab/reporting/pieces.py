"""The pieces that a page is made of: tables and figures as data, which the page's scripts draw."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from gdlab.plots.webfile import packed

Kind = Literal["text", "number", "interval", "sparkline"]


class Column(NamedTuple):
    """A column of a table.

    Attributes:
      name: the heading.
      kind: what its cells are: texts, numbers, intervals (estimate, low, high), or rows of numbers to draw small.
      cells: the cells: a sequence of texts, an array, an array (rows, 3), or a sequence of arrays.
    """

    name: str
    kind: Kind
    cells: Any

    def data(self) -> dict[str, Any]:
        """Return the column for the page: texts as numbers of distinct texts, and numbers compressed."""
        found: dict[str, Any] = {"name": self.name, "kind": self.kind}
        if self.kind == "text":
            texts, codes = np.unique(np.asarray(list(map(str, self.cells)), object), return_inverse=True)
            return found | {"texts": texts.tolist(), "codes": numbers(codes, "int32")}
        if self.kind == "sparkline":
            return found | {"rows": [_short(row) for row in self.cells]}
        return found | {"numbers": numbers(self.cells)}


class Rows(NamedTuple):
    """A table that can be sorted, filtered and downloaded.

    Attributes:
      title: the caption.
      columns: the columns, all of the same length.
      note: what explains the table; default none.
    """

    title: str
    columns: Sequence[Column]
    note: str = ""

    def data(self) -> dict[str, Any]:
        """Return the piece for the page."""
        head = {"kind": "rows", "title": self.title, "note": self.note}
        return head | {"count": len(self.columns[0].cells), "columns": [each.data() for each in self.columns]}


class Curve(NamedTuple):
    """A line with a band.

    Attributes:
      name: the name.
      x: where the values lie.
      middle: the values of the line.
      low: the lower edge of the band.
      high: its upper edge.
    """

    name: str
    x: Float[np.ndarray, " points"]
    middle: Float[np.ndarray, " points"]
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]


class Curves(NamedTuple):
    """Curves with bands, several panels of which one is shown.

    Attributes:
      title: the caption.
      x: the name of the horizontal axis.
      panels: for each measure, the curves.
      note: what the lines and bands are.
    """

    title: str
    x: str
    panels: Mapping[str, Sequence[Curve]]
    note: str = ""

    def data(self) -> dict[str, Any]:
        """Return the piece for the page."""
        panels = [
            {"name": name, "curves": [{"name": one.name, **_numbers_of(one)} for one in curves]}
            for name, curves in self.panels.items()
        ]
        return {"kind": "curves", "title": self.title, "note": self.note, "x": self.x, "panels": panels}


class DotAxis(NamedTuple):
    """A hyperparameter as the horizontal axis of dots.

    Attributes:
      column: the name of its column.
      logarithmic: whether its scale is.
    """

    column: str
    logarithmic: bool


class Dots(NamedTuple):
    """Scores over each hyperparameter, one dot for each run; a click tells its setting and how to repeat it.

    Attributes:
      title: the caption.
      columns: what is known of each dot, of the kinds "text" and "number".
      axes: the hyperparameters.
      score: the name of the column of scores.
      group: the name of the column by which dots are colored; empty: one color.
      better: "lower" or "higher".
      repeat: code that repeats a run, in which {column} stands for the value of a column.
      note: what explains the figure.
    """

    title: str
    columns: Sequence[Column]
    axes: Sequence[DotAxis]
    score: str
    group: str
    better: str
    repeat: str
    note: str = ""

    def data(self) -> dict[str, Any]:
        """Return the piece for the page."""
        columns, axes = [each.data() for each in self.columns], [axis._asdict() for axis in self.axes]
        return {"kind": "dots", **self._asdict(), "columns": columns, "axes": axes}


class Ranges(NamedTuple):
    """Intervals beside each other, in groups of which one is shown.

    Attributes:
      title: the caption.
      x: what the intervals are of.
      groups: for each group, the labels with (estimate, low, high, margin), and the words of a verdict.
      note: what explains the figure.
    """

    title: str
    x: str
    groups: Mapping[str, Sequence[tuple[str, float, float, float, float, str]]]
    note: str = ""

    def data(self) -> dict[str, Any]:
        """Return the piece for the page."""
        keys = ("label", "estimate", "low", "high", "margin", "answer")
        groups = [
            {"name": name, "ranges": [dict(zip(keys, one, strict=True)) for one in rows]}
            for name, rows in self.groups.items()
        ]
        return {"kind": "ranges", "title": self.title, "note": self.note, "x": self.x, "groups": groups}


class Levels(NamedTuple):
    """A shaded table.

    Attributes:
      title: the caption.
      rows: the labels of the rows.
      columns: the labels of the columns.
      values: the numbers, (rows, columns).
      limits: the numbers at the ends of the scale.
      label: what the numbers are.
      note: what explains the figure.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Float[np.ndarray, "rows columns"]
    limits: tuple[float, float]
    label: str
    note: str = ""

    def data(self) -> dict[str, Any]:
        """Return the piece for the page."""
        return {"kind": "levels", **self._asdict(), "values": np.asarray(self.values, float).tolist()}


Piece = Rows | Curves | Dots | Ranges | Levels | str
"""A table, a figure or a paragraph."""


class Section(NamedTuple):
    """What is shown of one result.

    Attributes:
      title: the heading.
      pieces: the tables, figures and paragraphs, in order.
      provenance: where it comes from, by name: the file, versions, the device, the time.
      warnings: what is missing or damaged.
    """

    title: str
    pieces: Sequence[Piece]
    provenance: Mapping[str, str]
    warnings: Sequence[str] = ()


def numbers(values: Any, kind: str = "float64") -> Any:
    """Return numbers for the page: a list if there are few, else compressed."""
    array = np.asarray(values, kind)
    return array.tolist() if array.size <= 256 else packed(array, kind)


def _numbers_of(curve: Curve) -> dict[str, Any]:
    return {key: numbers(value, "float32") for key, value in curve._asdict().items() if key != "name"}


def _short(row: Any) -> list[float]:
    """Return at most 40 of these numbers, evenly spaced, with four digits."""
    known = np.asarray(row, float)
    at = np.linspace(0, max(len(known) - 1, 0), min(len(known), 40)).round().astype(int)
    return [float(f"{value:.4g}") for value in known[np.unique(at)]]


def in_words(made: Mapping[str, Any]) -> dict[str, str]:
    """Return what is known of an environment as texts by name; what is nested is joined."""
    found = {}
    for name, value in made.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {each}" for key, each in value.items())
        elif isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value))
        found[name.replace("_", " ")] = str(value)
    return found
