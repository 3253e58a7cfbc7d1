"""Wide residual networks (Zagoruyko & Komodakis 2016)."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from gdlab.arguments import require_count, require_number
from gdlab.models.classifier import Block, Mode, classifier, linear_head, residual_stages
from gdlab.models.initialization import constant
from gdlab.models.layers import Convolution, dropout
from gdlab.models.model import Model
from gdlab.models.normalization import BatchNorm


class PreActivationBlock(nn.Module):
    """Two 3x3 convolutions, each after batch normalization and ReLU, and a shortcut.

    If the shape changes, the shortcut is a 1x1 convolution of the output of the first ReLU, as in the authors' code
    (szagoruyko/wide-residual-networks); otherwise it is the input before normalization.

    Attributes:
      outputs: the number of output channels.
      stride: the stride of the first convolution.
      dropout: the fraction of values in the output of the second ReLU that are set to zero in training.
      dtype: the dtype in which the block computes.
    """

    outputs: int
    stride: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: Mode) -> Array:
        """Return the result of the block, with `outputs` channels."""
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
    """Wide residual network WRN-depth-widen, for images of any size.

    Images have shape (batch, height, width, channels). WRN-16-8 has 10,961,370 parameters with 10 classes. The
    initialization is that of the authors' code: N(0, 2 / (size^2 outputs)) for convolutions; for the linear layer
    PyTorch's weights, but biases 0, unlike PyTorch. The authors take the mean over 8 x 8 pixels, which is the whole
    last map only for CIFAR's images; here it is taken over the whole map.

    Args:
      num_classes: the number of classes.
      depth: the number of layers, 6 n + 4 for three groups of n blocks. The groups have width * widen, 2 width * widen
        and 4 width * widen channels; the second and the third have stride 2. Default 16.
      widen: the factor by which the first group is wider than the first convolution. Default 8.
      width: the number of channels of the first convolution. Default 16; a smaller value makes the whole network
        narrower.
      channels: the number of channels of the images. Default 3.
      dropout: the fraction of values set to zero between the convolutions of a block. Above 0, training needs a key.
        Default 0.
      dtype: the dtype in which the network computes: float32, bfloat16 or float64. Parameters, running statistics and
        logits are float32, or float64 if `dtype` is float64.

    Returns:
      A `Model`.

    Raises:
      TypeError: if an argument has the wrong type.
      ValueError: if a number is out of range, `depth` is not 6 n + 4, or `dtype` is float64 without jax_enable_x64.

    References:
      Zagoruyko and Komodakis, "Wide Residual Networks", 2016 (https://arxiv.org/abs/1605.07146).
    """
    for name, value in (("widen", widen), ("width", width), ("depth", depth)):
        require_count(name, value)
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth: expected 6 n + 4 with n >= 1, such as 16, got {depth}")
    require_number("dropout", dropout, 0.0, 1.0, open_high=True)
    block = partial(PreActivationBlock, dropout=dropout)
    features = partial(_features, block=block, blocks=(depth - 4) // 6, widen=widen, width=width)
    head = partial(linear_head, bias=constant(0.0))
    return classifier(features, head, num_classes, channels=channels, dtype=dtype)


def _features(images: Array, train: Mode, dtype: Any, *, block: Block, blocks: int, widen: int, width: int) -> Array:
    """Apply a 3x3 convolution, three groups of blocks, and a final batch normalization with ReLU."""
    x = Convolution(width, 3, 1, 1, dtype, name="conv1")(images)
    block = partial(block, dtype=dtype)
    x = residual_stages(x, train, block=block, blocks=(blocks,) * 3, width=width * widen, name="group")
    return nn.relu(BatchNorm(dtype=dtype, name="bn")(x, train))
