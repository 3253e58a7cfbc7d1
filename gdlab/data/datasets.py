"""Data sets as arrays, by name: from folders in the format of tensorflow-datasets, or from scikit-learn."""

import contextlib
import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from gdlab.arguments import as_path, require_text
from gdlab.data import cache
from gdlab.data.folders import DamageError, lacks, read_classes, read_pictures, read_sources
from gdlab.types import NameTable, UnknownNameError


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


def image_shape(name: str) -> tuple[int, int, int]:
    """Return height, width and channels of the images of a data set; raise TypeError or KeyError for another name."""
    require_text("name", name, empty=True)
    try:
        return DATASETS[name]
    except KeyError as error:
        raise UnknownNameError(f"name: expected a name in DATASETS, got {name!r}; {error}") from None


def places(data_dir: str | Path | None = None) -> list[Path]:
    """Return the folders in which `load` searches for data sets, in order.

    Args:
      data_dir: a folder to search first. None: no such folder.

    Returns:
      `data_dir` and $GDLAB_DATA_DIR, if they are given, and ~/tensorflow_datasets.

    Raises:
      TypeError: if `data_dir` is not a path.
      ValueError: if `data_dir` is an empty path or has an unknown home directory.
    """
    found = [as_path("data_dir", data_dir)] if data_dir is not None else []
    if os.environ.get("GDLAB_DATA_DIR"):
        found.append(as_path("GDLAB_DATA_DIR", os.environ["GDLAB_DATA_DIR"]))
    with contextlib.suppress(ValueError):  # a user without a home
        found.append(as_path("home", "~/tensorflow_datasets"))
    if not found:
        raise DataError("data_dir: expected a folder or $GDLAB_DATA_DIR, as the home directory is unknown, got None")
    return found


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
      TypeError: if the name is not text, or `data_dir` is not a path.
      DataError: if the data is missing, unfinished or damaged, or a package that reads it cannot be imported.
    """
    shape = image_shape(name)
    if name == "digits":
        return _digits()
    folder, looked = find(name, data_dir)
    helps = command(name, data_dir)
    if folder is None:
        raise DataError(f"{name}: expected a prepared folder, looked in {', '.join(looked)}; prepare it with: {helps}")
    try:
        return _prepared(name, folder, shape)
    except DamageError as error:
        raise DataError(f"{name}: {folder} is damaged: {error}; remove the folder, then: {helps}") from error
    except ImportError as error:
        raise DataError(f"{name}: {error}") from error


def command(name: str, data_dir: str | Path | None = None) -> str:
    """Return the command that prepares the data set in the folder that `load(name, data_dir)` searches first."""
    where = "" if data_dir is None else f" --data-dir {shlex.quote(str(data_dir))}"
    return f"gdlab data prepare {name}{where}"


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
      TypeError: if the name is not text, or `data_dir` is not a path.
    """
    image_shape(name)
    looked = []
    for place in places(data_dir):
        if not (versions := _versions(place / name)):
            looked.append(f"{place} (no {name}/<version>)")
        for folder in versions:
            if not (lack := lacks(name, folder)):
                return folder, looked
            looked.append(f"{folder} ({lack})")
    return None, looked


def _versions(folder: Path) -> list[Path]:
    """Return the subfolders that are named after a version, the latest first."""
    try:
        found = [path for path in folder.iterdir() if _VERSION.fullmatch(path.name)]
    except OSError:  # missing, unreadable, or a name that is too long
        return []
    return sorted(found, key=lambda path: [int(part) for part in path.name.split(".")], reverse=True)


_VERSION = re.compile(r"\d+\.\d+\.\d+", re.ASCII)


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
    """Read the data set from the cache if that matches the present state of the folder, otherwise from the folder."""
    cached, stamp = cache.place(name, folder), cache.stamp(folder)
    found = None if cached is None else cache.read(cached, stamp, shape)
    if found is None:
        found = _decode(name, folder, shape)
        if cached is not None:
            with contextlib.suppress(OSError):  # without a cache, loading takes longer but still works
                cache.write(cached, stamp, found)
    train, test = Split(found.train_images, found.train_labels), Split(found.test_images, found.test_labels)
    return Dataset(name, train, test, found.classes, found.provenance)


def _decode(name: str, folder: Path, shape: tuple[int, int, int]) -> cache.Decoded:
    classes, archives = read_classes(folder), read_sources(folder)
    train, test = (read_pictures(name, split, folder, shape) for split in ("train", "test"))
    encodings = train.encodings | test.encodings
    origin = {
        "source": "tensorflow-datasets",
        "version": folder.name,
        **archives,
        "folder": str(folder.resolve()),  # absolute, because the cache outlives the working directory
        "encoding": ", ".join(sorted(encodings)) + (" (lossy)" if "JPEG" in encodings else ""),
    }
    return cache.Decoded(train.images, train.labels, test.images, test.labels, classes, origin)
