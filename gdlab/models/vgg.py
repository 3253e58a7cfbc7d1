"""VGG16 (Simonyan & Zisserman 2015, configuration D) with batch normalization, for small images."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from gdlab.arguments import require_count
from gdlab.models.classifier import Mode, classifier, linear_head
from gdlab.models.initialization import constant, normal
from gdlab.models.layers import BatchNorm, Convolution, max_pool_pairs
from gdlab.models.model import Model

STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
"""Each stage's channels, in multiples of the first one's, and its number of convolutions; a pool follows each stage."""


def vgg16(num_classes: int, *, width: int = 64, channels: int = 3, dtype: Any = jnp.float32) -> Model:
    """VGG16 with batch normalization and one linear layer, as it is used for CIFAR.

    Images are (batch, height, width, channels). Those of 32 pixels end in one pixel; of larger ones the last map's mean
    is taken, smaller ones raise ValueError. torchvision's initialization: He over the outputs for convolutions, whose
    biases are 0, N(0, 0.01^2) for the linear layer. 14,774,436 parameters with 100 classes.

    width: channels of the first stage; a smaller one makes a narrower twin. dtype: see `classifier`.
    """
    require_count("width", width)
    head = partial(linear_head, initializer=normal(0.01), bias=constant(0.0))
    features = partial(_features, width=width)
    return classifier(features, head, num_classes, channels=channels, smallest=2 ** len(STAGES), dtype=dtype)


def _features(images: Array, train: Mode, dtype: Any, *, width: int) -> Array:
    """Thirteen 3x3 convolutions, each with normalization and ReLU; a 2x2 pool after each stage."""
    x = images
    for stage, (widen, count) in enumerate(STAGES, 1):
        for number in range(1, count + 1):
            name = f"{stage}_{number}"
            x = Convolution(widen * width, 3, 1, 1, dtype, bias=constant(0.0), name=f"conv{name}")(x)
            x = nn.relu(BatchNorm(dtype=dtype, name=f"bn{name}")(x, train))
        x = max_pool_pairs(x)
    return x
