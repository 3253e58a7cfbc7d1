"""Basins of attraction: which minimum each of a million starts ends in, for several optimizers, as pictures.

Claim: the basins depend on the optimizer. Plain gradient descent at a small learning rate gives each minimum the region
that flows into it; with momentum, starts roll past their nearest minimum; and the sign-like steps of Adam and RMSprop
cut the plane along the axes. On functions with ripples (Ackley, Rastrigin) the step size decides how much of the plane
belongs to the global minimum.

Protocol: every start of a grid descends in float32 until sum |dx| < tolerance or until the steps are used up. On each
function, each optimizer has its own learning rate from a logarithmic grid, chosen on 512 other starts: the rate from
which most starts end at some minimum; among those with equal shares (within 1%), the one from which most end at a
global minimum; and among those, the one with the fewest steps. The minima are found from the points where descents
stop: these are clustered, refined by Newton's method in float64, and kept where the Hessian is positive definite. A
start belongs to the minimum that is nearest to its end if that is within 0.05, and otherwise to none.

Command:   python experiments/basins.py [--out DIR] [--side 1000] [--functions himmelblau ...] [--optimizers adam ...]
Expect:    4 minima of Himmelblau's function and 6 of the six-hump camel function; for each optimizer, the share of
           starts that end at a global minimum, as in benchmarks/results/basins.json.
Runtime:   1 to 2 minutes on 2 CPU cores for 16 million descents.
"""

import gdlab.compute.script  # isort: skip  # noqa: F401  (from here on an interrupt is one line)
import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from gdlab import FUNCTIONS, OPTIMIZERS, Function, plots, sweep
from gdlab.analysis.basins import find_minima, label_ends
from gdlab.analysis.tables import Table
from gdlab.arguments import require_count, require_names, require_number
from gdlab.compute.interrupts import command
from gdlab.records import staged_folder, write_json
from gdlab.sweeps import BOXES


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    out: Path = Path("runs/basins")
    """Output folder: results.json, a table and one picture per function."""
    functions: tuple[str, ...] = ("himmelblau", "ackley", "rastrigin", "six_hump_camel")
    """Names of functions of two variables in FUNCTIONS."""
    optimizers: tuple[str, ...] = ("sgd", "momentum", "rmsprop", "adam")
    """Names of optimizers in OPTIMIZERS."""
    side: int = 1000
    """Number of starts along each side of the grid."""
    steps: int = 5000
    """Maximum number of steps of a descent."""
    tolerance: float = 1e-5
    """A descent stops when sum |dx| is below this value."""
    learning_rates: int = 13
    """Number of learning rates to try, spaced logarithmically from 1e-4 to 1."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("side", "steps", "learning_rates"):
            require_count(name, getattr(self, name), low=2)
        require_number("tolerance", self.tolerance, 0.0, open_low=True)
        require_names("functions", self.functions, FUNCTIONS)
        require_names("optimizers", self.optimizers, OPTIMIZERS)
        for name in self.functions:
            if FUNCTIONS[name].dim not in (None, 2):
                raise ValueError(f"functions: expected functions of two variables, got {name!r}")


def box_of(function: Function) -> tuple[float, float, float, float]:
    """Return the drawn region (left, right, low, high): the box in `gdlab.sweeps.BOXES`, or the function's domain."""
    low, high = (np.broadcast_to(corner, 2) for corner in BOXES.get(function.name, function.bounds(2)))
    return float(low[0]), float(high[0]), float(low[1]), float(high[1])


def tuned_rates(config: Config, function: Function, box: tuple[float, float, float, float]) -> dict[str, float]:
    """Choose the rate from which most starts end at a minimum, then most at a global one, then in fewest steps."""
    rates = np.geomspace(1e-4, 1.0, config.learning_rates)
    rng = np.random.default_rng(config.seed)
    starts = rng.uniform([box[0], box[2]], [box[1], box[3]], (512, 2)).astype(np.float32)
    ds = sweep(
        function,
        {name: OPTIMIZERS[name] for name in config.optimizers},
        {"learning_rate": rates},
        starts,
        max_steps=config.steps,
        tolerance=config.tolerance,
        target=0.05,
    )
    # At a tiny rate a descent stops where it starts, so a stop counts only where the slope is small, or near a known
    # minimizer, which may be the tip of a cone.
    slopes = jax.vmap(jax.grad(function.fn))(ds.point.values.reshape(-1, 2)).reshape(ds.point.shape)
    flat = (np.abs(slopes) < 0.1).all(axis=-1)
    ended = ((ds.converged.values & flat) | ds.reached.values).mean(axis=-1)
    reached = ds.reached.values.mean(axis=-1)
    chosen = {}
    for name, some, best, steps in zip(config.optimizers, ended, reached, ds.steps.median("start").values, strict=True):
        able = some >= some.max() - 0.01
        able &= best >= best[able].max() - 0.01
        chosen[name] = float(rates[np.argmin(np.where(able, steps, np.inf))])
    return chosen


