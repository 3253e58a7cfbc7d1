"""When a gradient pays: gradient methods and strategies without gradients, within one budget of function evaluations.

Claim: on smooth functions a gradient pays more the more coordinates there are, since it holds as many numbers as the
point for the price of some three evaluations; in two dimensions simplex, evolution and population methods are as good;
and where the slope says nothing about what lies further away (ripples, noise, jumps, plateaus), they are better.

Protocol: gradient descent with momentum 0.9, Adam and the six strategies of gdlab have a budget of function evaluations
from each start; a gradient counts as three (`gradient_cost`). Each method is tuned on each function and dimension by
the same number of settings, a Sobol sequence over the ranges in METHODS, from the same tuning starts, and judged from
other starts, the same for all. Six functions of two variables: a bowl of condition 100 that is not parallel to the
axes; Rosenbrock's valley; ripples, Rastrigin's function; noise, a round bowl plus waves of height 0.005 and length
0.0006, the same at every call, whose slopes of up to 50 automatic differentiation sees; jumps, a lattice of cells of
side 0.5, each a bowl of its own at its own height; and plateaus, a bowl rounded down to powers of two, whose gradient
is 0. A start has arrived within 0.1 of the minimizer. The bowl and the valley also have more dimensions, in which the
value where the budget ends is compared with that at the start. SciPy's methods stand beside, with their defaults; two
of them also get the box that starts are drawn from.

A gradient method's point is its last one, a strategy's the best so far. Intervals are for 95%: Wilson's for shares, and
the bootstrap's over starts for medians.

Command:   python experiments/gradient_free.py [--out DIR] [--budget 2000] [--gradient-cost 3] [--trials 8]
Expect:    the tables of benchmarks/results/gradient_free.json.
Runtime:   under 4 minutes on 2 CPU cores, half of it compilation.
"""

import gdlab.compute.script  # isort: skip  # noqa: F401  (from here on an interrupt is one line)
import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import tyro
import xarray as xr
from matplotlib.figure import Figure

from gdlab import FUNCTIONS, OPTIMIZERS, Function, linear_range, log_range, plots, sample_hyperparameters
from gdlab.analysis import intervals
from gdlab.analysis.arrivals import share_cells, share_record
from gdlab.analysis.tables import Table
from gdlab.arguments import as_path, require_count, require_number
from gdlab.compute.interrupts import command
from gdlab.functions import off_origin
from gdlab.records import staged_folder, write_json
from gdlab.strategies import STRATEGIES
from gdlab.sweeps import SCIPY_METHODS, sweep_scipy, tune_and_judge_within

METHODS: dict[str, dict[str, Any]] = {
    "momentum": {"learning_rate": log_range(1e-5, 1.0)},
    "adam": {"learning_rate": log_range(1e-3, 10.0)},
    "nelder_mead": {"edge": log_range(0.02, 10.0)},
    "cma_es": {"std": log_range(0.1, 10.0)},
    "differential_evolution": {"spread": log_range(0.3, 10.0), "weight": linear_range(0.4, 1.0)},
    "simple_ga": {"std": log_range(0.03, 3.0), "std_decay": linear_range(0.9, 1.0)},
    "simulated_annealing": {"std": log_range(0.03, 3.0), "temperature": log_range(0.01, 100.0)},
    "open_es": {"learning_rate": log_range(0.01, 3.0), "std": log_range(0.01, 1.0)},
}
"""The methods and the ranges that they are tuned over; gradient methods come first."""
WITH_GRADIENT = ("momentum", "adam")


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    out: Path = Path("runs/gradient_free")
    """Output folder: results.json, two tables (text, CSV, LaTeX) and two pictures."""
    budget: int = 2000
    """Number of function evaluations from each start."""
    gradient_cost: float = 3.0
    """Number of evaluations that one gradient counts as."""
    trials: int = 8
    """Number of settings of each method that are tried on each function."""
    starts: int = 128
    """Number of judged starts in two dimensions; a quarter as many for tuning, and for SciPy's methods."""
    dims: tuple[int, ...] = (2, 8, 32, 200)
    """Numbers of dimensions of the bowl and the valley."""
    starts_each: int = 12
    """Number of judged starts in each of these; a sixth as many for tuning."""
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", as_path("out", self.out))  # with ~ as the home directory
        for name in ("budget", "trials"):
            require_count(name, getattr(self, name))
        require_number("gradient_cost", self.gradient_cost, 0.0, open_low=True)
        require_count("starts", self.starts, low=4)
        require_count("starts_each", self.starts_each, low=6)
        require_count("seed", self.seed, low=0)
        for dim in self.dims:
            require_count("dims", dim, low=2)


def centred(name: str, height: Any, dim: int) -> Function:
    """Return the function height(x - c), from 0 at its minimizer c, in the box of side 10 around c."""
    c = np.resize([0.65, -0.35], dim)
    return Function(
        name,
        lambda x: height(x - jnp.asarray(c, x.dtype)),
        dim,
        c - 5,
        c + 5,
        lambda size=None: c[None],
        lambda size=None: 0.0,
    )


