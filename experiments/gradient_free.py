"""When a gradient pays: gradient methods and strategies without gradients, within one budget of function evaluations.

Claim: on smooth functions a gradient pays more the more coordinates there are, since it holds as many numbers as the
point for the price of some three evaluations; in two dimensions the best methods without one need fewer evaluations;
and where the slope says nothing about what lies further away (ripples, noise, jumps, plateaus), they alone arrive.

Protocol: gradient descent with momentum 0.9, Adam and the six strategies of gdlab have a budget of function evaluations
from each start; a gradient counts as three (`gradient_cost`). Each method is tuned on each function and dimension by
the same number of settings, a Sobol sequence over the ranges in METHODS, from the same tuning starts, and judged from
other starts, the same for all. Six functions of two variables: a bowl of condition 100 that is not parallel to the
axes; Rosenbrock's valley; ripples, Rastrigin's function; noise, a round bowl plus waves of height 0.005 and length
0.0006, the same at every call, whose slopes of up to 50 automatic differentiation sees; jumps, a lattice of cells of
side 0.5, each a bowl of its own at its own height; and plateaus, a bowl rounded down to powers of two, whose gradient
is 0. A start has arrived within 0.1 of the minimizer. The bowl and the valley also have more dimensions, in which the
value where the budget ends is compared with that at the start (7 digits at most: float32). SciPy's methods stand
beside, with their defaults; two of them also get the box that starts are drawn from. A gradient method's point is its
last one, a strategy's the best so far. Intervals are for 95%: Wilson's for shares, the bootstrap's for medians.

Command:   python experiments/gradient_free.py [--out DIR] [--budget 2000] [--gradient-cost 3] [--trials 8]
Expect:    the tables of benchmarks/results/gradient_free.json.
Runtime:   2 to 4 minutes on 2 CPU cores, a third of it compilation, and a quarter of it CMA-ES in 200 dimensions.
"""

import gdlab.compute.script  # isort: skip  # noqa: F401  (from here on an interrupt is one line)
import dataclasses
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import tyro
import xarray as xr

from gdlab import FUNCTIONS, OPTIMIZERS, Function, linear_range, log_range, plots, sample_hyperparameters
from gdlab.analysis import intervals
from gdlab.analysis.arrivals import share_record
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
"""The methods and the ranges that they are tuned over; the first two use gradients."""
DIGITS = ("digits", "digits_low", "digits_high")


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
        require_number("gradient_cost", self.gradient_cost, 0.0, open_low=True)
        for name, low in (("budget", 1), ("trials", 1), ("starts", 4), ("starts_each", 6), ("seed", 0)):
            require_count(name, getattr(self, name), low=low)
        for dim in self.dims:
            require_count("dims", dim, low=2)


def centred(name: str, height: Any, dim: int) -> Function:
    """Return the function height(x - c), from 0 at its minimizer c, in the box of side 10 around c."""
    c = np.resize([0.65, -0.35], dim)

    def moved(x: Any) -> Any:
        return height(x - jnp.asarray(c, x.dtype))

    return Function(name, moved, dim, c - 5, c + 5, lambda size=None: c[None])


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


def smooth(dim: int) -> dict[str, Function]:
    return {"bowl": centred("bowl", bowl, dim), "valley": FUNCTIONS["rosenbrock"]._replace(dim=dim)}


def in_two_dimensions() -> dict[str, Function]:
    rough = {height.__name__: centred(height.__name__, height, 2) for height in (noise, jumps, plateaus)}
    return {**smooth(2), "ripples": off_origin(FUNCTIONS["rastrigin"], [-5.12, -5.12], [5.12, 5.12]), **rough}


