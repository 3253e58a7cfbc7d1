"""All optimizers of gdlab on four test functions: how many starts reach the minimum, and in how many steps.

Claim: once every method has its own learning rate, success depends on the function at least as much as on the method.

Protocol: all optimizers have the same budget: the same starts, the same number of steps, and the same settings to
choose from, which are the rates of one logarithmic grid, each constant and each with cosine decay to 0. An optimizer
takes the setting that does best on the tuning starts (largest share that reaches the minimum, then lowest median of
steps, then lowest median of final values; a share that may be due to chance counts as none) and is judged on other
starts. All other arguments are at their defaults, except for `gdlab.sweeps.COMPARABLE`: no weight decay, and the
arguments of LARS and SOAP for vectors. Muon is left out unless it is named, because on vectors it is AdamW.

A descent reaches the minimum at its first step within `tolerance` of a global minimizer, just as black-box optimization
counts evaluations to a target (Hansen et al. 2021, COCO, Optimization Methods and Software 36(1)); whether it is still
there at the end is reported too. The point is the optimizer's iterate, even if the method is meant to be evaluated at
another point (an average). Arithmetic is float64. Ackley's box is [-5, 5]^2. Ackley's and Rastrigin's minimizer is the
origin, where steps in proportion to |x| (LARS, LAMB, Adafactor) end anyway, so both are moved, with their boxes.

Command:   python experiments/optimizer_zoo.py [--out DIR] [--optimizers sgd adam ...] [--functions ackley ...]
Expect:    no method leads on all four. Rosenbrock: SOAP, LARS, Sophia and NovoGrad from all starts, SOAP in 200 steps;
           Adam from 91%, gradient descent from none. Beale: Signum from all starts, NovoGrad, LAMB and LARS from over
           90%. Rastrigin: RMSprop and QHM from 7 in 10. Ackley: gradient descent, QHM, Signum, NAdam and
           Sophia from almost all, Adam from 46%. Steps this large amplify rounding: shares vary by some percent from
           machine to machine, and the chosen rates vary too.
Runtime:   under 4 minutes on 2 CPU cores for 40 optimizers, most of it compilation.
"""

import gdlab.compute.script  # isort: skip  # noqa: F401  (from here on an interrupt is one line)
import dataclasses
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
import xarray as xr
from jax import Array
from matplotlib.figure import Figure

from gdlab import Function, descend, evaluate_grid, plots
from gdlab.analysis.arrivals import arrivals_record, best_settings, first_arrival, percent, share_cells
from gdlab.analysis.intervals import share_interval
from gdlab.analysis.tables import Table
from gdlab.arguments import require_count, require_number
from gdlab.compute.interrupts import command
from gdlab.compute.threads import usable_cores
from gdlab.records import staged_folder, write_json
from gdlab.sweeps import RaceOptions, changed_arguments, tune_and_judge
from gdlab.types import Factory

DRAWN = {"rosenbrock": (-1.4, 1.0), "beale": (1.0, 1.5)}
"""Starts of the drawn paths; on any other function, a point at the upper left of its box."""


