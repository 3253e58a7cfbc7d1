"""Training networks: one run with checkpoints, or many configurations at once."""

from gdlab.training.loop import Training, train
from gdlab.training.many import train_many

__all__ = ["Training", "train", "train_many"]
