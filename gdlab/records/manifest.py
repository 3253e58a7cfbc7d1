"""Manifests: files that identify the run of a folder, written when it is created and compared when it is reopened."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gdlab.records.files import require_folder, to_json, write_json


class AnotherRunError(ValueError):
    """The folder holds the results of another run; the message names what differs."""


def require_fresh(path: Path, name: str) -> None:
    """Require that a folder has a manifest, is empty except for hidden files, or does not exist.

    Args:
      path: the manifest in the folder.
      name: the argument that names the folder, for the error message.

    Raises:
      ValueError: if the folder holds other files.
      NotADirectoryError: if the folder, or one of its parents, is a file.
    """
    require_folder(path.parent)
    inside = list(path.parent.iterdir()) if path.parent.exists() and not path.exists() else []
    if stray := [entry.name for entry in inside if not entry.name.startswith(".")]:
        raise ValueError(
            f"{name}: expected a new or empty folder, or the folder of a run, got {path.parent} with {stray[0]}"
        )


def claim(path: Path, identity: Mapping[str, Any], name: str, *, more: Mapping[str, Any] | None = None) -> None:
    """Write the manifest of a run, or check that the existing one describes the same run.

    Args:
      path: the manifest.
      identity: everything that determines the numbers of the run; the error message lists the names of entries that
        differ.
      name: the argument that names the folder, for the error message.
      more: other information for readers of the manifest, which may change.

    Raises:
      AnotherRunError: if the folder belongs to another run.
      ValueError: if the existing manifest cannot be read.
    """
    described = to_json({**(more or {}), "identity": dict(identity)})
    before = read_manifest(path, name) if path.exists() else None
    if before is not None:
        held, asked = before["identity"], described["identity"]
        if different := [entry for entry in {**held, **asked} if held.get(entry) != asked.get(entry)]:
            raise AnotherRunError(
                f"{name}: {path.parent} holds another run, which differs in: {', '.join(different)}; choose another "
                "folder, or remove this one"
            )
    if before != described:
        write_json(path, described)


def read_manifest(path: Path, name: str) -> dict[str, Any]:
    """Return what `claim` wrote; raise ValueError if the file is not a manifest."""
    try:
        held = json.loads(path.read_text())
        held["identity"].keys()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{name}: {path} does not describe a run; choose another folder") from None
    return dict(held)
