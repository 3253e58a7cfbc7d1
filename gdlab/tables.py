"""One table, four forms: text for the console, CSV, Markdown and LaTeX."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

from gdlab.runs import atomic_path

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells of text in rows, under a head. Raises ValueError where a row is longer or shorter than the head."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.head):
                raise ValueError(f"rows: wanted {len(self.head)} cells, as the head has, got {len(row)}: {list(row)}")

    def text(self) -> str:
        """Columns set flush right, a rule under the head."""
        lines = [self.head, *self.rows]
        widths = [max(len(line[k]) for line in lines) for k in range(len(self.head))]
        set_lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([set_lines[0], "-" * len(set_lines[0]), *set_lines[1:]])

    def csv(self) -> str:
        """Comma-separated values (RFC 4180, with plain line ends)."""
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.head, *self.rows])
        return out.getvalue()

    def markdown(self) -> str:
        """A pipe table."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)

    def latex(self) -> str:
        """A `table` with the rules of the package booktabs; the first column flush left, the others flush right."""
        lines = [" & ".join(map(_escape, line)) + r" \\" for line in (self.head, *self.rows)]
        caption = [rf"\caption{{{_escape(self.caption)}}}"] if self.caption else []
        columns = "l" + "r" * (len(self.head) - 1)
        return "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                *caption,
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                lines[0],
                r"\midrule",
                *lines[1:],
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )

    def write(self, stem: str | Path) -> list[Path]:
        """Write `stem`.txt, .csv and .tex, each whole or not at all; returns their paths."""
        forms = {".txt": self.text() + "\n", ".csv": self.csv(), ".tex": self.latex()}
        paths = []
        for suffix, content in forms.items():
            path = Path(f"{stem}{suffix}")
            with atomic_path(path) as temporary:
                temporary.write_text(content)
            paths.append(path)
        return paths


def _escape(cell: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in cell)
