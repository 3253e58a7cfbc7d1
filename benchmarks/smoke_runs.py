"""Store the numbers of the two experiments on networks, run at their smallest size, which take prepared data.

Command: python -m benchmarks.smoke_runs [cifar10_smoke] [overview_smoke] [--text FOLDER] [--finished OUT]
Writes benchmarks/results/cifar10_smoke.json and overview_smoke.json. `--finished` takes the
results of a run that is done.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from gdlab.analysis.rankings import rank_across_tasks
from gdlab.arguments import require_names
from gdlab.records import write_json

ROOT = Path(__file__).parents[1]
NOTE = (
    "CIFAR-10 as its data set's provenance says; the text is a part of WikiText-2 in Penn Treebank's format. Two "
    "seeds, two trials: this shows that everything works, not which optimizer is better."
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Which runs are stored."""

    names: tyro.conf.Positional[tuple[str, ...]] = ("cifar10_smoke", "overview_smoke")
    text: Path = Path("ptb")
    """The text of the overview's LSTM: ptb, or a folder with train.txt, valid.txt and test.txt."""
    finished: Path | None = None
    """The --out of a run that is done; only with a single name. No time is stored then."""

    def __post_init__(self) -> None:
        require_names("names", self.names, RECORDS)
        if self.finished is not None and len(self.names) > 1:
            raise ValueError(f"finished: expected a single name with it, got {', '.join(self.names)}")


def final(record: dict[str, Any], part: str) -> list[float]:
    """Return the last values of each seed of the longest runs."""
    runs = record["runs"]
    return runs[max(runs, key=int)]["final"][part]["values"]


def cifar10_record(found: dict[str, Any]) -> dict[str, Any]:
    every = found["protocols"]["sound"]["optimizers"]
    parts = ("training accuracy (%)", "test accuracy (%)", "training loss (nats)", "test loss (nats)")
    return {"final": {name: {part: final(one, part) for part in parts} for name, one in every.items()}}


def overview_record(found: dict[str, Any]) -> dict[str, Any]:
    problems = found["problems"]
    names = list(next(iter(problems.values()))["optimizers"])
    values = np.array([[final(one["optimizers"][name], "test") for one in problems.values()] for name in names])
    rank = rank_across_tasks(values).rank.estimate
    return {
        "measures": {name: one["measure"] for name, one in problems.items()},
        "optimizers": {
            names[place]: {
                "rank": rank[place],
                "test": dict(zip(problems, values[place].mean(axis=-1), strict=True)),
                "sd": dict(zip(problems, values[place].std(axis=-1, ddof=1), strict=True)),
                "setting": {name: one["optimizers"][names[place]]["setting"] for name, one in problems.items()},
            }
            for place in np.argsort(rank, kind="stable")
        },
        "note": NOTE,
    }


RECORDS = {
    "cifar10_smoke": ("cifar10_resnet18", ["--smoke"], cifar10_record),
    "overview_smoke": ("overview", ["--tier", "smoke"], overview_record),
}


def main(config: Config) -> None:
    for name in config.names:
        experiment, flags, record = RECORDS[name]
        seconds: float | None = None
        with tempfile.TemporaryDirectory() as temporary:
            folder = config.finished or Path(temporary) / "out"
            if config.finished is None:
                more = ["--text", str(config.text)] if experiment == "overview" else []
                began = time.perf_counter()
                script = ROOT / "experiments" / f"{experiment}.py"
                subprocess.run([sys.executable, script, *flags, *more, "--out", folder], check=True)
                seconds = time.perf_counter() - began
            found = json.loads((folder / "results.json").read_text())
        command = " ".join(["python", f"experiments/{experiment}.py", *flags])
        how = {"environment": found["environment"] | {"command": command}}
        took = {} if seconds is None else {"seconds": seconds}
        write_json(ROOT / "benchmarks" / "results" / f"{name}.json", how | took | record(found))
        print(f"{name}: written")


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except (OSError, ValueError) as error:
        sys.exit(f"smoke_runs: {error}")
