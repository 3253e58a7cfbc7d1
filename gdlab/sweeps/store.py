"""A sweep's results on disk while it runs: one file a block of lanes, so that a killed sweep can go on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from gdlab.runs import atomic_path, require_folder, write_json
from gdlab.sweeps.workers import Part

FORMAT = 1


class Store:
    """A folder with `sweep.json`, which says what the sweep is, and one .npz file for each block that is done."""

    def __init__(self, folder: str | Path, identity: Mapping[str, str]):
        """Open or begin. Raises ValueError where the folder holds another sweep, and says what differs."""
        self.folder = Path(folder)
        require_folder(self.folder)
        described = {"format": FORMAT, **identity}
        manifest = self.folder / "sweep.json"
        if manifest.exists():
            try:
                held = json.loads(manifest.read_text())
            except ValueError:
                raise ValueError(f"save_to: {manifest} is no description of a sweep; choose another folder") from None
            different = [name for name in described if not isinstance(held, dict) or held.get(name) != described[name]]
            if different:
                raise ValueError(
                    f"save_to: {self.folder} holds another sweep, which differs in: {', '.join(different)}; choose "
                    "another folder, or remove this one"
                )
        elif self.folder.exists() and any(not path.name.startswith(".") for path in self.folder.iterdir()):
            raise ValueError(f"save_to: wanted a new or empty folder, or one with a sweep, got {self.folder}")
        else:
            write_json(manifest, described)

    def _path(self, factory: int, part: Part) -> Path:
        return self.folder / f"{factory:03d}-{part.function:03d}-{part.low:012d}-{part.high:012d}.npz"

    def load(self, factory: int, part: Part) -> dict[str, np.ndarray] | None:
        """The block's arrays, or None where it is not done (or its file is damaged)."""
        try:
            with self._path(factory, part).open("rb") as file, np.load(file, allow_pickle=False) as archive:
                dtypes = json.loads(str(archive["dtypes"]))  # NumPy's files know no bfloat16
                return {name: archive[name].view(jnp.dtype(dtype)) for name, dtype in dtypes.items()}
        except Exception:  # a damaged archive raises whatever its bytes suggest
            return None

    def save(self, factory: int, part: Part, arrays: Any) -> None:
        """Write a block that is done, whole or not at all."""
        with atomic_path(self._path(factory, part)) as temporary, temporary.open("wb") as file:
            np.savez(file, dtypes=json.dumps({name: str(array.dtype) for name, array in arrays.items()}), **arrays)
