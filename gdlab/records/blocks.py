"""The results of a sweep on disk while it runs: one file per block of lanes, so that a killed sweep resumes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from gdlab.records.files import atomic_path
from gdlab.records.manifest import claim, require_fresh

FORMAT = 2


class Blocks:
    """A folder with `sweep.json`, which identifies the sweep, and one .npz file for each finished block of lanes.

    Each file is complete or absent, so that a sweep that was killed can resume from the finished blocks.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, str]):
        """Open the folder, or create it.

        Args:
          folder: the folder.
          identity: what the sweep is, as named entries of text.

        Raises:
          AnotherRunError: if the folder holds another sweep; the message names what differs. It is a ValueError.
          ValueError: if the folder contains other files, or its manifest cannot be read.
          NotADirectoryError: if a file has the name of the folder or of one of its parents.
        """
        self.folder = Path(folder)
        manifest = self.folder / "sweep.json"
        require_fresh(manifest, "save_to")
        claim(manifest, {"format": FORMAT, **identity}, "save_to")

    def _path(self, block: tuple[int, ...]) -> Path:
        return self.folder / ("-".join(f"{number:09d}" for number in block) + ".npz")

    def load(self, *block: int) -> dict[str, np.ndarray] | None:
        """Load a block.

        Args:
          *block: the numbers that identify the block.

        Returns:
          The block's arrays by name, or None if it is not finished or its file is damaged.
        """
        try:
            with self._path(block).open("rb") as file, np.load(file, allow_pickle=False) as archive:
                dtypes = json.loads(str(archive["dtypes"]))  # NumPy's files do not support bfloat16
                return {name: archive[name].view(jnp.dtype(dtype)) for name, dtype in dtypes.items()}
        except Exception:  # a damaged archive can raise any error
            return None

    def save(self, *block: int, arrays: Mapping[str, Any]) -> None:
        """Write a finished block atomically.

        Args:
          *block: the numbers that identify the block.
          arrays: the arrays by name.
        """
        with atomic_path(self._path(block)) as temporary, temporary.open("wb") as file:
            np.savez(file, dtypes=json.dumps({name: str(array.dtype) for name, array in arrays.items()}), **arrays)
