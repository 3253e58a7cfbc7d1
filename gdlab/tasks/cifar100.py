"""VGG16 on CIFAR100, a task of the Demon benchmark."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp

from gdlab import models
from gdlab.arguments import require_floating
from gdlab.data import load
from gdlab.tasks.images import CHANNELS, SIZES, classify, require_settings
from gdlab.tasks.pipeline import PROTOCOLS
from gdlab.tasks.task import Task


def cifar100_vgg16(
    data_dir: str | Path | None = None,
    *,
    dataset: str = "cifar100",
    protocol: str = "sound",
    width: int = 64,
    batch_size: int = 128,
    dtype: Any = jnp.float32,
    **settings: Any,
) -> Task:
    """VGG16 on CIFAR100, a task of the Demon benchmark.

    Training images are randomly cropped and flipped; batches hold 128 images.

    Args:
      data_dir: where to look for the data first; see `gdlab.data.places`.
      dataset: "cifar100" (the default), "cifar10" or "stl10".
      protocol: the augmentation and mode of the model, a name in `PROTOCOLS`. Default "sound".
      width: the number of channels of the first stage; see `models.vgg16`. Default 64.
      batch_size: the number of images in a training batch. Default 128, the benchmark's.
      dtype: the dtype in which the network computes; see `models.vgg16`.
      **settings: further arguments of `from_images`, such as hold_out, train_size and test_size.

    Returns:
      A `Task`.

    Raises:
      KeyError: if `dataset` or `protocol` is an unknown name.

    References:
      Chen, Wolfe, Li and Kyrillidis, "Demon: Improved Neural Network Training with Momentum Decay", 2022
      (https://arxiv.org/abs/1910.04952).
    """
    require_settings("cifar100_vgg16", settings, SIZES)
    require_floating("dtype", dtype)
    rules = PROTOCOLS[protocol]
    mean, std = CHANNELS[dataset]
    images = load(dataset, data_dir)
    return classify(
        f"{dataset}_vgg16",
        images,
        models.vgg16(len(images.classes), width=width, dtype=dtype),
        protocol=rules,
        mean=mean,
        std=std,
        batch_size=batch_size,
        dtype=dtype,
        description={"protocol": protocol, "model": {"name": "vgg16", "width": width}},
        **settings,
    )