def best_value(first: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the setting with the lowest median of the final values, for each method and function."""
    return np.argmin(np.median(np.where(np.isfinite(values), values, np.inf), axis=-1), axis=-1)


def race(
    config: Config, functions: Mapping[str, Function], dim: int, tuning: int, judged: int, **options: Any
) -> tuple[xr.Dataset, dict[str, np.ndarray]]:
    """Return the judged descents of all methods, and the starts of each function."""
    points = {}
    for place, (name, function) in enumerate(functions.items()):
        rng = np.random.default_rng([config.seed, dim, place])
        points[name] = rng.uniform(*function.bounds(dim), (tuning + judged, dim)).astype(np.float32)
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


def cases(runs: xr.Dataset) -> Iterator[tuple[dict[str, Any], xr.Dataset]]:
    for method in map(str, runs.optimizer.values):
        for function in map(str, runs.function.values):
            about = {"method": method, "function": function, "dim": runs.sizes["coordinate"]}
            yield about, runs.sel(optimizer=method, function=function)


def arrivals(runs: xr.Dataset) -> list[dict[str, Any]]:
    """Return one record per method and function: the share that arrives, and the median cost over all starts."""
    return [
        about
        | share_record(np.isfinite(one.evaluations_to_target.values))
        | {
            f"median_{what}": float(np.quantile(one[f"{what}_to_target"], 0.5, method="higher"))
            for what in ("evaluations", "rounds")
        }
        for about, one in cases(runs)
    ]


def qualities(runs: xr.Dataset, functions: Mapping[str, Function]) -> list[dict[str, Any]]:
    """Return one record per method and function: the digits by which the budget lowers the value, up to 7."""
    records = []
    for about, one in cases(runs):
        before = np.array([functions[about["function"]].fn(jnp.asarray(start)) for start in one.start_point.values])
        ratio = np.where(np.isfinite(one.value), one.value, np.inf) / before
        digits = -np.log10(np.clip(ratio, 1e-7, 1.0))  # a failed descent gains nothing
        ends = map(float, intervals.bootstrap_interval(digits, np.median))
        records.append(about | {"starts": digits.size} | dict(zip(DIGITS, ends, strict=True)))
    return records


def draw_shares(config: Config, runs: xr.Dataset, path: Path) -> None:
    budgets = np.unique(np.geomspace(10, config.budget, 60).astype(int))
    panels: dict[str, dict[str, Any]] = {}
    for about, one in cases(runs):
        arrived = (one.evaluations_to_target.values[:, None] <= budgets).sum(axis=0)
        panels.setdefault(about["function"], {})[about["method"]] = intervals.share_interval(arrived, config.starts)
    labels = ("function evaluations", "share of starts within 0.1 of the minimizer")
    plots.save_indexed(plots.interval_panels(budgets, panels, labels=labels), path)


def draw_digits(config: Config, records: list[dict[str, Any]], path: Path) -> None:
    panels: dict[str, dict[str, Any]] = {name: {} for name in smooth(2)}
    for name, method in dict.fromkeys((r["function"], r["method"]) for r in records):
        rows = [r for r in records if (r["function"], r["method"]) == (name, method)]
        panels[name][method] = intervals.Interval(*(np.array([r[end] for r in rows]) for end in DIGITS))
    title = f"Digits by which {config.budget:,} evaluations lower the value, median over starts"
    labels, dims = ("dimensions", "digits gained"), np.array(config.dims)
    plots.save_indexed(plots.interval_panels(dims, panels, title=title, labels=labels, ticks=True), path)


def tabulate(records: list[dict[str, Any]], form: str, caption: str) -> Table:
    """Return a table with a row per method and a column per function and dimension."""
    places = sorted(dict.fromkeys((r["function"], r["dim"]) for r in records), key=lambda place: place[0])
    several = len({dim for _, dim in places}) > 1
    cells: dict[str, dict[tuple[str, int], str]] = {}
    for r in records:
        cells.setdefault(r["method"], {})[r["function"], r["dim"]] = form.format(**r)
    head = [f"{name}, {dim}" if several else name for name, dim in places]
    return Table(("method", *head), [(m, *(row[place] for place in places)) for m, row in cells.items()], caption)


def main(config: Config) -> None:
    began = time.perf_counter()
    with staged_folder(config.out) as folder:
        two = in_two_dimensions()
        runs, starts = race(config, two, 2, config.starts // 4, config.starts, stop_at_target=True)
        few = {name: points[: config.starts // 4] for name, points in starts.items()}
        scipys = sweep_scipy(two, [*SCIPY_METHODS], few, budget=config.budget, target=0.1, stop_at_target=True)
        scipys["optimizer"] = [f"{name} (SciPy)" for name in scipys.optimizer.values]
        arrived, digits = arrivals(runs) + arrivals(scipys), []
        for dim in config.dims:
            functions, each = smooth(dim), config.starts_each
            digits += qualities(race(config, functions, dim, each // 6, each, choose=best_value)[0], functions)
        caption = "Share of starts that arrive, and the evaluations by which more than half have (inf: never)."
        tables = {"arrivals": tabulate(arrived, "{share:.0%}, {median_evaluations:.0f}", caption)}
        caption = "Digits gained: the median over starts, and its 95% interval."
        tables["digits"] = tabulate(digits, "{digits:.1f} ({digits_low:.1f} to {digits_high:.1f})", caption)
        for name, table in tables.items():
            table.write(folder / name)
        draw_shares(config, runs, folder / "shares.png")
        draw_digits(config, digits, folder / "digits.png")
        write_json(folder / "results.json", arrived + digits)
    print(*(table.text() for table in tables.values()), sep="\n\n")
    print(f"\nWritten to {config.out} in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    with command("gradient_free", OSError, ValueError, ImportError):
        main(tyro.cli(Config, description=__doc__))