def bowl(y: Any) -> Any:
    """A quadratic function of condition 100, reflected so that no axis of its is an axis of the coordinates."""
    v = jnp.arange(1, y.size + 1, dtype=y.dtype)
    y = y - 2 * v * jnp.dot(v, y) / jnp.dot(v, v)
    return jnp.sum(jnp.logspace(0, 2, y.size).astype(y.dtype) * y**2) / 100


def noise(y: Any) -> Any:
    return jnp.sum(y**2) + 0.005 * (1 - jnp.cos(1e4 * y[0]) * jnp.cos(1e4 * y[1]))


def jumps(y: Any) -> Any:
    cell = jnp.round(2 * y) / 2
    return jnp.sum(cell**2 + (y - cell) ** 2)


def plateaus(y: Any) -> Any:
    return 2 ** jnp.maximum(jnp.floor(jnp.log2(jnp.sum(y**2) / 0.005)), 0) - 1


def in_two_dimensions() -> dict[str, Function]:
    rippled = off_origin(FUNCTIONS["rastrigin"], [-5.12, -5.12], [5.12, 5.12])
    return {
        **smooth(2),
        "ripples": rippled,
        **{f.__name__: centred(f.__name__, f, 2) for f in (noise, jumps, plateaus)},
    }


def smooth(dim: int) -> dict[str, Function]:
    valley = FUNCTIONS["rosenbrock"]
    return {"bowl": centred("bowl", bowl, dim), "valley": valley._replace(dim=dim)}


def draw_starts(config: Config, functions: Mapping[str, Function], dim: int, count: int) -> dict[str, np.ndarray]:
    return {
        name: np.random.default_rng([config.seed, dim, place])
        .uniform(*function.bounds(dim), (count, dim))
        .astype(np.float32)
        for place, (name, function) in enumerate(functions.items())
    }


