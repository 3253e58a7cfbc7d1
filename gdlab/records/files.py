"""Atomic writes of files and folders, and JSON."""

import contextlib
import json
import math
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Provide a temporary path to write a file to, and move it over `path` if the block succeeds.

    If the block raises an error, the temporary file is removed and `path` stays as it was. The temporary file lies
    beside `path` and has the same suffix, so that writers that depend on the suffix choose the right format.

    Args:
      path: the file to write. Missing folders are created.

    Yields:
      The temporary path.

    Raises:
      NotADirectoryError: if a file has the name of one of the path's folders.
      FileNotFoundError: if the block wrote nothing.
    """
    target = Path(path).absolute()
    require_folder(target.parent)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}-{uuid.uuid4().hex}{target.suffix}")
    try:
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(f"nothing was written for {target}")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def require_folder(folder: Path) -> None:
    """Check that files can be written to a folder.

    Args:
      folder: the folder, which need not exist.

    Raises:
      NotADirectoryError: if `folder`, or one of its parents, is a file.
    """
    for part in (folder, *folder.parents):
        if part.exists() and not part.is_dir():
            raise NotADirectoryError(f"expected a folder to write to, got {folder}, but {part} is a file")


@contextlib.contextmanager
def staged_folder(folder: str | Path) -> Iterator[Path]:
    """Provide a temporary folder to fill, and move its files into `folder` if the block succeeds.

    If the block raises an error, or the process is killed during the block, nothing reaches `folder`. Each file is
    moved as a whole, by a rename: the temporary folder lies beside `folder`, or inside it if `folder` is on another
    disk or its parent is not writable. Files of the same name are replaced, and other files in `folder` remain.

    Args:
      folder: the folder to write to. It is created if it does not exist.

    Yields:
      The temporary folder.

    Raises:
      NotADirectoryError: if `folder`, or one of its parents, is a file.
      IsADirectoryError: if a file would replace a folder of the same name.
    """
    target = Path(folder).resolve()
    require_folder(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = not target.exists() or (
        target.stat().st_dev == target.parent.stat().st_dev and os.access(target.parent, os.W_OK)
    )
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent if beside else target))
    try:
        yield staging
        target.mkdir(exist_ok=True)
        moves = {file: target / file.relative_to(staging) for file in sorted(staging.rglob("*")) if file.is_file()}
        for destination in moves.values():
            if destination.is_dir():
                raise IsADirectoryError(f"expected to write the file {destination}, but a folder has that name")
            require_folder(destination.parent)
        for file, destination in moves.items():
            destination.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, destination)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def to_json(value: Any) -> Any:
    """Convert a value to what JSON supports.

    Args:
      value: dicts, lists and tuples of arrays, numbers and strings.

    Returns:
      The value with arrays as lists, NumPy and JAX scalars as Python numbers, and numbers that are not finite as
      None.
    """
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return to_json(np.asarray(value).tolist())
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as JSON, atomically.

    Args:
      path: the file to write.
      value: a value that `to_json` converts.
    """
    text = json.dumps(to_json(value), indent=1, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def write_lines(path: str | Path, rows: Iterable[Any]) -> None:
    """Write one line of JSON per row; the whole file is written atomically.

    Args:
      path: the file to write.
      rows: values that `to_json` converts.
    """
    text = "".join(json.dumps(to_json(row), allow_nan=False) + "\n" for row in rows)
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def read_lines(path: str | Path) -> list[Any]:
    """Read a file with one JSON value per line.

    Args:
      path: the file to read.

    Returns:
      The values, one per line.
    """
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
