"""The chunks of a file of records, which say how large they are after decompression; the reader of records checks that.

A file of records is in the format Riegeli/records (https://github.com/google/riegeli): chunks, one after another, which
are interrupted by a header of 24 bytes at every multiple of 64 KiB. The header of a chunk is five numbers of 8 bytes:
a hash, the size of its data, their hash, its type with the number of its records, and the size after decompression.
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BLOCK, BLOCK_HEADER, CHUNK_HEADER = 1 << 16, 24, 40


class Chunk(NamedTuple):
    """A part of a file of records: where it begins, its number of records, and their bytes after decompression."""

    begin: int
    records: int
    size: int


def read_chunks(path: Path) -> Iterator[Chunk]:
    """Yield the chunks of a file in order; raise ValueError if they do not fill it."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            begin = 0
            while begin < len(content):
                data = _after(begin, CHUNK_HEADER)
                if data > len(content):
                    raise ValueError(f"expected a chunk of records at byte {begin}, got the end of the file")
                _, length, _, kind, size = struct.unpack("<5Q", _header(content, begin))
                yield Chunk(begin, kind >> 8, size)
                begin = max(_after(data, length), begin + (kind >> 8))
            if begin != len(content):
                raise ValueError(f"expected chunks that end at byte {len(content)}, got one that ends at byte {begin}")


def _after(place: int, count: int) -> int:
    """Return the place `count` bytes after another, not counting the headers of blocks."""
    if not count:
        return place
    block, within = divmod(place, BLOCK)
    whole, rest = divmod(max(within - BLOCK_HEADER, 0) + count - 1, BLOCK - BLOCK_HEADER)
    return (block + whole) * BLOCK + BLOCK_HEADER + rest + 1


def _header(content: mmap.mmap, begin: int) -> bytes:
    """Return the header of the chunk that begins at a place; that of a block may lie in it or before it."""
    within = begin % BLOCK
    if not within:
        begin += BLOCK_HEADER
    elif within + CHUNK_HEADER > BLOCK:
        border = begin + BLOCK - within
        rest = CHUNK_HEADER - (border - begin)
        return content[begin:border] + content[border + BLOCK_HEADER : border + BLOCK_HEADER + rest]
    return content[begin : begin + CHUNK_HEADER]
