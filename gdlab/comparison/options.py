"""Command-line options that studies share: where they run, how their work is divided, and what follows their epochs."""

import contextlib
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import tyro

from gdlab.analysis.tables import counted
from gdlab.arguments import as_path, require_choice, require_count, require_number
from gdlab.comparison.exchange import read_results, write_results
from gdlab.comparison.followers import console, tensorboard
from gdlab.comparison.runner import run
from gdlab.comparison.study import Study
from gdlab.comparison.submission import submit
from gdlab.records.files import require_folder, staged_folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Where a study runs, and how its work is divided. An experiment adds its own settings in a subclass."""

    out: Path | None = None
    """Folder for the runs and the report."""
    data_dir: Path | None = None
    """Folder of prepared data sets. Default: $GDLAB_DATA_DIR, then ~/tensorflow_datasets."""
    optimizers: tuple[str, ...] = ()
    """Names of the optimizers to run."""
    seeds: tuple[int, ...] | None = None
    """Seeds of the final runs."""
    epochs: int | None = None
    """Number of epochs of every final run."""
    dtype: str = "float32"
    """Dtype in which networks compute: float32 or bfloat16."""
    shard: str = "1/1"
    """i/n: do the i-th of n parts of the work."""
    workers: int | None = None
    """Number of threads. Default: one per CPU core, or one per other device."""
    checkpoint_every: int = 1
    """Epochs between checkpoints; a killed run repeats the epochs since its last one."""
    tensorboard: bool = False
    """Also write events for TensorBoard to OUT/tensorboard (needs the extra `tensorboard`)."""
    collect: bool = False
    """Train nothing, and report the runs that are done."""
    to_results: Path | None = None
    """Write each finished run to a small file in this folder, too."""
    from_results: Path | None = None
    """Take finished runs from the files in this folder, instead of training them again."""
    slurm: int = 0
    """Submit this many shards as a Slurm job array and return (needs the extra `slurm`)."""
    slurm_partition: str | None = None
    """Slurm partition. Default: the cluster's."""
    slurm_hours: float = 24.0
    """Time limit of a Slurm job, in hours."""
    slurm_gpus: int = 0
    """Number of GPUs of a Slurm job."""

    def __post_init__(self) -> None:
        for name in ("out", "data_dir", "to_results", "from_results"):
            self.expand(name)
        require_choice("dtype", self.dtype, ("float32", "bfloat16"))
        for name, low in (("checkpoint_every", 1), ("slurm", 0), ("slurm_gpus", 0)):
            require_count(name, getattr(self, name), low=low)
        for name in ("epochs", "workers"):
            if getattr(self, name) is not None:
                require_count(name, getattr(self, name))
        require_number("slurm_hours", self.slurm_hours, 0.0, open_low=True)
        for name in ("seeds", "optimizers"):
            given = getattr(self, name)
            if given is not None and (not given or len(set(given)) < len(given)):
                raise ValueError(
                    f"{name}: expected at least one, without repeats, got {' '.join(map(str, given)) or 'none'}"
                )
        for seed in self.seeds or ():
            require_count("seeds", seed, low=0)
        if both := set(self.seeds or ()) & set(Study.tuning_seeds):
            raise ValueError(f"seeds: expected other seeds than those of trials, got {min(both)}")
        if self.slurm and (self.collect or self.shard != "1/1"):
            raise ValueError("slurm: expected neither --shard nor --collect beside --slurm, got one of them")
        self.part()

    def expand(self, name: str) -> None:
        """Replace `~` in the option of this name, a path or None, by the home directory."""
        if getattr(self, name) is not None:
            object.__setattr__(self, name, as_path(name, getattr(self, name)))

    @property
    def folder(self) -> Path:
        """The folder of the runs and the report."""
        return self.out or Path("runs")

    def part(self) -> tuple[int, int]:
        """Return the shard as numbers (i, n)."""
        number, _, count = self.shard.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise ValueError(f"shard: expected i/n with i from 1 to n, such as 1/4, got {self.shard!r}")
        return int(number), int(count)

    def pick(self, *names: str) -> dict[str, Any]:
        """Return some of the settings, as keyword arguments."""
        return {name: getattr(self, name) for name in names}

    def record(self) -> dict[str, Any]:
        """Return all settings, for a JSON file."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}


AnyOptions = TypeVar("AnyOptions", bound=Options)


def parse(config: type[AnyOptions], description: str | None, *, smoke: AnyOptions | None = None) -> AnyOptions:
    """Parse the options on the command line.

    Args:
      config: the class of the options.
      description: the text of --help.
      smoke: the defaults if the command line has --smoke; explicit flags take precedence over them.

    Returns:
      The options.
    """
    default = smoke if smoke is not None and "--smoke" in sys.argv[1:] else config()
    return tyro.cli(config, description=description, default=default)


def carry_out(
    options: AnyOptions, make_study: Callable[[AnyOptions], Study], make_report: Callable[[Study], str]
) -> None:
    """Do what the options ask for: train everything or one shard, or submit shards; and report once all is trained.

    Args:
      options: the options.
      make_study: a function from the options to the study, which can be pickled.
      make_report: a function that writes the study's report and returns its text.
    """
    began = time.perf_counter()
    require_folder(options.folder)
    if options.from_results is not None:
        taken = read_results(make_study(options), options.from_results)
        print(f"Taken from {options.from_results}: {counted(len(taken), 'run')}")
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
        print(
            f"Submitted: {', '.join(jobs)}. When all jobs are done, run the same command with --collect instead of "
            "--slurm to make the report."
        )
        return
    if not options.collect:
        train(options.part())
        if options.part() != (1, 1):
            print(
                f"Shard {options.shard} is done. When all shards are done, run the same command with --collect to make "
                "the report."
            )
            return
    text = make_report(make_study(options))
    if options.collect and not can_write(options.folder):
        print(f"\n{text}\nNot written: {options.folder} cannot be written to")
        return
    print(f"\n{text}\nWritten to {options.folder} in {time.perf_counter() - began:.0f} s")


def can_write(folder: Path) -> bool:
    """Return whether files can be written to the folder, or to the nearest one above it that exists."""
    return os.access(next(part for part in (folder, *folder.absolute().parents) if part.exists()), os.W_OK)


@contextlib.contextmanager
def report_folder(options: Options) -> Iterator[Path]:
    """Provide a folder to write a report to, whose files reach the options' folder if the block succeeds.

    Where nothing can be written, as on a disk for reading only, `--collect` still prints the report; its files are then
    dropped.

    Args:
      options: the options.

    Yields:
      The temporary folder; see `gdlab.records.staged_folder`.
    """
    if options.collect and not can_write(options.folder):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        with staged_folder(options.folder) as folder:
            yield folder


def _train(options: AnyOptions, make_study: Callable[[AnyOptions], Study], shard: tuple[int, int]) -> None:
    study = make_study(options)
    followers = [console(study)] + ([tensorboard(options.folder / "tensorboard")] if options.tensorboard else [])

    def follow(job: Any, row: Any) -> None:
        for each in followers:
            each(job, row)
        if options.to_results is not None and row["epoch"] == 1:  # of the next run; those before it are whole
            write_results(study, options.to_results)

    try:
        run(
            study,
            candidates=options.optimizers,
            shard=shard,
            workers=options.workers,
            checkpoint_every=options.checkpoint_every,
            on_epoch=follow,
        )
    finally:
        if options.to_results is not None:
            write_results(study, options.to_results)
