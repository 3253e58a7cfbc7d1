"""Training networks: one run with checkpoints, or many configurations at once.

On a GPU, the matrix products and convolutions of float32 networks are computed in TF32, JAX's default there, which
keeps about three digits of each factor; `jax.config.update("jax_default_matmul_precision", "highest")` computes them in
float32, which takes longer. Optimizers, gradient checks and the contract always do.
"""

from gdlab.training.loop import Training, train
from gdlab.training.many import train_many

__all__ = ["Training", "train", "train_many"]
