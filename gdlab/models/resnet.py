"""ResNet18 (He et al. 2016) as torchvision builds it, with its stem or the one for small images."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from gdlab.arguments import require_choice, require_count
from gdlab.models.layers import (
    BatchNorm,
    Convolution,
    Linear,
    max_pool,
    param_dtype,
    require_dtype,
    require_images,
)
from gdlab.models.model import Model, from_linen

BLOCKS = (2, 2, 2, 2)
IMAGENET_CLASSES = 1000


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    outputs: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: bool | Bool[Array, ""]) -> Array:
        """The block's result, of `outputs` channels."""
        y = Convolution(self.outputs, 3, self.stride, 1, self.dtype, name="conv1")(x)
        y = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(y, train))
        y = Convolution(self.outputs, 3, 1, 1, self.dtype, name="conv2")(y)
        y = BatchNorm(dtype=self.dtype, name="bn2")(y, train)
        if self.stride != 1 or x.shape[-1] != self.outputs:
            x = Convolution(self.outputs, 1, self.stride, 0, self.dtype, name="downsample_conv")(x)
            x = BatchNorm(dtype=self.dtype, name="downsample_bn")(x, train)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Stem, four stages of blocks at widths w, 2w, 4w, 8w, the mean over pixels, and the head."""

    num_classes: int
    stem: str
    head: str
    width: int
    channels: int
    dtype: Any

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool | Bool[Array, ""]
    ) -> Float[Array, "batch classes"]:
        """The logits."""
        require_images(images, self.channels)
        size, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = Convolution(self.width, size, stride, size // 2, self.dtype, name="conv1")(images.astype(self.dtype))
        x = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(x, train))
        if self.stem == "imagenet":
            x = max_pool(x)
        for stage, blocks in enumerate(BLOCKS):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                x = BasicBlock(self.width << stage, stride, self.dtype, name=f"layer{stage + 1}_{block}")(x, train)
        x = jnp.mean(x, (1, 2))
        if self.head == "source":
            x = Linear(IMAGENET_CLASSES, self.dtype, name="fc")(x)
            x = Linear(self.num_classes, self.dtype, name="head")(x)
        else:
            x = Linear(self.num_classes, self.dtype, name="fc")(x)
        return x.astype(param_dtype(self.dtype))


def resnet18(
    num_classes: int,
    *,
    stem: str = "imagenet",
    head: str = "linear",
    width: int = 64,
    channels: int = 3,
    dtype: Any = jnp.float32,
) -> Model:
    """ResNet18: torchvision's architecture and initialization; images are (batch, height, width, channels).

    stem: "imagenet" is a 7x7 convolution of stride 2 and a pool, "cifar" a 3x3 convolution alone. head: "linear" is
    Linear(8 width, num_classes); "source" is Linear(8 width, 1000) and Linear(1000, num_classes) with nothing between,
    the source article's way to ten classes. Parameters: 11,689,512 with 1,000 classes, 11,699,522 with head="source"
    and 10, 11,173,962 with the CIFAR stem and 10. width makes a narrower twin.

    dtype: what it computes in, float32, bfloat16 or float64. Parameters, running statistics and logits are float32, or
    float64 with float64.
    """
    require_count("num_classes", num_classes)
    require_choice("stem", stem, ("imagenet", "cifar"))
    require_choice("head", head, ("linear", "source"))
    require_count("width", width)
    require_count("channels", channels)
    require_dtype(dtype)
    module = ResNet(num_classes, stem, head, width, channels, jnp.dtype(dtype))
    return from_linen(module, jax.ShapeDtypeStruct((1, 32, 32, channels), dtype))
