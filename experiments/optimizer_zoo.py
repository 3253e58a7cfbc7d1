"""Every optimizer of gdlab on four test functions: who reaches the minimum, in how many steps, from how many starts.

Claim: what a descent needs depends on the function at least as much as on the method's name, once every method has its
own learning rate. To compare them fairly all get the same budget: the same starts, the same number of steps, and the
same settings to choose from, which are the rates of one logarithmic grid, each held constant and each with cosine decay
to 0. Each takes the setting that does best on starts of its own for tuning (largest share that reaches the minimum,
then fewest steps in the median, then least final value in the median; a share below 3% counts as none) and is judged on
others. All else is at its default.

A descent reaches the minimum at the first step that lies within `tolerance` of a global minimizer, as one counts
evaluations to a target in benchmarks of black-box optimization (Hansen et al. 2021, COCO, Optimization Methods and
Software 36(1)); whether it is there at the end is counted beside it. The point is the optimizer's iterate, also for
those that mean another one to be evaluated (averages). Arithmetic is float64.

The functions are those of `gdlab.functions`, in their domains, Ackley's in [-5, 5]^2 as in ackley_descent. Rastrigin's
and Ackley's minimizer is the origin, which an optimizer can find without a gradient: weight decay leads there, and the
steps of LARS, LAMB and Adafactor, in proportion to |x|, end there. So there is no weight decay here, and the two
functions are moved together with their boxes, which makes no difference to the other optimizers.

Command:   python experiments/optimizer_zoo.py [--out DIR] [--optimizers sgd adam ...] [--functions ackley ...]
Expect:    no method leads on all four. Rosenbrock: SOAP, LARS, Muon, Sophia and NovoGrad from all starts, SOAP in 200
           steps; Adam from 91%, gradient descent from none. Beale: Signum from all, LAMB, LARS, Muon and NovoGrad from
           96%. Rastrigin: QHM from 78%, RMSprop from 71%. Ackley: gradient descent, QHM, Signum, NAdam and Sophia from
           all, Adam from 46%. Steps this large amplify rounding: shares on the last two vary by some percent from
           machine to machine, and so do the rates chosen.
Runtime:   2.5 to 5 minutes on 2 CPU cores for 41 optimizers, half of it compilation; SOAP and Shampoo take longest.
"""

import dataclasses
import inspect
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax import Array

from gdlab import FUNCTIONS, OPTIMIZERS, descend, evaluate_grid, plots
from gdlab.analysis.statistics import share_interval
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

BOXES = {"ackley": (-5.0, 5.0)}
"""Where starts are drawn, if not in the function's domain; Ackley's own is six times as wide."""

