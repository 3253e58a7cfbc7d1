"""All optimizers on twelve test functions, tuned with the same budget: who arrives, how fast, how easily tuned.

Claim: no optimizer leads on all functions, and how wide the region of good learning rates is tells methods apart as
much as their speed does.

Protocol: every optimizer gets the same random search: the same learning rates, a Sobol sequence in logarithm, tried
from the same tuning starts of each function; all else is at its default, with no weight decay. It keeps, for each
function, the rate from whose starts most arrive (then the one with the fewest steps), and is judged with it on other
starts. A descent arrives at its first step within `target` of a global minimizer, and stops there. Steps are float32.
Functions that have a minimizer at the origin are moved with their boxes, since weight decay and steps in proportion to
|x| would find that without a gradient.

Reported: the share of starts that arrive, with a bootstrap interval over starts (functions are fixed); quartiles of the
steps to the target over all starts, where one that does not arrive counts as infinite; performance profiles over pairs
of function and start (Dolan & More 2002); the mean rank over functions; and tunability: the width, in decades, of the
region around the best rate in which the share is at least 90% of the best, and the share that a search of k trials
brings in expectation.

Command:   python experiments/toy_race.py [--out DIR] [--optimizers adam ...] [--functions beale ...] [--trials 32]
Expect:    the table of benchmarks/results/toy_race.json; large steps amplify rounding, so shares on Ackley's and
           Rastrigin's functions vary by some percent from machine to machine.
Runtime:   1.5 to 4 minutes on 2 CPU cores for 41 optimizers, most of it compilation.
"""

import dataclasses
import functools
import inspect
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
import xarray as xr
from matplotlib.figure import Figure

from gdlab import FUNCTIONS, OPTIMIZERS, Function, log_range, plots, sample_hyperparameters, sweep
from gdlab.analysis import statistics as st
from gdlab.analysis.rankings import average_ranks
from gdlab.analysis.tables import Table
from gdlab.arguments import require_count, require_names, require_number
from gdlab.functions import off_origin
from gdlab.records import staged_folder, write_json

KEYWORDS: dict[str, Any] = {
    "weight_decay": 0.0,  # it moves the minimum, which is not what is measured here
    "adam_ratio": 1.0,  # Muon steps matrices; a vector goes to its AdamW, at this multiple of the learning rate
    "trust_coefficient": 1.0,  # LARS's other factor of the learning rate, at 0.001 for the layers of networks
    "precondition_1d": True,  # SOAP is plain Adam on vectors unless told to
}
"""Given to every factory that has an argument of the name, and so is the number of steps, as `total_steps`."""

