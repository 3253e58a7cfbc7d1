"""Scans of any function of hyperparameters and a random key, and what all calls with many lanes share.

A lane is one run of the batch: one setting with one seed.
"""

from gdlab.scans.driver import scan

__all__ = ["scan"]
