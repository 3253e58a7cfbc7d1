"""Files that are whole or absent: written under a temporary name, then moved into place."""

import contextlib
import datetime
import importlib.metadata
import json
import math
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; moved over `path` when the block ends well, removed when it does not.

    The suffix stays, so that writers that look at it still know the format. Raises NotADirectoryError where the parent
    is no folder.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def staged_folder(folder: str | Path) -> Iterator[Path]:
    """A temporary folder beside `folder` to fill; its files are moved into `folder` when the block ends well.

    When the block raises, nothing reaches `folder`; when the process is killed, only the hidden temporary folder is
    left. Files of the same name are replaced, others in `folder` stay. Raises NotADirectoryError where `folder`, or
    something on the way to it, is a file.
    """
    target = Path(folder).absolute()
    for part in (target, *target.parents):
        if part.exists() and not part.is_dir():
            raise NotADirectoryError(f"wanted a folder to write to, got {target}, where {part} is a file")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield staging
        target.mkdir(exist_ok=True)
        for file in sorted(staging.rglob("*")):
            if file.is_file():
                destination = target / file.relative_to(staging)
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


def environment() -> dict[str, Any]:
    """What a measurement depends on: date, command, Python, versions, processor, cores and devices."""
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy", "optax")}
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "python": platform.python_version(),
        "versions": versions,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
