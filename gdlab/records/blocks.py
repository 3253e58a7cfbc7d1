"""A sweep's results on disk while it runs: one file per block of lanes, so that a killed sweep resumes."""

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
    """A folder with `sweep.json`, which says what the sweep is, and one .npz file for each block that is done."""

    def __init__(self, folder: str | Path, identity: Mapping[str, str]):
        """Open or begin. Raises ValueError where the folder holds another sweep, and says what differs."""
        self.folder = Path(folder)
        manifest = self.folder / "sweep.json"
        require_fresh(manifest, "save_to")
        claim(manifest, {"format": FORMAT, **identity}, "save_to")

    def _path(self, block: tuple[int, ...]) -> Path:
        return self.folder / ("-".join(f"{number:09d}" for number in block) + ".npz")

    def load(self, *block: int) -> dict[str, np.ndarray] | None:
        """The arrays of the block with these numbers, or None where it is not done (or its file is damaged)."""
        try:
            with self._path(block).open("rb") as file, np.load(file, allow_pickle=False) as archive:
                dtypes = json.loads(str(archive["dtypes"]))  # NumPy's files know no bfloat16
                return {name: archive[name].view(jnp.dtype(dtype)) for name, dtype in dtypes.items()}
        except Exception:  # a damaged archive raises whatever its bytes suggest
            return None

    def save(self, *block: int, arrays: Mapping[str, Any]) -> None:
        """Write a block that is done, whole or not at all."""
        with atomic_path(self._path(block)) as temporary, temporary.open("wb") as file:
            np.savez(file, dtypes=json.dumps({name: str(array.dtype) for name, array in arrays.items()}), **arrays)
