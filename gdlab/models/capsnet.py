"""Capsules with dynamic routing (Sabour, Frosst & Hinton 2017)."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from gdlab.arguments import require_count
from gdlab.models.initialization import normal, uniform
from gdlab.models.layers import Convolution, Linear, param_dtype, require_dtype, require_images
from gdlab.models.model import Model, from_linen
from gdlab.numerics import safe_sqrt


class CapsuleInputs(NamedTuple):
    """Images in [0, 1], (batch, height, width, channels), and classes (batch,); the decoder sees that capsule alone."""

    images: Any
    labels: Any


class CapsuleOutputs(NamedTuple):
    """The class capsules, their lengths, which are the evidence for each class, and the decoder's image.

    reconstruction: pixels in [0, 1], in reading order.
    """

    lengths: Float[Array, "batch classes"]
    capsules: Float[Array, "batch classes size"]
    reconstruction: Float[Array, "batch pixels"]


@dataclasses.dataclass(frozen=True)
class CapsuleSizes:
    """The sizes of a CapsNet; the defaults are the paper's, smaller ones make a twin.

    width: channels of the first convolution. capsules: primary capsules at each pixel, of `capsule_size` numbers.
    class_size: numbers of a class's capsule. kernel: side of both convolutions' kernels, in pixels. decoder: sizes of
    its hidden layers. routing: iterations of `route`. Raises TypeError and ValueError unless all are integers from 1.
    """

    width: int = 256
    capsules: int = 32
    capsule_size: int = 8
    class_size: int = 16
    kernel: int = 9
    decoder: Sequence[int] = (512, 1024)
    routing: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "decoder", tuple(self.decoder))
        for name, value in vars(self).items():
            for size in value if name == "decoder" else (value,):
                require_count(name, size)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of all sizes, in order."""
        return tuple(field.name for field in dataclasses.fields(cls))


