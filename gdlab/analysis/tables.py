"""Tables in four forms (console text, CSV, Markdown and LaTeX), and reports made of tables and text."""

import csv
import dataclasses
import io
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gdlab.arguments import (
    as_path,
    describe,
    require_count,
    require_flag,
    require_sequence,
    require_text,
)
from gdlab.records.files import atomic_path

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",  # like < and >, another character in LaTeX's old fonts
    **{character: f"\\{character}" for character in "&%$#_{}"},
}

_MARKUP = re.compile(r"[\\|*`\[~&]|<(?=[A-Za-z/!?])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""Characters that Markdown reads as markup in a cell; an underscore within a word is not markup."""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of text cells under a header row, with an optional caption.

    Cells hold plain text; each form escapes the characters that it must.

    Attributes:
      head: the column headings.
      rows: the cells of each row.
      caption: one line of text. Default none.

    Raises:
      TypeError: if the head or the rows are not sequences of text.
      ValueError: if a row is longer or shorter than the head, or if a cell is not one line of text.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def __post_init__(self) -> None:
        require_sequence("head", self.head, "text")
        if not len(self.head):
            raise ValueError("head: expected at least one column, got none")
        if isinstance(self.rows, (str, Mapping)) or not isinstance(self.rows, Iterable):
            raise TypeError(f"rows: expected rows of text, got {describe(self.rows)}")
        object.__setattr__(self, "rows", tuple(self.rows))  # the checks below would exhaust a generator
        for row in self.rows:
            require_sequence("rows", row, "rows of text")
            if len(row) != len(self.head):
                raise ValueError(
                    f"rows: expected as many cells as the head ({len(self.head)}), got {len(row)}: {list(row)}"
                )
        cells = (("head", self.head), *(("rows", row) for row in self.rows), ("caption", (self.caption,)))
        for name, cell in ((name, cell) for name, line in cells for cell in line):
            if not isinstance(cell, str) or cell.splitlines() not in ([], [cell]):
                raise ValueError(f"{name}: expected one line of text in each cell, got {describe(cell)}")

    def text(self) -> str:
        """Return the table as text for the console: columns flush right, with a rule under the header row."""
        lines = [self.head, *self.rows]
        widths = [max(len(line[k]) for line in lines) for k in range(len(self.head))]
        set_lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([set_lines[0], "-" * len(set_lines[0]), *set_lines[1:]])

    def csv(self) -> str:
        """Return the table as comma-separated values (RFC 4180, but with plain line ends)."""
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.head, *self.rows])
        return out.getvalue()

    def markdown(self) -> str:
        """Return the table as a Markdown pipe table."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join("| " + " | ".join(_MARKUP.sub(r"\\\g<0>", cell) for cell in line) + " |" for line in lines)

    def latex(self) -> str:
        """Return the table as a LaTeX `table` with the rules of the package booktabs.

        The first column is flush left, and the others are flush right.
        """
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
        """Write the table to `stem`.txt, `stem`.csv and `stem`.tex, each atomically.

        Args:
          stem: the path of the files without their suffix.

        Returns:
          The paths of the three files.

        Raises:
          ValueError: if `stem` does not end in a name.
        """
        path = as_path("stem", stem)
        if not path.name or str(stem).endswith("/"):
            raise ValueError(f"stem: expected a path that ends in a name, got {str(stem)!r}")
        forms = {".txt": self.text() + "\n", ".csv": self.csv(), ".tex": self.latex()}
        paths = []
        for suffix, content in forms.items():
            paths.append(path.with_name(path.name + suffix))
            with atomic_path(paths[-1]) as temporary:
                temporary.write_bytes(content.encode())  # bytes, so that the file is the same in every locale
        return paths


def _latex_row(line: Sequence[str]) -> str:
    row = " & ".join(map(_escape, line)) + r" \\"
    # LaTeX would read these as an argument of the \\ or rule in the line above.
    return "{}" + row if row.lstrip().startswith(("[", "*")) else row


def _escape(cell: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in cell)


Block = str | Table
"""A part of a report: a paragraph, a heading (starts with "#"), a list (lines start with "- ") or a table."""


def counted(count: Any, noun: str) -> str:
    """Return the count and the noun, with a plural "s" unless the count is 1."""
    require_text("noun", noun)
    require_count("count", count, low=0)
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def render(blocks: Sequence[Block], *, markdown: bool) -> str:
    """Render blocks one after another, each table under its caption.

    Args:
      blocks: the text and tables.
      markdown: whether to return Markdown, or text for a console of 120 columns.

    Returns:
      The text.

    Raises:
      TypeError: if a block is neither text nor a table.
    """
    require_sequence("blocks", blocks, "text and tables")
    require_flag("markdown", markdown)

    def text(block: Block) -> str:
        if not isinstance(block, (str, Table)):
            raise TypeError(f"blocks: expected text and tables, got {describe(block)}")
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
