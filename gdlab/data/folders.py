"""Prepared folders of tensorflow-datasets, read without running or importing anything that their files name.

Nothing that a file says about itself is believed: notes are checked for their types, the number of records against
`dataset_info.json`, and the size of each picture before it is decoded.
"""

import contextlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from gdlab.arguments import describe, first_line
from gdlab.data.chunks import read_chunks

LONGEST_NOTE = 1 << 24
"""The most bytes that a text file of a prepared folder may have; those of the known data sets have a few thousand."""

LONGEST_RECORD = 1 << 16
"""The most bytes of a record; the longest of the known data sets, an image of STL-10, has fewer than 30,000."""

MOST_CLASSES = 10_000

_PREFIX = "tensorflow_datasets.core.features."
_DICT, _IMAGE, _LABEL = "features_dict.FeaturesDict", "image_feature.Image", "class_label_feature.ClassLabel"
_OTHERS = ("text_feature.Text", "tensor_feature.Tensor", "feature.Tensor", "scalar.Scalar")


class DamageError(Exception):
    """Raised if a file of a prepared folder is damaged; the message begins with the file's name, and is one line."""

    def __str__(self) -> str:
        return "".join(letter if letter.isprintable() else " " for letter in super().__str__())


class Pictures(NamedTuple):
    """The pictures and labels of one split, and the formats in which the pictures were stored."""

    images: UInt8[np.ndarray, "count height width channels"]
    labels: Int[np.ndarray, " count"]
    encodings: set[str]


def lacks(name: str, folder: Path) -> str:
    """Return what the folder lacks to be a complete one of the data set `name`, or ""; no record is read."""
    try:
        splits = read_splits(folder)
        read_classes(folder)
    except FileNotFoundError as error:
        return f"without {Path(error.filename).name}"
    except DamageError as error:
        return f"with a damaged {error}"
    if name != "mnist" and not (folder / "label.labels.txt").is_file():  # the classes of MNIST have no names
        return "without label.labels.txt"
    for split in ("train", "test"):
        if not splits.get(split):
            return f"without the split {split}"
        if missing := [file for file in shards(name, split, splits) if not (folder / file).is_file()]:
            return f"without {missing[0]}"
    return ""


def shards(name: str, split: str, splits: Mapping[str, Sequence[int]]) -> list[str]:
    """Return the names of a split's files, in order."""
    count = len(splits[split])
    return [f"{name}-{split}.array_record-{shard:05d}-of-{count:05d}" for shard in range(count)]


def read_splits(folder: Path) -> dict[str, list[int]]:
    """Return the number of records in each file of each split, as `dataset_info.json` has them."""
    file = "dataset_info.json"
    info = _require(file, read_note(folder / file), dict, "a mapping")
    found = {}
    for split in _require(f"{file}: splits", info.get("splits"), list, "a list"):
        _require(f"{file}: splits", split, dict, "mappings")
        name = _require(f"{file}: name of a split", split.get("name"), str, "text")
        lengths = _require(f"{file}: shardLengths of {name}", split.get("shardLengths"), list, "a list")
        if len(lengths) >= 1e5:  # the published names count files with five digits
            raise DamageError(f"{file}: shardLengths of {name}: expected fewer than 100000 files, got {len(lengths)}")
        found[name] = [_count(f"{file}: shardLengths of {name}", length) for length in lengths]
    return found


def read_classes(folder: Path) -> tuple[str, ...]:
    """Return the names of the classes, from `label.labels.txt` or, if there is none, their numbers.

    The types of all features in `features.json` are compared with a fixed list. The readers of tensorflow-datasets
    would import whatever module the file names.
    """
    file = "features.json"
    root = _require(file, read_note(folder / file), dict, "a mapping")
    features = _content(root, "featuresDict")
    features = features.get("features", features)
    _require(f"{file}: features", features, dict, "a mapping")
    expected = dict.fromkeys(features, (_IMAGE, _LABEL, *_OTHERS)) | {"image": (_IMAGE,), "label": (_LABEL,)}
    kinds = {None: (root, (_DICT,))} | {name: (features.get(name), kinds) for name, kinds in expected.items()}
    for name, (feature, known) in kinds.items():
        where = file if name is None else f"{file}: {name}"
        came = _kind(_require(where, feature, dict, "a mapping"))
        if came not in [_PREFIX + kind for kind in known]:
            raise DamageError(f"{where}: expected the type {' or '.join(known)}, got {describe(came)}")
    label = _content(features["label"], "classLabel")
    count = _count(f"{file}: number of classes", label.get("numClasses", label.get("num_classes")))
    if count > MOST_CLASSES:
        raise DamageError(f"{file}: expected at most {MOST_CLASSES} classes, got {count}")
    try:
        text = _read(folder / "label.labels.txt").decode("utf-8-sig")
    except FileNotFoundError:
        return tuple(str(number) for number in range(count))
    except UnicodeDecodeError as error:
        raise DamageError(f"label.labels.txt: expected UTF-8, got another byte at offset {error.start}") from None
    names = tuple(line.strip() for line in text.split("\n") if line.strip())
    if len(names) != count:
        raise DamageError(f"label.labels.txt: expected {count} names, as in {file}, got {len(names)}")
    return names


def read_sources(folder: Path) -> dict[str, str]:
    """Return what `prepare` recorded about the files the folder was made from; empty if others made the folder."""
    file = "sources.json"
    try:
        sources = _require(file, read_note(folder / file), dict, "a mapping")
    except FileNotFoundError:
        return {}
    found = {}
    for name, source in sources.items():
        digest = _require(f"{file}: {name}", source, dict, "a mapping").get("sha256")
        _require(f"{file}: sha256 of {name}", digest, str, "text")
        found[name] = f"SHA-256 {digest}, {'as published' if source.get('published') else 'not the published file'}"
    return found


