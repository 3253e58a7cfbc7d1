"""Which run a folder of results belongs to: written when the folder is begun, compared when it is opened again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gdlab.records.files import require_folder, to_json, write_json


class AnotherRunError(ValueError):
    """The folder holds the results of another run; the message names what differs."""


def require_fresh(path: Path, name: str) -> None:
    """Raise ValueError unless the manifest `path` exists, or its folder is new or empty but for hidden files.

    name: of the argument that named the folder, for the message.
    """
    require_folder(path.parent)
    inside = list(path.parent.iterdir()) if path.parent.exists() and not path.exists() else []
    if stray := [entry.name for entry in inside if not entry.name.startswith(".")]:
        raise ValueError(f"{name}: expected a new or empty folder, or a run's, got {path.parent} with {stray[0]}")


def claim(path: Path, identity: Mapping[str, Any], name: str, *, more: Mapping[str, Any] | None = None) -> None:
    """Write the manifest `path` for the run with this identity, unless it is there already.

    identity: what decides the run's numbers, each entry under a name that the error can give. more: what else the
    manifest's readers want to know; it may change. Raises AnotherRunError where the folder belongs to another run, and
    ValueError where the manifest cannot be read.
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
    """What `claim` wrote. Raises ValueError where the file is not a manifest."""
    try:
        held = json.loads(path.read_text())
        held["identity"].keys()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{name}: {path} does not describe a run; choose another folder") from None
    return dict(held)
