"""A board: judgements in a folder, as static pages; each holds the code that it is about, and can be repeated.

An entry is the JSON file of a judgement: the code of the optimizer, the digests of its program, what it and its
opponents achieved on each seed, and the machine and versions that it was made with.
"""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gdlab.arguments import as_path, require_callable, require_text
from gdlab.diagnostics import PROBLEMS
from gdlab.judging import as_json, judge
from gdlab.judging.report import sentence
from gdlab.judging.tiers import TIERS
from gdlab.records import staged_folder, write_json
from gdlab.reporting.judgements import Read, decision, read_judgement
from gdlab.reporting.page import page_from
from gdlab.reporting.pieces import Column, Rows, Section, in_words
from gdlab.version import VERSION

__all__ = ["Difference", "add", "build", "verify"]

Load = Callable[[str], Any]
"""A function that returns the factory of a text FILE.py:FACTORY."""


class Difference(NamedTuple):
    """A part of a judgement that came out otherwise when it was repeated.

    Attributes:
      against: the opponent.
      part: the family of problems, the network, or all of them.
      before: the verdict of the entry, in words.
      now: the verdict of the repetition, in words.
    """

    against: str
    part: str
    before: str
    now: str


def read_entry(path: Path) -> Read:
    """Read a judgement with the code that it is about.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is damaged, holds no judgement, or a judgement without the code that it is about.
    """
    if not path.is_file():
        raise FileNotFoundError(f"judgement: expected a file, got {path}, which does not exist")
    found = read_judgement(path)
    code = found.content.get("code")
    if not isinstance(code, dict) or not {"factory", "text"} <= set(code):
        raise ValueError(f"judgement: expected one of gdlab judge, which holds the code, got {path} without code")
    return found


def add(judgement: str | os.PathLike[str], board: str | os.PathLike[str] = "board") -> Path:
    """Add a judgement to the entries of a board.

    Args:
      judgement: the file judgement.json that `gdlab judge` wrote.
      board: the folder of entries. Default "board".

    Returns:
      The new file, whose name is that of the optimizer with the digest of its program. A judgement of the same program
      in the same tier takes the place of an earlier one.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is damaged, or no judgement of this version with its code.
    """
    file, folder = as_path("judgement", judgement), as_path("board", board)
    found = read_entry(file).content
    name = re.sub(r"\W+", "_", found["name"])[:60]
    path = folder / f"{name}-{found['tier']}-{found['record']['digest'][:8]}.json"
    write_json(path, found)
    return path


def entries(board: str | os.PathLike[str]) -> tuple[dict[str, Read], list[str]]:
    """Return the judgements of a board by the names of their files, and a line for each file that cannot be read.

    Raises:
      ValueError: if the folder holds no entry that can be read.
    """
    folder = as_path("board", board)
    found, damaged = {}, []
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.stem] = read_entry(path)
        except (OSError, ValueError) as error:
            damaged.append(str(error).splitlines()[0])
    if not found:
        raise ValueError(f"board: expected a folder of judgements, got {folder} with {damaged or 'none'}")
    return found, damaged


def build(board: str | os.PathLike[str] = "board", site: str | os.PathLike[str] = "site") -> Path:
    """Write the pages of a board: one that compares all entries, and one for each entry, with its code.

    Args:
      board: the folder of entries. Default "board".
      site: the folder of the pages. Default "site".

    Returns:
      The first page, index.html.

    Raises:
      ValueError: if the folder holds no entry that can be read.
    """
    place = as_path("site", site)
    found, damaged = entries(board)
    with staged_folder(place) as staging:
        for name, entry in found.items():
            judged, section = entry.content["code"], entry.section
            code = [f"The code that was judged is {judged['factory']} in:", judged["text"].rstrip() + "\n"]
            made = {**section.provenance, "file": f"{name}.json"}
            one = page_from([section._replace(pieces=[*section.pieces, *code], provenance=made)], [], section.title)
            (staging / f"{name}.html").write_text(one.html, encoding="utf-8")
            write_json(staging / f"{name}.json", entry.content)
        shown = _shown({name: entry.content for name, entry in found.items()})
        overview = _overview({shown[name]: entry.content for name, entry in found.items()})
        links = {shown[name]: f"{name}.html" for name in found}
        index = page_from([overview], damaged, "Judgements", links=links)
        (staging / "index.html").write_text(index.html, encoding="utf-8")
    return place / "index.html"


