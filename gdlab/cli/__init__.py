"""The command line, `gdlab` or `python -m gdlab`: lists, pages, paths, checks of a user's optimizer, and data sets."""

import gdlab.compute.script  # isort: skip  # noqa: F401  (from here on an interrupt is one line)
from gdlab.cli.app import main

__all__ = ["main"]
