"""Measure the time of imports, and of `gdlab --help`: medians over fresh processes in alternation.

Command: python benchmarks/import_time.py [--runs 15]
Writes benchmarks/results/import_time.json. Bounds: what a descent needs takes at most
0.3 s more than JAX and optax, and help at most 0.5 s.
"""

import dataclasses
import statistics
import subprocess
import sys
from pathlib import Path

import tyro

from gdlab.records import environment, write_json

RESULTS = Path(__file__).parent / "results"
CANDIDATES = {
    "jax, optax": "import jax, optax",
    "gdlab": "import gdlab",
    "descent": "from gdlab import FUNCTIONS, OPTIMIZERS, descend",
    "sweep": "from gdlab import FUNCTIONS, OPTIMIZERS, sweep",
    "help": """
import contextlib, os, sys
from gdlab.cli import main
sys.argv = ["gdlab", "--help"]
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(open(os.devnull, "w")):
    main()
""",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    runs: int = 15
    """Number of fresh processes per statement."""


def seconds(statement: str) -> float:
    code = f"import time; began = time.perf_counter()\n{statement}\nprint(time.perf_counter() - began)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def main(config: Config) -> None:
    for statement in CANDIDATES.values():
        seconds(statement)  # warm the file cache
    times: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    for _ in range(config.runs):
        for name, statement in CANDIDATES.items():
            times[name].append(seconds(statement))
    medians = {name: statistics.median(values) for name, values in times.items()}
    write_json(
        RESULTS / "import_time.json",
        {"environment": environment(), "seconds": times, "median": medians},
    )
    print("\n".join(f"{name:12s} {value:.3f} s" for name, value in medians.items()))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
