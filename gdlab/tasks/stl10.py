"""WideResNet-16-8 on STL10, a task of the Demon benchmark."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from gdlab import models
from gdlab.arguments import require_floating
from gdlab.data import crop_and_flip, load
from gdlab.tasks.images import CHANNELS, SIZES, classify, require_settings
from gdlab.tasks.pipeline import PROTOCOLS
from gdlab.tasks.task import Task


def stl10_wrn16_8(
    data_dir: str | Path | None = None,
    *,
    dataset: str = "stl10",
    protocol: str = "sound",
    depth: int = 16,
    widen: int = 8,
    width: int = 16,
    batch_size: int = 64,
    dtype: Any = jnp.float32,
    **settings: Any,
) -> Task:
    """WideResNet-16-8 on STL10, a task of the Demon benchmark.

    There are 5,000 labelled training images of 96 x 96 pixels, in batches of 64. They are flipped at random and moved
    by up to an eighth of their size: 12 pixels, or 4 pixels for CIFAR.

    Args:
      data_dir: where to look for the data first; see `gdlab.data.places`.
      dataset: "stl10" (the default), "cifar10" or "cifar100".
      protocol: the augmentation and mode of the model, a name in `PROTOCOLS`. Default "sound".
      depth: the number of layers; see `models.wide_resnet`. Default 16.
      widen: the factor by which the blocks are wider than the first convolution. Default 8.
      width: the number of channels of the first convolution. Default 16.
      batch_size: the number of images in a training batch. Default 64, the benchmark's.
      dtype: the dtype in which the network computes; see `models.wide_resnet`.
      **settings: further arguments of `from_images`, such as hold_out, train_size and test_size.

    Returns:
      A `Task`.

    Raises:
      KeyError: if `dataset` or `protocol` is an unknown name.

    References:
      Chen, Wolfe, Li and Kyrillidis, "Demon: Improved Neural Network Training with Momentum Decay", 2022
      (https://arxiv.org/abs/1910.04952).
    """
    require_settings("stl10_wrn16_8", settings, SIZES)
    require_floating("dtype", dtype)
    given = PROTOCOLS[protocol]
    mean, std = CHANNELS[dataset]
    images = load(dataset, data_dir)
    rules = dataclasses.replace(given, augment=partial(crop_and_flip, padding=images.train.images.shape[1] // 8))
    return classify(
        f"{dataset}_wrn{depth}_{widen}",
        images,
        models.wide_resnet(len(images.classes), depth=depth, widen=widen, width=width, dtype=dtype),
        protocol=rules,
        mean=mean,
        std=std,
        batch_size=batch_size,
        dtype=dtype,
        description={
            "protocol": protocol,
            "model": {"name": "wide_resnet", "depth": depth, "widen": widen, "width": width},
        },
        **settings,
    )
