"""The folder of a run, which can be killed and resumes to the same bits."""

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
    """The folder of one run. All its files are whole at any moment, and only one process at a time holds it.

    config.json: what the run is. environment.json: for each start of the process, on what it ran. metrics.jsonl: a row
    an epoch, the same bytes however often the run was killed. seconds.jsonl: a row an epoch, the clock's, which no two
    runs share. checkpoint.npz: where to go on; best-<epoch>.npz: the best model so far, where early stopping
    keeps one.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Any], config: Mapping[str, Any]):
        """Open or begin.

        identity: what decides the run's numbers; config: what else its reader wants to know. Raises ValueError where
        the folder holds another run, and says what differs, or something else; BlockingIOError where another process
        holds it.
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
        """Where the run goes on."""
        return self.folder / "checkpoint.npz"

    def best(self, epoch: int) -> Path:
        """The file of the model of this epoch, the best one so far."""
        return self.folder / f"best-{epoch:04d}.npz"

    def keep_best(self, epoch: int | None) -> None:
        """Remove the files of models that were the best once."""
        for path in self.folder.glob("best-*.npz"):
            if epoch is None or path != self.best(epoch):
                path.unlink(missing_ok=True)

    def write_rows(self, metrics: Iterable[Any], seconds: Iterable[Any]) -> None:
        """Both files of rows, from the first epoch on."""
        write_lines(self.folder / "metrics.jsonl", metrics)
        write_lines(self.folder / "seconds.jsonl", seconds)

    def close(self) -> None:
        """Let other processes have the folder; the operating system does it for a process that is killed."""
        if self._held is not None:
            with contextlib.suppress(ImportError):
                import fcntl

                fcntl.flock(self._held, fcntl.LOCK_UN)  # a forked child may still have the file open
            self._held.close()
            self._held = None

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _hold(self) -> None:
        with contextlib.suppress(ImportError):  # no such locks on Windows
            import fcntl

            self._held = (self.folder / ".lock").open("a")
            try:
                fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._held.close()
                self._held = None
                raise BlockingIOError(f"folder: {self.folder} is held by another process, which trains there") from None


def _left_over(path: Path) -> bool:
    """Whether the file is a temporary one of `atomic_path`, of a process that was killed."""
    return re.fullmatch(r"\.[a-z0-9-]+-[0-9a-f]{32}\.(json|jsonl|npz)", path.name) is not None


class RunRecord(NamedTuple):
    """What a run's folder holds for its readers. metrics, seconds: of each name a list, one entry an epoch."""

    config: dict[str, Any]
    metrics: dict[str, list[Any]]
    seconds: dict[str, list[Any]]


def read_run(folder: str | Path) -> RunRecord:
    """Read a run, finished or not. Raises FileNotFoundError where the folder holds none."""
    folder = Path(folder)
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"folder: wanted the folder of a run, got {folder} without config.json")
    columns = []
    for name in ("metrics.jsonl", "seconds.jsonl"):
        rows = read_lines(folder / name) if (folder / name).exists() else []
        columns.append({key: [row.get(key) for row in rows] for key in (rows[0] if rows else {})})
    return RunRecord(read_manifest(folder / "config.json", "folder"), *columns)