DRAWN = {"rosenbrock": (-1.4, 1.0), "beale": (1.0, 1.5)}
"""The start of the paths that are drawn; of any other function, a point at the upper left of its box."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What runs, and the budget, which is the same for all optimizers."""

    out: Path = Path("runs/optimizer_zoo")
    """Folder for results.json, summary.png and one picture per function."""
    functions: tuple[str, ...] = ("rosenbrock", "beale", "rastrigin", "ackley")
    """Any functions of two variables in FUNCTIONS whose minimizers are known."""
    optimizers: tuple[str, ...] = ()
    """Names in OPTIMIZERS; none: all of them."""
    starts: int = 256
    """Starts that are judged, uniform in the box."""
    tuning_starts: int = 128
    """Other starts, on which the setting is chosen."""
    learning_rates: int = 22
    """How many learning rates, equally spaced in logarithm: three a decade."""
    lowest_rate: float = 1e-5
    highest_rate: float = 1e2
    steps: int = 1000
    """Of each descent."""
    tolerance: float = 0.01
    """A descent has reached the minimum when it is within this distance of a global minimizer."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("starts", "tuning_starts", "steps"):
            require_count(name, getattr(self, name))
        require_count("learning_rates", self.learning_rates, low=2)
        require_number("tolerance", self.tolerance, 0.0, open_low=True)
        require_number("lowest_rate", self.lowest_rate, 0.0, open_low=True)
        require_number("highest_rate", self.highest_rate, self.lowest_rate, open_low=True)
        require_names("functions", self.functions, FUNCTIONS)
        require_names("optimizers", self.optimizers, OPTIMIZERS, empty=True)
        for name in self.functions:
            if FUNCTIONS[name].dim not in (None, 2) or len(FUNCTIONS[name].minimizers(2)) == 0:
                raise ValueError(f"functions: wanted two variables and known minimizers, got {name!r}")


class Problem(NamedTuple):
    """A function as it is descended here, the box of its starts, its minimizers, and the start that is drawn."""

    name: str
    fn: Callable[[Array], Array]
    low: np.ndarray
    high: np.ndarray
    minimizers: np.ndarray
    drawn: np.ndarray


class Settings(NamedTuple):
    """One learning rate and whether it decays (0.0 or 1.0) per lane."""

    rate: np.ndarray
    decays: np.ndarray


class Run(NamedTuple):
    """Of each lane: the first step within the tolerance (-1: none), whether the last one is, and how it ended.

    path: of the last lane of each piece only, shape (pieces, steps + 1, 2).
    """

    steps: Any
    stayed: Any
    value: Any
    diverged: Any
    path: Any


def all_settings(config: Config) -> Settings:
    rates = np.geomspace(config.lowest_rate, config.highest_rate, config.learning_rates)
    return Settings(np.tile(rates, 2), np.repeat([0.0, 1.0], rates.size))


def make_problem(name: str) -> Problem:
    """The function of that name, moved with its box if a minimizer lies at the origin."""
    low, high = (np.broadcast_to(corner, 2) for corner in BOXES.get(name, FUNCTIONS[name].bounds(2)))
    drawn = np.asarray(DRAWN.get(name, low + (high - low) * np.array([0.15, 0.75])))
    function = off_origin(FUNCTIONS[name], low, high)
    return Problem(
        name, function.fn, *function.bounds(2), function.minimizers(2), drawn + function.lower - np.asarray(low, float)
    )


def draw_starts(config: Config, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Starts for tuning, and those to be judged; the last of these is the one whose path is drawn."""
    unit = jax.random.uniform(jax.random.key(config.seed), (config.tuning_starts + config.starts, 2), jnp.float64)
    points = np.vstack([problem.low + (problem.high - problem.low) * unit, problem.drawn])
    return points[: config.tuning_starts], points[config.tuning_starts :]


def build(factory: Callable[..., Any], learning_rate: Any, steps: int) -> optax.GradientTransformation:
    arguments = inspect.signature(factory).parameters
    given = {**KEYWORDS, "total_steps": steps}
    return factory(learning_rate, **{name: value for name, value in given.items() if name in arguments})


def make_program(config: Config, problems: list[Problem], name: str) -> Callable[[int, Settings, np.ndarray], Run]:
    """One compiled program per optimizer: it takes the function's index, and settings and starts of one lane each.

    The batch runs in pieces of one size, so that tuning and judging share the program, and the piece fits the cache.
    """
    fns = [problem.fn for problem in problems]
    most = max(len(problem.minimizers) for problem in problems)
    minimizers = jnp.asarray([np.resize(p.minimizers, (most, 2)) for p in problems])  # repeated up to most

    def run(which: Any, rate: Array, decays: Array, start: Array) -> Run:
        def schedule(count: Array) -> Array:
            return rate * (1 - decays * (1 - jnp.cos(jnp.pi * count / config.steps)) / 2)

        descent = descend(
            lambda x: jax.lax.switch(which, fns, x),
            build(OPTIMIZERS[name], schedule, config.steps),
            start,
            max_steps=config.steps,
        )
        distances = jnp.linalg.norm(descent.path[:, None] - minimizers[which], axis=-1).min(axis=-1)
        near = distances < config.tolerance
        first = jnp.where(near.any(), jnp.argmax(near), -1)
        return Run(first, near[-1], descent.value[-1], descent.diverged, descent.path)

    @jax.jit
    def program(which: int, *lanes: Array) -> Run:
        runs = jax.vmap(run, (None, 0, 0, 0))(which, *lanes)
        return runs._replace(path=runs.path[-1:])

    size = config.starts + 1

    def in_pieces(which: int, settings: Settings, starts: np.ndarray) -> Run:
        lanes = [jnp.asarray(array) for array in (*settings, starts)]
        pieces = []
        for begin in range(0, len(starts), size):
            index = np.arange(begin, begin + size) % len(starts)  # the last piece is filled up with the first lanes
            pieces.append(jax.tree.map(np.asarray, program(which, *(lane[index] for lane in lanes))))
        return jax.tree.map(lambda *parts: np.concatenate(parts)[: len(starts)], *pieces)

    return in_pieces


