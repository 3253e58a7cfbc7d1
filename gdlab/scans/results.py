"""The results of all lanes of a call: filled block by block from several threads, saved, resumed and labelled."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from gdlab.records.blocks import Blocks
from gdlab.scans.processes import gathered


class Results:
    """Arrays by name, whose shapes begin with (programs, lanes), and the folder of their finished blocks.

    Attributes:
      arrays: the arrays; they hold the lanes that are finished.
      blocks: the folder, or None.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], lanes: range, blocks: Blocks | None):
        """Take empty arrays, the lanes of this process, and the folder of blocks, if there is one."""
        self.arrays, self.lanes, self.blocks = dict(arrays), lanes, blocks

    def resume(self, index: int, low: int, high: int, width: int | None) -> bool:
        """Return whether these lanes of a program were finished before, and if so take their results.

        The rounding of a lane's numbers depends on the number of lanes per call, so that is part of a block's name.

        Args:
          index: the program.
          low: the first lane.
          high: the lane after the last one.
          width: the number of lanes per call; None: one lane, without vmap.
        """
        held = self.blocks.load(index, low, high, width or 0) if self.blocks else None
        if held is None:
            return False
        self._take(index, low, high, held)
        return True

    def keep(self, index: int, low: int, high: int, width: int | None, found: Mapping[str, np.ndarray]) -> None:
        """Take the results of lanes of a program, by name, and save them; the arguments are those of `resume`."""
        self._take(index, low, high, found)
        if self.blocks:
            self.blocks.save(index, low, high, width or 0, arrays=found)

    def _take(self, index: int, low: int, high: int, found: Mapping[str, np.ndarray]) -> None:
        for name, array in self.arrays.items():
            array[index, low:high] = found[name]

    def decided(self, what: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what this process decided before about `what`, or what `make` decides now; it is saved."""
        if self.blocks is None:
            return make()
        held = self.blocks.load_plan(_plan_name(what))
        return held if held is not None else self.blocks.keep_plan(make(), _plan_name(what))

    def is_decided(self, what: str) -> bool:
        """Return whether this process has decided about `what` before."""
        return self.blocks is not None and self.blocks.load_plan(_plan_name(what)) is not None

    def variables(self, sizes: Mapping[str, int], tails: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Return the results of all processes as variables of a dataset.

        Args:
          sizes: the dimensions of programs and lanes, with their lengths.
          tails: for each array, the names of its further dimensions.
        """
        mine = np.zeros(next(iter(self.arrays.values())).shape[1], bool)
        mine[self.lanes.start : self.lanes.stop] = True
        found = {}
        for name, array in gathered(self.arrays, mine).items():
            found[name] = ((*sizes, *tails[name]), array.reshape(*sizes.values(), *array.shape[2:]))
        return found


def _plan_name(what: str) -> str:
    return f"plan-{what}-{jax.process_index()}-of-{jax.process_count()}"
