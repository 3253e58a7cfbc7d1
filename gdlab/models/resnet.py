"""ResNet18 (He et al. 2016) as in torchvision, with torchvision's stem or the stem for small images."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gdlab.arguments import require_callable, require_count
from gdlab.models.classifier import Head, Mode, classifier, linear_head, residual_stages
from gdlab.models.layers import Convolution, Linear, apply_layers, max_pool
from gdlab.models.model import Model
from gdlab.models.normalization import BatchNorm
from gdlab.types import NameTable

BLOCKS = (2, 2, 2, 2)
IMAGENET_CLASSES = 1000

Stem = Callable[[Array, Mode, int, Any], Array]
"""`stem(images, train, width, dtype)` applies the layers before the first block; the maps have `width` channels."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution if the shape changes."""

    outputs: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: Mode) -> Array:
        """Return the result of the block, with `outputs` channels."""
        y = Convolution(self.outputs, 3, self.stride, 1, self.dtype, name="conv1")(x)
        y = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(y, train))
        y = Convolution(self.outputs, 3, 1, 1, self.dtype, name="conv2")(y)
        y = BatchNorm(dtype=self.dtype, name="bn2")(y, train)
        if self.stride != 1 or x.shape[-1] != self.outputs:
            x = Convolution(self.outputs, 1, self.stride, 0, self.dtype, name="downsample_conv")(x)
            x = BatchNorm(dtype=self.dtype, name="downsample_bn")(x, train)
        return nn.relu(x + y)


def imagenet_stem(images: Array, train: Mode, width: int, dtype: Any) -> Array:
    """torchvision's stem: a 7x7 convolution of stride 2, batch normalization, ReLU and a 3x3 max pool of stride 2.

    Args:
      images: the images, of shape (batch, height, width, channels).
      train: whether batch normalization is in training mode; may be traced.
      width: the number of channels of the result.
      dtype: the dtype in which the layers compute.

    Returns:
      The feature maps before the first block.
    """
    x = Convolution(width, 7, 2, 3, dtype, name="conv1")(images)
    return max_pool(nn.relu(BatchNorm(dtype=dtype, name="bn1")(x, train)))


def cifar_stem(images: Array, train: Mode, width: int, dtype: Any) -> Array:
    """Stem for images of 32 pixels: a 3x3 convolution of stride 1, batch normalization and ReLU, without a pool.

    Args:
      images: the images, of shape (batch, height, width, channels).
      train: whether batch normalization is in training mode; may be traced.
      width: the number of channels of the result.
      dtype: the dtype in which the layers compute.

    Returns:
      The feature maps before the first block.
    """
    x = Convolution(width, 3, 1, 1, dtype, name="conv1")(images)
    return nn.relu(BatchNorm(dtype=dtype, name="bn1")(x, train))


def two_layer_head(
    features: Float[Array, "batch features"], num_classes: int, dtype: Any
) -> Float[Array, "batch classes"]:
    """Two linear layers without an activation between them: torchvision's 1,000 classes, "fc", and "head".

    This is how the article that gdlab starts from obtains ten classes from a network trained on ImageNet.

    Args:
      features: the features, of shape (batch, features).
      num_classes: the number of classes.
      dtype: the dtype in which the layers compute.

    Returns:
      The logits, of shape (batch, num_classes).
    """
    x = Linear(IMAGENET_CLASSES, dtype, name="fc")(features)
    return Linear(num_classes, dtype, name="head")(x)


STEMS: NameTable[Stem] = NameTable("stem", {"imagenet": imagenet_stem, "cifar": cifar_stem})
"""Stems by name, as used in command lines and descriptions of tasks."""

HEADS: NameTable[Head] = NameTable("head", {"linear": linear_head, "source": two_layer_head})
"""Heads by name, as used in command lines and descriptions of tasks."""


def resnet18(
    num_classes: int,
    *,
    stem: Stem = imagenet_stem,
    head: Head = linear_head,
    width: int = 64,
    channels: int = 3,
    dtype: Any = jnp.float32,
) -> Model:
    """ResNet18 with torchvision's architecture and initialization.

    Images have shape (batch, height, width, channels). The network has 11,689,512 parameters with 1,000 classes,
    11,699,522 with `two_layer_head` and 10 classes, and 11,173,962 with `cifar_stem` and 10 classes.

    Args:
      num_classes: the number of classes.
      stem: the layers before the first block: `imagenet_stem` (the default), `cifar_stem` or a similar function.
        `STEMS` holds them by name.
      head: the layers from features to logits: `linear_head` (the default), `two_layer_head` or a similar function.
        `HEADS` holds them by name.
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
      He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2016 (https://arxiv.org/abs/1512.03385).
    """
    require_callable("stem", stem)
    require_callable("head", head)
    require_count("width", width)
    features = partial(_features, stem=stem, width=width)
    return classifier(features, head, num_classes, channels=channels, dtype=dtype)


def _features(images: Array, train: Mode, dtype: Any, *, stem: Stem, width: int) -> Array:
    """Apply the stem, then four stages of blocks with width, 2 width, 4 width and 8 width channels."""
    expected = "a function of (images, train, width, dtype) that returns maps (batch, rows, columns, width)"
    x = apply_layers("stem", stem, images, train, width, dtype, ndim=4, expected=expected)
    return residual_stages(x, train, block=partial(BasicBlock, dtype=dtype), blocks=BLOCKS, width=width, name="layer")
