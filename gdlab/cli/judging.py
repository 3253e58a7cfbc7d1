"""`gdlab judge`: an optimizer from a user's file, judged; what was found is written to a folder."""

import json
import re
import sys
from pathlib import Path

from gdlab import plots
from gdlab.arguments import as_path
from gdlab.cli.user_code import load_factory
from gdlab.judging import as_json, judge, text
from gdlab.judging.judgement import Judgement
from gdlab.judging.report import levels_table
from gdlab.records import staged_folder, write_json
from gdlab.version import VERSION

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(budget: str) -> float:
    """Return the seconds of a duration such as 600, 90s, 10m or 1h."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([smh]?)", budget.strip())
    if not found or not float(found[1]):
        raise ValueError(f"budget: expected a duration such as 90s, 10m or 1h, got {budget!r}")
    return float(found[1]) * UNITS[found[2]]


def judge_file(
    target: str,
    *,
    against: tuple[str, ...],
    budget: str | None,
    tier: str,
    out: Path | None,
    refresh: bool,
    as_machine: bool,
) -> int:
    """Judge FILE.py:FACTORY, print one screen or JSON, write the folder, and return the exit status."""
    limit = None if budget is None else seconds_of(budget)
    factory = load_factory(target)
    ranges = getattr(sys.modules.get(Path(target.rpartition(":")[0]).stem), "SPACE", None)
    name = target.rpartition(":")[2]
    folder = as_path("out", Path("runs") / f"judge_{name}" if out is None else out)
    found = judge(
        factory,
        name=name,
        ranges=ranges,
        against=against,
        tier=tier,
        budget=limit,
        refresh=refresh,
        folder=folder,
        say=lambda line: print(line, file=sys.stderr if as_machine else sys.stdout, flush=True),
    )
    write_folder(found, folder, code=code_of(target))
    print(json.dumps(as_json(found), allow_nan=False) if as_machine else f"\n{text(found)}\n\nWritten to {folder}")
    return 0 if found.soundness.ok else 1


def code_of(target: str) -> dict[str, str]:
    """Return the code of FILE.py:FACTORY, so that others can repeat the judgement."""
    file, _, name = target.rpartition(":")
    return {"file": Path(file).name, "factory": name, "text": Path(file).expanduser().read_text(encoding="utf-8")}


def write_folder(found: Judgement, folder: Path, *, code: dict[str, str] | None = None) -> None:
    """Write a judgement: its text, everything as JSON, with the code if there is a file of it, and its map."""
    problems, columns, levels = levels_table(found)
    title = "Levels solved, of four, at a setting tuned for each level"
    figure = plots.levels_map(levels, problems, columns, title=title)
    with staged_folder(folder) as staging:
        plots.save_indexed(figure, staging / "map.png")
        (staging / "judgement.txt").write_text(text(found) + "\n", encoding="utf-8")
        write_json(staging / "judgement.json", as_json(found) | {"gdlab": VERSION, "code": code})
