"""The environment that a measurement depends on: versions, processor, devices and commit."""

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

from gdlab.compute import fusion
from gdlab.compute.threads import usable_cores


def environment() -> dict[str, Any]:
    """Describe the environment that a measurement depends on.

    Returns:
      A dict with the date (UTC), the command, the versions of Python and of the packages, the processor, its number
      of cores, the number of cores that this process may use, the devices, and whether XLA's fusion with several
      outputs is in force on CPUs; in a git checkout also the commit.
    """
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy", "optax", "flax")}
    commit = git_commit()
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": " ".join(["python", *sys.argv]),
        "python": platform.python_version(),
        "versions": versions,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "multi_output_fusion": fusion.in_force(),
        **({"git_commit": commit} if commit else {}),
    }


def git_commit() -> str:
    """Return the commit of this package's files; an empty string outside a git checkout.

    A "+" follows the commit if some files differ from it.
    """
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
