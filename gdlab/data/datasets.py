"""Data sets as arrays, by name: from folders in the format of tensorflow-datasets, or from scikit-learn."""

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from gdlab.arguments import describe
from gdlab.records.files import atomic_path
from gdlab.types import NameTable


class DataError(OSError):
    """Raised if data is missing, unfinished or damaged; the message says where it was expected and what to do."""


class Split(NamedTuple):
    """The images and labels of one part of a data set.

    Attributes:
      images: uint8 images in 0..255, of shape (count, height, width, channels).
      labels: the class of each image, counted from 0.
    """

    images: UInt8[np.ndarray, "count height width channels"]
    labels: Int[np.ndarray, " count"]


class Dataset(NamedTuple):
    """A data set of labelled images.

    Attributes:
      name: the name in `DATASETS`.
      train: the training part.
      test: the test part.
      classes: the names of the classes.
      provenance: the origin of the arrays: the source, version, folder and archives, and how the images were encoded.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    provenance: dict[str, str]


DATASETS: NameTable[tuple[int, int, int]] = NameTable(
    "data set",
    {
        "digits": (8, 8, 1),
        "mnist": (28, 28, 1),
        "fashion_mnist": (28, 28, 1),
        "cifar10": (32, 32, 3),
        "cifar100": (32, 32, 3),
        "stl10": (96, 96, 3),
    },
)
"""Height, width and channels of each data set's images."""


def places(data_dir: str | Path | None = None) -> list[Path]:
    """Return the folders in which `load` searches for data sets, in order.

    Args:
      data_dir: a folder to search first. None: no such folder.

    Returns:
      `data_dir` and $GDLAB_DATA_DIR, if they are given, and ~/tensorflow_datasets.

    Raises:
      TypeError: if `data_dir` is not a path.
    """
    if data_dir is not None and not isinstance(data_dir, (str, Path)):
        raise TypeError(f"data_dir: expected a path, got {describe(data_dir)}")
    found = [Path(data_dir)] if data_dir is not None else []
    if os.environ.get("GDLAB_DATA_DIR"):
        found.append(Path(os.environ["GDLAB_DATA_DIR"]))
    return [place.expanduser() for place in (*found, Path("~/tensorflow_datasets"))]


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Load the training and the test part of a data set.

    "digits" is part of scikit-learn: 1,797 images of 8 x 8 pixels, of which the last 297 of a fixed shuffle are the
    test part. The other data sets are read from prepared folders, `places(data_dir)/<name>/<version>`; the latest
    complete version is used. The decoded arrays are cached in $GDLAB_CACHE_DIR or ~/.cache/gdlab, and a damaged cache
    file is replaced.

    Args:
      name: a name in `DATASETS`.
      data_dir: a folder to search first; see `places`.

    Returns:
      A `Dataset`.

    Raises:
      KeyError: if the name is unknown.
      DataError: if the data is missing, unfinished or damaged.
    """
    shape = DATASETS[name]
    if name == "digits":
        return _digits()
    folder, looked = find(name, data_dir)
    helps = command(name, data_dir)
    if folder is None:
        raise DataError(f"{name}: expected a prepared folder, looked in {', '.join(looked)}; prepare it with: {helps}")
    try:
        return _prepared(name, folder, shape)
    except _DamageError as error:
        raise DataError(f"{name}: {folder} is damaged: {error}; remove the folder, then: {helps}") from error


def command(name: str, data_dir: str | Path | None = None) -> str:
    """Return the command that prepares the data set in the folder that `load(name, data_dir)` searches first."""
    where = "" if data_dir is None else f" --data-dir {shlex.quote(str(data_dir))}"
    return f"gdlab data prepare {name}{where}"


class _DamageError(Exception):
    """Raised if the content of a prepared folder is damaged."""


def find(name: str, data_dir: str | Path | None = None) -> tuple[Path | None, list[str]]:
    """Find the prepared folder of a data set.

    Only folders whose name is a version count, so folders that tensorflow-datasets has not finished are skipped.
    "digits" has no folder.

    Args:
      name: a name in `DATASETS`.
      data_dir: a folder to search first; see `places`.

    Returns:
      The folder that `load` reads, or None if there is none, and the places searched before it, each with what is
      missing there.

    Raises:
      KeyError: if the name is unknown.
    """
    DATASETS[name]
    looked = []
    for place in places(data_dir):
        versions = sorted(
            (folder for folder in (place / name).glob("*") if _VERSION.fullmatch(folder.name)),
            key=lambda folder: [int(part) for part in folder.name.split(".")],
            reverse=True,
        )
        if not versions:
            looked.append(f"{place} (no {name}/<version>)")
        for folder in versions:
            if not (lack := lacks(name, folder)):
                return folder, looked
            looked.append(f"{folder} ({lack})")
    return None, looked


_VERSION = re.compile(r"\d+\.\d+\.\d+")


def lacks(name: str, folder: Path) -> str:
    """Return what the folder lacks to be a complete one of the data set `name`, or ""; no record is read."""
    try:
        info = json.loads((folder / "dataset_info.json").read_text())
        json.loads((folder / "features.json").read_text())
        splits = {split["name"]: len(split["shardLengths"]) for split in info["splits"]}
    except FileNotFoundError as error:
        return f"without {Path(error.filename).name}"
    except (OSError, ValueError, KeyError, TypeError):
        return "with a damaged dataset_info.json or features.json"
    if name != "mnist" and not (folder / "label.labels.txt").is_file():  # the classes of MNIST have no names
        return "without label.labels.txt"
    for split in ("train", "test"):
        count = splits.get(split, 0)
        if not count:
            return f"without the split {split}"
        shards = {f"{name}-{split}.array_record-{shard:05d}-of-{count:05d}" for shard in range(count)}
        if missing := sorted(shards - {path.name for path in folder.iterdir()}):
            return f"without {missing[0]}"
    return ""


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    source = load_digits()
    order = np.random.default_rng(0).permutation(len(source.images))
    images = np.round(source.images[order, :, :, None] * (255 / 16)).astype(np.uint8)
    labels = source.target[order].astype(np.int32)
    parts = Split(images[:1500], labels[:1500]), Split(images[1500:], labels[1500:])
    origin = {"source": "scikit-learn's load_digits (UCI, optical recognition of handwritten digits)"}
    return Dataset("digits", *parts, tuple(str(number) for number in range(10)), origin)


def _prepared(name: str, folder: Path, shape: tuple[int, int, int]) -> Dataset:
    """Read the data set from the cache if that matches the present state of the folder, otherwise from the folder.

    A folder has a single file in the cache, so a folder that is prepared again replaces its old file.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    stamp = json.dumps([(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files])
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("GDLAB_CACHE_DIR") or "~/.cache/gdlab").expanduser()
    cached = cache / f"{name}-{folder.name}-{digest}.npz"
    if (dataset := _read(name, cached, stamp)) is not None:
        return dataset
    dataset = _decode(name, folder, shape)
    with contextlib.suppress(OSError):  # without a cache, loading takes longer but still works
        _write(dataset, cached, stamp)
    return dataset


