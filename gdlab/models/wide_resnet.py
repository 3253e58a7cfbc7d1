"""Wide residual networks (Zagoruyko & Komodakis 2016)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from gdlab.arguments import require_count, require_number
from gdlab.models.initialization import constant
from gdlab.models.layers import BatchNorm, Convolution, Linear, dropout, param_dtype, require_dtype, require_images
from gdlab.models.model import Model, from_linen


class PreActivationBlock(nn.Module):
    """Normalization and ReLU before each of two 3x3 convolutions, and a shortcut.

    Where the shape changes the shortcut is a 1x1 convolution of what the first ReLU gives, as in the authors' code
    (szagoruyko/wide-residual-networks); elsewhere it is the input itself, before normalization. dropout: of what the
    second ReLU gives.
    """

    outputs: int
    stride: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: bool | Bool[Array, ""]) -> Array:
        """The block's result, of `outputs` channels."""
        y = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(x, train))
        if self.stride != 1 or x.shape[-1] != self.outputs:
            x = Convolution(self.outputs, 1, self.stride, 0, self.dtype, name="shortcut")(y)
        y = Convolution(self.outputs, 3, self.stride, 1, self.dtype, name="conv1")(y)
        y = nn.relu(BatchNorm(dtype=self.dtype, name="bn2")(y, train))
        key = self.make_rng("dropout") if self.dropout > 0 and self.has_rng("dropout") else None
        y = dropout(y, self.dropout, train, key)
        return x + Convolution(self.outputs, 3, 1, 1, self.dtype, name="conv2")(y)


class WideResNet(nn.Module):
    """A 3x3 convolution, three groups of blocks, normalization, ReLU, the mean over pixels, a linear layer."""

    num_classes: int
    blocks: int
    widen: int
    width: int
    channels: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool | Bool[Array, ""]
    ) -> Float[Array, "batch classes"]:
        """The logits."""
        require_images(images, self.channels)
        x = Convolution(self.width, 3, 1, 1, self.dtype, name="conv1")(images.astype(self.dtype))
        for group in range(3):
            outputs = (self.width * self.widen) << group
            for block in range(self.blocks):
                stride = 2 if group > 0 and block == 0 else 1
                name = f"group{group + 1}_{block}"
                x = PreActivationBlock(outputs, stride, self.dropout, self.dtype, name=name)(x, train)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="bn")(x, train))
        last = Linear(self.num_classes, self.dtype, bias=constant(0.0), name="fc")
        return last(jnp.mean(x, (1, 2))).astype(param_dtype(self.dtype))


def wide_resnet(
    num_classes: int,
    *,
    depth: int = 16,
    widen: int = 8,
    width: int = 16,
    channels: int = 3,
    dropout: float = 0.0,
    dtype: Any = jnp.float32,
) -> Model:
    """WRN-depth-widen, images (batch, height, width, channels) of any size: the last map's mean is taken.

    depth is 6 n + 4: three groups of n blocks, of width widen (1, 2, 4) channels, the second and third with stride 2.
    dropout: between a block's convolutions; above 0 it needs a key in training. All begins as in the authors' code:
    convolutions as N(0, 2 / (size^2 outputs)), the linear layer's weights as PyTorch's, its biases 0, which PyTorch's
    are not. Their mean is over 8 x 8 pixels, which is the last map of CIFAR's images alone. WRN-16-8 has 10,961,370
    parameters with 10 classes. A smaller width makes a twin. dtype: what it computes in; parameters, statistics and
    logits are float32, or float64 with float64.
    """
    for name, value in (("num_classes", num_classes), ("widen", widen), ("width", width), ("channels", channels)):
        require_count(name, value)
    require_count("depth", depth)
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth: wanted 6 n + 4 with n of at least 1, such as 16, got {depth}")
    require_number("dropout", dropout, 0.0, 1.0, open_high=True)
    require_dtype(dtype)
    module = WideResNet(num_classes, (depth - 4) // 6, widen, width, channels, dropout, jnp.dtype(dtype))
    return from_linen(module, jax.ShapeDtypeStruct((1, 32, 32, channels), dtype))
