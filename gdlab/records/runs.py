"""The folder of a run, from which a killed run resumes with the same bits."""

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gdlab.records.environment import environment
from gdlab.records.files import read_lines, write_json, write_lines
from gdlab.records.manifest import claim, read_manifest, require_fresh


class RunFolder:
    """The folder of one run. A killed run resumes from it with the same bits.

    Every file is complete at any moment, and only one process at a time holds the folder. It contains:

    - config.json: what the run is.
    - environment.json: the environment of the process, one entry for each of its starts.
    - metrics.jsonl: one row per epoch, with the same bytes however often the run was killed.
    - seconds.jsonl: one row per epoch with measured times, which differ from run to run.
    - checkpoint.npz: the state from which the run resumes.
    - best-<epoch>.npz: the best model so far, if early stopping keeps one.

    A RunFolder is a context manager, which closes it at the end of the block.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Any], config: Mapping[str, Any]):
        """Open the folder, or create it.

        Args:
          folder: the folder.
          identity: everything that determines the numbers of the run.
          config: other information for readers of the folder.

        Raises:
          AnotherRunError: if the folder holds another run; the message names what differs. It is a ValueError.
          ValueError: if the folder holds anything but a run.
          BlockingIOError: if another process holds the folder.
        """
        self.folder = Path(folder)
        self._held: Any = None
        manifest = self.folder / "config.json"
        require_fresh(manifest, "folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._hold()
        try:
            claim(manifest, identity, "folder", more=config)
            for path in filter(_left_over, self.folder.iterdir()):
                path.unlink(missing_ok=True)
            starts = self.folder / "environment.json"
            try:
                earlier = json.loads(starts.read_text())["starts"] if starts.exists() else []
            except (ValueError, KeyError, TypeError):
                earlier = []
            write_json(starts, {"starts": [*earlier, environment()]})
        except BaseException:
            self.close()
            raise

    @property
    def checkpoint(self) -> Path:
        """The file of the checkpoint from which the run resumes."""
        return self.folder / "checkpoint.npz"

    def best(self, epoch: int) -> Path:
        """Return the path where the model of this epoch is stored while it is the best one."""
        return self.folder / f"best-{epoch:04d}.npz"

    def keep_best(self, epoch: int | None) -> None:
        """Remove the models of all epochs but this one; None removes all of them."""
        for path in self.folder.glob("best-*.npz"):
            if epoch is None or path != self.best(epoch):
                path.unlink(missing_ok=True)

    def write_rows(self, metrics: Iterable[Any], seconds: Iterable[Any]) -> None:
        """Write the rows of metrics and of seconds, from the first epoch on."""
        write_lines(self.folder / "metrics.jsonl", metrics)
        write_lines(self.folder / "seconds.jsonl", seconds)

    def close(self) -> None:
        """Release the folder for other processes; the operating system releases it when a process is killed."""
        if self._held is not None:
            with contextlib.suppress(ImportError):
                import fcntl

                fcntl.flock(self._held, fcntl.LOCK_UN)  # a forked child may still hold the file open
            self._held.close()
            self._held = None

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _hold(self) -> None:
        with contextlib.suppress(ImportError):  # Windows has no such locks
            import fcntl

            self._held = (self.folder / ".lock").open("a")
            try:
                fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._held.close()
                self._held = None
                raise BlockingIOError(f"folder: {self.folder} is in use by another process that trains there") from None


def _left_over(path: Path) -> bool:
    """Return whether this is a temporary file of `atomic_path` that a killed process left behind."""
    return re.fullmatch(r"\.[a-z0-9-]+-[0-9a-f]{32}\.(json|jsonl|npz)", path.name) is not None


class RunRecord(NamedTuple):
    """The contents of a run's folder.

    Attributes:
      config: the manifest, which says what the run is.
      metrics: a list for each metric, with one entry per epoch.
      seconds: a list for each measured time, with one entry per epoch.
    """

    config: dict[str, Any]
    metrics: dict[str, list[Any]]
    seconds: dict[str, list[Any]]


def read_run(folder: str | Path) -> RunRecord:
    """Read the folder of a run, finished or not.

    Args:
      folder: the folder.

    Returns:
      The `RunRecord` of the run.

    Raises:
      FileNotFoundError: if the folder holds no run.
      ValueError: if the manifest cannot be read.
    """
    folder = Path(folder)
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"folder: expected the folder of a run, got {folder} without config.json")
    columns = []
    for name in ("metrics.jsonl", "seconds.jsonl"):
        rows = read_lines(folder / name) if (folder / name).exists() else []
        columns.append({key: [row.get(key) for row in rows] for key in (rows[0] if rows else {})})
    return RunRecord(read_manifest(folder / "config.json", "folder"), *columns)
