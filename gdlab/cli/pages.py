"""`gdlab show`: all that is known of one optimizer, wrapper, test function or task."""

import inspect
import json
import shutil
import textwrap
from pathlib import Path
from typing import Any

from gdlab.cli.catalog import domain
from gdlab.functions import FUNCTIONS, MATRIX_FUNCTIONS, Function
from gdlab.optimizers import OPTIMIZERS, WRAPPERS
from gdlab.tasks import TASKS
from gdlab.types import UnknownNameError, nearest

MEASURED = (Path(__file__).parent, Path(__file__).parents[2] / "benchmarks" / "results")
"""Where the files of measured deviations are: in an installed wheel, and in the repository."""


def page(name: str) -> str:
    """The page of an optimizer, a wrapper, a function or a task; raises UnknownNameError with the nearest names."""
    if name in OPTIMIZERS:
        return "\n".join([written("gdlab.optimizers", OPTIMIZERS[name]), "", *deviations(name, "oracle_deviation")])
    if name in WRAPPERS:
        return "\n".join([written("gdlab.optimizers", WRAPPERS[name]), "", *deviations(name, "wrapper_deviation")])
    if name in FUNCTIONS:
        return function_page(FUNCTIONS[name])
    if name in MATRIX_FUNCTIONS:
        return written("gdlab.functions.matrices", MATRIX_FUNCTIONS[name])
    if name in TASKS:
        return written("gdlab.tasks", TASKS[name])
    near = nearest(name, [*OPTIMIZERS, *WRAPPERS, *FUNCTIONS, *MATRIX_FUNCTIONS, *TASKS])
    offer = f"nearest: {', '.join(near)}" if near else "see gdlab list optimizers, wrappers, functions or tasks"
    raise UnknownNameError(f"name: expected an optimizer, a wrapper, a function or a task, got {name!r}; {offer}")


def written(place: str, build: Any) -> str:
    """A function's signature, one argument per line, and its docstring."""
    parameters = [one.replace(annotation=one.empty) for one in inspect.signature(build).parameters.values()]
    named = [one.kind is one.KEYWORD_ONLY for one in parameters]
    shown = [str(one) for one in parameters]
    if True in named:
        shown.insert(named.index(True), "*")
    arguments = [f"    {one}," for one in shown]
    return "\n".join([f"{place}.{build.__name__}(", *arguments, ")", "", fitted(inspect.getdoc(build) or "")])


def fitted(text: str) -> str:
    """A docstring with its paragraphs and entries filled again, to the width of the terminal."""
    blocks: list[tuple[int, str]] = []  # the indentation and the text of each
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        words = line.strip()
        continues = blocks and blocks[-1][1] and words and not words.startswith(">>>")
        if continues and (indent > blocks[-1][0] or indent == blocks[-1][0] == 0) and blocks[-1][1][-1] != ":":
            blocks[-1] = (blocks[-1][0], f"{blocks[-1][1]} {words}")
        else:
            blocks.append((indent, words))
    width = shutil.get_terminal_size().columns
    return "\n".join(
        textwrap.fill(
            words,
            width,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + 2 * (indent > 0)),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for indent, words in blocks
    )


def deviations(name: str, file: str) -> list[str]:
    """How far an optimizer or a wrapper is from each independent implementation, as it was measured."""
    for place in MEASURED:
        path = place / f"{file}.json"
        if path.exists():
            measured = json.loads(path.read_text())
            rows = [row for row in measured["rows"] if row["optimizer"] == name]
            if not rows:
                return [f"Not compared with an independent implementation yet (python -m benchmarks.{file})."]
            head = f"Largest relative deviation in {measured['steps']} steps of float64 from an independent one:"
            return [head, *(f"  {row['oracle']} ({row['version']}): {row['largest']:.1e}" for row in rows)]
    return []


def function_page(function: Function) -> str:
    """The formula and the facts of a test function."""
    dim = function.dim or 2
    minimizers = function.minimizers(dim)
    shown = [f"  ({', '.join(f'{x:.6g}' for x in point)})" for point in minimizers[:8]]
    if len(minimizers) > 8:
        shown.append(f"  and {len(minimizers) - 8} more")
    where = "" if function.dim else ", in two dimensions"
    lines = [
        f'gdlab.FUNCTIONS["{function.name}"]',
        "",
        fitted(inspect.getdoc(function.fn) or ""),
        "",
        f"Dimensions: {function.dim or 'any'}",
        f"Domain: {domain(function)}",
        f"Minimum{where}: {function.minimum(dim):.10g}",
        f"Global minimizers{where}:",
        *(shown or ["  not known in closed form"]),
    ]
    if function.kinks:
        lines.append(fitted(f"Not differentiable: {function.kinks}"))
    return "\n".join([*lines, fitted(f"Source: {function.source}")])
