"""The results of a sweep on disk while it runs: one file per block of lanes, so that a killed sweep resumes."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from gdlab.arguments import as_path, describe, require_count, require_mapping, require_text
from gdlab.records.disk import HeldFolder
from gdlab.records.files import read_json
from gdlab.records.manifest import claim, digest_identity, require_fresh, write_new
from gdlab.records.packed import DamagedError, is_numeric, pack, unpacked
from gdlab.records.temporaries import remove_abandoned

FORMAT = 3


class Blocks:
    """A folder with `sweep.json`, which identifies the sweep, and one .npz file for each finished block of lanes.

    Each file is complete or absent, so that a sweep that was killed can resume from the finished blocks. It holds a
    digest of the sweep's identity and of its own numbers, so that no file of another sweep or block is taken for it.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: Mapping[str, Any]):
        """Open the folder, or create it. Several processes may do so at the same time.

        Args:
          folder: the folder.
          identity: what the sweep is, as named entries of text.

        Raises:
          TypeError: if an argument has the wrong type.
          AnotherRunError: if the folder holds another sweep; the message names what differs. It is a ValueError.
          ValueError: if the folder contains other files, or its manifest cannot be read.
          NotADirectoryError: if a file has the name of the folder or of one of its parents.
          PermissionError: if the folder is new and cannot be written to.
        """
        self.folder = as_path("save_to", folder)
        require_mapping("identity", identity, "from names to text")
        identity = {"format": FORMAT, **identity}
        self._digest = digest_identity(identity)
        require_fresh(self.folder / "sweep.json", "save_to")
        self._held = HeldFolder(self.folder, "save_to")
        claim(self._held, "sweep.json", identity)
        remove_abandoned(self.folder)

    def _named(self, block: tuple[int, ...]) -> tuple[str, str]:
        """Return the name of a block's file, and the text that says what it belongs to."""
        for number in block:
            require_count("block", number, low=0)
        text = "-".join(f"{number:09d}" for number in block)
        return f"{text}.npz", f"{self._digest} {text}"

    def load(self, *block: int) -> dict[str, np.ndarray] | None:
        """Load a block.

        Args:
          *block: the numbers that identify the block.

        Returns:
          The block's arrays by name, or None if it is not finished, or its file is damaged or that of another block.

        Raises:
          PermissionError: if the block is not there, and the folder cannot be written to.
        """
        name, belongs = self._named(block)
        try:
            with unpacked(self.folder / name) as packed:
                if packed.head.belongs_to == belongs:
                    return {entry.name: packed.array(place) for place, entry in enumerate(packed.head.entries)}
        except (OSError, DamagedError):
            pass
        if not self._held.writable:
            raise PermissionError(f"save_to: expected a folder with all blocks, or one to write to, got {self.folder}")
        return None

    def save(self, *block: int, arrays: Mapping[str, Any]) -> None:
        """Write a finished block atomically.

        Args:
          *block: the numbers that identify the block.
          arrays: the arrays by name.

        Raises:
          TypeError: if `arrays` are not arrays of numbers by name.
          FileNotFoundError: if the folder has been moved or deleted since it was opened.
        """
        name, belongs = self._named(block)
        require_mapping("arrays", arrays, "from names to arrays")
        for key, array in arrays.items():
            if not isinstance(key, str) or not is_numeric(array):
                raise TypeError(f"arrays[{key!r}]: expected numbers, got {describe(array)}")
        with self._held.writing(name) as temporary:
            pack(temporary, {key: (np.asarray(array), "") for key, array in arrays.items()}, None, belongs)

    def load_plan(self, name: str = "plan") -> dict[str, Any] | None:
        """Return what `keep_plan` kept, or None if it is not there or damaged or another sweep's.

        Args:
          name: the name of the plan, if there are several. Default "plan".
        """
        require_text("name", name)
        try:
            held = read_json(self.folder / f"{name}.json")
            plan = held.pop("plan")
            return dict(plan) if held.get("belongs_to") == digest_identity([self._digest, plan]) else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def keep_plan(self, plan: Mapping[str, Any], name: str = "plan") -> dict[str, Any]:
        """Write how the sweep divides its work, unless another process has done so; return what is written.

        Args:
          plan: the plan, as JSON.
          name: the name of the plan, if there are several. Default "plan".
        """
        require_text("name", name)
        file = f"{name}.json"
        value = {"plan": plan, "belongs_to": digest_identity([self._digest, plan])}
        if write_new(self._held, file, value):
            return dict(plan)
        if (held := self.load_plan(name)) is not None:
            return held
        (self.folder / file).unlink(missing_ok=True)  # it is damaged
        return dict(plan) if write_new(self._held, file, value) else (self.load_plan(name) or dict(plan))