def median_steps(steps: np.ndarray) -> float:
    """The median number of steps of those that reached the minimum; inf if none did."""
    return float(np.median(steps[steps >= 0])) if (steps >= 0).any() else np.inf


def best_setting(steps: np.ndarray, values: np.ndarray) -> int:
    """Of arrays (settings, starts): largest share that reached the minimum, then fewest steps, then least value.

    A share as small as no share at all may give by chance (the end of its 95% interval) counts as none.
    """
    shares = (steps >= 0).mean(axis=1)
    shares[shares <= share_interval(0, steps.shape[1]).high] = 0.0
    medians = np.array([median_steps(row) if share else np.inf for row, share in zip(steps, shares, strict=True)])
    finals = np.median(np.where(np.isfinite(values), values, np.inf), axis=1)
    return int(np.lexsort((finals, medians, -shares))[0])


def measure(config: Config, problems: list[Problem], name: str) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Tune and judge one optimizer on all functions: records, and its path from the drawn start on each."""
    program = make_program(config, problems, name)
    settings = all_settings(config)
    count = settings.rate.size
    records, paths = [], {}
    for which, problem in enumerate(problems):
        tuning, judged = draw_starts(config, problem)
        lanes = Settings(*(np.repeat(array, config.tuning_starts) for array in settings))
        tried = program(which, lanes, np.tile(tuning, (count, 1)))
        best = best_setting(
            tried.steps.reshape(count, config.tuning_starts), tried.value.reshape(count, config.tuning_starts)
        )
        runs = program(which, Settings(*(np.repeat(array[best], len(judged)) for array in settings)), judged)
        drawn = runs.steps[-1]
        paths[problem.name] = runs.path[-1][: drawn + 1] if drawn >= 0 else runs.path[-1]
        steps, value = runs.steps[:-1], runs.value[:-1]
        hits = steps[steps >= 0]
        interval = share_interval(hits.size, steps.size)
        rate = float(settings.rate[best])
        records.append(
            {
                "optimizer": name,
                "function": problem.name,
                "learning_rate": rate,
                "decay": "cosine" if settings.decays[best] else "none",
                "at_edge": rate in (settings.rate[0], settings.rate[-1]),
                "starts": steps.size,
                "share": hits.size / steps.size,
                "share_low": interval.low,
                "share_high": interval.high,
                "share_stayed": runs.stayed[:-1].mean(),
                "share_diverged": runs.diverged[:-1].mean(),
                "median_steps": median_steps(steps),
                "fewest_steps": hits.min() if hits.size else None,
                "median_final_value": np.median(np.where(np.isfinite(value), value, np.inf)),
                "drawn_steps": drawn if drawn >= 0 else None,
            }
        )
    return records, paths


def measure_all(
    config: Config, problems: list[Problem]
) -> tuple[list[dict[str, Any]], dict[str, dict[str, np.ndarray]]]:
    """All optimizers, as many at a time as there are cores: compilation is what takes the time, and it has one each."""
    names = config.optimizers or tuple(OPTIMIZERS)

    def timed(name: str) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
        began = time.perf_counter()
        result = measure(config, problems, name)
        print(f"{name}: {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
        return result

    records: list[dict[str, Any]] = []
    paths: dict[str, dict[str, np.ndarray]] = {problem.name: {} for problem in problems}
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        for name, (found, walked) in zip(names, pool.map(timed, names), strict=True):
            records += found
            for function, path in walked.items():
                paths[function][name] = path
    return records, paths


def ranked(records: list[dict[str, Any]], function: str) -> list[dict[str, Any]]:
    """The function's records, largest share first, then fewest steps, then least final value."""
    chosen = [r for r in records if r["function"] == function]
    return sorted(chosen, key=lambda r: (-r["share"], r["median_steps"], r["median_final_value"]))


def percent(share: float) -> str:
    """Whole percents; 0 and 100 are said of none and all only."""
    if 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{100 * share:.0f}%"


def reach(record: dict[str, Any]) -> str:
    return percent(record["share"]) + (f" in {record['median_steps']:.0f}" if record["share"] else "")


def rate(record: dict[str, Any]) -> str:
    number = float(f"{record['learning_rate']:.2g}")
    return f"{number:g}{'*' if record['at_edge'] else ''}"


def title(function: str) -> str:
    return function.replace("_", " ").title()


