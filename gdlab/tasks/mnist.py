"""A variational autoencoder on MNIST; labels are used in pictures only."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdlab import losses, models
from gdlab.data import load
from gdlab.tasks.images import from_images
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
    """The Demon benchmark's MNIST-VAE (Chen et al. 2022): pixels in [0, 1], batches of 100; metrics of `measure`.

    hidden, latent, dtype: see `models.vae`. settings: those of `from_images`, among them hold_out, train_size and
    test_size.
    """
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
    """The negative evidence lower bound of each image with one sample of the latents, in nats, and its two parts.

    "loss" = "reconstruction" (`losses.bernoulli_error`) + "divergence" (`losses.gaussian_divergence`).
    """
    del labels
    targets = inputs.reshape(len(inputs), -1).astype(outputs.logits.dtype)
    reconstruction = losses.bernoulli_error(outputs.logits, targets)
    divergence = losses.gaussian_divergence(outputs.mean, outputs.log_variance)
    return {"loss": reconstruction + divergence, "reconstruction": reconstruction, "divergence": divergence}
