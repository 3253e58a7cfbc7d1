"""A variational autoencoder (Kingma & Welling 2014) of dense layers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PyTree, Shaped

from gdlab.arguments import describe, require_count
from gdlab.models.layers import Linear, param_dtype, require_dtype, require_sizes, shape_of
from gdlab.models.model import AKey, Model, from_linen


class VaeOutputs(NamedTuple):
    """The outputs of a variational autoencoder.

    Attributes:
      mean: the mean of q(z | x), a normal distribution with independent coordinates.
      log_variance: the logarithm of the variance of q(z | x).
      latents: a sample of q(z | x).
      logits: the logits of the probability p(x | latents) of each pixel, in row-major order.
    """

    mean: Float[Array, "batch latent"]
    log_variance: Float[Array, "batch latent"]
    latents: Float[Array, "batch latent"]
    logits: Float[Array, "batch pixels"]


class Autoencoder(nn.Module):
    """An encoder and a decoder of dense layers with ReLU, which mirror each other."""

    pixels: int
    hidden: Sequence[int]
    latent: int
    dtype: Any

    def setup(self) -> None:
        """Create the layers; `encode` and `decode` use them."""
        self.encoder = [Linear(size, self.dtype) for size in self.hidden]
        self.mean = Linear(self.latent, self.dtype)
        self.log_variance = Linear(self.latent, self.dtype)
        self.decoder = [Linear(size, self.dtype) for size in (*reversed(self.hidden), self.pixels)]

    def encode(self, images: Float[Array, "batch ..."]) -> tuple[Array, Array]:
        """Return mean and log variance of the latents."""
        if not jnp.issubdtype(images.dtype, jnp.floating):  # integers in 0..255 would be taken for values in [0, 1]
            raise TypeError(f"images: expected floating-point numbers in [0, 1], got dtype {images.dtype}")
        x = images.reshape(len(images), -1).astype(self.dtype)
        for layer in self.encoder:
            x = nn.relu(layer(x))
        wide = param_dtype(self.dtype)
        return self.mean(x).astype(wide), self.log_variance(x).astype(wide)

    def decode(self, latents: Float[Array, "batch latent"]) -> Array:
        """Return the logits of the pixels."""
        x = latents.astype(self.dtype)
        for layer in self.decoder[:-1]:
            x = nn.relu(layer(x))
        return self.decoder[-1](x).astype(param_dtype(self.dtype))

    def __call__(self, images: Float[Array, "batch ..."], train: Any = False) -> VaeOutputs:
        """Use one sample of the latents per image, or their mean if there is no key; `train` has no effect."""
        del train
        mean, log_variance = self.encode(images)
        latents = mean
        if self.has_rng("dropout"):
            noise = jax.random.normal(self.make_rng("dropout"), mean.shape, mean.dtype)
            latents = mean + jnp.exp(0.5 * log_variance) * noise
        return VaeOutputs(mean, log_variance, latents, self.decode(latents))


def vae(
    input_shape: Sequence[int] = (28, 28, 1),
    *,
    hidden: Sequence[int] = (512, 256),
    latent: int = 2,
    dtype: Any = jnp.float32,
) -> Model:
    """Variational autoencoder of dense layers with ReLU.

    `apply(params, state, images, key=key)` returns `VaeOutputs` for a batch of images in [0, 1]. The latents are one
    reparametrized sample, in training as in evaluation, or the mean if there is no key. The state is {}. `vae_encode`
    and `vae_decode` apply the encoder and the decoder on their own.

    The layers are initialized as `torch.nn.Linear`. The default sizes are those of the MNIST-VAE of the Demon benchmark
    and lead to 1,068,820 parameters.

    Args:
      input_shape: the shape of one image. Default (28, 28, 1).
      hidden: the sizes of the encoder's hidden layers; the decoder has the same sizes in reverse. Default (512, 256).
      latent: the number of dimensions of the latent space. Default 2.
      dtype: the dtype in which the layers compute. Parameters and outputs are float32, or float64 if `dtype` is
        float64.

    Returns:
      A `Model`.

    Raises:
      TypeError: if a size is not an integer, or `dtype` is not a floating-point type.
      ValueError: if a size is less than 1, `hidden` is empty, or `dtype` is float64 without jax_enable_x64.

    References:
      Kingma and Welling, "Auto-Encoding Variational Bayes", 2014 (https://arxiv.org/abs/1312.6114).
    """
    require_sizes("input_shape", input_shape, "the shape of one image, such as (28, 28, 1)")
    require_sizes("hidden", hidden, "the sizes of the hidden layers")
    require_count("latent", latent)
    if not len(hidden):
        raise ValueError("hidden: expected at least one layer size, got none")
    require_dtype(dtype)
    module = Autoencoder(math.prod(input_shape), tuple(hidden), latent, dtype)
    model = from_linen(module, jax.ShapeDtypeStruct((1, *input_shape), dtype))

    def apply(
        params: PyTree, state: PyTree, inputs: PyTree, *, train: Any = False, key: AKey | None = None
    ) -> tuple[VaeOutputs, PyTree]:
        if shape_of(inputs)[1:] != tuple(input_shape) or not len(shape_of(inputs)):
            shape = ", ".join(map(str, input_shape))
            raise ValueError(f"inputs: expected images (batch, {shape}), got {describe(inputs)}")
        return model.apply(params, state, inputs, train=train, key=key)

    return Model(model.init, apply)


def _require_parameters(params: Any) -> None:
    """Raise TypeError unless these are the parameters of a `vae`."""
    kernels = [
        isinstance(params, Mapping) and isinstance(params.get(layer), Mapping) and params[layer].get("kernel")
        for layer in ("encoder_0", "mean", "log_variance", "decoder_0")
    ]
    if any(len(shape_of(kernel)) != 2 for kernel in kernels):
        raise TypeError(f"params: expected the parameters of a vae, got {describe(params)}")


def _look(params: PyTree, method: str, inputs: Array) -> Any:
    """Return the result of a method of the module, whose sizes are inferred from its parameters."""
    layers = sorted((name for name in params if name.startswith("encoder_")), key=lambda name: int(name[8:]))
    hidden = tuple(params[name]["kernel"].shape[1] for name in layers)
    pixels, latent = params["encoder_0"]["kernel"].shape[0], params["mean"]["kernel"].shape[1]
    module = Autoencoder(pixels, hidden, latent, params["mean"]["kernel"].dtype)
    return module.apply({"params": params}, inputs, method=method)


def vae_encode(
    params: PyTree, images: Shaped[Array, "batch ..."]
) -> tuple[Float[Array, "batch latent"], Float[Array, "batch latent"]]:
    """Encode images: return the mean and the log variance of q(z | x).

    Args:
      params: the parameters of a `vae`.
      images: images in [0, 1], of shape (batch, pixels) or (batch, height, width, channels).

    Returns:
      (mean, log variance), each of shape (batch, latent).

    Raises:
      TypeError: if the images are integers, or `params` are not those of a `vae`.
      ValueError: if the images do not have the number of pixels that the parameters require.
    """
    shape = shape_of(images)
    if len(shape) < 2:
        raise ValueError(
            f"images: expected an array (batch, pixels) or (batch, height, width, channels), got {describe(images)}"
        )
    _require_parameters(params)
    pixels = params["encoder_0"]["kernel"].shape[0]
    if math.prod(shape[1:]) != pixels:
        raise ValueError(f"images: expected images of {pixels} pixels, got {describe(images)}")
    mean, log_variance = _look(params, "encode", images)
    return mean, log_variance


def vae_decode(params: PyTree, latents: Float[Array, "batch latent"]) -> Float[Array, "batch pixels"]:
    """Decode latents: return the probability of each pixel.

    Args:
      params: the parameters of a `vae`.
      latents: the latents, of shape (batch, latent).

    Returns:
      The probabilities in row-major order, of shape (batch, pixels); reshape them to obtain images.

    Raises:
      TypeError: if `params` are not those of a `vae`.
      ValueError: if the latents do not have the number of dimensions that the parameters require.
    """
    if len(shape_of(latents)) != 2:
        raise ValueError(f"latents: expected an array (batch, latent), got {describe(latents)}")
    _require_parameters(params)
    expected = params["mean"]["kernel"].shape[1]
    if shape_of(latents)[1] != expected:
        raise ValueError(f"latents: expected shape (batch, {expected}), got {describe(latents)}")
    return jax.nn.sigmoid(_look(params, "decode", latents))
