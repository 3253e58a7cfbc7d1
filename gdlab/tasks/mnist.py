"""Variational autoencoders on small images, whose labels only pictures see."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from gdlab import losses, models
from gdlab.data import load
from gdlab.tasks.images import from_images
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
    """The Demon benchmark's MNIST-VAE (Chen et al. 2022): pixels in [0, 1] as they are, batches of 100.

    Metrics an image, in nats: "loss", the negative evidence lower bound with one sample of the latents; its parts
    "reconstruction" (`losses.bernoulli_error`) and "divergence" (`losses.gaussian_divergence`). hidden, latent, dtype:
    of `models.vae`. settings: of `from_images`, hold_out, train_size and test_size among them.
    """
    images = load(dataset, data_dir)
    shape = images.train.images.shape[1:]
    model = models.vae(shape, hidden=hidden, latent=latent, dtype=dtype)

    def forward(
        params: PyTree,
        state: PyTree,
        inputs: Float[Array, "batch height width channels"],
        labels: Int[Array, " batch"],
        train: Any,
        key: Array,
    ) -> tuple[Metrics, PyTree]:
        del labels
        outputs, state = model.apply(params, state, inputs, train=train, key=key)
        targets = inputs.reshape(len(inputs), -1).astype(outputs.logits.dtype)
        reconstruction = losses.bernoulli_error(outputs.logits, targets)
        divergence = losses.gaussian_divergence(outputs.mean, outputs.log_variance)
        metrics = {"loss": reconstruction + divergence, "reconstruction": reconstruction, "divergence": divergence}
        return metrics, state

    return from_images(
        f"{dataset}_vae",
        images,
        model.init,
        forward,
        batch_size=batch_size,
        dtype=dtype,
        description={"model": {"name": "vae", "hidden": list(hidden), "latent": latent}},
        **settings,
    )
