"""CapsNet: capsules with dynamic routing (Sabour, Frosst & Hinton 2017)."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from gdlab.arguments import describe, require_count, require_flag
from gdlab.models.initialization import normal, uniform
from gdlab.models.layers import Convolution, Linear, param_dtype, require_dtype, require_images, require_sizes
from gdlab.models.model import Model, from_linen
from gdlab.numerics import safe_sqrt


class CapsuleInputs(NamedTuple):
    """The inputs of a CapsNet.

    Attributes:
      images: images in [0, 1], of shape (batch, height, width, channels).
      labels: the class of each image, of shape (batch,). The decoder receives the capsule of this class only.
    """

    images: Any
    labels: Any


class CapsuleOutputs(NamedTuple):
    """The outputs of a CapsNet.

    Attributes:
      lengths: the length of each class capsule, which is the evidence for the class.
      capsules: the class capsules.
      reconstruction: the image that the decoder returns: pixels in [0, 1], in row-major order.
    """

    lengths: Float[Array, "batch classes"]
    capsules: Float[Array, "batch classes size"]
    reconstruction: Float[Array, "batch pixels"]


@dataclasses.dataclass(frozen=True)
class CapsuleSizes:
    """The sizes of a CapsNet; the defaults are the paper's.

    Attributes:
      width: the number of channels of the first convolution.
      capsules: the number of primary capsules at each pixel.
      capsule_size: the dimension of a primary capsule.
      class_size: the dimension of a class capsule.
      kernel: the side of the kernels of both convolutions, in pixels.
      decoder: the sizes of the decoder's hidden layers.
      routing: the number of iterations of `route`.

    Raises:
      TypeError: if a size is not an integer.
      ValueError: if a size is less than 1.
    """

    width: int = 256
    capsules: int = 32
    capsule_size: int = 8
    class_size: int = 16
    kernel: int = 9
    decoder: Sequence[int] = (512, 1024)
    routing: int = 3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "decoder":
                require_sizes(name, value, "the sizes of the hidden layers")
            else:
                require_count(name, value)
        object.__setattr__(self, "decoder", tuple(self.decoder))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all sizes in order."""
        return tuple(field.name for field in dataclasses.fields(cls))


