"""Sweeps: thousands of starts times whole grids of hyperparameters, functions and optimizers, in compiled programs."""

from gdlab.sweeps.driver import sweep

__all__ = ["sweep"]
