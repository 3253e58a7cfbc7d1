"""Atomic writes of files and folders, and JSON."""

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gdlab.arguments import as_path, describe, first_line
from gdlab.records.disk import durable, make_folder, sync
from gdlab.records.temporaries import forget, remove_abandoned, temporary_beside

AnyPath = str | os.PathLike[str]


def atomic_path(path: AnyPath) -> contextlib.AbstractContextManager[Path]:
    """Provide a temporary path to write a file to, and move it over `path` if the block succeeds.

    If the block raises an error, the temporary file is removed and `path` stays as it was. After the block the file is
    on the disk, even if the machine loses power. The temporary file lies beside `path` and has the same suffix, so
    that writers that depend on the suffix choose the right format. What a killed process left there is removed.

    Args:
      path: the file to write. Missing folders are created.

    Returns:
      A context manager that provides the temporary path.

    Raises:
      TypeError: if `path` is not a path.
      NotADirectoryError: if a file has the name of one of the path's folders.
      FileNotFoundError: if the block wrote nothing.
    """
    return _atomic(as_path("path", path).absolute())


@contextlib.contextmanager
def _atomic(target: Path) -> Iterator[Path]:
    require_folder(target.parent)
    make_folder(target.parent)
    with durable(target) as temporary:
        yield temporary


def require_folder(folder: AnyPath) -> None:
    """Check that files can be written to a folder.

    Args:
      folder: the folder, which need not exist.

    Raises:
      TypeError: if `folder` is not a path.
      NotADirectoryError: if `folder`, or one of its parents, is a file.
    """
    given = as_path("folder", folder)
    for part in (given, *given.parents):
        if os.path.exists(part) and not part.is_dir():
            raise NotADirectoryError(f"expected a folder to write to, got {given}, but {part} is a file")


def staged_folder(folder: AnyPath) -> contextlib.AbstractContextManager[Path]:
    """Provide a temporary folder to fill, and move its files into `folder` if the block succeeds.

    If the block raises an error, or the process is killed during the block, nothing reaches `folder`; the temporary
    folder of a killed process is removed by the next one. Each file is moved as a whole, by a rename: the temporary
    folder lies beside `folder`, or inside it if `folder` is on another disk or its parent is not writable. Files of
    the same name are replaced, and other files in `folder` remain.

    Args:
      folder: the folder to write to. It is created if it does not exist.

    Returns:
      A context manager that provides the temporary folder.

    Raises:
      TypeError: if `folder` is not a path.
      NotADirectoryError: if `folder`, or one of its parents, is a file.
      IsADirectoryError: if a file would replace a folder of the same name.
      FileNotFoundError: if the temporary folder was moved or deleted.
    """
    return _staged(as_path("folder", folder).resolve())


@contextlib.contextmanager
def _staged(target: Path) -> Iterator[Path]:
    require_folder(target)
    make_folder(target.parent)
    beside = not target.exists() or (
        target.stat().st_dev == target.parent.stat().st_dev and os.access(target.parent, os.W_OK)
    )
    place = target.parent if beside else target
    remove_abandoned(place)
    staging = temporary_beside(place / target.name)
    try:
        staging.mkdir(mode=0o700)
        begun = staging.stat()
        yield staging
        if not staging.is_dir() or not os.path.samestat(staging.stat(), begun):
            raise FileNotFoundError(f"expected {staging} to stay in its place, but it was moved or deleted")
        make_folder(target)
        moves = {file: target / file.relative_to(staging) for file in sorted(staging.rglob("*")) if file.is_file()}
        for file, destination in moves.items():
            if destination.is_dir():
                raise IsADirectoryError(f"expected to write the file {destination}, but a folder has that name")
            require_folder(destination.parent)
            sync(file)
        for file, destination in moves.items():
            make_folder(destination.parent)
            os.replace(file, destination)
        for changed in {destination.parent for destination in moves.values()}:
            sync(changed)
    finally:
        forget(staging)


def to_json(value: Any, name: str = "value") -> Any:
    """Convert a value to what JSON supports.

    Args:
      value: mappings, lists and tuples of arrays, numbers, strings and paths.
      name: the name of the argument that the value was given as, for the error message. Default "value".

    Returns:
      The value with arrays as lists, NumPy and JAX scalars as Python numbers, paths as text, and numbers that are not
      finite as None.

    Raises:
      TypeError: if a part of the value is something else.
      ValueError: if two keys of a mapping are written in the same way, or the value contains itself.
    """
    try:
        return _converted(value, name)
    except RecursionError:
        raise ValueError(f"{name}: expected a value that JSON supports, got one that is nested too deep") from None


def _converted(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        found = {str(key): _converted(item, f"{where}[{key!r}]") for key, item in value.items()}
        if len(found) < len(value):
            raise ValueError(f"{where}: expected keys that differ as text, got {_repeated(map(str, value))!r} twice")
        return found
    if isinstance(value, (list, tuple)):
        return [_converted(item, f"{where}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        try:
            plain = np.asarray(value).tolist()
        except Exception as error:  # a traced array, or random keys
            raise TypeError(f"{where}: expected concrete numbers, got {first_line(error)}") from None
        if not isinstance(plain, (np.ndarray, np.generic)):
            return _converted(plain, where)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fsdecode(os.fspath(value))
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise TypeError(f"{where}: expected what JSON supports (mappings, lists, numbers and text), got {describe(value)}")


def _repeated(names: Iterable[str]) -> str:
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def write_json(path: AnyPath, value: Any) -> None:
    """Write a value as JSON, atomically.

    Args:
      path: the file to write.
      value: a value that `to_json` converts.

    Raises:
      TypeError: if `path` is not a path, or a part of the value is not supported.
    """
    content = json_text(value)
    with atomic_path(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def json_text(value: Any, name: str = "value") -> str:
    """Return the text of a JSON file with this value; `name` is that of the argument, for error messages."""
    return json.dumps(to_json(value, name), indent=1, allow_nan=False) + "\n"


def write_lines(path: AnyPath, rows: Iterable[Any]) -> None:
    """Write one line of JSON per row; the whole file is written atomically.

    Args:
      path: the file to write.
      rows: values that `to_json` converts.

    Raises:
      TypeError: if `path` is not a path, or a part of a row is not supported.
    """
    content = lines_text(rows)
    with atomic_path(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def lines_text(rows: Iterable[Any], name: str = "rows") -> str:
    """Return the text of a file with one line of JSON per row; `name` is that of the argument, for error messages."""
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise TypeError(f"{name}: expected a sequence of rows, got {describe(rows)}")
    return "".join(
        json.dumps(to_json(row, f"{name}[{place}]"), allow_nan=False) + "\n" for place, row in enumerate(rows)
    )


def read_json(path: AnyPath) -> Any:
    """Read a JSON file.

    Args:
      path: the file to read.

    Returns:
      The value.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if the file does not hold JSON; one line with its name.
    """
    return _parsed(as_path("path", path), _text(as_path("path", path)))


def read_lines(path: AnyPath) -> list[Any]:
    """Read a file with one JSON value per line.

    Args:
      path: the file to read.

    Returns:
      The values, one per line.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if a line does not hold JSON; one line with the file's name.
    """
    file = as_path("path", path)
    lines = _text(file).split("\n")
    return [
        _parsed(f"{file}, line {number}", line.rstrip("\r"))
        for number, line in enumerate(lines if lines[-1] else lines[:-1], 1)
    ]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8, got another byte at {error.start}") from None


def _parsed(where: Any, text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{where}: expected JSON, got a value that is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{where}: expected JSON, got {str(error).splitlines()[0]}") from None
