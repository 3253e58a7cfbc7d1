"""Atomic writes: files and folders that are whole or absent, and JSON."""

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
    """A temporary path beside `path` to write to; moved over `path` when the block ends well, removed when it does not.

    The suffix stays, so that writers that look at it still know the format. Raises NotADirectoryError where a file
    stands in the way, and FileNotFoundError if the block wrote nothing.
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
    """Raise NotADirectoryError where `folder`, or something on the way to it, is a file."""
    for part in (folder, *folder.parents):
        if part.exists() and not part.is_dir():
            raise NotADirectoryError(f"wanted a folder to write to, got {folder}, where {part} is a file")


@contextlib.contextmanager
def staged_folder(folder: str | Path) -> Iterator[Path]:
    """A temporary folder to fill; its files are moved into `folder` when the block ends well.

    When the block raises, or the process is killed in it, nothing reaches `folder`. Each file is moved whole, by a
    rename: the temporary folder lies beside `folder`, or in it where that is another disk or cannot be written to.
    Files of the same name are replaced, others in `folder` stay. Raises NotADirectoryError where `folder`, or something
    on the way to it, is a file.
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
                raise IsADirectoryError(f"wanted to write the file {destination}, but a folder of that name is there")
            require_folder(destination.parent)
        for file, destination in moves.items():
            destination.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, destination)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def to_json(value: Any) -> Any:
    """`value` with arrays as lists, NumPy and JAX scalars as Python's, and numbers that are not finite as None."""
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
    """Write `to_json(value)` to `path`, atomically."""
    text = json.dumps(to_json(value), indent=1, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def write_lines(path: str | Path, rows: Iterable[Any]) -> None:
    """Write `to_json` of each row as one line of JSON, the whole file atomically."""
    text = "".join(json.dumps(to_json(row), allow_nan=False) + "\n" for row in rows)
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def read_lines(path: str | Path) -> list[Any]:
    """The rows of a file of one JSON value a line."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
