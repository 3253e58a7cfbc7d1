"""The checkpoints of a run in its folder: each names its best model, and the one before it is kept as well."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from gdlab.compute.threads import usable_cores
from gdlab.records.background import Writer
from gdlab.records.checkpoints import CheckpointError
from gdlab.records.runs import RunFolder
from gdlab.training.epoch import Learner


class Progress(NamedTuple):
    """What a run has done so far.

    Attributes:
      learner: the parameters, and the states of the model and of the optimizer.
      rows: the metrics of each epoch.
      seconds: the duration of each epoch.
      best_epoch: the epoch with the smallest watched loss, or None.
      best: the model of this epoch, if early stopping keeps it.
    """

    learner: Learner
    rows: list[dict[str, Any]]
    seconds: list[dict[str, Any]]
    best_epoch: int | None
    best: tuple[PyTree, PyTree] | None


class Checkpoints:
    """Saves and restores the progress of a run in its folder.

    Two checkpoints are kept. If the disk damages the newest one, the run resumes from the one before it. They are
    written in the background, so use this as a context manager, which waits for the last one.
    """

    def __init__(self, place: RunFolder):
        """Keep checkpoints in this folder."""
        self.place = place
        self._writer = Writer()
        self._intact = False
        """Whether the folder's checkpoint is known to be intact, so that it may become the previous one."""
        self._best: int | None = None
        """The best epoch that this checkpoint refers to."""

    def __enter__(self) -> "Checkpoints":
        self._writer.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._writer.__exit__(*error)

    def save(self, progress: Progress, shown: Iterable[dict[str, Any]]) -> None:
        """Write a checkpoint in the background, after its best model if that is new, and then the rows of metrics.

        Args:
          progress: what the run has done. Its arrays are on the host before this returns, and may then be donated.
          shown: the rows of metrics for metrics.jsonl.

        Raises:
          OSError: if the checkpoint before this one could not be written.
        """
        self._writer.wait()  # so that at most one copy is on the host
        place, best_epoch = self.place, progress.best_epoch
        kept = None if progress.best is None else best_epoch
        write_best = None
        if kept is not None and kept != self._best:
            write_best = place.prepare(place.best(kept), progress.best)
        note = {"rows": progress.rows, "seconds": progress.seconds, "best_epoch": best_epoch}
        write_checkpoint = place.prepare(place.checkpoint, progress.learner, note)
        shown, seconds = [*shown], [*progress.seconds]

        def write() -> None:
            if write_best:
                write_best()
            if self._intact:
                place.keep_previous()
            write_checkpoint()
            place.keep_best(*(epoch for epoch in {kept, self._best} if epoch is not None))
            self._intact, self._best = True, kept
            place.write_rows(shown, seconds)

        self._writer.start(write)

    def restore(self, like: Learner, model: PyTree) -> Progress | None:
        """Return the progress of the newest intact checkpoint, or None if there is none.

        Args:
          like: the shapes and dtypes of the learner.
          model: those of the best model; None if none is kept.
        """
        held = [path for path in (self.place.checkpoint, self.place.previous) if path.exists()]
        for path in held:
            try:
                progress = self._read(path, like, model)
            except (CheckpointError, FileNotFoundError) as error:
                then = "starts over" if path == held[-1] else "resumes from the previous checkpoint"
                warnings.warn(f"{error}; the run {then}", stacklevel=6)
                continue
            self._intact = path == self.place.checkpoint
            self._best = None if progress.best is None else progress.best_epoch
            return progress
        return None

    def _read(self, path: Path, like: Learner, model: PyTree) -> Progress:
        learner, note = self.place.load(path, like)
        try:
            rows = [_numbers(row) for row in note["rows"]]
            seconds = [_numbers(row) for row in note["seconds"]]
            best_epoch = note["best_epoch"]
            epochs = [*range(1, len(rows) + 1)]
            if not rows or any([row["epoch"] for row in each] != epochs for each in (rows, seconds)):
                raise ValueError("expected one row per epoch")
            if best_epoch is not None and best_epoch not in epochs:
                raise ValueError(f"expected an epoch, got {best_epoch!r}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{path}: expected the note of a run, got another ({error})") from None
        best = None
        if model is not None and best_epoch is not None:
            best, _ = self.place.load(self.place.best(best_epoch), model)
        return Progress(learner, rows, seconds, best_epoch, best)


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with NaN where JSON has null; raise TypeError if it holds anything but numbers."""
    found = {name: np.nan if value is None else float(value) for name, value in row.items()}
    return found | {"epoch": int(row["epoch"])}


def compare_cores(starts: Sequence[dict[str, Any]], device: jax.Device, folder: Path) -> None:
    """Warn if an unfinished run resumes with another number of cores, on which sums in XLA's programs may depend.

    Args:
      starts: the environments of the earlier starts.
      device: the device of the run. Only CPUs matter.
      folder: the folder of the run, for the message.
    """
    now = usable_cores()
    others = [start["usable_cores"] for start in starts if start.get("usable_cores", now) != now]
    if others and device.platform == "cpu":
        warnings.warn(
            f"folder: the run in {folder} resumes with {now} usable cores after epochs with {others[-1]}; its numbers "
            "may differ in the last bits from those of an undisturbed run",
            stacklevel=6,
        )
