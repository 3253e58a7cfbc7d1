"""WideResNet-16-8 on STL10."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from gdlab import models
from gdlab.data import crop_and_flip, load
from gdlab.tasks.images import CHANNELS, classify
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
    """The Demon benchmark's STL10-WRN-16-8 (Chen et al. 2022): 5,000 labelled images of 96 x 96, batches of 64.

    Crops move by up to an eighth of the image: 12 pixels, or 4 of CIFAR's. dataset: "stl10", "cifar10" or "cifar100".
    protocol: a name in `PROTOCOLS`. depth, widen, width, dtype: see `models.wide_resnet`. settings: those of
    `from_images`, among them hold_out, train_size and test_size.
    """
    images = load(dataset, data_dir)
    mean, std = CHANNELS[dataset]
    rules = dataclasses.replace(
        PROTOCOLS[protocol], augment=partial(crop_and_flip, padding=images.train.images.shape[1] // 8)
    )
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
