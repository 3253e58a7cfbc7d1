"""Fill benchmarks/board: a judgement of each optimizer of gdlab whose results the package holds.

Command:   python -m benchmarks.board_entries [NAME ...] [--board DIR]
Runtime:   some twenty seconds for each optimizer on 2 CPU cores.

An entry is what `gdlab judge` finds. What an optimizer achieves is read from `gdlab/baselines` instead of being
computed again, and its soundness is examined here. `gdlab board verify ENTRY` computes all of it.
"""

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import tyro

from gdlab.arguments import require_names
from gdlab.compute.interrupts import command
from gdlab.judging import as_json, baselines, nearness
from gdlab.judging.contenders import completed, known
from gdlab.judging.judgement import AGAINST, Judgement, verdicts_of
from gdlab.judging.soundness import examine
from gdlab.judging.subject import STEPS
from gdlab.optimizers import OPTIMIZERS
from gdlab.records import write_json
from gdlab.reporting import board
from gdlab.version import VERSION

STORED = {name: found for name in OPTIMIZERS if (found := baselines.stored(name)) is not None}


@dataclasses.dataclass(frozen=True)
class Config:
    """Which entries are made."""

    optimizers: tyro.conf.Positional[tuple[str, ...]] = tuple(STORED)
    """Names of optimizers whose results are stored. Default: all of them."""
    board: Path = Path(__file__).parent / "board"
    """The folder of the entries."""

    def __post_init__(self) -> None:
        require_names("optimizers", self.optimizers, STORED)


def judged(name: str) -> Judgement:
    """Return the judgement of an optimizer against the usual opponents, from stored results."""
    began = time.perf_counter()
    one, record = known(name), STORED[name]
    others = {each: STORED[each] for each in AGAINST if each != name}
    soundness = examine(completed(OPTIMIZERS[name], one.ranges, STEPS))
    nearest = nearness.nearest_known(OPTIMIZERS[name])
    note = f"The results of {name} are those that gdlab holds; its soundness was examined for this entry."
    seconds = time.perf_counter() - began + sum(record.seconds.values())
    return Judgement(name, "quick", soundness, nearest, record, others, verdicts_of(record, others), (note,), seconds)


def entry(name: str) -> dict[str, Any]:
    """Return a judgement with the code that it is about."""
    code = {"file": f"{name}.py", "factory": name, "text": f"from gdlab.optimizers import {name}\n"}
    return as_json(judged(name)) | {"gdlab": VERSION, "code": code}


def main(config: Config) -> None:
    for name in config.optimizers:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "judgement.json"
            write_json(file, entry(name))
            print(board.add(file, config.board), flush=True)


if __name__ == "__main__":
    with command("board_entries", OSError, ValueError, ImportError):
        main(tyro.cli(Config, description=__doc__))
