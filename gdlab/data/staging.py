"""Hidden folders in which files are written before they are moved to their place; those of killed processes go."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

DAY = 24 * 3600


@contextlib.contextmanager
def staging(place: Path, prefix: str) -> Iterator[Path]:
    """Provide a temporary folder in `place`, and remove those with the same prefix that killed processes left there.

    Args:
      place: a folder, which is created if it does not exist.
      prefix: the beginning of the temporary folder's name, such as ".gdlab-mnist-".

    Yields:
      The temporary folder. It is removed at the end, with whatever is still in it.

    Raises:
      OSError: if nothing can be written to `place`.
    """
    place.mkdir(parents=True, exist_ok=True)
    remove_leftovers(place, prefix)
    held = None
    while held is None:  # another process may remove the folder before it is held
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        held = _hold(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _release(held)


def remove_leftovers(place: Path, prefix: str) -> None:
    """Remove the folders of `staging(place, prefix)` whose processes were killed, and none that is in use."""
    for left in place.glob(f"{prefix}*"):
        if (held := _hold(left)) is not None:
            with contextlib.suppress(OSError):
                if held != _UNLOCKED or time.time() - left.stat().st_mtime > DAY:
                    shutil.rmtree(left, ignore_errors=True)
            _release(held)


_UNLOCKED = -1


def _hold(folder: Path) -> int | None:
    """Lock a folder until `_release`, or until the process dies.

    Returns the number of the open folder; _UNLOCKED where there are no locks, as on some network disks; None if the
    folder belongs to another process or is gone.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return _UNLOCKED
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.exists(folder):
            return number
        os.close(number)
        return None
    except OSError as error:
        os.close(number)
        return None if isinstance(error, BlockingIOError) else _UNLOCKED


def _release(held: int) -> None:
    if held != _UNLOCKED:
        os.close(held)
