"""All optimizers on functions of vectors and of matrices, equally tuned: which arrive, how fast, and how easily tuned.

Claim: no optimizer leads on all functions, and the width of the region of good learning rates distinguishes methods as
much as their speed does. What is made for matrices is measured on matrices, in a race of its own.

Protocol: every optimizer has the same random search: the same learning rates, a Sobol sequence in the logarithm, tried
from the same tuning starts of each function. On each function an optimizer keeps the rate from which most starts arrive
(then the one with the fewest steps), and is judged with it on other starts. Steps are float32, and rates are constant.

Vectors: twelve functions of two variables. A descent arrives at its first step within `target` of a global minimizer,
and stops there. Functions with a minimizer at the origin are moved, with their boxes, since weight decay and steps in
proportion to |x| would find the origin without a gradient. Other arguments have their defaults, except for those of
`gdlab.sweeps.COMPARABLE`. Optimizers that become another method on vectors, as Muon does, run only if they are named.

Matrices: the functions of `gdlab.functions.MATRIX_FUNCTIONS`, whose points are matrices or dicts of matrices. A descent
arrives when f(x) - minimum is at most `gap` times that at its start. What treats a matrix as one and what it is usually
compared with take part (`gdlab.sweeps.FOR_MATRICES`), with their own defaults, but without weight decay.

The results are those of `gdlab.analysis.races.race_records`: shares with bootstrap intervals, ranks, quartiles of
steps, performance profiles (Dolan & More 2002), and tunability.

Command:   python experiments/toy_race.py [--out DIR] [--optimizers adam ...] [--functions beale ...] [--matrices ...]
Expect:    the tables of benchmarks/results/toy_race.json; large steps amplify rounding, so shares on Ackley's and
           Rastrigin's functions vary by some percent from machine to machine.
Runtime:   about 20 minutes on 2 CPU cores (43 beside other work), a third of it for searches along a line.
"""

import gdlab.compute.script  # isort: skip  # noqa: F401  (from here on an interrupt is one line)
import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
import xarray as xr
from matplotlib.figure import Figure

from gdlab import OPTIMIZERS, log_range, plots, sample_hyperparameters
from gdlab.analysis import statistics as st
from gdlab.analysis.arrivals import best_settings, mean_steps, share_cells
from gdlab.analysis.races import race_records
from gdlab.analysis.tables import Table
from gdlab.arguments import as_path, require_count, require_names, require_number
from gdlab.compute.interrupts import command
from gdlab.functions import MATRIX_FUNCTIONS
from gdlab.hyperparameters import given
from gdlab.records import staged_folder, write_json
from gdlab.sweeps import FOR_MATRICES, Race, RaceOptions, changed_arguments, tune_and_judge, tune_and_judge_matrices


