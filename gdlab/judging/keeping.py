"""Keeping: the parts of a judgement that are done, each in a file, so that an interrupted judgement continues."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gdlab.records import read_json, write_json


class Kept:
    """Results by name, in a folder or nowhere.

    Attributes:
      folder: the folder; None: nothing is kept.
      read: how many results were read rather than computed.
    """

    def __init__(self, folder: Path | None):
        """Keep results in `folder`, which is created when the first one is written; None keeps nothing."""
        self.folder = folder
        self.read = 0

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the result of this name: as it was kept, or that of `make`, which is kept then.

        Args:
          name: the name of the result, which becomes that of a file.
          make: a function that returns what JSON can hold.

        Returns:
          The result.
        """
        path = None if self.folder is None else self.folder / f"{name.replace(' ', '_')}.json"
        if path is not None and path.exists():
            self.read += 1
            return read_json(path)
        result = make()
        if path is not None:
            write_json(path, result)
        return result
