"""The two ResNet18s whose training steps are measured: how many operations a step takes, and random images for them."""

import sys
from typing import Any
from unittest import mock

import numpy as np

from gdlab.data import Dataset, Split
from gdlab.models.products import Geometry

STEMS = {"source": ("imagenet", "source"), "cifar": ("cifar", "linear")}
"""By name: the first and the last layers, names in `models.STEMS` and `models.HEADS`."""


def geometries(stem: str) -> list[tuple[Geometry, int, int, int]]:
    """Return (geometry, inputs, outputs, count) of every convolution at 32x32."""
    size, found = 32, []
    if stem == "imagenet":
        found, size = [(Geometry((32, 32), (7, 7), 2, 3), 3, 64, 1)], 8
    else:
        found = [(Geometry((32, 32), (3, 3), 1, 1), 3, 64, 1)]
    for stage in range(4):
        width = 64 << stage
        if stage:
            found.append((Geometry((size, size), (3, 3), 2, 1), width // 2, width, 1))
            found.append((Geometry((size, size), (1, 1), 2, 0), width // 2, width, 1))
            size //= 2
        found.append((Geometry((size, size), (3, 3), 1, 1), width, width, 3 if stage else 4))
    return found


def operations(stem: str, head: str) -> float:
    """Return the operations of a training step per image: three passes per layer, counted as direct convolutions."""
    total = sum(
        2 * g.outputs[0] * g.outputs[1] * g.kernel[0] * g.kernel[1] * inputs * outputs * times
        for g, inputs, outputs, times in geometries(stem)
    )
    return 3.0 * (total + 2 * (512 * 1000 + 1000 * 10 if head == "source" else 512 * 10))


def random_cifar10(train: int, test: int) -> Any:
    """Let the task of CIFAR10 load random images, as many as these, during a block."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (train, 32, 32, 3), np.uint8), rng.integers(0, 10, train).astype(np.int32)
    parts = Split(images, labels), Split(images[:test], labels[:test])
    data = Dataset("cifar10", *parts, tuple(map(str, range(10))), {"source": "random numbers"})
    return mock.patch.object(sys.modules["gdlab.tasks.cifar10"], "load", return_value=data)
