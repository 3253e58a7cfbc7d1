"""What a measurement depends on: versions, processor, devices and commit."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

VERSION = "0.1.0"
"""Of this package, whether it is installed or used from its source."""


def environment() -> dict[str, Any]:
    """What a measurement depends on: date, command, Python, versions, processor, cores and devices."""
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy", "optax", "flax")}
    commit = git_commit()
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "python": platform.python_version(),
        "versions": versions,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        **({"git_commit": commit} if commit else {}),
    }


def git_commit() -> str:
    """The commit that this package's files are of, with "+" where some differ from it; nothing outside a checkout."""
    here = Path(__file__).parents[2]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if not (here / ".git").exists():
            return ""

        def git(*arguments: str) -> str:
            return subprocess.run(
                ["git", "--no-optional-locks", "-C", str(here), *arguments],
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            ).stdout.strip()

        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "gdlab") else "")
    return ""


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
