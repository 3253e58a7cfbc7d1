"""Functions that follow a study's trainings epoch by epoch: lines on the console, and events for TensorBoard."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from gdlab.arguments import as_path, require_instance
from gdlab.comparison.runner import Job, OnEpoch
from gdlab.comparison.study import Study


def console(study: Study) -> OnEpoch:
    """Return a follower that prints a line per epoch of each final run.

    A line holds the losses, the accuracies if the task has them, and the seconds.

    Args:
      study: the study to follow.

    Returns:
      A function for the argument `on_epoch` of `run`.
    """
    require_instance("study", study, Study, "a Study")

    def follow(job: Job, row: Mapping[str, Any]) -> None:
        if job.is_trial:
            return
        part = "valid" if "valid_loss" in row else "test"
        cells = [study.problem(job.problem).shown, study.candidate(job.candidate).shown, f"seed {job.seed}"]
        cells.append(f"epoch {row['epoch']:>3} of {job.epochs}")
        if not np.isfinite(row["train_loss"]):
            tqdm.write("  ".join([*cells, "diverged: a loss is not finite; the other runs continue"]))
            return
        for name in ("train", part):
            accuracy = row.get(f"{name}_accuracy")
            cells.append(f"{name} loss {row[f'{name}_loss']:.4f}" + ("" if accuracy is None else f" {accuracy:7.2%}"))
        tqdm.write("  ".join([*cells, f"{row['seconds']:6.1f} s"]))

    return follow


def tensorboard(folder: str | Path) -> OnEpoch:
    """Return a follower that writes TensorBoard events of the final runs.

    Each start of the study gives each run a new folder of events, because a restart replays all earlier epochs.

    Args:
      folder: the folder below which events are written.

    Returns:
      A function for the argument `on_epoch` of `run`.

    Raises:
      TypeError: if `folder` is not a path.
      ImportError: if the extra `tensorboard` is not installed.
    """
    root = as_path("folder", folder)
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ImportError(
            "tensorboard: expected the package tensorboardX, got none installed; run pip install 'gdlab[tensorboard]'"
        ) from None
    writers: dict[tuple[str, ...], Any] = {}
    lock = threading.Lock()

    def follow(job: Job, row: Mapping[str, Any]) -> None:
        if job.is_trial:
            return
        run = (job.problem, job.candidate, f"epochs-{job.epochs}", f"seed-{job.seed}")
        with lock:
            if run not in writers:
                place = root.joinpath(*run)
                writers[run] = SummaryWriter(str(place / f"start-{len(list(place.glob('start-*'))):03d}"))
            writer = writers[run]
        for name, value in row.items():
            if name not in ("epoch", "seconds") and np.isfinite(value):
                writer.add_scalar(name.replace("_", "/", 1), value, row["epoch"])
        if row["epoch"] == job.epochs or not np.isfinite(row["train_loss"]):
            writer.close()

    return follow
