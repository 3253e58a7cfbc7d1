"""Training networks: one run with checkpoints, or many configurations at once."""

from gdlab.training.sweeping import sweep
from gdlab.training.training import Training, train

__all__ = ["Training", "sweep", "train"]
