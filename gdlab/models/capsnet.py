"""Capsules with dynamic routing (Sabour, Frosst & Hinton 2017)."""

import math
from collections.abc import Sequence
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
    """Images in [0, 1], and each one's class, whose capsule alone the decoder sees."""

    images: Any
    labels: Any


class CapsuleOutputs(NamedTuple):
    """lengths: of the capsules, how sure it is of each class. reconstruction: pixels in [0, 1], in reading order."""

    lengths: Float[Array, "batch classes"]
    capsules: Float[Array, "batch classes size"]
    reconstruction: Float[Array, "batch pixels"]


def squash(s: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
    """|s|^2 / (1 + |s|^2) s / |s| (eq. 1); its gradient at a vector of zeros is 0."""
    square = jnp.sum(jnp.square(s), axis=-1, keepdims=True)
    return s * safe_sqrt(square) / (1 + square)


def route(
    predictions: Float[Array, "inputs batch outputs size"], iterations: int, *, learn_weights: bool = True
) -> Float[Array, "batch outputs size"]:
    """Routing by agreement (procedure 1): logits start at 0; softmax over the outputs, weighted sum, squash, agreement.

    The paper leaves open whether the last weights are a function to be differentiated. learn_weights: they are, and
    gradients go through all iterations, as in the authors' code (Sarasra/models); False: they are constants, as in
    naturomics/CapsNet-Tensorflow and XifengGuo/CapsNet-Pytorch. The outputs are the same. The inputs' axis is in front
    because each of them has a product of its own.
    """
    if iterations < 1:
        raise ValueError(f"iterations: wanted at least 1, got {iterations}")
    outputs = squash(jnp.sum(predictions, axis=0) / predictions.shape[2])  # all weights are alike
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
    """`jnp.einsum` without the shorter numbers that accelerators would multiply by default."""
    return jnp.einsum(subscripts, a, b, precision=jax.lax.Precision.HIGHEST)


class CapsNet(nn.Module):
    """Convolution, primary capsules, class capsules, and a decoder of dense layers."""

    num_classes: int
    image_shape: Sequence[int]
    width: int
    capsules: int
    capsule_size: int
    class_size: int
    kernel: int
    decoder: Sequence[int]
    routing: int
    learn_weights: bool
    dtype: Any

    @nn.compact
    def __call__(self, inputs: CapsuleInputs, train: bool | Bool[Array, ""] = False) -> CapsuleOutputs:
        """Lengths, class capsules and reconstructions; train changes nothing."""
        del train
        images, labels = inputs
        require_images(images, self.image_shape[-1], least=2 * self.kernel)
        wide = param_dtype(self.dtype)
        x = nn.relu(self._convolve(images.astype(self.dtype), self.width, 1, "conv"))
        x = self._convolve(x, self.capsules * self.capsule_size, 2, "primary")
        primary = squash(x.reshape(len(x), -1, self.capsule_size).astype(wide))
        shape = (primary.shape[1], self.capsule_size, self.num_classes * self.class_size)
        kernel = self.param("routing", normal(0.1), shape, wide)
        by_input = jnp.swapaxes(primary, 0, 1).astype(self.dtype)
        predictions = jnp.einsum("ibk,iko->ibo", by_input, kernel.astype(self.dtype)).astype(wide)
        predictions = predictions.reshape(*by_input.shape[:2], self.num_classes, self.class_size)
        capsules = route(predictions, self.routing, learn_weights=self.learn_weights)
        lengths = safe_sqrt(jnp.sum(jnp.square(capsules), axis=-1))
        chosen = capsules * jax.nn.one_hot(labels, self.num_classes, dtype=wide)[..., None]
        x = chosen.reshape(len(x), -1).astype(self.dtype)
        for number, size in enumerate(self.decoder):
            x = nn.relu(Linear(size, self.dtype, name=f"decoder_{number}")(x))
        last = Linear(math.prod(self.image_shape), self.dtype, name=f"decoder_{len(self.decoder)}")
        return CapsuleOutputs(lengths, capsules, jax.nn.sigmoid(last(x).astype(wide)))

    def _convolve(self, x: Array, outputs: int, stride: int, name: str) -> Array:
        """PyTorch's own initialization."""
        limit = 1 / math.sqrt(self.kernel**2 * x.shape[-1])
        draw = uniform(limit)
        return Convolution(outputs, self.kernel, stride, 0, self.dtype, draw, draw, name=name)(x)


def capsnet(
    num_classes: int = 10,
    *,
    image_shape: Sequence[int] = (28, 28, 1),
    width: int = 256,
    capsules: int = 32,
    capsule_size: int = 8,
    class_size: int = 16,
    kernel: int = 9,
    decoder: Sequence[int] = (512, 1024),
    routing: int = 3,
    learn_weights: bool = True,
    dtype: Any = jnp.float32,
) -> Model:
    """CapsNet of Sabour, Frosst & Hinton 2017, figures 1 and 2; `apply` takes `CapsuleInputs`, gives `CapsuleOutputs`.

    A convolution of `width` channels with ReLU; a second one of stride 2, whose channels are `capsules` groups of
    `capsule_size` at each pixel; `num_classes` capsules of `class_size` numbers, found by `routing` iterations
    (`route`, which says what learn_weights is); a decoder of dense layers that sees the labelled class's capsule alone.
    Convolutions and dense layers begin as PyTorch's, the matrices before routing, whose beginning the paper does not
    give, as N(0, 0.1^2): the authors' code has a normal of that width cut off at 0.2, and biases that the paper lacks.
    8,215,568 parameters at the defaults, 1,411,344 of them in the decoder. Smaller sizes make a twin. dtype: what
    products are computed in; parameters, routing and outputs are float32, or float64 with float64. The state is {}.
    """
    counts = {"num_classes": num_classes, "width": width, "capsules": capsules, "capsule_size": capsule_size}
    counts |= {"class_size": class_size, "kernel": kernel, "routing": routing}
    for name, count in counts.items():
        require_count(name, count)
    for size in (*image_shape, *decoder):
        require_count("image_shape, decoder", size)
    if len(image_shape) != 3 or min(image_shape[:2]) < 2 * kernel:
        raise ValueError(
            f"image_shape: wanted (height, width, channels) of at least {2 * kernel} pixels, got {tuple(image_shape)}"
        )
    require_dtype(dtype)
    module = CapsNet(
        num_classes,
        tuple(image_shape),
        width,
        capsules,
        capsule_size,
        class_size,
        kernel,
        tuple(decoder),
        routing,
        learn_weights,
        jnp.dtype(dtype),
    )
    images, labels = jax.ShapeDtypeStruct((1, *image_shape), dtype), jax.ShapeDtypeStruct((1,), jnp.int32)
    return from_linen(module, CapsuleInputs(images, labels))
