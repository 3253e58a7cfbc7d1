"""Temporary files and folders: their names say who made them, so that those of ended processes can be removed."""

import contextlib
import functools
import hashlib
import os
import re
import shutil
import socket
import time
import uuid
from pathlib import Path

from gdlab.compute.interrupts import BEFORE_A_HARD_EXIT

DAY = 24 * 3600.0
NAME = re.compile(r"\..*-(?P<place>[0-9a-f]{8})-(?P<pid>\d+)-(?P<started>\d+)-[0-9a-f]{8}(\.\w+)?", re.DOTALL)
EARLIER = re.compile(r"\..*-[0-9a-f]{32}(\.\w+)?", re.DOTALL)
"""The names that gdlab 0.1 gave to temporary files."""

_own: set[Path] = set()
_swept: set[Path] = set()


def temporary_beside(path: Path) -> Path:
    """Return a new hidden path beside `path`, with its suffix, that names this process as its owner."""
    pid = os.getpid()
    owner = f"{_place()}-{pid}-{_started(pid) or 0}-{uuid.uuid4().hex[:8]}"
    stem = os.fsdecode(os.fsencode(path.stem)[:120])  # names of files are limited to 255 bytes
    temporary = path.with_name(f".{stem}-{owner}{path.suffix}")
    _own.add(temporary)
    return temporary


def forget(temporary: Path) -> None:
    """Remove a temporary file or folder of this process, if it is still there."""
    _own.discard(temporary)
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sweep_once(folder: Path) -> None:
    """Remove what ended processes left in a folder, when this process writes there for the first time."""
    if folder not in _swept:
        _swept.add(folder)
        remove_abandoned(folder)


def remove_abandoned(folder: Path, *, alone: bool = False) -> None:
    """Remove the temporary files and folders of processes that have ended.

    Those of another machine, of which nothing is known, are removed once they have not changed for a day (files) or
    for a week (folders).

    Args:
      folder: the folder that contains them; others below it are not searched. It need not exist.
      alone: whether no other process can be writing to the folder, so that whatever is there is removed.
    """
    with contextlib.suppress(OSError):
        for path in [Path(entry.path) for entry in os.scandir(folder) if entry.name.startswith(".")]:
            if path not in _own and _is_abandoned(path, alone):
                forget(path)


def _is_abandoned(path: Path, alone: bool) -> bool:
    owner = NAME.fullmatch(path.name)
    if owner is None and EARLIER.fullmatch(path.name) is None:
        return False
    if alone:
        return True
    if owner is None or owner["place"] != _place() or os.name == "nt":
        with contextlib.suppress(OSError):
            inside = list(path.rglob("*")) if path.is_dir() else []
            changed = max(each.lstat().st_mtime for each in (path, *inside))
            return time.time() - changed > (7 * DAY if path.is_dir() else DAY)
        return False
    started = _started(int(owner["pid"]))
    return started is None or (started > 0 and started != int(owner["started"]))


@functools.cache
def _place() -> str:
    """Return a digest of what process ids depend on: the machine, its last boot, and the container."""
    parts = [socket.gethostname()]
    for read in (lambda: Path("/proc/sys/kernel/random/boot_id").read_text(), lambda: os.readlink("/proc/self/ns/pid")):
        with contextlib.suppress(OSError):
            parts.append(read())
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:8]


def _started(pid: int) -> int | None:
    """Return when a process started, in ticks since the boot: None if it has ended, 0 if that is unknown."""
    if os.name == "nt":
        return 0
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except OSError:  # a process of another user
        return 0
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if state in (b"Z", b"X") else int(fields[18])
    except (OSError, ValueError, IndexError):
        return 0


def _forget_all() -> None:
    for temporary in _own.copy():
        forget(temporary)


BEFORE_A_HARD_EXIT.append(_forget_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_own.clear)
