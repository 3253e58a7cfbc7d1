"""All optimizers on twelve test functions, tuned with the same budget: which arrive, how fast, and how easily tuned.

Claim: no optimizer leads on all functions, and the width of the region of good learning rates distinguishes methods as
much as their speed does.

Protocol: every optimizer has the same random search: the same learning rates, a Sobol sequence in the logarithm, tried
from the same tuning starts of each function. All other arguments are at their defaults, except for
`gdlab.sweeps.COMPARABLE`: no weight decay, and the arguments of LARS and SOAP for vectors. Muon is left out unless it
is named, because on vectors it is AdamW. On each function an optimizer keeps the rate from which most starts arrive
(then the one with the fewest steps), and is judged with it on other starts. A descent arrives at its first step within
`target` of a global minimizer, and stops there. Steps are float32. Functions with a minimizer at the origin are moved,
with their boxes, since weight decay and steps in proportion to |x| would find the origin without a gradient.

The results are the share of starts that arrive, with a bootstrap interval over starts (functions are fixed); quartiles
of the steps to the target over all starts, where a start that does not arrive counts as infinite; performance profiles
over pairs of function and start (Dolan & More 2002); the mean rank over functions; and tunability: the width, in
decades, of the region around the best rate with at least 90% of the best share, and the expected share of k trials.

Command:   python experiments/toy_race.py [--out DIR] [--optimizers adam ...] [--functions beale ...] [--trials 32]
Expect:    the table of benchmarks/results/toy_race.json; large steps amplify rounding, so shares on Ackley's and
           Rastrigin's functions vary by some percent from machine to machine.
Runtime:   1.5 to 4 minutes on 2 CPU cores for 40 optimizers, most of it compilation.
"""

import gdlab.compute.script  # isort: skip  # noqa: F401  (from here on an interrupt is one line)
import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
import xarray as xr
from matplotlib.figure import Figure

from gdlab import log_range, plots, sample_hyperparameters
from gdlab.analysis import intervals
from gdlab.analysis import statistics as st
from gdlab.analysis.arrivals import best_settings, mean_steps, share_cells
from gdlab.analysis.rankings import average_ranks
from gdlab.analysis.tables import Table
from gdlab.arguments import require_count, require_number
from gdlab.compute.interrupts import command
from gdlab.records import staged_folder, write_json
from gdlab.sweeps import Race, RaceOptions, changed_arguments, tune_and_judge


@dataclasses.dataclass(frozen=True)
class Config(RaceOptions):
    """Settings of the race, and the budget, which is the same for all optimizers."""

    out: Path = Path("runs/toy_race")
    """Output folder: results.json, the tables (text, CSV, LaTeX), the pictures and tuning.nc."""
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

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("trials", self.trials, low=2)
        require_number("target", self.target, 0.0, open_low=True)


def run_race(config: Config) -> Race:
    functions = config.contest()
    tuning, judged = {}, {}
    for number, (name, function) in enumerate(functions.items()):
        rng = np.random.default_rng([config.seed, number])
        points = rng.uniform(*function.bounds(2), (config.tuning_starts + config.starts, 2)).astype(np.float32)
        tuning[name], judged[name] = points[: config.tuning_starts], points[config.tuning_starts :]
    rates = log_range(config.lowest_rate, config.highest_rate)
    return tune_and_judge(
        functions,
        config.contenders(),
        sample_hyperparameters({"learning_rate": rates}, config.trials, seed=config.seed),
        tuning,
        judged,
        choose=partial(best_settings, steps=partial(mean_steps, max_steps=config.steps)),
        max_steps=config.steps,
        target=config.target,
        stop_at_target=True,
    )