def best_value(first: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the setting with the lowest median of the final values, for each method and function."""
    return np.argmin(np.median(np.where(np.isfinite(values), values, np.inf), axis=-1), axis=-1)


def race(
    config: Config, functions: Mapping[str, Function], dim: int, tuning: int, judged: int, **options: Any
) -> tuple[xr.Dataset, dict[str, np.ndarray]]:
    points = draw_starts(config, functions, dim, tuning + judged)
    starts = {name: each[tuning:] for name, each in points.items()}
    found = tune_and_judge_within(
        config.budget,
        functions,
        {name: {**OPTIMIZERS, **STRATEGIES}[name] for name in METHODS},
        {name: sample_hyperparameters(r, config.trials, seed=config.seed) for name, r in METHODS.items()},
        {name: each[:tuning] for name, each in points.items()},
        starts,
        gradient_cost=config.gradient_cost,
        target=0.1,
        progress=False,
        **options,
    )
    return found.judged.isel(trial=0), starts


def arrivals(runs: xr.Dataset, suffix: str = "") -> list[dict[str, Any]]:
    """Return one record for each method and function: the share that arrives, and the median cost over all starts."""
    records = []
    for method in runs.optimizer.values:
        for function in runs.function.values:
            one = runs.sel(optimizer=method, function=function)
            records.append(
                {
                    "part": "arrivals",
                    "method": f"{method}{suffix}",
                    "function": str(function),
                    "dim": runs.sizes["coordinate"],
                    **share_record(np.isfinite(one.evaluations_to_target.values)),
                    "median_evaluations": float(np.quantile(one.evaluations_to_target, 0.5, method="higher")),
                    "median_rounds": float(np.quantile(one.rounds_to_target, 0.5, method="higher")),
                }
            )
    return records


def qualities(runs: xr.Dataset, functions: Mapping[str, Function]) -> list[dict[str, Any]]:
    """Return one record for each method and function: the digits by which the budget lowers the value."""
    records = []
    for method in runs.optimizer.values:
        for name, function in functions.items():
            one = runs.sel(optimizer=method, function=name)
            before = np.array([function.fn(jnp.asarray(start)) for start in one.start_point.values])
            ratio = np.where(np.isfinite(one.value), one.value, np.inf) / before
            digits = -np.log10(np.clip(ratio, 1e-7, 1.0))  # float32 has no more, and a failed descent gains nothing
            interval = intervals.bootstrap_interval(digits, np.median)
            records.append(
                {
                    "part": "digits",
                    "method": str(method),
                    "function": name,
                    "dim": runs.sizes["coordinate"],
                    "starts": digits.size,
                    "digits": float(interval.estimate),
                    "digits_low": float(interval.low),
                    "digits_high": float(interval.high),
                    "rounds": float(one.rounds.median()),
                }
            )
    return records


def draw_shares(config: Config, runs: xr.Dataset) -> Figure:
    budgets = np.unique(np.geomspace(10, config.budget, 60).astype(int))

    def series(function: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        cost = runs.evaluations_to_target.sel(function=function)
        return {m: (budgets, (cost.sel(optimizer=m).values[:, None] <= budgets).mean(axis=0)) for m in METHODS}

    names = list(map(str, runs.function.values))
    rows = {"smooth and rippled": names[:3], "noise, jumps, plateaus": names[3:]}
    return plots.curve_panels(
        {row: {str(k): series(name) for k, name in enumerate(each)} for row, each in rows.items()},
        labels=("function evaluations", "share of starts"),
        log_y=False,
    )


def draw_digits(records: list[dict[str, Any]]) -> Figure:
    names = list(dict.fromkeys(r["function"] for r in records))
    figure = Figure(figsize=(4.3 * len(names) + 1.8, 4.2), layout="constrained")
    for axes, name in zip(np.ravel(figure.subplots(1, len(names), sharey=True)), names, strict=True):
        mine = {m: [r for r in records if (r["function"], r["method"]) == (name, m)] for m in METHODS}
        dims = [r["dim"] for r in mine["adam"]]
        lines = {m: (dims, [r["digits"] for r in rows]) for m, rows in mine.items()}
        plots.draw_curves(axes, lines, log_y=False)
        for index, rows in enumerate(mine.values()):
            ends = [[r[end] for r in rows] for end in ("digits_low", "digits_high")]
            axes.fill_between(dims, *ends, color=plots.line_style(index)["color"], alpha=0.15, lw=0)
        axes.set_xticks(dims, list(map(str, dims)))
        axes.minorticks_off()
        axes.set(title=name.capitalize(), xlabel="dimensions")
    figure.axes[0].set_ylabel("digits gained: log10 of (value at the start / at the end)")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def arrivals_table(records: list[dict[str, Any]]) -> Table:
    functions = list(dict.fromkeys(r["function"] for r in records))
    cells: dict[str, dict[str, str]] = {}
    for r in records:
        median = f", {r['median_evaluations']:.0f}" if np.isfinite(r["median_evaluations"]) else ""
        cells.setdefault(r["method"], {})[r["function"]] = f"{share_cells(r)[0]}{median}"
    rows = [(method, *(row[f] for f in functions)) for method, row in cells.items()]
    return Table(
        ("method", *functions), rows, "Share of starts that arrive, and the evaluations that half of all take."
    )


def digits_table(records: list[dict[str, Any]]) -> Table:
    places = list(dict.fromkeys((r["function"], r["dim"]) for r in records))
    cells: dict[str, list[str]] = {}
    for r in records:
        cells.setdefault(r["method"], []).append(f"{r['digits']:.1f} ({r['digits_low']:.1f} to {r['digits_high']:.1f})")
    order = sorted(range(len(places)), key=lambda place: places[place][0])
    rows = [(method, *(row[place] for place in order)) for method, row in cells.items()]
    head = ("method", *(f"{places[place][0]}, {places[place][1]}" for place in order))
    return Table(head, rows, "Digits gained within the budget: the median over starts, and its 95% interval.")


def verdict(config: Config, digits: list[dict[str, Any]]) -> str:
    """Say at each number of dimensions which method gains most digits, with and without gradients."""
    lines = []
    for name, dim in dict.fromkeys((r["function"], r["dim"]) for r in digits):
        here = [r for r in digits if (r["function"], r["dim"]) == (name, dim)]
        slope, free = (
            max((r for r in here if (r["method"] in WITH_GRADIENT) == with_it), key=lambda r: r["digits"])
            for with_it in (True, False)
        )
        apart = slope["digits_low"] > free["digits_high"] or free["digits_low"] > slope["digits_high"]
        lines.append(
            f"{name}, {dim} dimensions: {slope['method']} {slope['digits']:.1f}, {free['method']} {free['digits']:.1f} "
            f"digits ({'intervals apart' if apart else 'no difference found'})"
        )
    head = f"Best with and without gradients after {config.budget:,} evaluations, a gradient counting as "
    return "\n".join([f"{head}{config.gradient_cost:g}:", *lines])


def main(config: Config) -> None:
    began = time.perf_counter()
    with staged_folder(config.out) as folder:
        two = in_two_dimensions()
        runs, starts = race(config, two, 2, config.starts // 4, config.starts, stop_at_target=True)
        few = {name: points[: config.starts // 4] for name, points in starts.items()}
        scipys = sweep_scipy(two, [*SCIPY_METHODS], few, budget=config.budget, target=0.1, stop_at_target=True)
        arrived = arrivals(runs) + arrivals(scipys, " (SciPy)")
        digits = []
        for dim in config.dims:
            functions, each = smooth(dim), config.starts_each
            digits += qualities(race(config, functions, dim, each // 6, each, choose=best_value)[0], functions)
        tables = {"arrivals": arrivals_table(arrived), "digits": digits_table(digits)}
        for name, table in tables.items():
            table.write(folder / name)
        plots.save_indexed(draw_shares(config, runs), folder / "shares.png")
        plots.save_indexed(draw_digits(digits), folder / "digits.png")
        write_json(folder / "results.json", arrived + digits)
    print(*(table.text() for table in tables.values()), verdict(config, digits), sep="\n\n")
    print(f"Written to {config.out} in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    with command("gradient_free", OSError, ValueError, ImportError):
        main(tyro.cli(Config, description=__doc__))