def squash(s: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
    """|s|^2 / (1 + |s|^2) s / |s| (equation 1); the gradient at a vector of zeros is 0."""
    square = jnp.sum(jnp.square(s), axis=-1, keepdims=True)
    return s * safe_sqrt(square) / (1 + square)


def route(
    predictions: Float[Array, "inputs batch outputs size"], iterations: int, *, learn_weights: bool = True
) -> Float[Array, "batch outputs size"]:
    """Routing by agreement (procedure 1): logits start at 0; softmax over the outputs, weighted sum, squash, agreement.

    predictions: of every output capsule by every input capsule; the inputs' axis is in front because each input has a
    matrix product of its own. learn_weights: whether gradients flow through the weights of all iterations, as in the
    authors' code (Sarasra/models). With False the weights are constants, as in naturomics/CapsNet-Tensorflow and
    XifengGuo/CapsNet-Pytorch. The paper leaves this open; the outputs are the same.
    """
    if iterations < 1:
        raise ValueError(f"iterations: wanted at least 1, got {iterations}")
    outputs = squash(jnp.sum(predictions, axis=0) / predictions.shape[2])  # all weights are equal
    logits = jnp.zeros((), predictions.dtype)
    for _ in range(iterations - 1):
        # Products: as sums of broadcast arrays, routing and its gradient run up to three times as long on a CPU.
        logits = logits + _product("ibos,bos->ibo", predictions, outputs)
        weights = jax.nn.softmax(logits, axis=-1)
        if not learn_weights:
            weights = jax.lax.stop_gradient(weights)
        outputs = squash(_product("ibo,ibos->bos", weights, predictions))
    return outputs


def _product(subscripts: str, a: Array, b: Array) -> Array:
    """`jnp.einsum` in full precision, where accelerators would round float32 to fewer digits by default."""
    return jnp.einsum(subscripts, a, b, precision=jax.lax.Precision.HIGHEST)


class CapsNet(nn.Module):
    """Convolution, primary capsules, class capsules, and a decoder of dense layers."""

    num_classes: int
    image_shape: Sequence[int]
    sizes: CapsuleSizes
    learn_weights: bool
    dtype: Any

    @nn.compact
    def __call__(self, inputs: CapsuleInputs, train: bool | Bool[Array, ""] = False) -> CapsuleOutputs:
        """Lengths, class capsules and reconstructions; train has no effect."""
        del train
        sizes, (images, labels) = self.sizes, inputs
        require_images(images, self.image_shape[-1], least=2 * sizes.kernel)
        wide = param_dtype(self.dtype)
        x = nn.relu(self._convolve(images.astype(self.dtype), sizes.width, 1, "conv"))
        x = self._convolve(x, sizes.capsules * sizes.capsule_size, 2, "primary")
        primary = squash(x.reshape(len(x), -1, sizes.capsule_size).astype(wide))
        capsules = route(self._predict(primary), sizes.routing, learn_weights=self.learn_weights)
        lengths = safe_sqrt(jnp.sum(jnp.square(capsules), axis=-1))
        chosen = capsules * jax.nn.one_hot(labels, self.num_classes, dtype=wide)[..., None]
        return CapsuleOutputs(lengths, capsules, self._decode(chosen.reshape(len(x), -1).astype(self.dtype)))

    def _convolve(self, x: Array, outputs: int, stride: int, name: str) -> Array:
        """A convolution with PyTorch's own initialization."""
        kernel = self.sizes.kernel
        draw = uniform(1 / math.sqrt(kernel**2 * x.shape[-1]))
        return Convolution(outputs, kernel, stride, 0, self.dtype, draw, draw, name=name)(x)

    def _predict(self, primary: Float[Array, "batch inputs size"]) -> Float[Array, "inputs batch classes class_size"]:
        """Each primary capsule's prediction of each class capsule: a matrix of its own times the capsule."""
        sizes, wide = self.sizes, param_dtype(self.dtype)
        shape = (primary.shape[1], sizes.capsule_size, self.num_classes * sizes.class_size)
        kernel = self.param("routing", normal(0.1), shape, wide)
        by_input = jnp.swapaxes(primary, 0, 1).astype(self.dtype)
        predictions = jnp.einsum("ibk,iko->ibo", by_input, kernel.astype(self.dtype)).astype(wide)
        return predictions.reshape(*by_input.shape[:2], self.num_classes, sizes.class_size)

    def _decode(self, x: Float[Array, "batch capsules"]) -> Float[Array, "batch pixels"]:
        """The image that the decoder makes of the labelled class's capsule; the others are zeros."""
        layers = self.sizes.decoder
        for number, size in enumerate(layers):
            x = nn.relu(Linear(size, self.dtype, name=f"decoder_{number}")(x))
        last = Linear(math.prod(self.image_shape), self.dtype, name=f"decoder_{len(layers)}")
        return jax.nn.sigmoid(last(x).astype(param_dtype(self.dtype)))


def capsnet(
    num_classes: int = 10,
    *,
    image_shape: Sequence[int] = (28, 28, 1),
    learn_weights: bool = True,
    dtype: Any = jnp.float32,
    **sizes: Any,
) -> Model:
    """CapsNet of Sabour, Frosst & Hinton 2017, figures 1 and 2; `apply` takes `CapsuleInputs`, gives `CapsuleOutputs`.

    A convolution with ReLU; a second one of stride 2, whose channels are groups of numbers, the primary capsules of
    each pixel; a capsule per class, found by routing; a decoder of dense layers that sees the labelled class's capsule
    alone. Convolutions and dense layers are initialized as PyTorch's. The matrices before routing, whose initialization
    the paper does not give, are N(0, 0.1^2): the authors' code has a normal of that width truncated at 0.2, and biases
    that the paper lacks. The state is {}. 8,215,568 parameters at the defaults, 1,411,344 of them in the decoder.

    image_shape: (height, width, channels) of one image. learn_weights: see `route`. dtype: what products are computed
    in; parameters, routing and outputs are float32, or float64 with float64. sizes: the fields of `CapsuleSizes`.

    Raises TypeError for sizes of other names, and TypeError or ValueError for sizes that are not integers from 1 and
    for images of fewer pixels than two kernels.
    """
    chosen = _choose(sizes)
    require_count("num_classes", num_classes)
    for size in image_shape:
        require_count("image_shape", size)
    least = 2 * chosen.kernel
    if len(image_shape) != 3 or min(image_shape[:2]) < least:
        raise ValueError(
            f"image_shape: wanted (height, width, channels) of at least {least} pixels, got {tuple(image_shape)}"
        )
    require_dtype(dtype)
    module = CapsNet(num_classes, tuple(image_shape), chosen, learn_weights, jnp.dtype(dtype))
    images, labels = jax.ShapeDtypeStruct((1, *image_shape), dtype), jax.ShapeDtypeStruct((1,), jnp.int32)
    return from_linen(module, CapsuleInputs(images, labels))


def _choose(sizes: Mapping[str, Any]) -> CapsuleSizes:
    """The sizes by name, the others as in the paper; TypeError for a name that is none of theirs."""
    names = CapsuleSizes.names()
    unknown = sorted(sizes.keys() - set(names))
    if unknown:
        raise TypeError(f"sizes: expected names among {', '.join(names)}; got {', '.join(unknown)}")
    return CapsuleSizes(**sizes)
