"""CapsNet on Fashion-MNIST."""

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gdlab import losses, models
from gdlab.data import load
from gdlab.tasks.images import from_images
from gdlab.tasks.pipeline import measured
from gdlab.tasks.task import Metrics, Task

RECONSTRUCTION = 0.0005
"""The weight of the reconstruction's squared error, a sum over pixels, beside the margin loss (Sabour et al. 2017)."""


def fashion_mnist_capsnet(
    data_dir: str | Path | None = None,
    *,
    dataset: str = "fashion_mnist",
    learn_weights: bool = True,
    batch_size: int = 128,
    dtype: Any = jnp.float32,
    **settings: Any,
) -> Task:
    """The Demon benchmark's FMNIST-CAPS (Chen et al. 2022): three routing iterations, batches of 128.

    Pixels are in [0, 1] and nothing is augmented; the metrics are those of `measure`. The decoder is given the true
    class's capsule in training and evaluation.

    learn_weights, dtype: see `models.capsnet`. settings: the sizes of `models.CapsuleSizes`, and those of
    `from_images`, among them hold_out, train_size and test_size. Raises TypeError for others.
    """
    images = load(dataset, data_dir)
    names = models.CapsuleSizes.names()
    sizes = models.CapsuleSizes(**{name: settings.pop(name) for name in names if name in settings})
    model = models.capsnet(
        len(images.classes),
        image_shape=images.train.images.shape[1:],
        learn_weights=learn_weights,
        dtype=dtype,
        **dataclasses.asdict(sizes),
    )
    described = dataclasses.asdict(sizes) | {"decoder": list(sizes.decoder), "learn_weights": learn_weights}
    return from_images(
        f"{dataset}_capsnet",
        images,
        model.init,
        measured(model, measure, feed=models.CapsuleInputs),
        batch_size=batch_size,
        dtype=dtype,
        description={"model": {"name": "capsnet", **described}},
        **settings,
    )


def measure(
    outputs: models.CapsuleOutputs,
    inputs: Float[Array, "batch height width channels"],
    labels: Int[Array, " batch"],
) -> Metrics:
    """The margin loss and the reconstruction's squared error of each image, and their weighted sum.

    "loss" = "margin" + 0.0005 "reconstruction"; "accuracy" is 1 where the true class's capsule is the longest.
    """
    margin = losses.margin_loss(outputs.lengths, labels)
    targets = inputs.reshape(len(inputs), -1).astype(outputs.reconstruction.dtype)
    error = jnp.sum(jnp.square(outputs.reconstruction - targets), axis=-1)
    return {
        "loss": margin + RECONSTRUCTION * error,
        "accuracy": losses.is_hit(outputs.lengths, labels).astype(jnp.float32),
        "margin": margin,
        "reconstruction": error,
    }
