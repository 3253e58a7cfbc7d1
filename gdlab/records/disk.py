"""Durable writes: what has been renamed is on the disk, and a folder that a run writes to must stay where it is."""

import contextlib
import errno
import os
import weakref
from collections.abc import Iterator
from pathlib import Path

from gdlab.records.temporaries import forget, sweep_once, temporary_beside

UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EROFS}
"""Errors of file systems that cannot do what was asked; the write itself was right."""


def sync(path: Path) -> None:
    """Wait until the contents of a file, or the names in a folder, are on the disk."""
    try:
        number = os.open(path, os.O_RDONLY)
    except OSError:
        if os.name == "nt" or path.is_dir():  # Windows opens no folders, and some folders cannot be read
            return
        raise
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in UNSUPPORTED and os.name != "nt":
            raise
    finally:
        os.close(number)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, durably."""
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for part in reversed(missing):
        sync(part.parent)


@contextlib.contextmanager
def durable(target: Path, *, new: bool = False) -> Iterator[Path]:
    """Provide a temporary path beside `target`, in an existing folder, and move it there if the block succeeds.

    Args:
      target: the file to write, as an absolute path.
      new: whether the file must not exist yet. Of several processes, one succeeds. Default False.

    Yields:
      The temporary path.

    Raises:
      FileExistsError: if `new` is set and the file exists; it stays as it is.
      FileNotFoundError: if the block wrote nothing, or the folder does not exist.
    """
    sweep_once(target.parent)
    folder = _open_folder(target.parent)
    temporary = temporary_beside(target)
    try:
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(errno.ENOENT, "nothing was written, or it was deleted", str(target))
        sync(temporary)
        _move(temporary, target, new)
        sync(target.parent)
    finally:
        forget(temporary)
        if folder is not None:  # the folder may have been moved
            with contextlib.suppress(OSError):
                os.unlink(temporary.name, dir_fd=folder)
            os.close(folder)


def _move(temporary: Path, target: Path, new: bool) -> None:
    if new:
        try:
            os.link(temporary, target)
            return
        except FileExistsError:
            raise
        except OSError:  # a disk without hard links
            if target.exists():
                raise FileExistsError(errno.EEXIST, "the file exists", str(target)) from None
    os.replace(temporary, target)


def keep_copy(path: Path, copy: Path) -> None:
    """Let `copy` be what `path` is now, without copying its contents; both are in the same folder."""
    temporary = temporary_beside(copy)
    try:
        try:
            os.link(path, temporary)
        except FileNotFoundError:
            raise
        except OSError:  # a disk without hard links
            os.replace(path, copy)
        else:
            os.replace(temporary, copy)
        sync(path.parent)
    finally:
        forget(temporary)  # a rename does nothing if both names are of one file


class HeldFolder:
    """A folder that a run writes to. It must stay where it is: it is never created a second time.

    Attributes:
      folder: the folder.
      name: the argument that names the folder, for error messages.
      writable: whether files can be created in the folder.
    """

    def __init__(self, folder: Path, name: str):
        """Open the folder, or create it; `name` is the argument that names it, for error messages."""
        self.folder, self.name = folder, name
        try:
            make_folder(folder)
            self._number = _open_folder(folder)
            self._is = _identity(os.stat(folder))
        except OSError as error:
            raise type(error)(f"{name}: {folder} cannot be opened or created: {error.strerror or error}") from None
        self.close = weakref.finalize(self, _close, self._number)  # while it is open, no other folder gets its number
        self.writable = os.access(folder, os.W_OK | os.X_OK)

    def check(self) -> None:
        """Raise FileNotFoundError if the folder has been moved or deleted."""
        try:
            same = _identity(os.stat(self.folder)) == self._is
        except (FileNotFoundError, NotADirectoryError):
            same = False
        if not same:
            raise FileNotFoundError(
                f"{self.name}: expected {self.folder} to stay in its place while it is written to, but it was moved or "
                "deleted"
            )

    def explain(self, error: OSError) -> None:
        """Raise FileNotFoundError where a file was not found because the folder is gone, or is being deleted.

        The files of a folder are deleted before it, so a write may come between.
        """
        self.check()
        if error.errno == errno.ENOENT:
            raise FileNotFoundError(
                f"{self.name}: expected {self.folder} to stay in its place while it is written to, but files in it "
                "were deleted"
            ) from error

    @contextlib.contextmanager
    def writing(self, name: str, *, new: bool = False) -> Iterator[Path]:
        """Provide a temporary path for the file of this name, as `durable` does, in a folder that has not been moved.

        Raises:
          FileNotFoundError: if the folder has been moved or deleted.
          PermissionError: if the folder is not writable.
        """
        self.check()
        if not self.writable:
            raise PermissionError(f"{self.name}: expected a folder that can be written to, got {self.folder}")
        target, written = self.folder.absolute() / name, None
        try:
            with durable(target, new=new) as temporary:
                yield temporary
                if temporary.exists():
                    written = _identity(os.stat(temporary))
        except (FileNotFoundError, NotADirectoryError) as error:
            self.explain(error)
            raise
        try:
            self.check()
        except FileNotFoundError:
            with contextlib.suppress(OSError):  # a folder that took this one's place meanwhile must not keep the file
                if _identity(os.stat(target)) == written:
                    os.unlink(target)
            raise


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _open_folder(folder: Path) -> int | None:
    """Return a descriptor of the folder, or None where the system has none."""
    if not hasattr(os, "O_DIRECTORY") or os.unlink not in os.supports_dir_fd:
        return None
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return None


def _close(number: int | None) -> None:
    if number is not None:
        os.close(number)