@dataclasses.dataclass(frozen=True)
class Config(RaceOptions):
    """Settings of the race, and the budget, which is the same for all optimizers."""

    out: Path = Path("runs/toy_race")
    """Output folder: results.json, matrices.json, the tables (text, CSV, LaTeX), the pictures and both tuning.nc."""
    functions: tuple[str, ...] = (
        "rosenbrock",
        "beale",
        "goldstein_price",
        "booth",
        "zakharov",
        "himmelblau",
        "six_hump_camel",
        "branin",
        "styblinski_tang",
        "levy",
        "ackley",
        "rastrigin",
    )
    """Names of functions of two variables in FUNCTIONS."""
    starts: int = 1024
    """Number of judged starts per function."""
    trials: int = 32
    """Number of learning rates in the random search."""
    target: float = 0.01
    """A descent arrives when it is within this distance of a global minimizer."""
    matrices: tuple[str, ...] = tuple(MATRIX_FUNCTIONS)
    """Names of functions of matrices in MATRIX_FUNCTIONS."""
    matrix_starts: int = 64
    matrix_tuning_starts: int = 8
    matrix_steps: int = 500
    gap: float = 1e-3
    """A descent of a function of matrices arrives when f(x) - minimum is at most this part of its initial value."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "out", as_path("out", self.out))  # with ~ as the home directory
        require_count("trials", self.trials, low=2)
        require_number("target", self.target, 0.0, open_low=True)
        require_names("matrices", self.matrices, MATRIX_FUNCTIONS)
        for name in ("matrix_starts", "matrix_tuning_starts", "matrix_steps"):
            require_count(name, getattr(self, name))
        require_number("gap", self.gap, 0.0, 1.0, open_low=True, open_high=True)

    def search(self) -> list[dict[str, float]]:
        """Return the learning rates that every optimizer tries."""
        ranges = {"learning_rate": log_range(self.lowest_rate, self.highest_rate)}
        return sample_hyperparameters(ranges, self.trials, seed=self.seed)


def run_race(config: Config) -> Race:
    functions = config.contest()
    tuning, judged = {}, {}
    for number, (name, function) in enumerate(functions.items()):
        rng = np.random.default_rng([config.seed, number])
        points = rng.uniform(*function.bounds(2), (config.tuning_starts + config.starts, 2)).astype(np.float32)
        tuning[name], judged[name] = points[: config.tuning_starts], points[config.tuning_starts :]
    return tune_and_judge(
        functions,
        config.contenders(),
        config.search(),
        tuning,
        judged,
        choose=partial(best_settings, steps=partial(mean_steps, max_steps=config.steps)),
        max_steps=config.steps,
        target=config.target,
        stop_at_target=True,
    )


def run_matrix_race(config: Config) -> Race:
    functions = {name: MATRIX_FUNCTIONS[name]() for name in config.matrices}
    fixed = {"weight_decay": 0.0, "total_steps": config.matrix_steps}
    tuning, judged = {}, {}
    for number, (name, function) in enumerate(functions.items()):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), number))
        tuning[name] = function.starts(keys[0], config.matrix_tuning_starts)
        judged[name] = function.starts(keys[1], config.matrix_starts)
    return tune_and_judge_matrices(
        functions,
        {name: given(OPTIMIZERS[name], **fixed) for name in config.optimizers or FOR_MATRICES},
        config.search(),
        tuning,
        judged,
        choose=partial(best_settings, steps=partial(mean_steps, max_steps=config.matrix_steps)),
        max_steps=config.matrix_steps,
        gap=config.gap,
    )


def overall(kind: str, records: list[dict[str, Any]]) -> Table:
    budgets = [b for b in records[0]["tuning"] if b in ("1", "4", "16")]
    quartiles = ("steps_lower", "steps_median", "steps_upper")
    rows = [
        (
            r["optimizer"],
            *share_cells(r),
            f"{r['rank']:.1f}",
            *(f"{r[q]:.0f}" if np.isfinite(r[q]) else "never" for q in quartiles),
            f"{100 * r['within_2x']:.0f}%",
            f"{r['good_decades']:.2f}",
            *(f"{100 * r['tuning'][b]:.0f}%" for b in budgets),
        )
        for r in records
    ]
    head = ("optimizer", "share", "95% interval", "rank", "quarter", "half", "three quarters", "within 2x", "decades")
    return Table(
        (*head, *(f"k = {b}" for b in budgets)), rows, f"All optimizers on all functions of {kind}, equally tuned."
    )


def by_function(records: list[dict[str, Any]]) -> Table:
    functions = list(records[0]["functions"])
    rows = [(r["optimizer"], *(f"{100 * r['functions'][f]['share']:.1f}%" for f in functions)) for r in records]
    return Table(("optimizer", *functions), rows, "Share of starts that arrive, at tuned learning rates.")


def draw_shares(starts: int, records: list[dict[str, Any]]) -> Figure:
    functions = list(records[0]["functions"])
    cells = [[r["functions"][f] for f in functions] for r in records]

    def text(cell: dict[str, Any]) -> str:
        steps = f" {cell['median_steps']:.0f}" if np.isfinite(cell["median_steps"]) else ""
        return f"{100 * cell['share']:.0f}%{steps}"

    return plots.heatmap(
        np.array([[cell["share"] for cell in row] for row in cells]),
        [r["optimizer"] for r in records],
        [f.replace("_", " ").capitalize() for f in functions],
        texts=[list(map(text, row)) for row in cells],
        limits=(0.0, 1.0),
        title=f"Share of {starts} starts that arrive, and the median number of steps (if half arrive)",
        label="share of starts",
    )


def draw_profile(judged: xr.Dataset) -> Figure:
    steps = np.maximum(st.steps_or_never(judged.first_reached.values[:, :, 0]), 1)
    ratios = np.geomspace(1, 64, 200)
    shares = st.performance_profile(steps.reshape(len(steps), -1), ratios)
    return plots.profiles(
        ratios,
        dict(zip(map(str, judged.optimizer.values), shares, strict=True)),
        title="Performance profile, the largest area first",
        labels=("steps, relative to the quickest optimizer from that start", "share of functions and starts solved"),
    )


def draw_sensitivity(records: list[dict[str, Any]], tuning: xr.Dataset) -> Figure:
    names = [r["optimizer"] for r in records]
    return plots.score_map(
        tuning.learning_rate.values,
        tuning.reached.mean(("start", "function")).sel(optimizer=names).values,
        names,
        title="Sensitivity to the learning rate; best tuned share first",
        label="share of starts that arrive, mean over functions",
        value_label="learning rate (of the random search)",
    )


def write(kind: str, race: Race, folder: Path) -> None:
    """Write the tables, pictures and records of a race, and print its table."""
    records, prefix = race_records(*race), "" if kind == "vectors" else "matrices_"
    plots.save_indexed(draw_shares(race.judged.sizes["start"], records), folder / f"{prefix}shares.png")
    plots.save_indexed(draw_profile(race.judged), folder / f"{prefix}profile.png")
    plots.save(draw_sensitivity(records, race.tuning), folder / f"{prefix}sensitivity.png")
    race.tuning.to_netcdf(folder / f"{prefix}tuning.nc", engine="scipy")
    write_json(folder / ("matrices.json" if prefix else "results.json"), records)
    by_function(records).write(folder / f"{prefix}functions")
    table = overall(kind, records)
    table.write(folder / f"{prefix}race")
    leaders = []
    for name in records[0]["functions"]:
        best = max(records, key=lambda r: (r["functions"][name]["share"], -r["functions"][name]["median_steps"]))
        leaders.append(f"{name}: {best['optimizer']}")
    print(f"{table.text()}\n\nBest by share, then by steps: {', '.join(leaders)}\n")


def main(config: Config) -> None:
    began = time.perf_counter()
    with staged_folder(config.out) as folder:
        write("vectors", vectors := run_race(config), folder)
        write("matrices", matrices := run_matrix_race(config), folder)
    steps = sum(ds.attrs["point_steps"] for race in (vectors, matrices) for ds in race)
    print(
        "share: of all starts of all functions; rank: mean over functions; quarter, half, three quarters:\n"
        "steps by which this part of all starts has arrived; within 2x: in at most twice the steps of the quickest;\n"
        "decades: width of the region of good learning rates; k: expected share after a search of k trials.\n"
        f"Vectors: {changed_arguments([*config.contenders()])}\n"
        f"{steps:.2g} point-steps; written to {config.out} in {time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    with command("toy_race", OSError, ValueError, ImportError):
        main(tyro.cli(Config, description=__doc__))
