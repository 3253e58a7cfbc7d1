"""The map of optimizers: which of some sixty diagnostic problems each of them solves, at which level of difficulty.

Question: do a few properties explain which problems an optimizer solves, such as whether it scales each coordinate by
itself, whether its steps ignore the size of the gradient, and whether it averages?

Protocol: all optimizers try the same learning rates, a logarithmic grid from 1e-6 to 100; all other arguments have
their defaults, except that weight decay, which moves the solution, is 0. For each problem and level the rate is chosen
on two seeds and judged on 64 others, which have other instances, starts and noise. All optimizers take the same
number of steps, 1,000 or 500. A problem is solved if its error, which has no noise, is small on average over the last
tenth of the steps, relative to that of the start. The interval of an optimizer's score is over the judged seeds;
problems are fixed, and the choice of the rates is not repeated. These are the results with which `gdlab judge` compares
a newcomer: those that the package holds are read, and others are computed.

Each cell of the picture is the number of levels that an optimizer solves, of four. Rows and columns are ordered by
hierarchical clustering (average linkage of Euclidean distances), so that those which are alike are neighbours.

Command:   python experiments/diagnostics_map.py [--out DIR] [--optimizers adam sgd ...] [--problems saddle ...]
Expect:    no optimizer solves all problems; each family has another best one.
Runtime:   seconds for stored results; one and a half to three minutes for most other optimizers on 2 CPU cores, up to
           an hour for those that decompose matrices at every step. With --maps DIR what is computed is kept there, and
           the same command continues after an interruption.
"""

import gdlab.compute.script  # isort: skip  # noqa: F401  (from here on an interrupt is one line)
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.cluster.hierarchy
import tyro

from gdlab import OPTIMIZERS, plots
from gdlab.analysis import intervals
from gdlab.analysis.tables import Table
from gdlab.arguments import as_path, require_count, require_flag, require_names
from gdlab.compute.interrupts import command
from gdlab.diagnostics import PROBLEMS
from gdlab.judging import TIERS, baselines
from gdlab.judging.contenders import digest_contender, known
from gdlab.judging.keeping import Kept
from gdlab.records import staged_folder, write_json
from gdlab.version import VERSION

