"""Members of a compressed archive, read into memory within bounds."""

import contextlib
import gzip
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from gdlab.data.datasets import DataError

LONGEST_NAMES = 1 << 16
"""The most bytes of a file with the names of classes."""

LONGEST_ARCHIVE = 1 << 32
"""The most bytes of an archive after decompression; STL-10, the largest one that is published, has 3.1e9."""

LONGEST_HEADER, MOST_MEMBERS, LONGEST_PADDING = 1 << 16, 1000, 1 << 20
"""The most bytes of a member's extended header, members of an archive, and bytes after its last member."""


def read_members(archive: Path, folder: str, limits: Mapping[str, int]) -> dict[str, bytes]:
    """Return the contents of files of one folder in a .tar.gz archive.

    The archive is read in one pass to its end, where gzip verifies the checksum.

    Args:
      archive: the archive.
      folder: the folder inside the archive.
      limits: for each file, the most bytes it may have. All together may have as many as the largest one.

    Returns:
      The contents by file.

    Raises:
      DataError: if the archive is damaged, lacks a file, has a file that is too large, or has a member whose path leads
        outside the archive.
    """
    paths = {PurePosixPath(folder, file): file for file in limits}
    found: dict[str, bytes] = {}
    total, most = 0, max(limits.values())
    with damage(archive) as raw, gzip.GzipFile(fileobj=raw) as stream:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:
            for count, member in enumerate(tar, 1):
                _require_bounds(archive, member, count)
                file = paths.get(PurePosixPath(member.name))
                if file is None or not member.isreg():
                    continue
                total += member.size
                if member.size > limits[file] or total > most:
                    raise DataError(
                        f"{archive}: {member.name}: expected at most {limits[file]} bytes, and {most} with the members "
                        f"before it, got {member.size} and {total}"
                    )
                content = tar.extractfile(member)
                found[file] = b"" if content is None else content.read()
        end = stream.tell()
        while stream.read(1 << 16):
            if stream.tell() - end > LONGEST_PADDING:
                raise DataError(f"{archive}: expected the end of the archive, got more than {LONGEST_PADDING} bytes")
    for path, file in paths.items():
        if file not in found:
            raise DataError(f"{archive}: expected the member {path}, got an archive without it")
    return found


def _require_bounds(archive: Path, member: tarfile.TarInfo, count: int) -> None:
    """Raise DataError for a member that leads outside the archive or whose content is not to be read or skipped."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{archive}: expected only paths inside the archive, got the member {member.name!r}")
    if member.issparse():
        raise DataError(f"{archive}: expected only ordinary members, got the sparse member {member.name!r}")
    if count > MOST_MEMBERS:
        raise DataError(f"{archive}: expected at most {MOST_MEMBERS} members, got more")
    if not 0 <= member.size <= LONGEST_ARCHIVE - member.offset_data:
        raise DataError(
            f"{archive}: expected at most {LONGEST_ARCHIVE} bytes after decompression, got the member {member.name!r} "
            f"of {member.size} bytes"
        )


class _Member(tarfile.TarInfo):
    """A member whose header is refused if it would have to be read into memory and is long, or describes holes."""

    def _proc_member(self, archive: Any) -> Any:
        in_memory = (
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
            tarfile.XHDTYPE,
            tarfile.XGLTYPE,
            tarfile.SOLARIS_XHDTYPE,
        )
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"expected only ordinary members, got the sparse member {self.name!r}")
        if self.type in in_memory and self.size > LONGEST_HEADER:
            raise tarfile.ReadError(f"expected a header of at most {LONGEST_HEADER} bytes, got {self.size}")
        return super()._proc_member(archive)  # type: ignore[misc]

    def _proc_gnusparse_10(self, *unused: Any) -> None:
        raise tarfile.ReadError(f"expected only ordinary members, got the sparse member {self.name!r}")


@contextlib.contextmanager
def damage(archive: Path) -> Iterator[BinaryIO]:
    """Open the file for reading; errors of the decompressors become a DataError with the byte they had reached."""
    try:
        raw = archive.open("rb")
    except OSError as error:
        raise DataError(f"{archive}: expected an archive, got an error: {error.strerror or error}") from error
    with raw:
        try:
            yield raw
        except DataError:
            raise
        except (OSError, EOFError, ValueError, RecursionError, zlib.error, tarfile.TarError) as error:
            raise DataError(f"{archive}: truncated or damaged before byte {raw.tell()}: {error}") from error
