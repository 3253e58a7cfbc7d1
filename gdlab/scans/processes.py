"""Several processes that share the lanes of one call: each saves and runs its own, and all return the whole result."""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from gdlab.records.blocks import Blocks


def open_blocks(what: str, folder: str | Path, identity: Mapping[str, str]) -> Blocks:
    """Open the folder of the blocks: the first process writes the manifest, and the others compare with it.

    Args:
      what: the function that is called.
      folder: the folder.
      identity: what the results depend on, as named entries of text.
    """
    if jax.process_index() == 0:
        blocks = Blocks(folder, identity)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"{what}: save_to")
    return blocks if jax.process_index() == 0 else Blocks(folder, identity)


def own_lanes(lanes: int) -> range:
    """Return the lanes of this process: equal shares, in the order of the processes."""
    count, index = jax.process_count(), jax.process_index()
    return range(lanes * index // count, lanes * (index + 1) // count)


def gathered(arrays: Mapping[str, np.ndarray], mine: np.ndarray) -> dict[str, np.ndarray]:
    """Return arrays to which every process has contributed its lanes.

    Args:
      arrays: the arrays by name, whose first axis is one of programs, and whose next ones are those of `mine`.
      mine: True where this process has filled in the results.
    """
    if jax.process_count() == 1:
        return dict(arrays)
    owners = np.asarray(multihost_utils.process_allgather(mine.astype(np.uint8)))
    found = {}
    for name, array in arrays.items():
        # Values are sent as bytes, so that none changes on the way, whatever its dtype.
        flat = np.ascontiguousarray(array).view(np.uint8).reshape(*array.shape[: 1 + mine.ndim], -1)
        everyone = np.asarray(multihost_utils.process_allgather(flat))
        for process, owned in enumerate(owners):
            flat[:, owned > 0] = everyone[process][:, owned > 0]
        found[name] = flat.reshape(-1).view(array.dtype).reshape(array.shape)
    return found