def _read(name: str, cached: Path, stamp: str) -> Dataset | None:
    """Return the data set from the cache; None if it is missing, damaged, or from another state of the folder."""
    try:
        with cached.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if str(archive["stamp"]) != stamp or archive.zip.testzip() is not None:  # NumPy does not verify checksums
                return None
            train = Split(archive["train_images"], archive["train_labels"])
            test = Split(archive["test_images"], archive["test_labels"])
            provenance = json.loads(str(archive["provenance"]))
            return Dataset(name, train, test, tuple(archive["classes"].tolist()), provenance)
    except Exception:  # with a damaged file, the zip, npy and text readers may raise anything
        return None


def _write(dataset: Dataset, cached: Path, stamp: str) -> None:
    with atomic_path(cached) as temporary:
        np.savez(
            temporary,
            train_images=dataset.train.images,
            train_labels=dataset.train.labels,
            test_images=dataset.test.images,
            test_labels=dataset.test.labels,
            classes=np.array(dataset.classes),
            provenance=np.array(json.dumps(dataset.provenance)),
            stamp=np.array(stamp),
        )


def _decode(name: str, folder: Path, shape: tuple[int, int, int]) -> Dataset:
    import tensorflow_datasets as tfds
    from PIL import Image

    def quiet(record: logging.LogRecord) -> bool:  # each split is read once, in order, so group sizes do not matter
        return "group size" not in record.getMessage()

    logger = logging.getLogger("absl")
    logger.addFilter(quiet)
    parts, encodings = [], set()
    try:
        builder = tfds.builder_from_directory(folder)
        for split in ("train", "test"):
            source = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
            images = np.empty((len(source), *shape), np.uint8)
            labels = np.empty(len(source), np.int32)
            for low in range(0, len(source), 2048):
                block = list(range(low, min(low + 2048, len(source))))
                for index, example in zip(block, source.__getitems__(block), strict=True):
                    with Image.open(io.BytesIO(example["image"])) as picture:
                        encodings.add(str(picture.format))
                        images[index] = np.asarray(picture).reshape(shape)
                    labels[index] = example["label"]
            if len(source) != builder.info.splits[split].num_examples:
                raise ValueError(f"{len(source)} examples of {split}")
            parts.append(Split(images, labels))
        classes = tuple(builder.info.features["label"].names)
        archives = _archives(folder)
        if not all(part.labels.min() >= 0 and part.labels.max() < len(classes) for part in parts):
            raise ValueError(f"labels outside 0 to {len(classes) - 1}")
    except Exception as error:  # the readers may raise anything, such as RuntimeError for a checksum
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _DamageError(reason) from error
    finally:
        logger.removeFilter(quiet)
    origin = {
        "source": "tensorflow-datasets",
        "version": folder.name,
        **archives,
        "folder": str(folder.resolve()),  # absolute, because the cache outlives the working directory
        "encoding": ", ".join(sorted(encodings)) + (" (lossy)" if "JPEG" in encodings else ""),
    }
    return Dataset(name, parts[0], parts[1], classes, origin)


def _archives(folder: Path) -> dict[str, str]:
    """Return what `prepare` recorded about the files the folder was made from; empty if others made the folder."""
    try:
        sources = json.loads((folder / "sources.json").read_text())
    except FileNotFoundError:
        return {}
    return {
        file: f"SHA-256 {source['sha256']}, {'as published' if source['published'] else 'not the published file'}"
        for file, source in sources.items()
    }
