"""Measure how far every optimizer is from an independent implementation, and print the table.

Each case takes 200 steps in float64 on Rosenbrock's function, a random least-squares problem and a small network, with
the arguments at their defaults and with every one of them changed (`tests/oracles/trajectories.py` lists the cases).
The deviation is the largest difference of any coordinate at any step, relative to the oracle's largest coordinate.

Command: python -m benchmarks.oracle_deviation (needs the extra `oracle`)
Writes benchmarks/results/oracle_deviation.json and prints the table.
Runtime: about a minute and a half on 2 CPU cores.
"""

import contextlib
import importlib.metadata
import io
import sys
import warnings
from pathlib import Path
from typing import Any

import jax

from gdlab.optimizers import OPTIMIZERS
from gdlab.records import environment, write_json
from tests.oracles import trajectories

RESULTS = Path(__file__).parent / "results"
REFERENCE = "our NumPy reference"


def measure(case: str) -> dict[str, Any]:
    """Return the case's oracle, its version and the largest deviation over its problems."""
    entry = trajectories.CASES[case]
    package, name = entry.oracle.split(":")
    ours = package == "numpy"
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():  # some oracles print
        warnings.simplefilter("ignore")
        deviations = {
            problem: trajectories.deviation(trajectories.ours(case, problem), trajectories.theirs(case, problem))
            for problem in entry.problems
        }
    return {
        "case": case,
        "optimizer": entry.optimizer,
        "oracle": REFERENCE if ours else f"{package}.{name}",
        "version": f"NumPy {importlib.metadata.version('numpy')}" if ours else trajectories.version_of(case),
        "deviations": deviations,
        "largest": max(deviations.values()),
        "why": entry.why,
    }


def rows(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge the cases into one row per optimizer and oracle, in the order of OPTIMIZERS."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for case in sorted(cases, key=lambda case: list(OPTIMIZERS).index(case["optimizer"])):
        key = (case["optimizer"], case["oracle"])
        row = found.setdefault(key, {name: case[name] for name in ("optimizer", "oracle", "version")})
        row["largest"] = max(row.get("largest", 0.0), case["largest"])
        row["cases"] = row.get("cases", 0) + 1
        row["why"] = row.get("why") or case["why"]
    return list(found.values())


def table(rows: list[dict[str, Any]]) -> str:
    """Format the rows as Markdown; `benchmarks.results` puts them on the page."""
    lines = ["| optimizer | oracle | version | largest relative deviation |", "| --- | --- | --- | --- |"]
    for row in rows:
        note = f" ({row['why']})" if row["why"] else ""
        lines.append(f"| `{row['optimizer']}` | {row['oracle']} | {row['version']} | {row['largest']:.1e}{note} |")
    return "\n".join(lines)


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    try:
        cases = [measure(case) for case in trajectories.CASES]
    except ImportError as missing:
        sys.exit(f"oracle_deviation: {missing}; install the oracles: pip install -e '.[oracle]'")
    found = rows(cases)
    command = "python -m benchmarks.oracle_deviation"
    write_json(
        RESULTS / "oracle_deviation.json",
        {
            "environment": environment() | {"command": command},
            "steps": trajectories.STEPS,
            "rows": found,
            "cases": cases,
        },
    )
    print(table(found))


if __name__ == "__main__":
    main()