def measure(config: Config, tuning: xr.Dataset, judged: xr.Dataset) -> list[dict[str, Any]]:
    """Return one record per optimizer, largest share first."""
    arrived = judged.reached.values[:, :, 0]  # (optimizers, functions, starts)
    steps = st.steps_or_never(judged.first_reached.values[:, :, 0])
    shares = arrived.mean(axis=-1)
    flat = np.maximum(steps, 1).reshape(len(steps), -1)
    profile = st.performance_profile(flat, np.array([1.0, 2.0, 4.0]))
    ranks = average_ranks(shares, better="higher")
    tried = tuning.reached.mean("start").values  # (optimizers, functions, trials)
    rates = tuning.learning_rate.values
    budgets = np.array([b for b in (1, 2, 4, 8, 16, 32) if b <= config.trials])
    curves = st.tuning_curve(tried, budgets, better="higher").mean(axis=1)
    records = []
    for i, name in enumerate(judged.optimizer.values):
        interval = intervals.bootstrap_interval(arrived[i].mean(axis=0))  # resamples starts, alike for all functions
        regions = [st.good_region(rates, row) for row in tried[i]]
        widths = [0.0 if region is None else region.decades for region in regions]
        lower, median, upper = st.quartiles(flat[i])
        records.append(
            {
                "optimizer": str(name),
                "share": float(interval.estimate),
                "share_low": float(interval.low),
                "share_high": float(interval.high),
                "rank": float(ranks[i]),
                "steps_lower": float(lower),
                "steps_median": float(median),
                "steps_upper": float(upper),
                "within_2x": float(profile[i, 1]),
                "within_4x": float(profile[i, 2]),
                "good_decades": float(np.mean(widths)),
                "tuning": {str(b): float(value) for b, value in zip(budgets, curves[i], strict=True)},
                "functions": {
                    str(function): {
                        "learning_rate": float(judged.learning_rate.values[i, j, 0]),
                        "share": float(shares[i, j]),
                        "median_steps": float(st.quartiles(steps[i, j]).median),
                        "good_decades": float(widths[j]),
                    }
                    for j, function in enumerate(judged.function.values)
                },
            }
        )
    return sorted(records, key=lambda r: -r["share"])


def overall(records: list[dict[str, Any]]) -> Table:
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
    return Table((*head, *(f"k = {b}" for b in budgets)), rows, "All optimizers on all functions, equally tuned.")


def by_function(records: list[dict[str, Any]]) -> Table:
    functions = list(records[0]["functions"])
    rows = [(r["optimizer"], *(f"{100 * r['functions'][f]['share']:.1f}%" for f in functions)) for r in records]
    return Table(("optimizer", *functions), rows, "Share of starts that arrive, at tuned learning rates.")


def draw_shares(config: Config, records: list[dict[str, Any]]) -> Figure:
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
        title=f"Share of {config.starts} starts that arrive, and the median number of steps (if half arrive)",
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


def main(config: Config) -> None:
    began = time.perf_counter()
    with staged_folder(config.out) as folder:
        tuning, judged = run_race(config)
        records = measure(config, tuning, judged)
        tables = {"race": overall(records), "functions": by_function(records)}
        for name, table in tables.items():
            table.write(folder / name)
        plots.save_indexed(draw_shares(config, records), folder / "shares.png")
        plots.save_indexed(draw_profile(judged), folder / "profile.png")
        plots.save(draw_sensitivity(records, tuning), folder / "sensitivity.png")
        tuning.to_netcdf(folder / "tuning.nc", engine="scipy")
        write_json(folder / "results.json", records)
    print(tables["race"].text())
    leaders = {}
    for name in config.functions:
        found = {r["optimizer"]: r["functions"][name] for r in records}
        leaders[name] = max(found, key=lambda key: (found[key]["share"], -found[key]["median_steps"]))
    print("\nBest by share, then by steps: " + ", ".join(f"{f}: {name}" for f, name in leaders.items()))
    print(
        "\nshare: of all starts of all functions; rank: mean over functions; quarter, half, three quarters:\n"
        "steps by which this part of all starts has arrived; within 2x: in at most twice the steps of the quickest;\n"
        "decades: width of the region of good learning rates; k: expected share after a search of k trials.\n"
        f"{changed_arguments([*config.contenders()])}\n"
        f"{tuning.attrs['point_steps'] + judged.attrs['point_steps']:.2g} point-steps; written to {config.out} in "
        f"{time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    with command("toy_race", OSError):
        main(tyro.cli(Config, description=__doc__))