@dataclasses.dataclass(frozen=True)
class Config(RaceOptions):
    """Settings of the race, and the budget, which is the same for all optimizers."""

    out: Path = Path("runs/optimizer_zoo")
    """Output folder: results.json, summary.png and one picture per function."""
    functions: tuple[str, ...] = ("rosenbrock", "beale", "rastrigin", "ackley")
    """Names of functions of two variables in FUNCTIONS whose minimizers are known."""
    learning_rates: int = 22
    """Number of learning rates, spaced logarithmically: three per decade."""
    tolerance: float = 0.01
    """A descent reaches the minimum when it is within this distance of a global minimizer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("learning_rates", self.learning_rates, low=2)
        require_number("tolerance", self.tolerance, 0.0, open_low=True)


def decaying(factory: Factory, steps: int) -> Factory:
    """Make a factory whose learning rate is constant (decay 0) or falls to 0 along a cosine (decay 1)."""

    def build(learning_rate: Any, decay: Any) -> optax.GradientTransformation:
        return factory(lambda count: learning_rate * (1 - decay * (1 - jnp.cos(jnp.pi * count / steps)) / 2))

    return build


def run_race(config: Config, functions: dict[str, Function], factories: dict[str, Factory]) -> xr.Dataset:
    """Choose each optimizer's best setting on the tuning starts of each function, and run it from the judged starts."""
    unit = jax.random.uniform(jax.random.key(config.seed), (config.tuning_starts + config.starts, 2), jnp.float64)
    boxes = {name: function.bounds(2) for name, function in functions.items()}
    starts = {name: low + (high - low) * np.asarray(unit) for name, (low, high) in boxes.items()}
    return tune_and_judge(
        functions,
        factories,
        {
            "decay": [0.0, 1.0],
            "learning_rate": np.geomspace(config.lowest_rate, config.highest_rate, config.learning_rates),
        },
        {name: points[: config.tuning_starts] for name, points in starts.items()},
        {name: points[config.tuning_starts :] for name, points in starts.items()},
        # A share that is compatible with a true share of 0 counts as none.
        choose=partial(best_settings, negligible=float(share_interval(0, config.tuning_starts).high)),
        max_steps=config.steps,
        target=config.tolerance,
    ).judged


def measure(
    config: Config, functions: dict[str, Function], factories: dict[str, Factory], judged: xr.Dataset
) -> list[dict[str, Any]]:
    """Return one record per optimizer and function, with the path to draw, up to its arrival at the minimum."""
    fns = [function.fn for function in functions.values()]

    def of_one(name: str) -> Iterator[dict[str, Any]]:
        @jax.jit
        def walk(which: Any, learning_rate: Any, decay: Any, start: Any) -> Array:
            optimizer = factories[name](learning_rate, decay)
            return descend(lambda x: jax.lax.switch(which, fns, x), optimizer, start, max_steps=config.steps).path

        for which, function in enumerate(functions.values()):
            runs = judged.sel(optimizer=name, function=function.name).isel(trial=0)
            rate, decay = float(runs.learning_rate), float(runs.decay)
            low, high = function.bounds(2)
            start = DRAWN.get(function.name, low + (high - low) * np.array([0.15, 0.75]))
            path = np.asarray(walk(which, rate, decay, jnp.asarray(start)))
            first = first_arrival(path, function.minimizers(2), config.tolerance)
            yield {
                "optimizer": name,
                "function": function.name,
                "learning_rate": rate,
                "decay": "cosine" if decay else "none",
                "at_edge": rate in (config.lowest_rate, config.highest_rate),
                **arrivals_record(runs),
                "drawn_steps": first if first >= 0 else None,
                "path": path[: first + 1] if first >= 0 else path,
            }

    with ThreadPoolExecutor(usable_cores()) as pool:  # most of the time is compilation, one program per optimizer
        return [record for records in pool.map(lambda name: list(of_one(name)), factories) for record in records]


def ranked(records: list[dict[str, Any]], function: str) -> list[dict[str, Any]]:
    """Sort the function's records: largest share first, then fewest steps, then lowest final value."""
    chosen = [r for r in records if r["function"] == function]
    return sorted(chosen, key=lambda r: (-r["share"], r["median_steps"], r["median_final_value"]))


def reach(record: dict[str, Any]) -> str:
    return percent(record["share"]) + (f" in {record['median_steps']:.0f}" if record["share"] else "")


def rate_text(record: dict[str, Any]) -> str:
    number = float(f"{record['learning_rate']:.2g}")
    return f"{number:g}{'*' if record['at_edge'] else ''}"


def title(function: str) -> str:
    return function.replace("_", " ").title()