def draw_paths(config: Config, problem: Problem, records: list[dict[str, Any]], paths: dict[str, np.ndarray]) -> Any:
    order = ranked(records, problem.name)
    x, y = problem.drawn
    decays = {"cosine": "↓", "none": ""}
    return plots.panels(
        evaluate_grid(problem.fn, problem.low, problem.high),
        {r["optimizer"]: paths[r["optimizer"]] for r in order},
        notes={r["optimizer"]: f"lr {rate(r)}{decays[r['decay']]} · {reach(r)}" for r in order},
        groups={
            "reaches it from this start": [r["optimizer"] for r in order if r["drawn_steps"] is not None],
            f"does not in {config.steps} steps": [r["optimizer"] for r in order if r["drawn_steps"] is None],
        },
        minimizers=problem.minimizers,
        title=f"{title(problem.name)}: {len(order)} optimizers from ({x:.3g}, {y:.3g}), all learning rates tuned",
        caption=f"lr: learning rate (↓ with cosine decay, * at an end of the grid) · share of {config.starts} random "
        "starts that reach the minimum, in how many steps (median).\n"
        "Best first. A path ends where it reaches the minimum.",
    )


def draw_summary(config: Config, records: list[dict[str, Any]]) -> Any:
    table: dict[str, list[dict[str, Any]]] = {}
    for r in records:
        table.setdefault(r["optimizer"], []).append(r)
    order = sorted(
        table,
        key=lambda name: (
            -np.mean([r["share"] for r in table[name]]),
            np.mean([min(r["median_steps"], config.steps) for r in table[name]]),
        ),
    )
    return plots.heatmap(
        np.array([[r["share"] for r in table[name]] for name in order]),
        order,
        [title(function) for function in config.functions],
        texts=[[reach(r) for r in table[name]] for name in order],
        limits=(0.0, 1.0),
        title=f"Share of {config.starts} starts that reach the minimum,\nin how many steps (median)",
        label="share of starts",
    )


def report(order: list[dict[str, Any]]) -> str:
    """The function's table, and who took the fewest steps among those whose share cannot be told from the best."""
    rows = [
        (
            r["optimizer"],
            rate(r),
            r["decay"],
            f"{100 * r['share']:.1f}%",
            f"{100 * r['share_low']:.1f} to {100 * r['share_high']:.1f}%",
            f"{100 * r['share_stayed']:.1f}%",
            f"{100 * r['share_diverged']:.1f}%",
            f"{r['median_steps']:.0f}" if r["share"] else "-",
            f"{r['fewest_steps']}" if r["share"] else "-",
            f"{r['median_final_value']:.1e}",
        )
        for r in order
    ]
    head = ("optimizer", "lr", "decay", "share", "95% interval", "end there", "diverged", "median", "fewest", "value")
    best = order[0]
    if not best["share"]:
        return Table(head, rows).text() + "\nNone reached the minimum."
    leaders = [r for r in order if r["share_high"] >= best["share_low"]]
    quickest = min(leaders, key=lambda r: r["median_steps"])
    return (
        f"{Table(head, rows).text()}\n"
        f"Most starts: {best['optimizer']}, {percent(best['share'])}. Fewest steps: {quickest['optimizer']}, "
        f"{quickest['median_steps']:.0f} in the median, of {len(leaders)} whose share may equal the best."
    )


def main(config: Config) -> None:
    jax.config.update("jax_enable_x64", True)  # the methods are compared, not what rounding makes of them
    began = time.perf_counter()
    problems = [make_problem(name) for name in config.functions]
    with staged_folder(config.out) as folder:
        records, paths = measure_all(config, problems)
        for problem in problems:
            print(f"\n{title(problem.name)}: {config.starts} starts, {config.steps} steps each\n")
            print(report(ranked(records, problem.name)))
            figure = draw_paths(config, problem, records, paths[problem.name])
            plots.save_indexed(figure, folder / f"{problem.name}.png", dpi=120)
        plots.save_indexed(draw_summary(config, records), folder / "summary.png")
        write_json(folder / "results.json", records)
    print(
        "\nlr: tuned, * at an end of the grid, so not bracketed. end there: are at the minimum at the last step too.\n"
        "median, fewest: steps of those that reach the minimum. value: the median of the last values of all.\n"
        f"Written to {config.out} in {time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except OSError as error:
        sys.exit(f"optimizer_zoo: {error}")
