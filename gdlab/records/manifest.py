"""Manifests: files that identify the run of a folder, written when it is created and compared when it is reopened."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gdlab.records.disk import HeldFolder
from gdlab.records.files import json_text, read_json, require_folder, to_json


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
      OSError: if the folder cannot be read.
    """
    try:
        require_folder(path.parent)
        inside = [*path.parent.iterdir()] if path.parent.exists() else []
    except NotADirectoryError as error:
        raise NotADirectoryError(f"{name}: {error}") from None
    except OSError as error:
        raise type(error)(f"{name}: {path.parent} cannot be read: {error.strerror or error}") from None
    # Another process may have created the run since: its manifest is there before any other file.
    if (stray := [entry.name for entry in inside if not entry.name.startswith(".")]) and not path.exists():
        raise ValueError(
            f"{name}: expected a new or empty folder, or the folder of a run, got {path.parent} with {stray[0]}"
        )


def claim(
    held: HeldFolder, file: str, identity: Mapping[str, Any], *, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write the manifest of a run, or check that the existing one describes the same run.

    Of several processes that write it at the same time, one does, and the others compare with what it wrote.

    Args:
      held: the folder of the run.
      file: the name of the manifest in the folder.
      identity: everything that determines the numbers of the run; the error message lists the names of entries that
        differ.
      more: other information for readers of the manifest, which may change.

    Returns:
      The manifest.

    Raises:
      AnotherRunError: if the folder belongs to another run.
      ValueError: if the existing manifest cannot be read.
    """
    path = held.folder / file
    described = {**to_json(more or {}, "config"), "identity": to_json(identity, "identity")}
    if not path.exists() and write_new(held, file, described):
        return described
    before = read_manifest(path, held.name)
    kept, asked = before["identity"], described["identity"]
    if different := [entry for entry in {**kept, **asked} if kept.get(entry) != asked.get(entry)]:
        raise AnotherRunError(
            f"{held.name}: {path.parent} holds another run, which differs in: {', '.join(different)}; choose another "
            "folder, or remove this one"
        )
    if before != described and held.writable:
        with held.writing(file) as temporary:
            temporary.write_text(json_text(described), encoding="utf-8")
    return described


def write_new(held: HeldFolder, file: str, value: Any) -> bool:
    """Write a JSON file unless it exists; return whether it was written. Of several processes, one writes it."""
    try:
        with held.writing(file, new=True) as temporary:
            temporary.write_text(json_text(value), encoding="utf-8")
    except FileExistsError:
        return False
    return True


def read_manifest(path: Path, name: str) -> dict[str, Any]:
    """Return what `claim` wrote; raise ValueError if the file is not a manifest."""
    try:
        held = read_json(path)
        held["identity"].keys()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{name}: {path} does not describe a run; choose another folder") from None
    return dict(held)


def digest_identity(identity: Any, name: str = "identity") -> str:
    """Return a digest of what identifies a run, which its files carry."""
    text = json.dumps(to_json(identity, name), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
