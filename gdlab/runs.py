"""Files that are whole or absent, and the folder of a run that can be killed and goes on."""

import contextlib
import datetime
import importlib.metadata
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; moved over `path` when the block ends well, removed when it does not.

    The suffix stays, so that writers that look at it still know the format. Raises NotADirectoryError where a file
    stands in the way, and FileNotFoundError if the block wrote nothing.
    """
    target = Path(path).absolute()
    require_folder(target.parent)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}-{uuid.uuid4().hex}{target.suffix}")
    try:
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(f"nothing was written for {target}")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def require_folder(folder: Path) -> None:
    """Raise NotADirectoryError where `folder`, or something on the way to it, is a file."""
    for part in (folder, *folder.parents):
        if part.exists() and not part.is_dir():
            raise NotADirectoryError(f"wanted a folder to write to, got {folder}, where {part} is a file")


@contextlib.contextmanager
def staged_folder(folder: str | Path) -> Iterator[Path]:
    """A temporary folder to fill; its files are moved into `folder` when the block ends well.

    When the block raises, or the process is killed in it, nothing reaches `folder`. Each file is moved whole, by a
    rename: the temporary folder lies beside `folder`, or in it where that is another disk or cannot be written to.
    Files of the same name are replaced, others in `folder` stay. Raises NotADirectoryError where `folder`, or something
    on the way to it, is a file.
    """
    target = Path(folder).resolve()
    require_folder(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = not target.exists() or (
        target.stat().st_dev == target.parent.stat().st_dev and os.access(target.parent, os.W_OK)
    )
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent if beside else target))
    try:
        yield staging
        target.mkdir(exist_ok=True)
        moves = {file: target / file.relative_to(staging) for file in sorted(staging.rglob("*")) if file.is_file()}
        for destination in moves.values():
            if destination.is_dir():
                raise IsADirectoryError(f"wanted to write the file {destination}, but a folder of that name is there")
            require_folder(destination.parent)
        for file, destination in moves.items():
            destination.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, destination)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def to_json(value: Any) -> Any:
    """`value` with arrays as lists, NumPy and JAX scalars as Python's, and numbers that are not finite as None."""
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return to_json(np.asarray(value).tolist())
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: str | Path, value: Any) -> None:
    """Write `to_json(value)` to `path`, atomically."""
    text = json.dumps(to_json(value), indent=1, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def write_lines(path: str | Path, rows: Iterable[Any]) -> None:
    """Write `to_json` of each row as one line of JSON, the whole file atomically."""
    text = "".join(json.dumps(to_json(row), allow_nan=False) + "\n" for row in rows)
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def read_lines(path: str | Path) -> list[Any]:
    """The rows of a file of one JSON value a line."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


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
        require_folder(self.folder)
        self._held: Any = None
        described = to_json({**config, "identity": dict(identity)})
        manifest = self.folder / "config.json"
        inside = list(self.folder.iterdir()) if self.folder.exists() and not manifest.exists() else []
        if stray := [path.name for path in inside if path.name != ".lock" and not _left_over(path)]:
            raise ValueError(f"folder: wanted a new or empty folder, or a run's, got {self.folder} with {stray[0]}")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._hold()
        try:
            before = _read_config(manifest) if manifest.exists() else None
            if before is not None:
                held, wanted = before["identity"], described["identity"]
                different = [name for name in {**held, **wanted} if held.get(name) != wanted.get(name)]
                if different:
                    raise ValueError(
                        f"folder: {self.folder} holds another run, which differs in: {', '.join(different)}; choose "
                        "another folder, or remove this one"
                    )
            for path in filter(_left_over, self.folder.iterdir()):
                path.unlink(missing_ok=True)
            if before != described:
                write_json(manifest, described)
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
    return RunRecord(_read_config(folder / "config.json"), *columns)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text())
        held["identity"].keys()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"folder: {path} does not describe a run; choose another folder") from None
    return dict(held)


def environment() -> dict[str, Any]:
    """What a measurement depends on: date, command, Python, versions, processor, cores and devices."""
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy", "optax", "flax")}
    commit = git_commit()
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "python": platform.python_version(),
        "versions": versions,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        **({"git_commit": commit} if commit else {}),
    }


def git_commit() -> str:
    """The commit that this package's files are of, with "+" where some differ from it; nothing outside a checkout."""
    here = Path(__file__).parents[1]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if not (here / ".git").exists():
            return ""

        def git(*arguments: str) -> str:
            return subprocess.run(
                ["git", "--no-optional-locks", "-C", str(here), *arguments],
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            ).stdout.strip()

        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "gdlab") else "")
    return ""


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