def measure(config: Config, name: str) -> tuple[list[dict[str, Any]], Any]:
    """Run all optimizers on one function; return the records and the picture."""
    function = FUNCTIONS[name]
    box = box_of(function)
    rates = tuned_rates(config, function, box)
    x, y = np.linspace(*box[:2], config.side), np.linspace(*box[2:], config.side)
    starts = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)
    runs = {
        optimizer: sweep(
            function,
            OPTIMIZERS[optimizer],
            {"learning_rate": rate},
            starts,
            max_steps=config.steps,
            tolerance=config.tolerance,
        )
        for optimizer, rate in rates.items()
    }
    minima = find_minima(function, np.concatenate([ds.point.values[ds.converged.values] for ds in runs.values()]))
    best = range(len(function.minimizers(2)))
    atlas, records = {}, []
    for optimizer, ds in runs.items():
        labels = label_ends(ds.point.values, ds.diverged.values, minima)
        settled = labels >= 0
        stopped = settled & ds.converged.values
        steps = np.where(stopped, ds.steps.values, np.nan)
        share = float(np.isin(labels, list(best)).mean())
        atlas[optimizer] = plots.Basins(
            labels.reshape(config.side, -1),
            steps.reshape(config.side, -1),
            f"learning rate {rates[optimizer]:.3g}, {100 * share:.1f}% global",
        )
        records.append(
            {
                "function": name,
                "optimizer": optimizer,
                "learning_rate": rates[optimizer],
                "starts": len(starts),
                "minima": len(np.unique(labels[settled])),
                "share_global": share,
                "share_settled": float(settled.mean()),
                "share_stopped": float(stopped.mean()),
                "share_diverged": float(ds.diverged.values.mean()),
                "median_steps": float(np.nanmedian(steps)) if stopped.any() else None,
                "seconds": ds.attrs["seconds"],
                "point_steps": ds.attrs["point_steps"],
            }
        )
    title = f"{name.replace('_', ' ').capitalize()}: where each of {config.side} x {config.side} starts ends"
    return records, plots.basins(atlas, minima, list(best), box, title=title)


def report(records: list[dict[str, Any]]) -> Table:
    rows = [
        (
            r["function"],
            r["optimizer"],
            f"{r['learning_rate']:.3g}",
            f"{r['minima']}",
            f"{100 * r['share_global']:.1f}%",
            f"{100 * r['share_settled']:.1f}%",
            f"{100 * r['share_stopped']:.1f}%",
            f"{100 * r['share_diverged']:.1f}%",
            "-" if r["median_steps"] is None else f"{r['median_steps']:.0f}",
        )
        for r in records
    ]
    head = (
        "function",
        "optimizer",
        "lr",
        "minima",
        "at a global minimum",
        "at some minimum",
        "and stopped",
        "diverged",
        "median steps",
    )
    return Table(head, rows, "Basins of attraction: where the starts of a grid end.")


def main(config: Config) -> None:
    jax.config.update("jax_enable_x64", True)  # for Newton's method; the descents have their starts' dtype, float32
    began = time.perf_counter()
    records: list[dict[str, Any]] = []
    with staged_folder(config.out) as folder:
        for name in config.functions:
            found, figure = measure(config, name)
            records += found
            plots.save(figure, folder / f"{name}.png", dpi=160)
        table = report(records)
        table.write(folder / "basins")
        write_json(folder / "results.json", records)
    print(table.text())
    print(
        "\nminima: number of minima in which starts end. at some minimum: ends within 0.05 of one. and stopped:\n"
        "also met sum |dx| < tolerance. median steps: over the starts that stopped.\n"
        f"Written to {config.out} in {time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    with command("basins", OSError):
        main(tyro.cli(Config, description=__doc__))
