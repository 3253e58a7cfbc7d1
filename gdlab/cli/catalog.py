"""`gdlab list`: what there is of a kind, as a table with one line each."""

import ast
import inspect
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from gdlab.data.datasets import DATASETS, find
from gdlab.functions import FUNCTIONS, MATRIX_FUNCTIONS, Function
from gdlab.optimizers import OPTIMIZERS, WRAPPERS
from gdlab.tasks import TASKS

Row = tuple[str, ...]

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
"""They are in the repository, beside the package; an installed wheel has none."""


def lines(kind: str) -> list[str]:
    """The table of one kind, with lines that fit the terminal."""
    return KINDS[kind]()


def optimizer_lines() -> list[str]:
    """Each optimizer with its equation."""
    return table((name, summary(factory).partition(": ")[2]) for name, factory in OPTIMIZERS.items())


def wrapper_lines() -> list[str]:
    """Each wrapper of optimizers with its equation."""
    return table((name, summary(wrapper).partition(": ")[2]) for name, wrapper in WRAPPERS.items())


def function_lines() -> list[str]:
    """Each test function with its domain and its source."""
    return table((name, domain(one), one.source) for name, one in FUNCTIONS.items())


def matrix_lines() -> list[str]:
    """Each function of matrices with the first line of what it says of itself."""
    return table((name, summary(make)) for name, make in MATRIX_FUNCTIONS.items())


def task_lines() -> list[str]:
    """Each task with the first line of what it says of itself."""
    return table((name, summary(make)) for name, make in TASKS.items())


def data_lines(data_dir: Path | None = None) -> list[str]:
    """Each data set with the folder that holds it, or the places that were searched."""
    rows = []
    for name in DATASETS:
        if name == "digits":
            rows.append((name, "comes with scikit-learn"))
            continue
        folder, searched = find(name, data_dir)
        rows.append((name, str(folder) if folder else f"not found in {', '.join(searched)}"))
    rows.append(("ptb", "train.txt, valid.txt and test.txt in ptb/ of the same places"))
    return [*table(rows, shorten=False), "", "Prepare one with: gdlab data prepare NAME"]


def experiment_lines() -> list[str]:
    """Each experiment of the repository with the first line of its header."""
    files = sorted(EXPERIMENTS.glob("[a-z]*.py"))
    if not files:
        return ["The experiments are in the repository, not in the installed package."]
    rows = table((f.name, (ast.get_docstring(ast.parse(f.read_text())) or "").partition("\n")[0]) for f in files)
    return [*rows, "", "Run one with: python experiments/NAME"]


KINDS: dict[str, Callable[[], list[str]]] = {
    "optimizers": optimizer_lines,
    "wrappers": wrapper_lines,
    "functions": function_lines,
    "matrices": matrix_lines,
    "tasks": task_lines,
    "data": data_lines,
    "experiments": experiment_lines,
}


def summary(thing: object) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def domain(function: Function) -> str:
    """The customary domain in words, such as [-5, 5]^2."""
    lower, upper = (sorted({float(x) for x in corner}) for corner in function.bounds(function.dim or 2))
    power = function.dim or "n"
    if len(lower) == len(upper) == 1:
        return f"[{lower[0]:g}, {upper[0]:g}]^{power}"
    corners = zip(*function.bounds(function.dim), strict=True)
    return " x ".join(f"[{low:g}, {high:g}]" for low, high in corners)


def table(rows: Iterable[Row], *, shorten: bool = True) -> list[str]:
    """Left-aligned columns; the last one is cut where the terminal ends, unless it must be read whole."""
    rows = list(rows)
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]) - 1)]
    edge = shutil.get_terminal_size().columns
    found = []
    for row in rows:
        line = "  ".join([cell.ljust(width) for cell, width in zip(row, widths, strict=False)] + [row[-1]]).rstrip()
        found.append(line if len(line) <= edge or not shorten else line[: edge - 3].rstrip() + "...")
    return found
