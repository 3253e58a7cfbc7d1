"""The variational autoencoder (Kingma & Welling 2014) of dense layers."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PyTree, Shaped

from gdlab.arguments import describe, require_count
from gdlab.models.layers import Linear, param_dtype, require_dtype
from gdlab.models.model import AKey, Model, from_linen


class VaeOutputs(NamedTuple):
    """The posterior of the latents, a sample of them, and the pixels that the decoder makes of it.

    mean, log_variance: those of q(z | x), a normal distribution with independent coordinates. latents: a sample of q.
    logits: those of each pixel's probability p(x | latents), in reading order.
    """

    mean: Float[Array, "batch latent"]
    log_variance: Float[Array, "batch latent"]
    latents: Float[Array, "batch latent"]
    logits: Float[Array, "batch pixels"]


class Autoencoder(nn.Module):
    """Encoder and decoder, mirror images of each other, ReLU between dense layers."""

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
        """Mean and log variance of the latents."""
        if not jnp.issubdtype(images.dtype, jnp.floating):  # bytes would pass for pixels a few hundred times as bright
            raise TypeError(f"images: wanted floating-point numbers in [0, 1], got dtype {images.dtype}")
        x = images.reshape(len(images), -1).astype(self.dtype)
        for layer in self.encoder:
            x = nn.relu(layer(x))
        wide = param_dtype(self.dtype)
        return self.mean(x).astype(wide), self.log_variance(x).astype(wide)

    def decode(self, latents: Float[Array, "batch latent"]) -> Array:
        """The pixels' logits."""
        x = latents.astype(self.dtype)
        for layer in self.decoder[:-1]:
            x = nn.relu(layer(x))
        return self.decoder[-1](x).astype(param_dtype(self.dtype))

    def __call__(self, images: Float[Array, "batch ..."], train: Any = False) -> VaeOutputs:
        """One sample of the latents per image with a key for noise, their mean without one; train has no effect."""
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
    """A VAE of dense layers with ReLU: an encoder of the `hidden` sizes and a decoder of the same sizes in reverse.

    `apply(params, state, images, key=key)` returns `VaeOutputs` for a batch of images in [0, 1] of `input_shape`; the
    latents are one reparametrized sample, in training and evaluation alike, or the mean where there is no key. The
    state is {}. Layers are initialized as `torch.nn.Linear`. The default sizes are those of the Demon benchmark's
    MNIST-VAE and make 1,068,820 parameters. `vae_encode` and `vae_decode` apply the halves on their own.

    latent: dimensions of the latent space. dtype: what the layers compute in; parameters and outputs are float32, or
    float64 with float64.
    """
    for size in (*input_shape, *hidden, latent):
        require_count("input_shape, hidden, latent", size)
    if not hidden:
        raise ValueError("hidden: wanted at least one layer's size, got none")
    require_dtype(dtype)
    module = Autoencoder(math.prod(input_shape), tuple(hidden), latent, dtype)
    model = from_linen(module, jax.ShapeDtypeStruct((1, *input_shape), dtype))

    def apply(
        params: PyTree, state: PyTree, inputs: PyTree, *, train: Any = False, key: AKey | None = None
    ) -> tuple[VaeOutputs, PyTree]:
        if getattr(inputs, "shape", ())[1:] != tuple(input_shape):
            shape = ", ".join(map(str, input_shape))
            raise ValueError(f"inputs: wanted images (batch, {shape}), got {describe(inputs)}")
        return model.apply(params, state, inputs, train=train, key=key)

    return Model(model.init, apply)


def _look(params: PyTree, method: str, inputs: Array) -> Any:
    """The result of a method of the module, whose sizes are read off its parameters."""
    layers = sorted((name for name in params if name.startswith("encoder_")), key=lambda name: int(name[8:]))
    hidden = tuple(params[name]["kernel"].shape[1] for name in layers)
    pixels, latent = params["encoder_0"]["kernel"].shape[0], params["mean"]["kernel"].shape[1]
    module = Autoencoder(pixels, hidden, latent, params["mean"]["kernel"].dtype)
    return module.apply({"params": params}, inputs, method=method)


def vae_encode(
    params: PyTree, images: Shaped[Array, "batch ..."]
) -> tuple[Float[Array, "batch latent"], Float[Array, "batch latent"]]:
    """Mean and log variance of q(z | x) for images in [0, 1], (batch, pixels) or (batch, height, width, channels).

    Raises TypeError for integers, ValueError where the number of pixels is not the parameters'.
    """
    pixels = params["encoder_0"]["kernel"].shape[0]
    if math.prod(images.shape[1:]) != pixels:
        raise ValueError(f"images: wanted a batch of {pixels} pixels each, got {describe(images)}")
    mean, log_variance = _look(params, "encode", images)
    return mean, log_variance


def vae_decode(params: PyTree, latents: Float[Array, "batch latent"]) -> Float[Array, "batch pixels"]:
    """The probability of each pixel given the latents, in reading order; reshape it to get images.

    Raises ValueError where the latents have not as many columns as the parameters have latent dimensions.
    """
    wanted = params["mean"]["kernel"].shape[1]
    if latents.shape[1:] != (wanted,):
        raise ValueError(f"latents: wanted shape (batch, {wanted}), got {describe(latents)}")
    return jax.nn.sigmoid(_look(params, "decode", latents))
