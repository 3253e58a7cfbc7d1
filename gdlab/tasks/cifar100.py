"""VGG16 on CIFAR100."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp

from gdlab import models
from gdlab.data import load
from gdlab.tasks.images import CHANNELS, classify
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
    """The Demon benchmark's CIFAR100-VGG16 (Chen et al. 2022): crop and flip, batches of 128.

    dataset: "cifar100", "cifar10" or "stl10". protocol: a name in `PROTOCOLS`. width, dtype: see `models.vgg16`.
    settings: those of `from_images`, among them hold_out, train_size and test_size.
    """
    images = load(dataset, data_dir)
    mean, std = CHANNELS[dataset]
    return classify(
        f"{dataset}_vgg16",
        images,
        models.vgg16(len(images.classes), width=width, dtype=dtype),
        protocol=PROTOCOLS[protocol],
        mean=mean,
        std=std,
        batch_size=batch_size,
        dtype=dtype,
        description={"protocol": protocol, "model": {"name": "vgg16", "width": width}},
        **settings,
    )
