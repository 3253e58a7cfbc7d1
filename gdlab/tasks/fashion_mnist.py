"""CapsNet on Fashion-MNIST, a task of the Demon benchmark."""

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gdlab import losses, models
from gdlab.arguments import require_flag, require_floating
from gdlab.data import load
from gdlab.tasks.images import SIZES, from_images, require_settings
from gdlab.tasks.labels import require_images, require_labels
from gdlab.tasks.pipeline import measured
from gdlab.tasks.task import Metrics, Task

RECONSTRUCTION = 0.0005
"""Weight of the reconstruction error, a squared error summed over pixels, in the loss (Sabour et al. 2017)."""


def fashion_mnist_capsnet(
    data_dir: str | Path | None = None,
    *,
    dataset: str = "fashion_mnist",
    learn_weights: bool = True,
    batch_size: int = 128,
    dtype: Any = jnp.float32,
    **settings: Any,
) -> Task:
    """CapsNet on Fashion-MNIST, a task of the Demon benchmark.

    The defaults are three routing iterations and batches of 128. Pixels are in [0, 1], and images are not augmented.
    The metrics are "loss", "accuracy", "margin" and "reconstruction", as returned by `measure`. The decoder receives
    the capsule of the true class, in training and in evaluation.

    Args:
      data_dir: where to look for the data first; see `gdlab.data.places`.
      dataset: the name of a data set in `gdlab.data.DATASETS`. Default "fashion_mnist".
      learn_weights: whether gradients flow through the weights of the routing; see `models.capsnet`.
      batch_size: the number of images in a training batch. Default 128, the benchmark's.
      dtype: the dtype in which the network computes; see `models.capsnet`.
      **settings: fields of `models.CapsuleSizes`, and further arguments of `from_images`, such as hold_out, train_size
        and test_size.

    Returns:
      A `Task`.

    Raises:
      TypeError: if `settings` contains any other name.

    References:
      Chen, Wolfe, Li and Kyrillidis, "Demon: Improved Neural Network Training with Momentum Decay", 2022
      (https://arxiv.org/abs/1910.04952).
    """
    names = models.CapsuleSizes.names()
    require_settings("fashion_mnist_capsnet", settings, (*names, *SIZES, "protocol", "mean", "std"))
    require_flag("learn_weights", learn_weights)
    require_floating("dtype", dtype)
    images = load(dataset, data_dir)
    require_images(images)
    require_labels(images, len(images.classes))
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
    """Return the margin loss and the reconstruction error of each image, and their weighted sum.

    "loss" is "margin" + 0.0005 "reconstruction"; "accuracy" is 1 if the capsule of the true class is the longest, and
    0 otherwise.
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
