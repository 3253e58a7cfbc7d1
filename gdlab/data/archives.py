"""Readers of the archives in which the data sets are published; they work in memory and unpack nothing to disk.

An archive may be larger than the published one, but not without bounds: sizes are checked before content is read, so
that a small file cannot fill the memory.
"""

import gzip
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from gdlab.data.datasets import DataError
from gdlab.data.members import LONGEST_NAMES, damage, read_members
from gdlab.types import NameTable

MOST_CIFAR, MOST_STL10, MOST_MNIST = 300_000, 30_000, 300_000
"""The most images that an archive of a kind may hold, or a file in the case of MNIST. The published ones hold 60,000,
13,000 and 60,000; EMNIST's digits, in the format of MNIST, are 240,000 in one file."""


class Contents(NamedTuple):
    """The contents of a data set's archives.

    Attributes:
      images: the images of each split ("train", "test"), NHWC in 0..255.
      labels: the labels of each kind ("label", and "coarse_label" for CIFAR-100) and split, counted from 0.
      classes: the class names of each kind of label; empty if the archives have none.
    """

    images: dict[str, UInt8[np.ndarray, "count height width channels"]]
    labels: dict[str, dict[str, UInt8[np.ndarray, " count"]]]
    classes: dict[str, tuple[str, ...]]


def read_cifar10(files: Mapping[str, Path]) -> Contents:
    """Read the binary version of CIFAR-10.

    Each record is one label, followed by 32 x 32 red, then green, then blue pixels, row by row.
    """
    (archive,) = files.values()
    splits = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
    return _cifar(archive, "cifar-10-batches-bin", splits, {"label": ("batches.meta.txt", 10)})


def read_cifar100(files: Mapping[str, Path]) -> Contents:
    """Read the binary version of CIFAR-100.

    The format is that of CIFAR-10, with a label of 20 superclasses in front of the label of 100 classes.
    """
    (archive,) = files.values()
    kinds = {"coarse_label": ("coarse_label_names.txt", 20), "label": ("fine_label_names.txt", 100)}
    return _cifar(archive, "cifar-100-binary", {"train": ["train.bin"], "test": ["test.bin"]}, kinds)


def _cifar(
    archive: Path, folder: str, splits: Mapping[str, list[str]], kinds: Mapping[str, tuple[str, int]]
) -> Contents:
    """Read a binary version of CIFAR.

    `kinds` maps each kind of label, in the order of the label bytes, to the file of its class names and their number.
    """
    size = len(kinds) + 3 * 32 * 32
    limits = {file: LONGEST_NAMES for file, _ in kinds.values()}
    limits |= {file: MOST_CIFAR * size for files in splits.values() for file in files}
    found = read_members(archive, folder, limits)
    classes = {kind: _names(f"{archive}: {folder}/{file}", found[file], count) for kind, (file, count) in kinds.items()}
    images: dict[str, np.ndarray] = {}
    labels: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in kinds}
    for split, files in splits.items():
        tables = [_records(f"{archive}: {folder}/{file}", found[file], size) for file in files]
        for column, (kind, (_, count)) in enumerate(kinds.items()):
            for file, table in zip(files, tables, strict=True):
                where = f"{archive}: {folder}/{file}"
                _require_labels(where, table[:, column], 0, count - 1, start=column, step=size)
            labels[kind][split] = np.concatenate([table[:, column] for table in tables])
        pixels = np.concatenate([table[:, len(kinds) :] for table in tables])
        images[split] = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Contents(images, labels, classes)


def read_stl10(files: Mapping[str, Path]) -> Contents:
    """Read STL-10.

    Each image is 96 x 96 red, then green, then blue pixels, *column* by column. The labels are in separate files and
    count from 1. The 100,000 images without labels are skipped.
    """
    (archive,) = files.values()
    folder, size = "stl10_binary", 3 * 96 * 96
    limits = {"class_names.txt": LONGEST_NAMES}
    for split in ("train", "test"):
        limits |= {f"{split}_X.bin": MOST_STL10 * size, f"{split}_y.bin": MOST_STL10}
    found = read_members(archive, folder, limits)
    images, labels = {}, {}
    for split in ("train", "test"):
        table = _records(f"{archive}: {folder}/{split}_X.bin", found[f"{split}_X.bin"], size)
        images[split] = table.reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
        where = f"{archive}: {folder}/{split}_y.bin"
        numbers = np.frombuffer(found[f"{split}_y.bin"], np.uint8)
        _require_pairs(where, len(table), len(numbers))
        _require_labels(where, numbers, 1, 10)
        labels[split] = numbers - np.uint8(1)
    classes = _names(f"{archive}: {folder}/class_names.txt", found["class_names.txt"], 10)
    return Contents(images, {"label": labels}, {"label": classes})