BOXES = {"ackley": (-5.0, 5.0), "griewank": (-10.0, 10.0)}
"""Where starts are drawn, if not in the function's domain."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What runs, and the budget, which is the same for all optimizers."""

    out: Path = Path("runs/toy_race")
    """Folder for results.json, the tables (text, CSV, LaTeX), the pictures and tuning.nc."""
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
    """Functions of two variables in FUNCTIONS whose minimizers are known."""
    optimizers: tuple[str, ...] = ()
    """Names in OPTIMIZERS; none: all of them."""
    starts: int = 1024
    """Starts that are judged, of each function."""
    tuning_starts: int = 128
    trials: int = 32
    """Learning rates of the random search."""
    lowest_rate: float = 1e-5
    highest_rate: float = 1e2
    steps: int = 1000
    target: float = 0.01
    """A descent arrives when it is within this distance of a global minimizer."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("starts", "tuning_starts", "steps"):
            require_count(name, getattr(self, name))
        require_count("trials", self.trials, low=2)
        require_number("target", self.target, 0.0, open_low=True)
        require_number("lowest_rate", self.lowest_rate, 0.0, open_low=True)
        require_number("highest_rate", self.highest_rate, self.lowest_rate, open_low=True)
        require_names("functions", self.functions, FUNCTIONS)
        require_names("optimizers", self.optimizers, OPTIMIZERS, empty=True)
        for name in self.functions:
            if FUNCTIONS[name].dim not in (None, 2):
                raise ValueError(f"functions: wanted functions of two variables, got {name!r}")


class Problems(NamedTuple):
    """Functions as they are descended here, and the starts of both rounds, by name."""

    functions: dict[str, Function]
    tuning: dict[str, np.ndarray]
    judged: dict[str, np.ndarray]


def make_problems(config: Config) -> Problems:
    functions, tuning, judged = {}, {}, {}
    for number, name in enumerate(config.functions):
        low, high = (np.broadcast_to(corner, 2) for corner in BOXES.get(name, FUNCTIONS[name].bounds(2)))
        functions[name] = off_origin(FUNCTIONS[name], low, high)
        rng = np.random.default_rng([config.seed, number])
        points = rng.uniform(*functions[name].bounds(2), (config.tuning_starts + config.starts, 2)).astype(np.float32)
        tuning[name], judged[name] = points[: config.tuning_starts], points[config.tuning_starts :]
    return Problems(functions, tuning, judged)


def make_factory(name: str, steps: int) -> Callable[..., Any]:
    """The optimizer with all but its learning rate fixed."""
    arguments = inspect.signature(OPTIMIZERS[name]).parameters
    given = {**KEYWORDS, "total_steps": steps}
    return functools.partial(OPTIMIZERS[name], **{key: value for key, value in given.items() if key in arguments})


def race(config: Config) -> tuple[xr.Dataset, xr.Dataset]:
    """The tuning sweep and the judged one: dimensions (optimizer, function, trial, start); one trial in the latter."""
    problems = make_problems(config)
    factories = {name: make_factory(name, config.steps) for name in config.optimizers or tuple(OPTIMIZERS)}
    points = sample_hyperparameters(
        {"learning_rate": log_range(config.lowest_rate, config.highest_rate)},
        config.trials,
        seed=config.seed,
    )
    run = functools.partial(
        sweep,
        problems.functions,
        factories,
        max_steps=config.steps,
        target=config.target,
        stop_at_target=True,
    )
    tuning = run(points, problems.tuning)
    shares = tuning.reached.mean("start")
    # Largest share; among equal ones fewest steps; among those the least final value.
    steps = tuning.steps.where(tuning.reached, config.steps).mean("start")
    values = xr.where(np.isfinite(tuning.value), tuning.value.astype(np.float64), 1e38).median("start")
    order = np.lexsort((values.values, steps.values, -shares.values), axis=-1)[..., :1]
    best = tuning.learning_rate.values[order]
    rates = xr.DataArray(best, dims=("optimizer", "function", "trial"))
    return tuning, run({"learning_rate": rates}, problems.judged)


def measure(config: Config, tuning: xr.Dataset, judged: xr.Dataset) -> list[dict[str, Any]]:
    """One record an optimizer."""
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
        interval = st.bootstrap_interval(arrived[i].mean(axis=0))  # a resample draws starts, for all functions at once
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


def steps_text(steps: float) -> str:
    return f"{steps:.0f}" if np.isfinite(steps) else "never"


def overall(records: list[dict[str, Any]]) -> Table:
    budgets = [b for b in records[0]["tuning"] if b in ("1", "4", "16")]
    rows = [
        (
            r["optimizer"],
            f"{100 * r['share']:.1f}%",
            f"{100 * r['share_low']:.1f} to {100 * r['share_high']:.1f}%",
            f"{r['rank']:.1f}",
            steps_text(r["steps_lower"]),
            steps_text(r["steps_median"]),
            steps_text(r["steps_upper"]),
            f"{100 * r['within_2x']:.0f}%",
            f"{r['good_decades']:.2f}",
            *(f"{100 * r['tuning'][b]:.0f}%" for b in budgets),
        )
        for r in records
    ]
    head = ("optimizer", "share", "95% interval", "rank", "quarter", "half", "three quarters", "within 2x", "decades")
    return Table((*head, *(f"k = {b}" for b in budgets)), rows, "All optimizers on all functions, tuned alike.")


def by_function(records: list[dict[str, Any]]) -> Table:
    functions = list(records[0]["functions"])
    rows = [(r["optimizer"], *(f"{100 * r['functions'][f]['share']:.1f}%" for f in functions)) for r in records]
    return Table(("optimizer", *functions), rows, "Share of starts that arrive, at tuned learning rates.")


def title(function: str) -> str:
    return function.replace("_", " ").capitalize()


def draw_shares(config: Config, records: list[dict[str, Any]]) -> Figure:
    functions = list(records[0]["functions"])
    cells = [[r["functions"][f] for f in functions] for r in records]
    texts = [
        [
            f"{100 * c['share']:.0f}%" + (f" {c['median_steps']:.0f}" if np.isfinite(c["median_steps"]) else "")
            for c in row
        ]
        for row in cells
    ]
    return plots.heatmap(
        np.array([[c["share"] for c in row] for row in cells]),
        [r["optimizer"] for r in records],
        [title(f) for f in functions],
        texts=texts,
        limits=(0.0, 1.0),
        title=f"Share of {config.starts} starts that arrive, and the median of all their steps (if half arrive)",
        label="share of starts",
    )


def draw_profile(records: list[dict[str, Any]], judged: xr.Dataset, shown: int = 10) -> Figure:
    steps = np.maximum(st.steps_or_never(judged.first_reached.values[:, :, 0]), 1)
    ratios = np.geomspace(1, 64, 200)
    profile = st.performance_profile(steps.reshape(len(steps), -1), ratios)
    names = [str(name) for name in judged.optimizer.values]
    order = np.argsort(-np.trapezoid(profile, np.log(ratios), axis=1))
    figure = Figure(figsize=(8.2, 5.2), layout="constrained")
    axes = figure.add_subplot()
    for i in order[shown:]:
        axes.plot(ratios, profile[i], color="#d4d4d4", linewidth=0.9, zorder=1)
    for place, i in enumerate(order[:shown]):
        axes.plot(ratios, profile[i], linewidth=2, label=names[i], **plots.line_style(place))
    axes.set_xscale("log", base=2)
    axes.set_xlim(1, 64)
    axes.set_ylim(0, 1)
    axes.set_xlabel("steps, as a multiple of the fewest that any optimizer needs from that start")
    axes.set_ylabel("share of functions and starts solved")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    note = f"; the other {len(names) - shown} in grey" if len(names) > shown else ""
    axes.set_title(f"Performance profile: the {min(shown, len(names))} with the largest area{note}", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def draw_sensitivity(records: list[dict[str, Any]], tuning: xr.Dataset) -> Figure:
    shares = tuning.reached.mean(("start", "function"))
    order = np.argsort(tuning.learning_rate.values)
    rates = tuning.learning_rate.values[order]
    names = [r["optimizer"] for r in records]
    z = shares.sel(optimizer=names).values[:, order]
    figure = Figure(figsize=(8.6, 0.2 * len(names) + 1.7), layout="constrained")
    axes = figure.add_subplot()
    edges = np.sqrt(rates[1:] * rates[:-1])
    edges = np.concatenate([[rates[0] ** 2 / edges[0]], edges, [rates[-1] ** 2 / edges[-1]]])
    drawn = axes.pcolormesh(edges, np.arange(len(names) + 1), z, vmin=0, vmax=max(float(z.max()), 0.01), cmap="viridis")
    axes.set_xscale("log")
    axes.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("learning rate (of the random search)")
    figure.colorbar(drawn, ax=axes, label="share of starts that arrive, mean over functions", pad=0.01)
    axes.set_title("How much the learning rate matters; best tuned share first", fontsize=11)
    return figure


def main(config: Config) -> None:
    began = time.perf_counter()
    with staged_folder(config.out) as folder:
        tuning, judged = race(config)
        records = measure(config, tuning, judged)
        tables = {"race": overall(records), "functions": by_function(records)}
        for name, table in tables.items():
            table.write(folder / name)
        plots.save_indexed(draw_shares(config, records), folder / "shares.png")
        plots.save_indexed(draw_profile(records, judged), folder / "profile.png")
        plots.save(draw_sensitivity(records, tuning), folder / "sensitivity.png")
        tuning.to_netcdf(folder / "tuning.nc", engine="scipy")
        write_json(folder / "results.json", records)
    print(tables["race"].text())
    leaders = {}
    for name in config.functions:
        found = {r["optimizer"]: r["functions"][name] for r in records}
        leaders[name] = max(found, key=lambda key: (found[key]["share"], -found[key]["median_steps"]))
    print("\nMost starts, then fewest steps: " + ", ".join(f"{f}: {name}" for f, name in leaders.items()))
    print(
        "\nshare: of all starts of all functions; rank: mean over functions; quarter, half, three quarters:\n"
        "steps by which so many of all starts have arrived; within 2x: in at most twice the steps of the quickest;\n"
        "decades: width of the region of good learning rates; k: expected share of a search of k trials.\n"
        f"{tuning.attrs['point_steps'] + judged.attrs['point_steps']:.2g} steps of a point; written to {config.out} in "
        f"{time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except OSError as error:
        sys.exit(f"toy_race: {error}")
