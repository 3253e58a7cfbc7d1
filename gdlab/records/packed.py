"""Named arrays in one .npz file, with a head that describes them and says what they belong to.

Nothing in a file is believed: sizes are compared with those of the file before anything is read, and the digests of
the head and of each array are compared with what was read.
"""

import contextlib
import hashlib
import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gdlab.arguments import first_line

FORMAT = 2


def is_numeric(array: Any) -> bool:
    """Return whether this is an array of numbers or of truth values."""
    dtype = getattr(array, "dtype", None)
    return dtype is not None and (jnp.issubdtype(dtype, jnp.number) or dtype == np.bool_)


class DamagedError(Exception):
    """The file is not a complete one of this format; the message says why."""


class Entry(NamedTuple):
    """The description of an array in the head.

    Attributes:
      name: the name of the array.
      shape: its shape, as it is stored.
      dtype: what it represents: the name of a dtype, or of a kind of random keys.
      stored: the dtype of its bytes.
      digest: the digest of all of this and of the bytes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    stored: str
    digest: str


class Head(NamedTuple):
    """What a file says of itself.

    Attributes:
      belongs_to: a text that identifies what the file belongs to.
      note: a value that JSON supports.
      entries: the descriptions of the arrays, in their order.
    """

    belongs_to: str
    note: Any
    entries: list[Entry]


def pack(file: Path, arrays: Mapping[str, tuple[np.ndarray, str]], note: Any, belongs_to: str) -> None:
    """Write a file.

    NumPy's files do not support bfloat16, so arrays are written as bytes, together with the dtypes that they represent.

    Args:
      file: the file to write.
      arrays: for each name, an array and the name of what its numbers represent (by default, of its dtype).
      note: a value that JSON supports.
      belongs_to: a text that identifies what the file belongs to.
    """
    entries: list[Entry] = []
    members: dict[str, Any] = {}
    for place, (name, (array, dtype)) in enumerate(arrays.items()):
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        entry = Entry(name, array.shape, dtype or str(array.dtype), str(array.dtype), "")
        entries.append(entry._replace(digest=_digest(entry, flat)))
        members[f"leaf_{place}"] = flat
    body = {"format": FORMAT, "belongs_to": belongs_to, "leaves": entries, "note": note}
    text = json.dumps({**body, "digest": _digest_of_head(body)})
    with file.open("wb") as stream:
        np.savez(stream, head=np.frombuffer(text.encode(), np.uint8), **members)


class Packed:
    """An open file of packed arrays."""

    def __init__(self, archive: zipfile.ZipFile):
        """Read the head; raise DamagedError if it is not one."""
        self._archive = archive
        try:
            head = json.loads(self._member("head"))
            form = head.get("format")
        except DamagedError:
            raise
        except (ValueError, RecursionError, AttributeError) as error:
            raise DamagedError(first_line(error)) from None
        if form != FORMAT:
            raise DamagedError(f"expected format {FORMAT}, got {form if isinstance(form, int) else 'another'}")
        try:
            intact = head.pop("digest") == _digest_of_head(head)
            entries = [
                Entry(str(name), tuple(map(int, shape)), str(dtype), str(stored), str(digest))
                for name, shape, dtype, stored, digest in head["leaves"]
            ]
            self.head = Head(str(head["belongs_to"]), head["note"], entries)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise DamagedError(f"its head is damaged: {first_line(error)}") from None
        if not intact:
            raise DamagedError("its head is damaged")

    def array(self, place: int) -> np.ndarray:
        """Read the array with this number; raise DamagedError if it is not the one that was written."""
        entry = self.head.entries[place]
        try:
            dtype = jnp.dtype(entry.stored)
            if dtype.hasobject:
                raise DamagedError("expected numbers, got objects")
            size = dtype.itemsize * math.prod(entry.shape)
            data = np.frombuffer(self._member(f"leaf_{place}", size), np.uint8)
            if _digest(entry, data) != entry.digest:
                raise DamagedError("its contents are not those that were written")
            return data.view(dtype).reshape(entry.shape)
        except DamagedError as error:
            raise DamagedError(f"{entry.name} is damaged: {error}") from None
        except (TypeError, ValueError) as error:
            raise DamagedError(f"{entry.name} is damaged: {first_line(error)}") from None

    def _member(self, name: str, size: int | None = None) -> bytes:
        """Return the contents of a member: of bytes, or of the text of earlier formats."""
        try:
            data = self._archive.read(f"{name}.npy")
            stream = io.BytesIO(data)
            if np.lib.format.read_magic(stream) != (1, 0):
                raise DamagedError("expected a plain array, got another kind")
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        except DamagedError:
            raise
        except Exception as error:  # a damaged archive can raise any error
            raise DamagedError(first_line(error)) from None
        rest = data[stream.tell() :]
        if math.prod(shape) * dtype.itemsize != len(rest) or size not in (None, len(rest)):
            raise DamagedError(f"expected {size if size is not None else 'other'} bytes, got {len(rest)}")
        if dtype.kind == "U" and shape == ():  # the head of format 1
            return str(np.frombuffer(rest, dtype)[0]).encode()
        return rest


@contextlib.contextmanager
def unpacked(file: Path) -> Iterator[Packed]:
    """Open a file that `pack` wrote; raise DamagedError if it is not one, FileNotFoundError if it does not exist."""
    with file.open("rb") as stream:
        size = stream.seek(0, io.SEEK_END)
        try:
            archive = zipfile.ZipFile(stream)
            members = archive.infolist()
        except Exception as error:  # a damaged archive can raise any error
            raise DamagedError(first_line(error)) from None
        plain = all(
            each.compress_type == zipfile.ZIP_STORED and each.file_size == each.compress_size for each in members
        )
        if not plain or sum(each.file_size for each in members) > size:
            raise DamagedError("expected members that are stored as they are, got others")
        yield Packed(archive)


def _digest(entry: Entry, data: np.ndarray) -> str:
    digest = hashlib.blake2b(json.dumps([entry.name, list(entry.shape), entry.dtype, entry.stored]).encode())
    digest.update(data.data)
    return digest.hexdigest()[:32]


def _digest_of_head(body: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]
