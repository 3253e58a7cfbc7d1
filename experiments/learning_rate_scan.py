"""Learning rates x seeds x optimizers on a small network: the best rate, how certain it is, and how much it matters.

Claim: at suitable learning rates the optimizers end within a few percent of each other; they differ in the width of the
range of rates that leads there.

Protocol: every optimizer is trained with every learning rate of a common grid and with the same seeds, which determine
the initial parameters and the order of the data, in one program per optimizer. The rate with the best mean accuracy on
held-out training images is chosen, and the accuracy on the test set is reported at this rate. The good region is the
range of rates around the best one in which the held-out accuracy above chance is at least 90% of the best
(`good_region` of `gdlab.analysis.statistics`). A run with a loss that is not finite counts as guessing. The rate is
constant; all other arguments are at their defaults, except that Demon receives the number of steps of the run.

Command:   python experiments/learning_rate_scan.py [--out DIR] [--task digits_mlp] [--optimizers adam ...] [--seeds 8]
Expect:    the table of benchmarks/results/learning_rate_scan.json: test accuracies of 95 to 98% at the chosen rates.
Runtime:   under 2 minutes on 2 CPU cores for 10 optimizers, 29 rates and 8 seeds (2,320 trainings), most of it
           compilation.
"""

import gdlab.compute.script  # isort: skip  # noqa: F401  (from here on an interrupt is one line)
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro
import xarray as xr

