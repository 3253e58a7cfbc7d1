"""Wide residual networks (Zagoruyko & Komodakis 2016)."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from gdlab.arguments import require_count, require_number
from gdlab.models.classifier import Block, Mode, classifier, linear_head, residual_stages
from gdlab.models.initialization import constant
from gdlab.models.layers import BatchNorm, Convolution, dropout
from gdlab.models.model import Model


class PreActivationBlock(nn.Module):
    """Normalization and ReLU before each of two 3x3 convolutions, and a shortcut.

    Where the shape changes, the shortcut is a 1x1 convolution of the first ReLU's output, as in the authors' code
    (szagoruyko/wide-residual-networks); elsewhere it is the input itself, before normalization. dropout: the rate at
    which values of the second ReLU's output are set to zero in training.
    """

    outputs: int
    stride: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: Mode) -> Array:
        """The block's result, of `outputs` channels."""
        y = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(x, train))
        if self.stride != 1 or x.shape[-1] != self.outputs:
            x = Convolution(self.outputs, 1, self.stride, 0, self.dtype, name="shortcut")(y)
        y = Convolution(self.outputs, 3, self.stride, 1, self.dtype, name="conv1")(y)
        y = nn.relu(BatchNorm(dtype=self.dtype, name="bn2")(y, train))
        key = self.make_rng("dropout") if self.dropout > 0 and self.has_rng("dropout") else None
        y = dropout(y, self.dropout, train, key)
        return x + Convolution(self.outputs, 3, 1, 1, self.dtype, name="conv2")(y)


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
    """WRN-depth-widen for images (batch, height, width, channels) of any size: the last map's mean is taken.

    Initialization is that of the authors' code: convolutions N(0, 2 / (size^2 outputs)), the linear layer's weights as
    PyTorch's, its biases 0, which PyTorch's are not. Where the authors take the mean over 8 x 8 pixels, which is the
    whole last map for CIFAR's images only, this takes it over the whole map. WRN-16-8 has 10,961,370 parameters with 10
    classes.

    depth: 6 n + 4, for three groups of n blocks with width widen (1, 2, 4) channels; the second and third group have
    stride 2. width: channels of the first convolution; a smaller one makes a narrower twin. dropout: rate between a
    block's convolutions; above 0, training needs a key. dtype: see `classifier`.
    """
    for name, value in (("widen", widen), ("width", width), ("depth", depth)):
        require_count(name, value)
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth: wanted 6 n + 4 with n of at least 1, such as 16, got {depth}")
    require_number("dropout", dropout, 0.0, 1.0, open_high=True)
    block = partial(PreActivationBlock, dropout=dropout)
    features = partial(_features, block=block, blocks=(depth - 4) // 6, widen=widen, width=width)
    head = partial(linear_head, bias=constant(0.0))
    return classifier(features, head, num_classes, channels=channels, dtype=dtype)


def _features(images: Array, train: Mode, dtype: Any, *, block: Block, blocks: int, widen: int, width: int) -> Array:
    """A 3x3 convolution, three groups of blocks, and the normalization and ReLU that the last block leaves out."""
    x = Convolution(width, 3, 1, 1, dtype, name="conv1")(images)
    block = partial(block, dtype=dtype)
    x = residual_stages(x, train, block=block, blocks=(blocks,) * 3, width=width * widen, name="group")
    return nn.relu(BatchNorm(dtype=dtype, name="bn")(x, train))