def read_pictures(name: str, split: str, folder: Path, shape: tuple[int, int, int]) -> Pictures:
    """Read all records of a split; every file must have as many records as `dataset_info.json` says."""
    open_records = _record_reader()
    splits, classes = read_splits(folder), len(read_classes(folder))
    readers = {}
    for file, expected in zip(shards(name, split, splits), splits[split], strict=True):
        with _naming(file):
            _require_small_chunks(folder / file)
            readers[file] = open_records(str(folder / file))
            if not readers[file].ok():
                readers[file].read([0])  # raises an error that says what is wrong
        if (came := readers[file].num_records()) != expected:
            raise DamageError(f"{file}: expected {expected} records, as in dataset_info.json, got {came}")
    count, at = sum(splits[split]), 0
    with _naming("dataset_info.json"):  # a count may be larger than the memory
        pictures = Pictures(np.empty((count, *shape), np.uint8), np.empty(count, np.int32), set())
    for file, reader in readers.items():
        for low in range(0, reader.num_records(), 2048):
            block = range(low, min(low + 2048, reader.num_records()))
            with _naming(file):
                records = reader.read(list(block))
            for number, record in zip(block, records, strict=True):
                with _naming(f"{file}: record {number}"):
                    _place(record, pictures, at, classes)
                at += 1
    return pictures


def _record_reader() -> Any:
    """Import what reads records; raise ImportError if a package is missing or broken."""
    try:
        from array_record.python.array_record_module import ArrayRecordReader
        from tensorflow_datasets.proto import tf_example_pb2  # noqa: F401
    except Exception as error:  # a broken package may raise anything
        expected = "tensorflow_datasets and array_record, which read prepared folders, to be importable"
        raise ImportError(f"expected {expected}, got {first_line(error)}") from error
    return ArrayRecordReader


def _require_small_chunks(path: Path) -> None:
    """Raise DamageError if records would be long after decompression; the index of a file is its only long one."""
    excess = 0
    for chunk in read_chunks(path):
        excess += max(chunk.size - chunk.records * LONGEST_RECORD, 0)
        if excess > LONGEST_NOTE:
            raise DamageError(
                f"expected records of at most {LONGEST_RECORD} bytes, got {chunk.size} bytes for {chunk.records} "
                f"records at byte {chunk.begin}"
            )


@contextlib.contextmanager
def _naming(where: str) -> Iterator[None]:
    """Turn any error into a DamageError; the readers of records raise RuntimeError, those of pictures many kinds."""
    try:
        yield
    except Exception as error:
        reason = str(error) if isinstance(error, DamageError) else first_line(error)
        raise DamageError(f"{where}: {reason}") from error


def _place(record: bytes, pictures: Pictures, at: int, classes: int) -> None:
    """Decode a record into place `at` of the arrays; a picture of another size is refused before it is decoded."""
    from PIL import Image
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example.FromString(record).features.feature
    contents, labels = example["image"].bytes_list.value, example["label"].int64_list.value
    if len(contents) != 1 or len(labels) != 1:
        raise DamageError(f"expected one image and one label, got {len(contents)} and {len(labels)}")
    height, width, channels = pictures.images.shape[1:]
    with Image.open(io.BytesIO(contents[0]), formats=("PNG", "JPEG")) as picture:
        (wide, high), mode, expected = picture.size, picture.mode, "L" if channels == 1 else "RGB"
        if (wide, high, mode) != (width, height, expected):
            raise DamageError(f"expected {width} x {height} pixels of kind {expected}, got {wide} x {high} of {mode}")
        pictures.encodings.add(str(picture.format))
        pictures.images[at] = np.asarray(picture).reshape(height, width, channels)
    if not 0 <= labels[0] < classes:
        raise DamageError(f"expected a label from 0 to {classes - 1}, got {labels[0]}")
    pictures.labels[at] = labels[0]


def read_note(path: Path) -> Any:
    """Read a JSON file of a prepared folder; raise DamageError if it is none."""
    content = _read(path)
    try:
        return json.loads(content)
    except RecursionError:
        raise DamageError(f"{path.name}: expected JSON, got values nested too deep") from None
    except ValueError as error:
        raise DamageError(f"{path.name}: expected JSON, got {first_line(error)}") from None


def _read(path: Path) -> bytes:
    """Return the content of a small file; raise FileNotFoundError if there is none."""
    try:
        if path.exists() and not path.is_file():
            raise DamageError(f"{path.name}: expected a file, got something else")
        with path.open("rb") as file:
            content = file.read(LONGEST_NOTE + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamageError(f"{path.name}: expected a file, got an error: {error.strerror or error}") from error
    if len(content) > LONGEST_NOTE:
        raise DamageError(f"{path.name}: expected at most {LONGEST_NOTE} bytes, got more")
    return content


def _kind(feature: Mapping[str, Any]) -> Any:
    """Return the class path of a feature; older versions wrote it as its type."""
    return feature.get("pythonClassName", feature.get("type"))


def _content(feature: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the description of a feature under its own name; older versions wrote it as its content."""
    content = feature.get(key, feature.get("content"))
    return _require(f"features.json: {key}", content, dict, "a mapping")


def _require(where: str, value: Any, kind: type, expected: str) -> Any:
    if not isinstance(value, kind):
        raise DamageError(f"{where}: expected {expected}, got {describe(value)}")
    return value


def _count(where: str, value: Any) -> int:
    """Return a number of things; protocol buffers write 64-bit integers as text."""
    digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19
    if isinstance(value, bool) or not (digits or isinstance(value, int)) or int(value) < 1:
        raise DamageError(f"{where}: expected a count of at least 1, got {describe(value)}")
    return int(value)
