"""VGG16 (Simonyan & Zisserman 2015, configuration D) with batch normalization, for small images."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from gdlab.arguments import require_count
from gdlab.models.classifier import Mode, classifier, linear_head
from gdlab.models.initialization import constant, normal
from gdlab.models.layers import Convolution, max_pool_pairs
from gdlab.models.model import Model
from gdlab.models.normalization import BatchNorm

STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
"""The channels of each stage, as multiples of `width`, and its number of convolutions; a pool follows each stage."""


def vgg16(num_classes: int, *, width: int = 64, channels: int = 3, dtype: Any = jnp.float32) -> Model:
    """VGG16 with batch normalization and one linear layer, as commonly used for CIFAR.

    Images have shape (batch, height, width, channels). Images of 32 pixels end in a map of one pixel. For larger images
    the mean of the last map is taken; smaller images raise ValueError. The initialization is torchvision's: that of He
    et al. over the outputs for convolutions, with biases 0, and N(0, 0.01^2) for the linear layer. The network has
    14,774,436 parameters with 100 classes.

    Args:
      num_classes: the number of classes.
      width: the number of channels of the first stage. Default 64; a smaller value makes the whole network narrower.
      channels: the number of channels of the images. Default 3.
      dtype: the dtype in which the network computes: float32, bfloat16 or float64. Parameters, running statistics and
        logits are float32, or float64 if `dtype` is float64.

    Returns:
      A `Model`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if a number is less than 1, or `dtype` is float64 without jax_enable_x64.

    References:
      Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015, configuration
      D (https://arxiv.org/abs/1409.1556).
    """
    require_count("width", width)
    head = partial(linear_head, initializer=normal(0.01), bias=constant(0.0))
    features = partial(_features, width=width)
    return classifier(features, head, num_classes, channels=channels, smallest=2 ** len(STAGES), dtype=dtype)


def _features(images: Array, train: Mode, dtype: Any, *, width: int) -> Array:
    """Apply thirteen 3x3 convolutions, each with batch normalization and ReLU, and a 2x2 pool after each stage."""
    x = images
    for stage, (widen, count) in enumerate(STAGES, 1):
        for number in range(1, count + 1):
            name = f"{stage}_{number}"
            x = Convolution(widen * width, 3, 1, 1, dtype, bias=constant(0.0), name=f"conv{name}")(x)
            x = nn.relu(BatchNorm(dtype=dtype, name=f"bn{name}")(x, train))
        x = max_pool_pairs(x)
    return x