def _shown(found: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return what each entry is called: the name of the optimizer, with that of the file unless all are different."""
    names = {file: entry["name"] for file, entry in found.items()}
    if len(set(names.values())) == len(names):
        return names
    return {file: f"{name} ({file})" for file, name in names.items()}


def _overview(found: Mapping[str, Mapping[str, Any]]) -> Section:
    """Return the table of all entries by name, with the verdict on all problems against each opponent."""
    opponents = list(dict.fromkeys(name for entry in found.values() for name in entry["opponents"]))
    columns = [
        Column("optimizer", "text", list(found)),
        Column("tier", "text", [entry["tier"] for entry in found.values()]),
        Column("sound", "text", ["yes" if entry["soundness"]["ok"] else "NO" for entry in found.values()]),
        Column("solved %", "number", [100 * np.mean(entry["record"]["solved"]) for entry in found.values()]),
        Column("bytes", "number", [_cost(entry, "bytes_per_parameter") for entry in found.values()]),
        Column("step", "number", [_cost(entry, "relative_time") for entry in found.values()]),
    ]
    for opponent in opponents:
        columns.append(
            Column(f"against {opponent}", "interval", [_overall(entry, opponent) for entry in found.values()])
        )
    versions = [str(entry.get("gdlab", "?")) for entry in found.values()]
    if len(set(versions)) > 1:
        columns.append(Column("gdlab", "text", versions))
    note = (
        "Solved: the share of all problems, levels and seeds. Bytes: of state per parameter. Step: its time, relative "
        "to Adam's. Against an opponent: the difference in decimal digits of the error that is left on all "
        "diagnostics, paired by seed; positive ones are better."
    )
    made = in_words({"entries": len(found), "judged by gdlab": sorted(set(versions)), "page by gdlab": VERSION})
    return Section("All judgements", [Rows("Entries", columns, note)], made)


def _cost(entry: Mapping[str, Any], name: str) -> float:
    return float(entry["soundness"][name])


def _overall(entry: Mapping[str, Any], opponent: str) -> tuple[float, float, float]:
    verdict = entry["verdicts"]["overall"].get(opponent, {}).get("all diagnostics")
    if verdict is None:
        return np.nan, np.nan, np.nan
    one = decision(verdict)
    return one.mean, one.low, one.high


def verify(
    entry: str | os.PathLike[str],
    load: Load,
    *,
    folder: str | os.PathLike[str] | None = None,
    say: Callable[[str], Any] = print,
) -> list[Difference]:
    """Repeat the judgement of an entry, by running its code, and compare the verdicts.

    Args:
      entry: the file of the entry.
      load: a function that returns the factory of a text FILE.py:FACTORY. It runs the code of the entry.
      folder: a folder where results are kept, so that the same call continues after an interruption. Default None:
        nothing is kept.
      say: called with each line that reports on the way. Default `print`.

    Returns:
      The parts whose difference to an opponent now lies outside the interval that the entry states; none if the entry
      holds.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is damaged, or its code raises.
    """
    require_callable("load", load)
    require_callable("say", say)
    kept = None if folder is None else as_path("folder", folder)
    before = read_entry(as_path("entry", entry)).content
    if before["tier"] not in TIERS:
        raise ValueError(f"entry: expected a tier among {', '.join(TIERS)}, got {before['tier']!r}")
    require_text("factory", before["code"]["factory"])
    with tempfile.TemporaryDirectory(prefix="gdlab-") as temporary:
        file = Path(temporary) / "entry.py"
        file.write_text(before["code"]["text"], encoding="utf-8")
        factory = load(f"{file}:{before['code']['factory']}")
        now = as_json(
            judge(
                factory,
                name=before["name"],
                ranges=getattr(sys.modules.get(file.stem), "SPACE", None),
                against=list(before["opponents"]),
                tier=before["tier"],
                networks=list(before["record"]["networks"]),
                problems=_problems(before),
                folder=kept,
                say=say,
            )
        )
    if now["record"]["digest"] != before["record"]["digest"]:
        say("The program differs from that of the entry: other code, another version of JAX or of gdlab.")
    return differences(before, now)


def _problems(entry: Mapping[str, Any]) -> Any:
    """Return the problems of an entry, or None if they are all of them."""
    names = list(entry["record"]["problems"])
    if set(names) == set(PROBLEMS):
        return None
    if strange := [name for name in names if name not in PROBLEMS]:
        raise ValueError(f"entry: expected problems of gdlab.diagnostics, got {strange[0]!r}")
    return {name: PROBLEMS[name] for name in names}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Return the parts in which two judgements of the same optimizer differ by more than the first one's intervals.

    Args:
      before: a judgement, as `gdlab.judging.as_json` returns it.
      now: another one, against the same opponents.

    Returns:
      The parts, those about all problems or networks first.
    """
    found = []
    for kind in ("overall", "parts"):
        for opponent, parts in before["verdicts"][kind].items():
            for part, values in parts.items():
                old, new = decision(values), now["verdicts"][kind].get(opponent, {}).get(part)
                if new is None:
                    found.append(Difference(opponent, part, sentence(old), "not computed"))
                elif not old.low <= (fresh := decision(new)).mean <= old.high:
                    found.append(Difference(opponent, part, sentence(old), sentence(fresh)))
    return found