from gdlab import OPTIMIZERS, given, plots
from gdlab.analysis import intervals
from gdlab.analysis import statistics as st
from gdlab.analysis.tables import Table
from gdlab.arguments import require_count, require_names, require_number
from gdlab.compute.interrupts import command
from gdlab.records import staged_folder, write_json
from gdlab.tasks import TASKS, Task
from gdlab.training import train_many


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the scan."""

    out: Path = Path("runs/learning_rate_scan")
    """Output folder: results.json, settings.json, the table (text, CSV, LaTeX), the pictures and scan.nc."""
    task: str = "digits_mlp"
    """A name in gdlab.tasks.TASKS; all but digits_mlp need prepared data (gdlab data list)."""
    data_dir: Path | None = None
    """Folder of prepared data; default: $GDLAB_DATA_DIR, then ~/tensorflow_datasets."""
    optimizers: tuple[str, ...] = (
        "sgd",
        "momentum",
        "adam",
        "adamw",
        "adamax",
        "adagrad",
        "adadelta",
        "rmsprop",
        "qhadam",
        "lion",
    )
    """Names of optimizers in OPTIMIZERS."""
    lowest_rate: float = 1e-5
    highest_rate: float = 1e2
    rates: int = 29
    """Number of learning rates, spaced logarithmically."""
    seeds: int = 8
    epochs: int = 10
    batch_size: int = 64
    hold_out: int = 300
    """Number of training images to hold out and choose the rate by."""
    train_size: int | None = None
    """Number of training images to use, besides those held out; default: all."""
    test_size: int | None = None
    strategy: str = "auto"
    """How to run the lanes (one training each): vmap, map, or auto for the faster of the two."""
    resume: Path | None = None
    """Folder for finished lanes, from which an interrupted scan resumes."""

    def __post_init__(self) -> None:
        require_names("task", (self.task,), TASKS)
        require_names("optimizers", self.optimizers, OPTIMIZERS)
        require_number("lowest_rate", self.lowest_rate, 0.0, open_low=True)
        require_number("highest_rate", self.highest_rate, self.lowest_rate, open_low=True)
        require_count("rates", self.rates, low=2)
        for name in ("seeds", "epochs", "batch_size", "hold_out"):
            require_count(name, getattr(self, name))


def make_task(config: Config) -> Task:
    return TASKS[config.task](
        config.data_dir,
        batch_size=config.batch_size,
        hold_out=config.hold_out,
        train_size=config.train_size,
        test_size=config.test_size,
    )


def scan(config: Config, task: Task) -> xr.Dataset:
    rates = np.geomspace(config.lowest_rate, config.highest_rate, config.rates)
    return train_many(
        task,
        {name: given(OPTIMIZERS[name], total_steps=config.epochs * task.steps) for name in config.optimizers},
        {"learning_rate": rates},
        seeds=config.seeds,
        epochs=config.epochs,
        strategy=config.strategy,
        save_to=config.resume,
    )


def measure(ds: xr.Dataset, chance: float) -> list[dict[str, Any]]:
    """Return one record per optimizer, the best first; a run that diverged has the accuracy `chance`."""
    records = []
    rates = ds.learning_rate.values
    last = ds.isel(epoch=-1)
    for name in ds.optimizer.values:
        one = last.sel(optimizer=name)
        chosen_by = one.valid_accuracy.fillna(chance).values  # (rates, seeds)
        failures = (one.failed_at > 0).sum("seed").values
        # The best mean; ties go to the rate with the fewest failures, then to the lowest rate.
        best = int(np.lexsort((rates, failures, -chosen_by.mean(axis=1)))[0])
        interval = intervals.seeds_interval(one.test_accuracy.fillna(chance).values[best])
        region = st.good_region(rates, np.maximum(chosen_by.mean(axis=1) - chance, 0.0))
        records.append(
            {
                "optimizer": str(name),
                "learning_rate": float(rates[best]),
                "at_the_edge": best in (0, len(rates) - 1),
                "failures_there": int(failures[best]),
                "valid_accuracy": float(chosen_by[best].mean()),
                "test_accuracy": float(interval.estimate),
                "test_low": float(interval.low),
                "test_high": float(interval.high),
                "test_loss": float(one.test_loss.values[best].mean()),  # NaN where a seed failed
                "good_decades": 0.0 if region is None else float(region.decades),
                "good_low": None if region is None else float(region.low),
                "good_high": None if region is None else float(region.high),
                "diverged": float((ds.failed_at.sel(optimizer=name) > 0).mean()),
            }
        )
    return sorted(records, key=lambda r: -r["test_accuracy"])


def tabulate(records: list[dict[str, Any]]) -> Table:
    rows = [
        (
            r["optimizer"],
            f"{r['learning_rate']:.3g}" + ("*" if r["at_the_edge"] else ""),
            f"{100 * r['valid_accuracy']:.1f}%",
            f"{100 * r['test_accuracy']:.1f}%",
            f"{100 * r['test_low']:.1f} to {100 * r['test_high']:.1f}%",
            f"{r['test_loss']:.3f}",
            f"{r['good_decades']:.2f}",
            f"{100 * r['diverged']:.0f}%",
        )
        for r in records
    ]
    head = ("optimizer", "best rate", "held out", "test", "95% interval", "test loss", "good decades", "diverged")
    return Table(head, rows, "Each optimizer at the rate with the best held-out accuracy (*: at an end of the grid).")


def draw(
    config: Config, ds: xr.Dataset, records: list[dict[str, Any]], labels: np.ndarray, chance: float, folder: Path
) -> None:
    order = [r["optimizer"] for r in records]
    last = ds.valid_accuracy.isel(epoch=-1).fillna(chance)
    plots.save_indexed(
        plots.sensitivity(
            ds.learning_rate.values,
            {name: intervals.seeds_interval(last.sel(optimizer=name).values) for name in order},
            title=f"{config.task}, {config.epochs} epochs: mean and 95% interval over {config.seeds} seeds",
            labels=("learning rate", "accuracy on held-out images"),
            chance=chance,
        ),
        folder / "sensitivity.png",
    )
    plots.save(
        plots.loss_maps(
            ds.learning_rate.values,
            {name: ds.valid_loss.sel(optimizer=name).mean("seed", skipna=False).values for name in order},
            title=f"{config.task}: loss on held-out images, mean over seeds; white: a seed diverged; dots: best rate",
            label="loss (nats)",
            ceiling=2 * float(np.log(len(np.unique(labels)))),
        ),
        folder / "loss_maps.png",
    )


def main(config: Config) -> None:
    began = time.perf_counter()
    with staged_folder(config.out) as folder:
        task = make_task(config)
        ds = scan(config, task)
        labels = np.asarray(task.valid.labels)  # type: ignore[union-attr]  # hold_out is at least 1
        chance = float(np.bincount(labels).max() / len(labels))
        records = measure(ds, chance)
        table = tabulate(records)
        table.write(folder / "table")
        draw(config, ds, records, labels, chance, folder)
        ds.to_netcdf(folder / "scan.nc", engine="scipy")
        settings = {key: str(v) if isinstance(v, Path) else v for key, v in dataclasses.asdict(config).items()}
        about = {"config": settings, "task": task.description, "chance": chance, **ds.attrs}
        write_json(folder / "settings.json", {key: v for key, v in about.items() if key != "environment"})
        write_json(folder / "results.json", records)
    print(table.text())
    print(
        f"\n{ds.attrs['lanes']} trainings of {config.epochs} epochs in {ds.attrs['seconds']:.0f} s, "
        f"{ds.attrs['compile_seconds']:.0f} s of them for compilation and choosing the strategy. "
        f"Written to {config.out} in {time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    with command("learning_rate_scan", OSError, ValueError):
        main(tyro.cli(Config, description=__doc__))
