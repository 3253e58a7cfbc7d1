"""Measure how far every wrapper is from independent implementations, and print the table.

Each case takes 200 steps in float64 on Rosenbrock's function, a random least-squares problem and a small network,
around gradient descent, heavy ball or Adam, with the arguments at their defaults and with every one of them changed
(`tests/oracles/wrapped.py` lists the cases, and says where rounding would be amplified). The deviation is the largest
difference of any coordinate at any step, relative to the oracle's largest coordinate.

Command: python -m benchmarks.wrapper_deviation (needs the extra `oracle`)
Writes benchmarks/results/wrapper_deviation.json and prints the table.
Runtime: about two minutes on 2 CPU cores.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import jax

from gdlab.optimizers import WRAPPERS
from gdlab.records import environment, write_json
from tests.oracles import wrapped

RESULTS = Path(__file__).parent / "results"
NAMES = {"numpy": "our NumPy reference", "optax": "optax", "torch": "PyTorch"}


def measure(case: str) -> dict[str, Any]:
    """Return the case's oracle, its version and the largest deviation over its problems."""
    entry = wrapped.CASES[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        deviations = {
            problem: wrapped.deviation(wrapped.ours(case, problem), wrapped.theirs(case, problem))
            for problem in entry.problems
        }
    return {
        "case": case,
        "optimizer": entry.wrapper,
        "oracle": NAMES[wrapped.kind_of(case)],
        "version": wrapped.version_of(case),
        "deviations": deviations,
        "largest": max(deviations.values()),
        "why": entry.why,
    }


def rows(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge the cases into one row per wrapper and oracle, in the order of WRAPPERS."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for case in sorted(cases, key=lambda case: list(WRAPPERS).index(case["optimizer"])):
        row = found.setdefault(
            (case["optimizer"], case["version"]), {name: case[name] for name in ("optimizer", "oracle", "version")}
        )
        row["largest"] = max(row.get("largest", 0.0), case["largest"])
        row["cases"] = row.get("cases", 0) + 1
        row["why"] = row.get("why") or case["why"]
    return list(found.values())


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    try:
        cases = [measure(case) for case in wrapped.CASES]
    except ImportError as missing:
        sys.exit(f"wrapper_deviation: {missing}; install the oracles: pip install -e '.[oracle]'")
    found = rows(cases)
    command = "python -m benchmarks.wrapper_deviation"
    write_json(
        RESULTS / "wrapper_deviation.json",
        {"environment": environment() | {"command": command}, "steps": wrapped.STEPS, "rows": found, "cases": cases},
    )
    for row in found:
        print(f"{row['optimizer']:15} {row['version']:26} {row['largest']:.1e}  {row['why']}")


if __name__ == "__main__":
    main()
