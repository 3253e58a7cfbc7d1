"""Data sets by name, as arrays: from folders that tensorflow-datasets prepared, or from scikit-learn."""

import contextlib
import hashlib
import io
import json
import logging
import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from gdlab.arguments import describe
from gdlab.runs import atomic_path
from gdlab.types import NameTable


class DataError(OSError):
    """Data that is missing, unfinished or damaged; the message says where it was looked for."""


class Split(NamedTuple):
    """Images, NHWC in 0..255, and the number of each one's class."""

    images: UInt8[np.ndarray, "count height width channels"]
    labels: Int[np.ndarray, " count"]


class Dataset(NamedTuple):
    """provenance: where the arrays come from: source, version, folder, and how the images were encoded."""

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
    seen = []
    for place in places(data_dir):
        versions = sorted((place / name).glob("[0-9]*.[0-9]*.[0-9]*"), key=_number, reverse=True)
        if not versions:
            seen.append(f"{place} (no {name}/<version>)")
        for folder in versions:
            if lacks := _lacks(folder):
                seen.append(f"{folder} ({lacks})")
            else:
                return _prepared(name, folder, shape)
    raise DataError(f"{name}: wanted a folder prepared by tensorflow-datasets, looked in {', '.join(seen)}")


def _number(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in folder.name.split("."))


def _lacks(folder: Path) -> str:
    """What keeps the folder from being whole; nothing where it is."""
    try:
        info = json.loads((folder / "dataset_info.json").read_text())
        json.loads((folder / "features.json").read_text())
        splits = {split["name"]: split["shardLengths"] for split in info["splits"]}
    except FileNotFoundError as error:
        return f"without {Path(error.filename).name}"
    except (ValueError, KeyError, TypeError):
        return "dataset_info.json or features.json is damaged"
    for split in ("train", "test"):
        if split not in splits:
            return f"without the split {split}"
        if len(list(folder.glob(f"*-{split}.array_record-*"))) != len(splits[split]):
            return f"not {len(splits[split])} array_record file(s) of the split {split}"
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
    files = sorted(path for path in folder.iterdir() if path.is_file())
    stamp = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = hashlib.sha256(json.dumps(stamp).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("GDLAB_CACHE_DIR") or "~/.cache/gdlab").expanduser()
    cached = cache / f"{name}-{folder.name}-{digest}.npz"
    with contextlib.suppress(OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):  # not there, or damaged
        return _read(name, cached)
    dataset = _decode(name, folder, shape)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, not the data
        _write(dataset, cached)
    return dataset


def _read(name: str, cached: Path) -> Dataset:
    with np.load(cached, allow_pickle=False) as archive:
        train = Split(archive["train_images"], archive["train_labels"])
        test = Split(archive["test_images"], archive["test_labels"])
        return Dataset(name, train, test, tuple(archive["classes"].tolist()), json.loads(str(archive["provenance"])))


def _write(dataset: Dataset, cached: Path) -> None:
    with atomic_path(cached) as temporary:
        np.savez(
            temporary,
            train_images=dataset.train.images,
            train_labels=dataset.train.labels,
            test_images=dataset.test.images,
            test_labels=dataset.test.labels,
            classes=np.array(dataset.classes),
            provenance=np.array(json.dumps(dataset.provenance)),
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
        if not all(part.labels.min() >= 0 and part.labels.max() < len(classes) for part in parts):
            raise ValueError(f"labels outside 0 to {len(classes) - 1}")
    except Exception as error:  # the readers raise whatever they like, RuntimeError for a wrong checksum
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{name}: {folder} is damaged: {reason}; remove the folder and prepare it anew") from error
    finally:
        logger.removeFilter(quiet)
    origin = {
        "source": "tensorflow-datasets",
        "version": folder.name,
        "folder": str(folder.resolve()),  # the cache outlives the working directory
        "encoding": ", ".join(sorted(encodings)) + (" (lossy)" if "JPEG" in encodings else ""),
    }
    return Dataset(name, parts[0], parts[1], classes, origin)