QUICK = TIERS["quick"]
STORED = tuple(name for name in OPTIMIZERS if baselines.stored(name) is not None)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    out: Path = Path("runs/diagnostics_map")
    """Output folder: results.json, a table (text, CSV, LaTeX) and the picture."""
    optimizers: tuple[str, ...] = STORED
    """Names of optimizers in OPTIMIZERS. Default: those whose results are stored."""
    problems: tuple[str, ...] = tuple(PROBLEMS)
    """Names of problems in gdlab.diagnostics.PROBLEMS."""
    trials: int = QUICK.settings
    """Number of learning rates."""
    tuning_seeds: int = QUICK.tuning_seeds
    """Number of seeds on which they are chosen."""
    judged_seeds: int = QUICK.judged_seeds
    """Number of other seeds on which they are judged."""
    refresh: bool = False
    """Compute everything here, rather than read what is stored."""
    maps: Path | None = None
    """A folder in which the results on each problem are kept, to continue from. Default: they are not kept."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", as_path("out", self.out))  # with ~ as the home directory
        if self.maps is not None:
            object.__setattr__(self, "maps", as_path("maps", self.maps))
        require_names("optimizers", self.optimizers, OPTIMIZERS)
        require_names("problems", self.problems, PROBLEMS)
        require_count("trials", self.trials, low=2)
        require_count("tuning_seeds", self.tuning_seeds)
        require_count("judged_seeds", self.judged_seeds, low=2)
        require_flag("refresh", self.refresh)


def map_one(config: Config, name: str) -> baselines.Record:
    """Return what one optimizer achieves: as it is stored, or computed."""
    tier = QUICK._replace(settings=config.trials, tuning_seeds=config.tuning_seeds, judged_seeds=config.judged_seeds)
    found = baselines.stored(name)
    if found is not None and not config.refresh and tier == QUICK and config.problems == tuple(PROBLEMS):
        return found
    one = known(name)
    sizes = "-".join(map(str, tier[:3]))
    kept = Kept(None if config.maps is None else config.maps / VERSION / f"{name}-{sizes}-{digest_contender(one)}")
    problems = {each: PROBLEMS[each] for each in config.problems}
    return baselines.make_record(one, tier, kept, lambda _: None, problems=problems)


def measure(found: baselines.Record) -> dict[str, Any]:
    """Return the record of one optimizer: its score, and the share of seeds for each problem and level."""
    interval = intervals.seeds_interval(np.asarray(found.solved))
    rows = list(found.problems.values())
    return {
        "optimizer": found.name,
        "score": float(interval.estimate),
        "score_low": float(interval.low),
        "score_high": float(interval.high),
        "breadth": float(np.mean([row["breadth"] for row in rows])),
        "shares": {name: [round(share, 3) for share in row["solved"]] for name, row in found.problems.items()},
    }


def levels_solved(records: list[dict[str, Any]]) -> np.ndarray:
    """Return the number of levels that each optimizer solves of each problem, of shape (optimizers, problems)."""
    return np.array([[sum(shares) for shares in record["shares"].values()] for record in records])


def clustered(rows: np.ndarray) -> np.ndarray:
    """Return an order of the rows in which those that are alike are neighbours."""
    if len(rows) < 3:
        return np.arange(len(rows))
    tree = scipy.cluster.hierarchy.linkage(rows, "average", optimal_ordering=True)
    return scipy.cluster.hierarchy.leaves_list(tree)


def tabulate(records: list[dict[str, Any]]) -> Table:
    families = list(dict.fromkeys(PROBLEMS[name].family for name in records[0]["shares"]))
    rows = []
    for record in sorted(records, key=lambda one: -one["score"]):
        by_family = {
            family: np.mean([s for name, s in record["shares"].items() if PROBLEMS[name].family == family])
            for family in families
        }
        rows.append(
            (
                record["optimizer"],
                f"{100 * record['score']:.0f}%",
                f"{100 * record['score_low']:.0f} to {100 * record['score_high']:.0f}%",
                f"{100 * record['breadth']:.0f}%",
                *(f"{100 * share:.0f}" for share in by_family.values()),
            )
        )
    head = ("optimizer", "score", "95% interval", "breadth", *families)
    return Table(head, rows, "Share of problems and levels that are solved, in percent by family, at tuned rates.")


def describe(records: list[dict[str, Any]]) -> str:
    """Say in a paragraph what the map shows."""
    solved, names = levels_solved(records), list(records[0]["shares"])
    spread = np.argsort(-solved.std(axis=0), kind="stable")[:5]
    easy = [name for name, column in zip(names, solved.T, strict=True) if column.min() >= 3.5]
    order = sorted(records, key=lambda one: -one["score"])
    best, last = order[0], order[-1]
    tied = [one["optimizer"] for one in order[1:] if one["score_high"] >= best["score_low"]]
    telling = []
    for place in spread:
        ranks = np.argsort(-solved[:, place], kind="stable")
        high, low = records[ranks[0]], records[ranks[-1]]
        telling.append(
            f"{names[place]} ({solved[ranks[0], place]:.2g} levels by {high['optimizer']}, "
            f"{solved[ranks[-1], place]:.2g} by {low['optimizer']})"
        )
    pairs = 4 * len(names)
    nobody = sum(max(record["shares"][name][level] for record in records) < 0.5 for name in names for level in range(4))
    return (
        f"{best['optimizer']} solves most, {100 * best['score']:.0f}% of all problems and levels"
        + (f" (the intervals of {', '.join(tied)} overlap with its own)" if tied else "")
        + f", and {last['optimizer']} least, {100 * last['score']:.0f}%. The problems that tell optimizers apart most "
        f"are {', '.join(telling)}. Every optimizer solves {len(easy)} of {len(names)} problems at nearly all levels, "
        f"and {pairs - nobody} of {pairs} pairs of a problem and a level are solved by one optimizer or more."
    )


def main(config: Config) -> None:
    began = time.perf_counter()
    with staged_folder(config.out) as folder:
        records = [measure(map_one(config, name)) for name in config.optimizers]
        solved = levels_solved(records)
        across, down = clustered(solved), clustered(solved.T)
        names = list(records[0]["shares"])
        figure = plots.levels_map(
            solved.T[down][:, across],
            [names[place] for place in down],
            [records[place]["optimizer"] for place in across],
            title="Levels that each optimizer solves, of four, at a learning rate tuned for each level",
        )
        plots.save_indexed(figure, folder / "map.png")
        table, words = tabulate(records), describe(records)
        table.write(folder / "table")
        write_json(folder / "results.json", records)
        write_json(folder / "description.json", {"text": words})
    print(f"{table.text()}\n\n{words}\n\nWritten to {config.out} in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    with command("diagnostics_map", OSError, ValueError, ImportError):
        main(tyro.cli(Config, description=__doc__))
