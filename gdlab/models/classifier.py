"""The common parts of ResNet, WideResNet and VGG.

Each of these classifiers is a function from images to feature maps and a function from the mean of the maps to logits;
`classifier` joins the two into a `Model`. Both functions create named layers in the scope of a single module, so the
tree of parameters has the names of the layers at its top level.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from gdlab.arguments import describe, require_count
from gdlab.models.initialization import Initializer
from gdlab.models.layers import Linear, apply_layers, param_dtype, require_dtype, require_images
from gdlab.models.model import Model, from_linen

Mode = bool | Bool[Array, ""]
"""Whether the network is in training mode; a traced value is allowed."""

Features = Callable[[Array, Mode, Any], Array]
"""`features(images, train, dtype)` returns feature maps (batch, rows, columns, features) in the dtype of the images."""

Head = Callable[[Array, int, Any], Array]
"""`head(features, num_classes, dtype)` returns logits (batch, num_classes) for features (batch, features)."""

Block = Callable[..., nn.Module]
"""`block(channels, stride, name=name)` returns a module that is called with (x, train)."""


class Classifier(nn.Module):
    """Feature maps, their mean over pixels, and a head, all in `dtype`; the logits have the parameters' dtype."""

    features: Features
    head: Head
    num_classes: int
    channels: int
    smallest: int
    dtype: Any

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: Mode
    ) -> Float[Array, "batch classes"]:
        """Return the logits."""
        require_images(images, self.channels, least=self.smallest)
        maps = self.features(images.astype(self.dtype), train, self.dtype)
        expected = f"a function of (features, num_classes, dtype) that returns logits (batch, {self.num_classes})"
        means = jnp.mean(maps, (1, 2))
        logits = apply_layers("head", self.head, means, self.num_classes, self.dtype, ndim=2, expected=expected)
        if logits.shape[1] != self.num_classes:
            raise TypeError(f"head: expected {expected}, got {describe(logits)}")
        return logits.astype(param_dtype(self.dtype))


def classifier(
    features: Features, head: Head, num_classes: int, *, channels: int = 3, smallest: int = 1, dtype: Any = jnp.float32
) -> Model:
    """Make a `Model` of a convolutional classifier for images of shape (batch, height, width, channels).

    Args:
      features: computes feature maps; see `Features`. It creates its layers when it is called, each with a name.
      head: computes logits; see `Head`. It creates its layers in the same way.
      num_classes: the number of classes.
      channels: the number of channels of the images. Default 3.
      smallest: the smallest height and width of an image in pixels; smaller images raise ValueError. Default 1.
      dtype: the dtype in which the network computes: float32, bfloat16 or float64. Parameters, running statistics and
        logits are float32, or float64 if `dtype` is float64.

    Returns:
      A `Model`.

    Raises:
      TypeError: if a number is not an integer, or `dtype` is not a floating-point type.
      ValueError: if a number is less than 1, or `dtype` is float64 without jax_enable_x64.
    """
    require_count("num_classes", num_classes)
    require_count("channels", channels)
    require_dtype(dtype)
    module = Classifier(features, head, num_classes, channels, smallest, jnp.dtype(dtype))
    return from_linen(module, jax.ShapeDtypeStruct((1, 32, 32, channels), dtype))


def residual_stages(
    x: Array, train: Mode, *, block: Block, blocks: Sequence[int], width: int, name: str
) -> Float[Array, "batch rows columns features"]:
    """Apply stages of residual blocks; each stage but the first halves the image and doubles the channels.

    `blocks` holds the number of blocks of each stage, and `width` is the number of channels of the first. Block 0 of
    the first stage is named `name` + "1_0".
    """
    for stage, count in enumerate(blocks):
        for number in range(count):
            stride = 2 if stage > 0 and number == 0 else 1
            x = block(width << stage, stride, name=f"{name}{stage + 1}_{number}")(x, train)
    return x


def linear_head(
    features: Float[Array, "batch features"],
    num_classes: int,
    dtype: Any,
    *,
    initializer: Initializer | None = None,
    bias: Initializer | None = None,
) -> Float[Array, "batch classes"]:
    """One linear layer from features to logits, named "fc".

    Args:
      features: the features, of shape (batch, features).
      num_classes: the number of classes.
      dtype: the dtype in which the layer computes.
      initializer: the initializer of the weights. None: that of `torch.nn.Linear`.
      bias: the initializer of the bias. None: that of `torch.nn.Linear`.

    Returns:
      The logits, of shape (batch, num_classes).
    """
    return Linear(num_classes, dtype, initializer, bias, name="fc")(features)
