"""`gdlab judge` on the README's optimizer: what it prints, how long it takes, and how often a judgement is wrong.

Command:   python -m benchmarks.judgement [--judgements 210]
Runtime:   about eight minutes on 2 idle CPU cores.
"""

import dataclasses
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from gdlab.arguments import require_count
from gdlab.compute.interrupts import command
from gdlab.diagnostics import PROBLEMS
from gdlab.judging import diagnosing
from gdlab.judging.contenders import known
from gdlab.judging.tiers import Tier
from gdlab.judging.verdicts import compare
from gdlab.records import environment, write_json

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "judgement.json"
SIDES, SEEDS = 4, 16
CHEAP = ("quadratic_rotated", "valley_rotated", "heavy_tailed_noise")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured."""

    judgements: int = 210
    """Number of simulated judgements of an optimizer against itself."""

    def __post_init__(self) -> None:
        require_count("judgements", self.judgements)


def readme_optimizer() -> str:
    """Return the README's program that defines an optimizer."""
    (code,) = re.findall(r"```python\n(.*?)```", (HERE.parent / "README.md").read_text(), re.DOTALL)[1:2]
    return code


def judge_the_readme() -> dict[str, Any]:
    """Run the README's command on its own file, and return what it prints and the seconds that it takes."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "mine.py").write_text(readme_optimizer())
        began = time.perf_counter()
        words = [sys.executable, "-m", "gdlab", "judge", "mine.py:cautious_qhadam"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - began
        printed = (Path(folder) / "runs" / "judge_cautious_qhadam" / "judgement.txt").read_text()
        assert printed.strip() in done.stdout
    return {"seconds": seconds, "printed": printed.splitlines()}


def false_answers(judgements: int) -> dict[str, Any]:
    """Judge Adam against three opponents that are Adam as well, on other seeds, and count the wrong answers.

    Each judgement has three families of one problem (with 200 steps), at four levels, and 16 seeds.
    """
    tier = Tier(8, 2, SEEDS * judgements * SIDES, (), 3, (6,))
    scores = {}
    for name in CHEAP:
        problem = PROBLEMS[name]._replace(steps=200)
        found = diagnosing.diagnose_one(known("adam"), problem, tier)
        scores[problem.family] = np.mean(found["digits"], axis=0).reshape(judgements, SIDES, SEEDS)
    wrong = {"overall": 0, "parts": 0}
    equal = 0
    for number in range(judgements):
        ours, *others = ({family: rows[number, side] for family, rows in scores.items()} for side in range(SIDES))
        verdicts = compare((ours, dict(zip("abc", others, strict=True))), ({}, {}))
        for key, each in (("overall", verdicts.overall), ("parts", verdicts.parts)):
            answers = [decision.answer for row in each.values() for decision in row.values()]
            wrong[key] += any(answer in ("better", "worse") for answer in answers)
            equal += answers.count("equal") if key == "overall" else 0
    spread = {family: float(np.std(rows)) for family, rows in scores.items()}
    return {"judgements": judgements, "wrong": wrong, "equal": equal / (3 * judgements), "spread": spread}


def main(config: Config) -> None:
    found = judge_the_readme() | {"false": false_answers(config.judgements), "environment": environment()}
    found["environment"]["command"] = "python -m benchmarks.judgement"
    write_json(RESULTS, found)
    print("\n".join(found["printed"]), found["false"], f"{found['seconds']:.0f} s", sep="\n")


if __name__ == "__main__":
    with command("judgement", OSError, ValueError, ImportError):
        main(tyro.cli(Config, description=__doc__))
