"""Which minimum each of a million starts ends in, for several optimizers: their basins of attraction, as pictures.

Claim: the optimizer draws the map. Plain gradient descent at a small rate gives each minimum the region that flows into
it; momentum lets starts roll past their nearest minimum, and the sign-like steps of Adam and RMSprop cut the plane
along the axes. On functions of ripples (Ackley, Rastrigin) the size of the step decides how much of the plane belongs
to the global minimum.

Every start of a grid descends (float32) until sum |dx| < tolerance or the steps are used up. Each optimizer has, on
each function, its own learning rate from a logarithmic grid, chosen on 512 other starts: most that end at some minimum,
of equal shares (within 1%) most that end at a global one, of equal ones the fewest steps. Minima are found from where
the descents stop: clusters of such points, moved by Newton's method in float64, kept where the Hessian is positive
definite. A start belongs to the nearest minimum within 0.05 of its end, and to none where there is none.

Command:   python experiments/basins.py [--out DIR] [--side 1000] [--functions himmelblau ...] [--optimizers adam ...]
Expect:    Himmelblau has 4 minima and six-hump camel 6; the shares of starts that end at a global minimum are printed
           and kept in benchmarks/results/basins.json.
Runtime:   1 to 2 minutes on 2 CPU cores for 16 million descents.
"""

import dataclasses
import sys
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
from gdlab.records import staged_folder, write_json
from gdlab.sweeps import BOXES


@dataclasses.dataclass(frozen=True)
class Config:
    """What runs."""

    out: Path = Path("runs/basins")
    """Folder for results.json, a table and one picture per function."""
    functions: tuple[str, ...] = ("himmelblau", "ackley", "rastrigin", "six_hump_camel")
    """Functions of two variables in FUNCTIONS."""
    optimizers: tuple[str, ...] = ("sgd", "momentum", "rmsprop", "adam")
    """Names in OPTIMIZERS."""
    side: int = 1000
    """Starts along each side of the grid."""
    steps: int = 5000
    """At most."""
    tolerance: float = 1e-5
    """A descent stops where sum |dx| is below this."""
    learning_rates: int = 13
    """How many are tried, from 1e-4 to 1."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("side", "steps", "learning_rates"):
            require_count(name, getattr(self, name), low=2)
        require_number("tolerance", self.tolerance, 0.0, open_low=True)
        require_names("functions", self.functions, FUNCTIONS)
        require_names("optimizers", self.optimizers, OPTIMIZERS)
        for name in self.functions:
            if FUNCTIONS[name].dim not in (None, 2):
                raise ValueError(f"functions: wanted functions of two variables, got {name!r}")


def box_of(function: Function) -> tuple[float, float, float, float]:
    """Of the drawn region, the function's domain or the smaller one of `gdlab.sweeps.BOXES`: left, right, low, high."""
    low, high = (np.broadcast_to(corner, 2) for corner in BOXES.get(function.name, function.bounds(2)))
    return float(low[0]), float(high[0]), float(low[1]), float(high[1])


def tuned_rates(config: Config, function: Function, box: tuple[float, float, float, float]) -> dict[str, float]:
    """The rate from which most starts end at a minimum; of equals most at a global one, then fewest steps."""
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
    # A rate of almost nothing stops where it starts: only stops at a small slope count, or at the tip of a cone.
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
    """One function: records, and its picture."""
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
        "to a global one",
        "at some",
        "and stopped",
        "diverged",
        "median steps",
    )
    return Table(head, rows, "Basins of attraction: where the starts of a grid end.")


def main(config: Config) -> None:
    jax.config.update("jax_enable_x64", True)  # for Newton's method; the descents are in float32, as their starts
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
        "\nminima: how many different ones some start ends in. at some: ends within 0.05 of a minimum. and stopped:\n"
        "sum |dx| was below the tolerance there. median steps: of those.\n"
        f"Written to {config.out} in {time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except OSError as error:
        sys.exit(f"basins: {error}")
