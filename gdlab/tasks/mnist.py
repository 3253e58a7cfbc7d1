"""A variational autoencoder on MNIST, a task of the Demon benchmark; labels are used in pictures only."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdlab import losses, models
from gdlab.arguments import require_floating, require_sequence
from gdlab.data import load
from gdlab.tasks.images import SIZES, from_images, require_settings
from gdlab.tasks.pipeline import measured
from gdlab.tasks.task import Metrics, Task


def mnist_vae(
    data_dir: str | Path | None = None,
    *,
    dataset: str = "mnist",
    hidden: Sequence[int] = (512, 256),
    latent: int = 2,
    batch_size: int = 100,
    dtype: Any = jnp.float32,
    **settings: Any,
) -> Task:
    """A variational autoencoder on MNIST, a task of the Demon benchmark.

    Pixels are in [0, 1], and batches hold 100 images. The metrics are "loss", "reconstruction" and "divergence", as
    returned by `measure`.

    Args:
      data_dir: where to look for the data first; see `gdlab.data.places`.
      dataset: the name of a data set in `gdlab.data.DATASETS`. Default "mnist".
      hidden: the sizes of the encoder's hidden layers; see `models.vae`. Default (512, 256).
      latent: the number of latent dimensions. Default 2.
      batch_size: the number of images in a training batch. Default 100, the benchmark's.
      dtype: the dtype in which the network computes; see `models.vae`.
      **settings: further arguments of `from_images`, such as hold_out, train_size and test_size.

    Returns:
      A `Task`.

    References:
      Chen, Wolfe, Li and Kyrillidis, "Demon: Improved Neural Network Training with Momentum Decay", 2022
      (https://arxiv.org/abs/1910.04952).
    """
    require_settings("mnist_vae", settings, (*SIZES, "protocol", "mean", "std"))
    require_sequence("hidden", hidden, "the sizes of the encoder's hidden layers")
    require_floating("dtype", dtype)
    images = load(dataset, data_dir)
    model = models.vae(images.train.images.shape[1:], hidden=hidden, latent=latent, dtype=dtype)
    return from_images(
        f"{dataset}_vae",
        images,
        model.init,
        measured(model, measure),
        batch_size=batch_size,
        dtype=dtype,
        description={"model": {"name": "vae", "hidden": list(hidden), "latent": latent}},
        **settings,
    )


def measure(outputs: models.VaeOutputs, inputs: Float[Array, "batch height width channels"], labels: Array) -> Metrics:
    """Return the negative evidence lower bound of each image in nats, and its two terms.

    "loss" is "reconstruction" (`losses.bernoulli_error`, with one sample of the latents) + "divergence"
    (`losses.gaussian_divergence`).
    """
    del labels
    targets = inputs.reshape(len(inputs), -1).astype(outputs.logits.dtype)
    reconstruction = losses.bernoulli_error(outputs.logits, targets)
    divergence = losses.gaussian_divergence(outputs.mean, outputs.log_variance)
    return {"loss": reconstruction + divergence, "reconstruction": reconstruction, "divergence": divergence}