def draw_paths(config: Config, function: Function, order: list[dict[str, Any]]) -> Figure:
    x, y = order[0]["path"][0]
    decays = {"cosine": "↓", "none": ""}
    return plots.panels(
        evaluate_grid(function),
        {r["optimizer"]: r["path"] for r in order},
        notes={r["optimizer"]: f"lr {rate_text(r)}{decays[r['decay']]} · {reach(r)}" for r in order},
        groups={
            "reaches the minimum from this start": [r["optimizer"] for r in order if r["drawn_steps"] is not None],
            f"does not in {config.steps} steps": [r["optimizer"] for r in order if r["drawn_steps"] is None],
        },
        minimizers=function.minimizers(2),
        title=f"{title(function.name)}: {len(order)} optimizers from ({x:.3g}, {y:.3g}), all learning rates tuned",
        caption=f"lr: learning rate (↓ with cosine decay, * at an end of the grid) · share of {config.starts} random "
        "starts that reach the minimum, and their median number of steps.\n"
        "Best first. A path ends where it reaches the minimum.",
    )


def draw_summary(config: Config, records: list[dict[str, Any]]) -> Figure:
    """Draw all optimizers on all functions, largest mean share first; ties are ordered by steps."""
    names = dict.fromkeys(r["optimizer"] for r in records)
    table = {name: [r for r in records if r["optimizer"] == name] for name in names}
    steps = {name: np.mean([min(r["median_steps"], config.steps) for r in row]) for name, row in table.items()}
    order = sorted(table, key=lambda name: (-np.mean([r["share"] for r in table[name]]), steps[name]))
    return plots.heatmap(
        np.array([[r["share"] for r in table[name]] for name in order]),
        order,
        [title(function) for function in config.functions],
        texts=[[reach(r) for r in table[name]] for name in order],
        limits=(0.0, 1.0),
        title=f"Share of {config.starts} starts that reach the minimum,\nand their median number of steps",
        label="share of starts",
    )


def report(order: list[dict[str, Any]]) -> str:
    """Return the function's table, and the quickest among the optimizers whose share may equal the best one."""
    rows = [
        (
            r["optimizer"],
            rate_text(r),
            r["decay"],
            *share_cells(r),
            f"{100 * r['share_stayed']:.1f}%",
            f"{100 * r['share_diverged']:.1f}%",
            f"{r['median_steps']:.0f}" if r["share"] else "-",
            f"{r['fewest_steps']}" if r["share"] else "-",
            f"{r['median_final_value']:.1e}",
        )
        for r in order
    ]
    head = ("optimizer", "lr", "decay", "share", "95% interval", "end there", "diverged", "median", "fewest", "value")
    text, best = Table(head, rows).text(), order[0]
    if not best["share"]:
        return f"{text}\nNone reached the minimum."
    leaders = [r for r in order if r["share_high"] >= best["share_low"]]
    quickest = min(leaders, key=lambda r: r["median_steps"])
    return (
        f"{text}\nMost starts: {best['optimizer']}, {percent(best['share'])}. Fewest steps: {quickest['optimizer']}, "
        f"{quickest['median_steps']:.0f} in the median, among the {len(leaders)} whose share may equal the best."
    )


def main(config: Config) -> None:
    jax.config.update("jax_enable_x64", True)  # compare the methods, not their rounding errors
    began = time.perf_counter()
    functions = config.contest()
    factories = {name: decaying(factory, config.steps) for name, factory in config.contenders().items()}
    with staged_folder(config.out) as folder:
        judged = run_race(config, functions, factories)
        records = measure(config, functions, factories, judged)
        for name, function in functions.items():
            order = ranked(records, name)
            print(f"\n{title(name)}: {config.starts} starts, {config.steps} steps each\n\n{report(order)}")
            plots.save_indexed(draw_paths(config, function, order), folder / f"{name}.png", dpi=120)
        plots.save_indexed(draw_summary(config, records), folder / "summary.png")
        write_json(folder / "results.json", [{k: v for k, v in r.items() if k != "path"} for r in records])
    print(
        "\nlr: tuned; *: at an end of the grid, so not bracketed. end there: still at the minimum at the last step.\n"
        "median, fewest: steps of the starts that reach the minimum. value: median of the final values of all starts.\n"
        f"{changed_arguments([*factories])}\nWritten to {config.out} in {time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    with command("optimizer_zoo", OSError):
        main(tyro.cli(Config, description=__doc__))
