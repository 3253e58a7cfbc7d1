"""How much longer `import gdlab` takes than `import jax, optax`: fresh processes in turn, medians.

Command: python benchmarks/import_time.py [--runs 15]
Writes benchmarks/results/import_time.json. Bound: 0.3 s more, and no matplotlib, flax or tensorflow_datasets.
"""

import dataclasses
import statistics
import subprocess
import sys
from pathlib import Path

import tyro

from gdlab.records import environment, write_json

RESULTS = Path(__file__).parent / "results"
CANDIDATES = {"jax, optax": "import jax, optax", "gdlab": "import jax, optax, gdlab"}


@dataclasses.dataclass(frozen=True)
class Config:
    """How often."""

    runs: int = 15


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
    more = medians["gdlab"] - medians["jax, optax"]
    write_json(
        RESULTS / "import_time.json",
        {"environment": environment(), "seconds": times, "median": medians, "gdlab_takes_longer_by": more},
    )
    print("\n".join(f"{name:12s} {value:.3f} s" for name, value in medians.items()), f"\nmore         {more:.3f} s")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
