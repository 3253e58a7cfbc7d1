"""The folder of a run, from which a killed run resumes with the same bits."""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import PyTree

from gdlab.arguments import as_path, require_count, require_mapping
from gdlab.records.checkpoints import arrays_of, load
from gdlab.records.disk import HeldFolder, keep_copy
from gdlab.records.environment import environment
from gdlab.records.files import json_text, lines_text, read_json, read_lines, to_json
from gdlab.records.manifest import claim, digest_identity, read_manifest, require_fresh
from gdlab.records.packed import pack
from gdlab.records.temporaries import remove_abandoned


class RunFolder:
    """The folder of one run. A killed run resumes from it with the same bits.

    Every file is complete at any moment, and only one process at a time holds the folder. It contains:

    - config.json: what the run is.
    - environment.json: the environment of the process, one entry for each of its starts.
    - metrics.jsonl: one row per epoch, with the same bytes however often the run was killed.
    - seconds.jsonl: one row per epoch with measured times, which differ from run to run.
    - checkpoint.npz: the state from which the run resumes.
    - previous.npz: the checkpoint before it, for the case that the disk damages the newest one.
    - best-<epoch>.npz: the best model so far, if early stopping keeps one.

    The last three hold a digest of what identifies the run, and are not taken for those of another run.

    A RunFolder is a context manager, which closes it at the end of the block.

    Attributes:
      folder: the folder.
      writable: whether files can be written. A finished run can be read where they cannot.
      starts: the environments of the earlier starts.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: Mapping[str, Any], config: Mapping[str, Any]):
        """Open the folder, or create it.

        Args:
          folder: the folder.
          identity: everything that determines the numbers of the run.
          config: other information for readers of the folder.

        Raises:
          TypeError: if an argument has the wrong type, or JSON does not support a part of it.
          AnotherRunError: if the folder holds another run; the message names what differs. It is a ValueError.
          ValueError: if the folder holds anything but a run.
          BlockingIOError: if another process holds the folder.
          PermissionError: if the folder is new and cannot be written to.
        """
        self.folder = as_path("folder", folder)
        require_mapping("identity", identity, "from names to values")
        require_mapping("config", config, "from names to values")
        self._digest = digest_identity(to_json(identity, "identity"))
        to_json(config, "config")
        self._lock: Any = None
        manifest = self.folder / "config.json"
        require_fresh(manifest, "folder")
        self._held = HeldFolder(self.folder, "folder")
        self.writable = self._held.writable
        try:
            locked = self.writable and self._hold()
            claim(self._held, manifest.name, identity, more=config)
            self.starts = self._earlier_starts()
            if self.writable:
                remove_abandoned(self.folder, alone=locked)
                self.write_environment()
        except BaseException:
            self.close()
            raise

    def write_environment(self, **more: Any) -> None:
        """Write the environments of all starts.

        Args:
          **more: what has become known of this start in the meantime, such as the compiler options in force.
        """
        self._write("environment.json", json_text({"starts": [*self.starts, environment() | more]}))

    @property
    def checkpoint(self) -> Path:
        """The file of the checkpoint from which the run resumes."""
        return self.folder / "checkpoint.npz"

    @property
    def previous(self) -> Path:
        """The file of the checkpoint before it."""
        return self.folder / "previous.npz"

    def best(self, epoch: int) -> Path:
        """Return the path where the model of this epoch is stored while it is the best one."""
        require_count("epoch", epoch)
        return self.folder / f"best-{epoch:04d}.npz"

    def keep_best(self, *epochs: int) -> None:
        """Remove the models of all epochs but these."""
        kept = [self.best(epoch) for epoch in epochs]
        for path in self.folder.glob("best-*.npz"):
            if path not in kept:
                path.unlink(missing_ok=True)

    def keep_previous(self) -> None:
        """Let the present checkpoint, if there is one, also be the previous one, before a new one takes its place."""
        self._held.check()
        if self.checkpoint.exists():
            try:
                keep_copy(self.checkpoint.absolute(), self.previous.absolute())
            except FileNotFoundError as error:
                self._held.explain(error)
                raise

    def save(self, path: Path, tree: PyTree, note: Any = None) -> None:
        """Write a tree, and a note, to a file of the run.

        Args:
          path: `checkpoint`, or a path of `best`.
          tree: a tree as in `save_tree`.
          note: any value that JSON supports. Default None.

        Raises:
          FileNotFoundError: if the folder has been moved or deleted since it was opened.
        """
        self.prepare(path, tree, note)()

    def prepare(self, path: Path, tree: PyTree, note: Any = None) -> Callable[[], None]:
        """Return a function that does what `save` does with these arguments, for another thread to call later.

        It holds the numbers that the tree and the note have now: they are copied to the host, and whoever donates or
        changes the tree afterwards changes nothing.
        """
        arrays, note = arrays_of(tree), to_json(note, "note")

        def write() -> None:
            with self._held.writing(path.name) as temporary:
                pack(temporary, arrays, note, self._belongs_to(path))

        return write

    def load(self, path: Path, like: PyTree) -> tuple[PyTree, Any]:
        """Return the tree and the note of a file of the run.

        Args:
          path: `checkpoint`, `previous`, or a path of `best`.
          like: a tree as in `load_tree`.

        Raises:
          FileNotFoundError: if there is no such file.
          CheckpointError: if it is damaged, or holds another tree or that of another run.
        """
        return load(path, like, self._belongs_to(path))

    def _belongs_to(self, path: Path) -> str:
        return _belongs_to(self._digest, "checkpoint" if path == self.previous else path.stem)

    def write_rows(self, metrics: Iterable[Any], seconds: Iterable[Any]) -> None:
        """Write the rows of metrics and of seconds, from the first epoch on.

        Args:
          metrics: the rows of metrics, as values that `to_json` converts.
          seconds: the rows of measured times.

        Raises:
          FileNotFoundError: if the folder has been moved or deleted since it was opened.
        """
        texts = lines_text(metrics, "metrics"), lines_text(seconds, "seconds")
        for name, text in zip(("metrics.jsonl", "seconds.jsonl"), texts, strict=True):
            self._write(name, text)

    def _write(self, name: str, text: str) -> None:
        with self._held.writing(name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def close(self) -> None:
        """Release the folder for other processes; the operating system releases it when a process is killed."""
        if self._lock is not None:
            with contextlib.suppress(ImportError, OSError):
                import fcntl

                fcntl.flock(self._lock, fcntl.LOCK_UN)  # a forked child may still hold the file open
            self._lock.close()
            self._lock = None
        self._held.close()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _hold(self) -> bool:
        """Lock the folder; return False if its disk, or the system, has no locks."""
        try:
            import fcntl
        except ImportError:  # Windows
            return False
        self._lock = (self.folder / ".lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            self._lock.close()
            self._lock = None
            raise BlockingIOError(f"folder: {self.folder} is in use by another process that trains there") from None
        except OSError as error:
            warnings.warn(
                f"folder: the disk of {self.folder} does not support locks ({error.strerror}); make sure that no other "
                "process trains there",
                stacklevel=5,
            )
            return False

    def _earlier_starts(self) -> list[Any]:
        path = self.folder / "environment.json"
        try:
            starts = read_json(path)["starts"] if path.exists() else []
            if not isinstance(starts, list) or not all(isinstance(start, dict) for start in starts):
                raise TypeError("expected a list of starts")
        except (ValueError, KeyError, TypeError):
            warnings.warn(f"{path}: expected the starts of this run, got a damaged file; it begins anew", stacklevel=5)
            return []
        return starts


def _belongs_to(digest: str, role: str) -> str:
    return f"{digest} {role}"


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


def read_run(folder: str | os.PathLike[str]) -> RunRecord:
    """Read the folder of a run, finished or not.

    Args:
      folder: the folder.

    Returns:
      The `RunRecord` of the run.

    Raises:
      TypeError: if `folder` is not a path.
      FileNotFoundError: if the folder holds no run.
      ValueError: if a file cannot be read; one line with its name.
    """
    place = as_path("folder", folder)
    config = _manifest(place)
    columns = []
    for name in ("metrics.jsonl", "seconds.jsonl"):
        rows = read_lines(place / name) if (place / name).exists() else []
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict) or not all(_is_number_or_none(value) for value in row.values()):
                raise ValueError(f"{place / name}, line {number}: expected numbers by name, got something else")
        columns.append({key: [row.get(key) for row in rows] for key in (rows[0] if rows else {})})
    return RunRecord(config, *columns)


def read_checkpoint(folder: str | os.PathLike[str], like: PyTree) -> PyTree:
    """Read the last checkpoint of a run, which may have been written on another machine.

    Args:
      folder: the folder of the run.
      like: a tree as in `load_tree`.

    Returns:
      The tree.

    Raises:
      FileNotFoundError: if the folder holds no run, or no checkpoint.
      CheckpointError: if the checkpoint is damaged, or holds another tree or that of another run.
    """
    place = as_path("folder", folder)
    digest = digest_identity(_manifest(place)["identity"])
    return load(place / "checkpoint.npz", like, _belongs_to(digest, "checkpoint"))[0]


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = folder / "config.json"
    if not os.path.exists(manifest):
        raise FileNotFoundError(f"folder: expected the folder of a run, got {folder} without config.json")
    return read_manifest(manifest, "folder")


def _is_number_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
