"""VGG16 (Simonyan & Zisserman 2015, configuration D) with batch normalization, for small images."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from gdlab.arguments import require_count
from gdlab.models.initialization import constant, normal
from gdlab.models.layers import (
    BatchNorm,
    Convolution,
    Linear,
    max_pool_pairs,
    param_dtype,
    require_dtype,
    require_images,
)
from gdlab.models.model import Model, from_linen

STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
"""Of each stage, before its pool: the width in units of the first one's, and how many convolutions."""


class Vgg(nn.Module):
    """Thirteen convolutions of 3x3, a 2x2 pool after each stage, one linear layer."""

    num_classes: int
    width: int
    channels: int
    dtype: Any

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool | Bool[Array, ""]
    ) -> Float[Array, "batch classes"]:
        """The logits."""
        require_images(images, self.channels, least=2 ** len(STAGES))
        x = images.astype(self.dtype)
        for stage, (widen, count) in enumerate(STAGES, 1):
            for number in range(1, count + 1):
                name = f"{stage}_{number}"
                conv = Convolution(widen * self.width, 3, 1, 1, self.dtype, bias=constant(0.0), name=f"conv{name}")
                x = nn.relu(BatchNorm(dtype=self.dtype, name=f"bn{name}")(conv(x), train))
            x = max_pool_pairs(x)
        x = jnp.mean(x, (1, 2))
        last = Linear(self.num_classes, self.dtype, normal(0.01), constant(0.0), name="fc")
        return last(x).astype(param_dtype(self.dtype))


def vgg16(num_classes: int, *, width: int = 64, channels: int = 3, dtype: Any = jnp.float32) -> Model:
    """VGG16 with batch normalization and one linear layer, as it is used for CIFAR; images (batch, height, width, c).

    Images of 32 pixels end in one pixel; of larger ones the last map's mean is taken, smaller ones raise ValueError.
    torchvision's initialization: He over the outputs for convolutions, whose biases are 0, N(0, 0.01^2) for the linear
    layer. 14,774,436 parameters with 100 classes. width: of the first stage; a narrower one makes a twin. dtype: what
    it computes in; parameters, statistics and logits are float32, or float64 with float64.
    """
    for name, value in (("num_classes", num_classes), ("width", width), ("channels", channels)):
        require_count(name, value)
    require_dtype(dtype)
    module = Vgg(num_classes, width, channels, jnp.dtype(dtype))
    return from_linen(module, jax.ShapeDtypeStruct((1, 32, 32, channels), dtype))
