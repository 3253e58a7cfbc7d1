"""One table, four forms: text for the console, CSV, Markdown and LaTeX; and reports of tables and text."""

import csv
import dataclasses
import io
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from gdlab.arguments import describe
from gdlab.records.files import atomic_path

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",  # like the two above, another sign in the old text fonts
    **{character: f"\\{character}" for character in "&%$#_{}"},
}

_MARKUP = re.compile(r"[\\|*`\[~&]|<(?=[A-Za-z/!?])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""What Markdown would read as markup in a cell; an underscore within a word it leaves alone."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells of text in rows, under a head: plain text, each form escapes what it must.

    Raises ValueError where a row is longer or shorter than the head, and where a cell is not one line of text.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(self.rows))  # of a generator, the check would leave nothing
        if not self.head:
            raise ValueError("head: wanted at least one column, got none")
        for row in self.rows:
            if len(row) != len(self.head):
                raise ValueError(f"rows: wanted {len(self.head)} cells, as the head has, got {len(row)}: {list(row)}")
        for cell in (*self.head, *(cell for row in self.rows for cell in row), self.caption):
            if not isinstance(cell, str) or cell.splitlines() not in ([], [cell]):
                got = repr(cell) if isinstance(cell, str) else describe(cell)
                raise ValueError(f"rows: wanted text of one line in each cell, got {got}")

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
        return "\n".join("| " + " | ".join(_MARKUP.sub(r"\\\g<0>", cell) for cell in line) + " |" for line in lines)

    def latex(self) -> str:
        """A `table` with the rules of the package booktabs; the first column flush left, the others flush right."""
        lines = [_latex_row(line) for line in (self.head, *self.rows)]
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
        if not Path(stem).name or str(stem).endswith("/"):
            raise ValueError(f"stem: wanted a path that ends in a name, got {str(stem)!r}")
        forms = {".txt": self.text() + "\n", ".csv": self.csv(), ".tex": self.latex()}
        paths = []
        for suffix, content in forms.items():
            path = Path(f"{stem}{suffix}")
            with atomic_path(path) as temporary:
                temporary.write_bytes(content.encode())  # the same bytes in every locale
            paths.append(path)
        return paths


def _latex_row(line: Sequence[str]) -> str:
    row = " & ".join(map(_escape, line)) + r" \\"
    # The \\ or rule in the line above would take these for its own argument.
    return "{}" + row if row.lstrip().startswith(("[", "*")) else row


def _escape(cell: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in cell)


Block = str | Table
"""A piece of a report: a paragraph, a heading (from "#"), a list (lines from "- ") or a table."""


def render(blocks: Sequence[Block], *, markdown: bool) -> str:
    """The blocks one after another, tables under their captions; as Markdown or for the console, 120 columns wide."""

    def text(block: Block) -> str:
        if not isinstance(block, (str, Table)):
            raise TypeError(f"blocks: wanted text and tables, got {describe(block)}")
        if isinstance(block, Table):
            return f"{block.caption}\n\n{block.markdown() if markdown else block.text()}"
        if markdown:
            return block
        if block.startswith("#"):
            return f"{block.lstrip('# ')}\n{'=' * len(block.lstrip('# '))}"
        indents = ["  " if line.startswith("- ") else "" for line in block.splitlines()]
        lines = zip(block.splitlines(), indents, strict=True)
        return "\n".join(textwrap.fill(line, 120, subsequent_indent=indent) for line, indent in lines)

    return "\n\n".join(map(text, blocks)) + "\n"
