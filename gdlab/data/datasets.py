"""Data sets by name, as arrays: from folders that tensorflow-datasets prepared, or from scikit-learn."""

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
    """Data that is missing, unfinished or damaged; the message says where it was looked for and what helps."""


class Split(NamedTuple):
    """Images, NHWC in 0..255, and the number of each one's class."""

    images: UInt8[np.ndarray, "count height width channels"]
    labels: Int[np.ndarray, " count"]


class Dataset(NamedTuple):
    """provenance: where the arrays come from: source, version, folder, archives, and how the images were encoded."""

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
    """Where `load` looks, in order: `data_dir`, $GDLAB_DATA_DIR, ~/tensorflow_datasets."""
    if data_dir is not None and not isinstance(data_dir, (str, Path)):
        raise TypeError(f"data_dir: wanted a path, got {describe(data_dir)}")
    found = [Path(data_dir)] if data_dir is not None else []
    if os.environ.get("GDLAB_DATA_DIR"):
        found.append(Path(os.environ["GDLAB_DATA_DIR"]))
    return [place.expanduser() for place in (*found, Path("~/tensorflow_datasets"))]


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """The data set `name` of `DATASETS`, its training and its test part.

    "digits" comes with scikit-learn: 1,797 images of 8 x 8, the last 297 of a fixed shuffle for the test. The others
    are read from prepared folders, `places(data_dir)/<name>/<version>`, the latest version that is whole. Decoded
    arrays are kept in $GDLAB_CACHE_DIR or ~/.cache/gdlab; a file there that is damaged is written anew. Raises KeyError
    for an unknown name and DataError where the data is missing, unfinished or damaged.
    """
    shape = DATASETS[name]
    if name == "digits":
        return _digits()
    folder, looked = find(name, data_dir)
    helps = command(name, data_dir)
    if folder is None:
        raise DataError(f"{name}: wanted a prepared folder, looked in {', '.join(looked)}; prepare it: {helps}")
    try:
        return _prepared(name, folder, shape)
    except _DamageError as error:
        raise DataError(f"{name}: {folder} is damaged: {error}; remove the folder, then: {helps}") from error


def command(name: str, data_dir: str | Path | None = None) -> str:
    """The command that prepares the data set where `load(name, data_dir)` looks first."""
    where = "" if data_dir is None else f" --data-dir {shlex.quote(str(data_dir))}"
    return f"python -m gdlab.data prepare {name}{where}"


class _DamageError(Exception):
    """What is wrong with the content of a prepared folder."""


def find(name: str, data_dir: str | Path | None = None) -> tuple[Path | None, list[str]]:
    """The folder that `load` reads, None where there is none, and the places looked in before it with what they lack.

    Only folders are looked at whose name is a version, so those that tensorflow-datasets has not finished are passed
    over. "digits" has none. Raises KeyError for an unknown name.
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
    """What keeps the folder from being a whole one of the data set `name`; "" where it is. No record is read."""
    try:
        info = json.loads((folder / "dataset_info.json").read_text())
        json.loads((folder / "features.json").read_text())
        splits = {split["name"]: len(split["shardLengths"]) for split in info["splits"]}
    except FileNotFoundError as error:
        return f"without {Path(error.filename).name}"
    except (OSError, ValueError, KeyError, TypeError):
        return "with a damaged dataset_info.json or features.json"
    if name != "mnist" and not (folder / "label.labels.txt").is_file():  # MNIST's classes are their numbers
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
    """From the cache where that is of the folder as it is now, from the folder otherwise.

    A folder has one file in the cache, so that one that is prepared anew takes the old one's place.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    stamp = json.dumps([(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files])
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("GDLAB_CACHE_DIR") or "~/.cache/gdlab").expanduser()
    cached = cache / f"{name}-{folder.name}-{digest}.npz"
    if (dataset := _read(name, cached, stamp)) is not None:
        return dataset
    dataset = _decode(name, folder, shape)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, not the data
        _write(dataset, cached, stamp)
    return dataset


def _read(name: str, cached: Path, stamp: str) -> Dataset | None:
    """The data set in the cache; None where it is not there, or damaged, or of another state of the folder."""
    try:
        with cached.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if str(archive["stamp"]) != stamp or archive.zip.testzip() is not None:  # NumPy alone skips checksums
                return None
            train = Split(archive["train_images"], archive["train_labels"])
            test = Split(archive["test_images"], archive["test_labels"])
            provenance = json.loads(str(archive["provenance"]))
            return Dataset(name, train, test, tuple(archive["classes"].tolist()), provenance)
    except Exception:  # a damaged file raises whatever the zip, npy and text readers stumble over
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

    def quiet(record: logging.LogRecord) -> bool:  # each split is read once, in order: group sizes do not matter
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
    except Exception as error:  # the readers raise whatever they like, RuntimeError for a wrong checksum
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _DamageError(reason) from error
    finally:
        logger.removeFilter(quiet)
    origin = {
        "source": "tensorflow-datasets",
        "version": folder.name,
        **archives,
        "folder": str(folder.resolve()),  # the cache outlives the working directory
        "encoding": ", ".join(sorted(encodings)) + (" (lossy)" if "JPEG" in encodings else ""),
    }
    return Dataset(name, parts[0], parts[1], classes, origin)


def _archives(folder: Path) -> dict[str, str]:
    """What `prepare` wrote down about the files that the folder was made of; nothing for another's folder."""
    try:
        sources = json.loads((folder / "sources.json").read_text())
    except FileNotFoundError:
        return {}
    return {
        file: f"SHA-256 {source['sha256']}, {'as published' if source['published'] else 'not the published file'}"
        for file, source in sources.items()
    }
