"""ResNet18 (He et al. 2016) as torchvision builds it, with torchvision's stem or the one for small images."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from gdlab.arguments import require_callable, require_count
from gdlab.models.classifier import Head, Mode, classifier, linear_head, residual_stages
from gdlab.models.layers import BatchNorm, Convolution, Linear, max_pool
from gdlab.models.model import Model
from gdlab.types import NameTable

BLOCKS = (2, 2, 2, 2)
IMAGENET_CLASSES = 1000

Stem = Callable[[Array, Mode, int, Any], Array]
"""`stem(images, train, width, dtype)`: the layers before the first block, from images to maps of `width` channels."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    outputs: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: Mode) -> Array:
        """The block's result, of `outputs` channels."""
        y = Convolution(self.outputs, 3, self.stride, 1, self.dtype, name="conv1")(x)
        y = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(y, train))
        y = Convolution(self.outputs, 3, 1, 1, self.dtype, name="conv2")(y)
        y = BatchNorm(dtype=self.dtype, name="bn2")(y, train)
        if self.stride != 1 or x.shape[-1] != self.outputs:
            x = Convolution(self.outputs, 1, self.stride, 0, self.dtype, name="downsample_conv")(x)
            x = BatchNorm(dtype=self.dtype, name="downsample_bn")(x, train)
        return nn.relu(x + y)


def imagenet_stem(images: Array, train: Mode, width: int, dtype: Any) -> Array:
    """torchvision's: a 7x7 convolution of stride 2, normalization, ReLU and a 3x3 pool of stride 2."""
    x = Convolution(width, 7, 2, 3, dtype, name="conv1")(images)
    return max_pool(nn.relu(BatchNorm(dtype=dtype, name="bn1")(x, train)))


def cifar_stem(images: Array, train: Mode, width: int, dtype: Any) -> Array:
    """For images of 32 pixels: a 3x3 convolution of stride 1, normalization and ReLU, without a pool."""
    x = Convolution(width, 3, 1, 1, dtype, name="conv1")(images)
    return nn.relu(BatchNorm(dtype=dtype, name="bn1")(x, train))


def two_layer_head(
    features: Float[Array, "batch features"], num_classes: int, dtype: Any
) -> Float[Array, "batch classes"]:
    """torchvision's 1000 classes, "fc", and a second linear layer from them, "head", with nothing between the two.

    This is how the source article gets ten classes from a network that was trained on ImageNet.
    """
    x = Linear(IMAGENET_CLASSES, dtype, name="fc")(features)
    return Linear(num_classes, dtype, name="head")(x)


STEMS: NameTable[Stem] = NameTable("stem", {"imagenet": imagenet_stem, "cifar": cifar_stem})
"""Stems by the names that command lines and descriptions of tasks use."""

HEADS: NameTable[Head] = NameTable("head", {"linear": linear_head, "source": two_layer_head})
"""Heads by the names that command lines and descriptions of tasks use."""


def resnet18(
    num_classes: int,
    *,
    stem: Stem = imagenet_stem,
    head: Head = linear_head,
    width: int = 64,
    channels: int = 3,
    dtype: Any = jnp.float32,
) -> Model:
    """ResNet18: torchvision's architecture and initialization; images are (batch, height, width, channels).

    stem: `imagenet_stem`, `cifar_stem` or a function like them. head: `linear_head`, `two_layer_head` or a function
    like them. width: channels of the first stage; a smaller one makes a narrower twin. dtype: see `classifier`.

    Parameters: 11,689,512 with 1,000 classes, 11,699,522 with `two_layer_head` and 10 classes, 11,173,962 with
    `cifar_stem` and 10. `STEMS` and `HEADS` hold these functions by name.
    """
    require_callable("stem", stem)
    require_callable("head", head)
    require_count("width", width)
    features = partial(_features, stem=stem, width=width)
    return classifier(features, head, num_classes, channels=channels, dtype=dtype)


def _features(images: Array, train: Mode, dtype: Any, *, stem: Stem, width: int) -> Array:
    """The stem, then four stages of blocks of width, 2 width, 4 width and 8 width channels."""
    x = stem(images, train, width, dtype)
    return residual_stages(x, train, block=partial(BasicBlock, dtype=dtype), blocks=BLOCKS, width=width, name="layer")
