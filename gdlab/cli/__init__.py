"""The command line, `gdlab` or `python -m gdlab`: lists, pages, checks of a user's optimizer, and data sets."""

from gdlab.cli.app import main

__all__ = ["main"]