def squash(s: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
    """Return |s|^2 / (1 + |s|^2) s / |s| (equation 1); the gradient at a vector of zeros is 0."""
    square = jnp.sum(jnp.square(s), axis=-1, keepdims=True)
    return s * safe_sqrt(square) / (1 + square)


def route(
    predictions: Float[Array, "inputs batch outputs size"], iterations: int, *, learn_weights: bool = True
) -> Float[Array, "batch outputs size"]:
    """Route by agreement (procedure 1) and return the output capsules.

    The logits start at 0. Each iteration takes their softmax over the outputs, the sum of the predictions with these
    weights, and its squash; agreement with the predictions is then added to the logits.

    `predictions` are those of every output capsule by every input capsule; the axis of the inputs comes first, because
    each input has its own matrix product. With `learn_weights`, gradients flow through the weights of all iterations,
    as in the authors' code (Sarasra/models); otherwise the weights are constants, as in naturomics/CapsNet-Tensorflow
    and XifengGuo/CapsNet-Pytorch. The paper does not specify this; the outputs are the same.
    """
    if iterations < 1:
        raise ValueError(f"iterations: expected at least 1, got {iterations}")
    outputs = squash(jnp.sum(predictions, axis=0) / predictions.shape[2])  # all weights are equal
    logits = jnp.zeros((), predictions.dtype)
    for _ in range(iterations - 1):
        # Matrix products: with sums of broadcast arrays, routing and its gradient take up to three times as long on a
        # CPU.
        logits = logits + _product("ibos,bos->ibo", predictions, outputs)
        weights = jax.nn.softmax(logits, axis=-1)
        if not learn_weights:
            weights = jax.lax.stop_gradient(weights)
        outputs = squash(_product("ibo,ibos->bos", weights, predictions))
    return outputs


def _product(subscripts: str, a: Array, b: Array) -> Array:
    """Compute `jnp.einsum` in full precision; by default accelerators round float32 to fewer digits."""
    return jnp.einsum(subscripts, a, b, precision=jax.lax.Precision.HIGHEST)


class CapsNet(nn.Module):
    """A convolution, primary capsules, class capsules, and a decoder of dense layers."""

    num_classes: int
    image_shape: Sequence[int]
    sizes: CapsuleSizes
    learn_weights: bool
    dtype: Any

    @nn.compact
    def __call__(self, inputs: CapsuleInputs, train: bool | Bool[Array, ""] = False) -> CapsuleOutputs:
        """Return lengths, class capsules and reconstructions; `train` has no effect."""
        del train
        sizes, (images, labels) = self.sizes, _parts(inputs)
        require_images(images, self.image_shape[-1], least=2 * sizes.kernel)
        _require_labels(labels, images)
        wide = param_dtype(self.dtype)
        x = nn.relu(self._convolve(images.astype(self.dtype), sizes.width, 1, "conv"))
        x = self._convolve(x, sizes.capsules * sizes.capsule_size, 2, "primary")
        primary = squash(x.reshape(len(x), -1, sizes.capsule_size).astype(wide))
        capsules = route(self._predict(primary), sizes.routing, learn_weights=self.learn_weights)
        lengths = safe_sqrt(jnp.sum(jnp.square(capsules), axis=-1))
        chosen = capsules * jax.nn.one_hot(labels, self.num_classes, dtype=wide)[..., None]
        return CapsuleOutputs(lengths, capsules, self._decode(chosen.reshape(len(x), -1).astype(self.dtype)))

    def _convolve(self, x: Array, outputs: int, stride: int, name: str) -> Array:
        """Apply a convolution with PyTorch's initialization."""
        kernel = self.sizes.kernel
        draw = uniform(1 / math.sqrt(kernel**2 * x.shape[-1]))
        return Convolution(outputs, kernel, stride, 0, self.dtype, draw, draw, name=name)(x)

    def _predict(self, primary: Float[Array, "batch inputs size"]) -> Float[Array, "inputs batch classes class_size"]:
        """Return each primary capsule's prediction of each class capsule: the capsule times a matrix of its own."""
        sizes, wide = self.sizes, param_dtype(self.dtype)
        shape = (primary.shape[1], sizes.capsule_size, self.num_classes * sizes.class_size)
        kernel = self.param("routing", normal(0.1), shape, wide)
        by_input = jnp.swapaxes(primary, 0, 1).astype(self.dtype)
        predictions = jnp.einsum("ibk,iko->ibo", by_input, kernel.astype(self.dtype)).astype(wide)
        return predictions.reshape(*by_input.shape[:2], self.num_classes, sizes.class_size)

    def _decode(self, x: Float[Array, "batch capsules"]) -> Float[Array, "batch pixels"]:
        """Return the image decoded from the capsule of the labelled class; the other capsules are zeros."""
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
    """CapsNet, a network of capsules with dynamic routing (figures 1 and 2 of the paper).

    A convolution with ReLU is followed by a second convolution of stride 2, whose channels are grouped into the primary
    capsules of each pixel. Routing by agreement computes one capsule per class, and a decoder of dense layers
    reconstructs the image from the capsule of the labelled class only. `apply` takes `CapsuleInputs` and returns
    `CapsuleOutputs`; the state is {}. With the defaults there are 8,215,568 parameters, of which 1,411,344 are in the
    decoder.

    Convolutions and dense layers are initialized as in PyTorch. The paper does not give the initialization of the
    matrices before routing; here it is N(0, 0.1^2). The authors' code uses a normal distribution of that width
    truncated at 0.2, and has biases that the paper lacks.

    Args:
      num_classes: the number of classes. Default 10.
      image_shape: the shape (height, width, channels) of one image. Default (28, 28, 1).
      learn_weights: whether gradients flow through the weights of all routing iterations, as in the authors' code
        (Sarasra/models). If False, the weights are constants, as in naturomics/CapsNet-Tensorflow and
        XifengGuo/CapsNet-Pytorch. The paper does not specify this; the outputs are the same.
      dtype: the dtype in which products are computed. Parameters, routing and outputs are float32, or float64 if
        `dtype` is float64.
      **sizes: fields of `CapsuleSizes`; the defaults are the paper's.

    Returns:
      A `Model`.

    Raises:
      TypeError: if `sizes` contains any other name, or a size is not an integer.
      ValueError: if a size is less than 1, or an image is smaller than two kernels.

    References:
      Sabour, Frosst and Hinton, "Dynamic Routing Between Capsules", 2017 (https://arxiv.org/abs/1710.09829).
    """
    chosen = _choose(sizes)
    require_count("num_classes", num_classes)
    require_sizes("image_shape", image_shape, "(height, width, channels)")
    require_flag("learn_weights", learn_weights)
    least = 2 * chosen.kernel
    if len(image_shape) != 3 or min(image_shape[:2]) < least:
        raise ValueError(
            f"image_shape: expected (height, width, channels) with sides of at least {least} pixels, got "
            f"{tuple(image_shape)}"
        )
    require_dtype(dtype)
    module = CapsNet(num_classes, tuple(image_shape), chosen, learn_weights, jnp.dtype(dtype))
    images, labels = jax.ShapeDtypeStruct((1, *image_shape), dtype), jax.ShapeDtypeStruct((1,), jnp.int32)
    return from_linen(module, CapsuleInputs(images, labels))


def _parts(inputs: Any) -> tuple[Any, Any]:
    """Return the images and the labels of the inputs."""
    if not isinstance(inputs, tuple) or len(inputs) != 2:
        raise TypeError(f"inputs: expected CapsuleInputs(images, labels), got {describe(inputs)}")
    return inputs


def _require_labels(labels: Any, images: Any) -> None:
    """Raise ValueError unless there is one integer per image."""
    dtype = getattr(labels, "dtype", None)
    if dtype is None or labels.shape != images.shape[:1] or not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(f"inputs: expected integer labels of shape ({len(images)},), got {describe(labels)}")


def _choose(sizes: Mapping[str, Any]) -> CapsuleSizes:
    """Return the given sizes with the paper's for all others; raise TypeError for an unknown name."""
    names = CapsuleSizes.names()
    unknown = sorted(sizes.keys() - set(names))
    if unknown:
        raise TypeError(f"sizes: expected names among {', '.join(names)}; got {', '.join(unknown)}")
    return CapsuleSizes(**sizes)
