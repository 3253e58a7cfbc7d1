"""Run the experiments by the commands in their headers, time them, and store their numbers.

Command: python benchmarks/experiments.py [NAME ...]
Writes one file per experiment to benchmarks/results. If names of experiments are given, only those are run.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gdlab.records import environment, write_json

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
NAMES = (
    "ackley_descent",
    "gradient_accuracy",
    "optimizer_zoo",
    "basins",
    "stability",
    "toy_race",
    "learning_rate_scan",
    "policy_gradient",
    "gradient_free",
)


def run(name: str, folder: str) -> tuple[float, dict[str, Any]]:
    """Return the wall-clock seconds of the whole command, and the JSON files that it wrote, by name."""
    began = time.perf_counter()
    subprocess.run([sys.executable, ROOT / "experiments" / f"{name}.py", "--out", folder], check=True)
    seconds = time.perf_counter() - began
    return seconds, {path.stem: json.loads(path.read_text()) for path in Path(folder).glob("*.json")}


def main() -> None:
    if "--help" in sys.argv:
        print(__doc__)
        return
    if strange := [name for name in sys.argv[1:] if name not in NAMES]:
        sys.exit(f"experiments: expected names among {', '.join(NAMES)}, got {strange[0]}")
    for name in sys.argv[1:] or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            seconds, files = run(name, folder)
        for record in files["results"]:  # error curves, which only the figures need
            record.pop("steps", None)
            record.pop("errors", None)
        files.get("settings", {}).get("config", {}).pop("out", None)  # a temporary folder
        command = f"python experiments/{name}.py"
        write_json(
            RESULTS / f"{name}.json", {"environment": environment() | {"command": command}, "seconds": seconds, **files}
        )
        print(f"{name}: {seconds:.1f} s\n")


if __name__ == "__main__":
    main()