def read_mnist(files: Mapping[str, Path]) -> Contents:
    """Read MNIST or Fashion-MNIST: four gzipped files in the IDX format (a magic number, big-endian sizes, bytes)."""
    images, labels = {}, {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images[split] = _idx(files[f"{prefix}-images-idx3-ubyte.gz"], (28, 28))[..., None]
        path = files[f"{prefix}-labels-idx1-ubyte.gz"]
        labels[split] = _idx(path, ())
        _require_pairs(str(path), len(images[split]), len(labels[split]))
        _require_labels(str(path), labels[split], 0, 9, start=8)
    return Contents(images, {"label": labels}, {})


READERS: NameTable[Callable[[Mapping[str, Path]], Contents]] = NameTable(
    "data set with archives",
    {
        "cifar10": read_cifar10,
        "cifar100": read_cifar100,
        "stl10": read_stl10,
        "mnist": read_mnist,
        "fashion_mnist": read_mnist,
    },
)
"""The reader of each data set; it takes a mapping from the published names of the files to their paths.

If the content is not in the published format, a reader raises DataError with the file and the byte. The number of
images may differ from the published one, up to MOST_CIFAR, MOST_STL10 and MOST_MNIST.
"""


def _records(where: str, content: bytes, size: int) -> UInt8[np.ndarray, "count size"]:
    if not content or len(content) % size:
        raise DataError(
            f"{where}: expected records of {size} bytes, got {len(content) % size} bytes "
            f"at byte {len(content) // size * size}, where the file ends"
        )
    return np.frombuffer(content, np.uint8).reshape(-1, size)


def _idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array of unsigned bytes in a gzipped IDX file; `shape` is the expected shape of one item."""
    magic, header = 0x0801 + len(shape), 8 + 4 * len(shape)
    with damage(path) as raw, gzip.GzipFile(fileobj=raw) as stream:
        head = stream.read(header)
        if (came := int.from_bytes(head[:4], "big")) != magic or len(head) < header:
            raise DataError(
                f"{path}: expected the magic number {magic} and {header} bytes of header at byte 0, got {came}"
            )
        count, *sizes = (int.from_bytes(head[at : at + 4], "big") for at in range(4, header, 4))
        if tuple(sizes) != shape:
            raise DataError(f"{path}: expected items of shape {shape} at byte 8, got {tuple(sizes)}")
        if count > MOST_MNIST:
            raise DataError(f"{path}: expected at most {MOST_MNIST} items at byte 4, got {count}")
        expected = count * math.prod(shape)
        content = stream.read(expected)
        more = len(stream.read(1))  # at the end of the stream, gzip verifies the checksum
    if not count or more or len(content) < expected:
        came = header + len(content)
        raise DataError(
            f"{path}: expected {header + expected if count else 'more'} bytes for {count} items, "
            f"got {f'more than {came}' if more else came}"
        )
    return np.frombuffer(content, np.uint8).reshape(count, *shape)


def _names(where: str, content: bytes, count: int) -> tuple[str, ...]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: expected UTF-8, got byte 0x{content[error.start]:02x} at byte {error.start}"
        ) from None
    names = tuple(line.strip() for line in text.split("\n") if line.strip())
    if len(set(names)) != count or len(names) != count:
        raise DataError(f"{where}: expected {count} distinct class names, got {len(set(names))}")
    return names


def _require_pairs(where: str, images: int, labels: int) -> None:
    if images != labels:
        raise DataError(f"{where}: expected {images} labels, one per image, got {labels}")


def _require_labels(where: str, labels: np.ndarray, low: int, high: int, *, start: int = 0, step: int = 1) -> None:
    """Raise DataError unless all labels are in the range.

    `start` is the offset of the first label in the file, and `step` the number of bytes from one label to the next.
    """
    wrong = np.flatnonzero((labels < low) | (labels > high))
    if len(wrong):
        first = int(wrong[0])
        at = start + first * step
        raise DataError(f"{where}: expected labels from {low} to {high}, got {labels[first]} at byte {at}")
