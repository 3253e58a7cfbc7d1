"""The cache of decoded data sets: one file of arrays for each prepared folder, checked before it is believed."""

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gdlab.arguments import as_path
from gdlab.records.files import atomic_path

FORMAT = 2
"""Changes when files of earlier versions of the library must not be read any more."""


class Decoded(NamedTuple):
    """The content of a prepared folder, as `gdlab.data.Dataset` has it."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    provenance: dict[str, str]


def place(name: str, folder: Path) -> Path | None:
    """Return the file in which the arrays of a folder are cached; None if there is no home directory to put it in.

    A folder has a single file in the cache, so a folder that is prepared again replaces its old file.
    """
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    try:
        cache = as_path("GDLAB_CACHE_DIR", os.environ.get("GDLAB_CACHE_DIR") or "~/.cache/gdlab")
    except ValueError:
        return None
    return cache / f"{name}-{folder.name}-{digest}.npz"


def stamp(folder: Path) -> str:
    """Return the present state of a folder: the names, sizes and times of its files."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return json.dumps([FORMAT, *((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)])


def read(cached: Path, stamp: str, shape: tuple[int, int, int]) -> Decoded | None:
    """Return the arrays in a file; None if it is missing, damaged, or from another state of the folder.

    Members that are compressed are refused: `write` compresses none, and without compression a small file cannot fill
    the memory. NumPy does not verify the checksums of members.
    """
    try:
        with cached.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.zip.infolist()):
                return None
            if str(archive["stamp"]) != stamp or archive.zip.testzip() is not None:
                return None
            found = Decoded(
                archive["train_images"],
                archive["train_labels"],
                archive["test_images"],
                archive["test_labels"],
                tuple(archive["classes"].tolist()),
                json.loads(str(archive["provenance"])),
            )
            return found if _is_sound(found, shape) else None
    except Exception:  # with a damaged file, the zip, npy and text readers may raise anything
        return None


def _is_sound(found: Decoded, shape: tuple[int, int, int]) -> bool:
    """Return whether all arrays have the expected dtypes, shapes and ranges."""
    if not isinstance(found.provenance, dict) or not all(isinstance(text, str) for text in found.provenance.values()):
        return False
    if not all(isinstance(name, str) for name in found.classes):
        return False
    parts = (found.train_images, found.train_labels), (found.test_images, found.test_labels)
    return all(
        images.dtype == np.uint8
        and labels.dtype == np.int32
        and labels.ndim == 1
        and images.shape == (len(labels), *shape)
        and len(labels) > 0
        and labels.min() >= 0
        and labels.max() < len(found.classes)
        for images, labels in parts
    )


def write(cached: Path, stamp: str, decoded: Decoded) -> None:
    """Write the arrays to a file, atomically; what killed processes left beside it is removed."""
    with atomic_path(cached) as temporary:
        np.savez(
            temporary,
            train_images=decoded.train_images,
            train_labels=decoded.train_labels,
            test_images=decoded.test_images,
            test_labels=decoded.test_labels,
            classes=np.array(decoded.classes),
            provenance=np.array(json.dumps(decoded.provenance)),
            stamp=np.array(stamp),
        )
