"""Image classifiers: what ResNet, WideResNet and VGG share.

Each of them is a function from images to feature maps and a function from the maps' mean to logits. `classifier` joins
two such functions to a `Model`. They build their layers by name inside the scope of the one module here, so that the
tree of parameters has the names of their layers and nothing above them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from gdlab.arguments import require_count
from gdlab.models.initialization import Initializer
from gdlab.models.layers import Linear, param_dtype, require_dtype, require_images
from gdlab.models.model import Model, from_linen

Mode = bool | Bool[Array, ""]
"""Whether the network is in training mode; may be traced."""

Features = Callable[[Array, Mode, Any], Array]
"""`features(images, train, dtype)`: feature maps (batch, rows, columns, features) of images in the same dtype."""

Head = Callable[[Array, int, Any], Array]
"""`head(features, num_classes, dtype)`: logits (batch, num_classes) from features (batch, features)."""

Block = Callable[..., nn.Module]
"""`block(channels, stride, name=name)`: a module called as `block(x, train)`."""


class Classifier(nn.Module):
    """Feature maps, their mean over pixels, and a head, all in `dtype`; logits in the parameters' dtype."""

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
        """The logits."""
        require_images(images, self.channels, least=self.smallest)
        maps = self.features(images.astype(self.dtype), train, self.dtype)
        logits = self.head(jnp.mean(maps, (1, 2)), self.num_classes, self.dtype)
        return logits.astype(param_dtype(self.dtype))


def classifier(
    features: Features, head: Head, num_classes: int, *, channels: int = 3, smallest: int = 1, dtype: Any = jnp.float32
) -> Model:
    """The `Model` of a convolutional classifier of images (batch, height, width, channels).

    features, head: see `Features` and `Head`; they create their layers when they are called, each with a name.
    smallest: the least height and width of an image, in pixels; smaller images raise ValueError. dtype: what the
    network computes in, float32, bfloat16 or float64. Parameters, running statistics and logits are float32, or float64
    with float64. Raises TypeError and ValueError for other numbers of classes or channels and other dtypes.
    """
    require_count("num_classes", num_classes)
    require_count("channels", channels)
    require_dtype(dtype)
    module = Classifier(features, head, num_classes, channels, smallest, jnp.dtype(dtype))
    return from_linen(module, jax.ShapeDtypeStruct((1, 32, 32, channels), dtype))


def residual_stages(
    x: Array, train: Mode, *, block: Block, blocks: Sequence[int], width: int, name: str
) -> Float[Array, "batch rows columns features"]:
    """Stages of residual blocks; each stage but the first halves the image and doubles the channels.

    blocks: how many blocks each stage has. width: channels of the first stage. name: that of a stage without its
    number: block 0 of the first is called `name` + "1_0".
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
    """One linear layer, "fc"; initializer and bias default to the initialization of `torch.nn.Linear`."""
    return Linear(num_classes, dtype, initializer, bias, name="fc")(features)
