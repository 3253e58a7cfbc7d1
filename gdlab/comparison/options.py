"""What the command lines of studies have in common: where they run, how their work is shared out, and what follows."""

import dataclasses
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import tyro

from gdlab.arguments import require_choice, require_count
from gdlab.comparison.followers import console, tensorboard
from gdlab.comparison.runner import run
from gdlab.comparison.study import Study
from gdlab.comparison.submission import submit
from gdlab.records.files import require_folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Where a study runs, and how its work is shared out. An experiment's own settings come in a class below it."""

    out: Path | None = None
    """Folder for the runs and the report."""
    data_dir: Path | None = None
    """Where data sets were prepared; otherwise $GDLAB_DATA_DIR, then ~/tensorflow_datasets."""
    optimizers: tuple[str, ...] = ()
    """Names of optimizers."""
    seeds: tuple[int, ...] | None = None
    """Of the final runs."""
    epochs: int | None = None
    """Of every final run."""
    dtype: str = "float32"
    """What networks compute in: float32 or bfloat16."""
    shard: str = "1/1"
    """i/n: do the i-th of n parts."""
    workers: int | None = None
    """Threads; default one for each CPU core, or for each other device."""
    checkpoint_every: int = 1
    """Epochs; a killed run repeats those since its last checkpoint."""
    tensorboard: bool = False
    """Also write events for TensorBoard to OUT/tensorboard (needs the extra `tensorboard`)."""
    collect: bool = False
    """Train nothing: report what there is."""
    slurm: int = 0
    """Submit so many shards as a job array and return (needs the extra `slurm`)."""
    slurm_partition: str | None = None
    slurm_hours: float = 24.0
    slurm_gpus: int = 0

    def __post_init__(self) -> None:
        require_choice("dtype", self.dtype, ("float32", "bfloat16"))
        require_count("checkpoint_every", self.checkpoint_every)
        require_count("slurm", self.slurm, low=0)
        if self.epochs is not None:
            require_count("epochs", self.epochs)
        for name in ("seeds", "optimizers"):
            given = getattr(self, name)
            if given is not None and (not given or len(set(given)) < len(given)):
                raise ValueError(f"{name}: wanted at least one, each once, got {' '.join(map(str, given)) or 'none'}")
        if self.slurm and (self.collect or self.shard != "1/1"):
            raise ValueError("slurm: wanted neither --shard nor --collect with it, got one of them")
        self.part()

    @property
    def folder(self) -> Path:
        """Where all goes."""
        return self.out or Path("runs")

    def part(self) -> tuple[int, int]:
        """The shard as numbers."""
        number, _, count = self.shard.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise ValueError(f"shard: wanted i/n with i from 1 to n, such as 1/4, got {self.shard!r}")
        return int(number), int(count)

    def pick(self, *names: str) -> dict[str, Any]:
        """These settings, as arguments to call with."""
        return {name: getattr(self, name) for name in names}

    def record(self) -> dict[str, Any]:
        """All settings, for a file of JSON."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}


AnyOptions = TypeVar("AnyOptions", bound=Options)


def parse(config: type[AnyOptions], description: str | None, *, smoke: AnyOptions | None = None) -> AnyOptions:
    """The options on the command line. smoke: the defaults where it has --smoke; explicit flags come before them."""
    default = smoke if smoke is not None and "--smoke" in sys.argv[1:] else config()
    return tyro.cli(config, description=description, default=default)


def carry_out(
    options: AnyOptions, make_study: Callable[[AnyOptions], Study], make_report: Callable[[Study], str]
) -> None:
    """Do what the options ask for: train a shard or all, or submit shards, and make the report where all is there.

    make_study(options), a function that can be pickled. make_report(study) -> its text.
    """
    began = time.perf_counter()
    require_folder(options.folder)
    train = partial(_train, options, make_study)
    if options.slurm:
        jobs = submit(
            train,
            options.slurm,
            options.folder / "slurm",
            hours=options.slurm_hours,
            partition=options.slurm_partition,
            gpus=options.slurm_gpus,
        )
        print(f"submitted {', '.join(jobs)}; when they are done, the same command with --collect")
        return
    if not options.collect:
        train(options.part())
        if options.part() != (1, 1):
            print(f"shard {options.shard} is done; when all are, the same command with --collect makes the report")
            return
    text = make_report(make_study(options))
    print(f"\n{text}\nwritten to {options.folder} in {time.perf_counter() - began:.0f} s")


def _train(options: AnyOptions, make_study: Callable[[AnyOptions], Study], shard: tuple[int, int]) -> None:
    study = make_study(options)
    followers = [console(study)] + ([tensorboard(options.folder / "tensorboard")] if options.tensorboard else [])

    def follow(job: Any, row: Any) -> None:
        for each in followers:
            each(job, row)

    run(
        study,
        candidates=options.optimizers,
        shard=shard,
        workers=options.workers,
        checkpoint_every=options.checkpoint_every,
        on_epoch=follow,
    )
